//! `weir-node`: enforces the fleet's limits on this host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use weir_abi::maps;
use weir_node::{
    config::{self, Host, NodeConfig, Overrides},
    dataplane::Sizes,
    logs,
    privileges::Account,
    start,
};

/// Wrong usage, or a configuration that cannot be used.
const EXIT_USAGE: u8 = 2;

/// The daemon of a Weir host: enforces limits in XDP, and shares their budgets with the fleet.
#[derive(Parser, Debug)]
#[command(name = "weir-node", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    daemon: DaemonArgs,
}

const EXAMPLES: &str = "Examples:
  weir-node --config /etc/weir/node.toml            run in the foreground
  weir-node --config /etc/weir/node.toml --check    say what is wrong with the file, and end
  weir-node --config /etc/weir/node.toml --identity print the node's identity, for its certificate
  weir-node --config /etc/weir/node.toml --detach   take the program off the interfaces, and end
  weir-node run --iface eth0 --limits limits.toml   one host alone, without ZooKeeper

Exit codes: 0 stopped cleanly, enforcement goes on; 1 failed; 2 wrong usage or configuration.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Enforce a limits file on one host alone, until interrupted.
    Run(RunArgs),
    /// Write the manual page, which packages hold.
    #[command(hide = true)]
    Manual {
        /// Where it goes.
        #[arg(value_name = "DIRECTORY")]
        directory: PathBuf,
    },
}

#[derive(Args, Debug)]
struct DaemonArgs {
    /// The node file.
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Say what is wrong with the node file, and end.
    #[arg(long)]
    check: bool,
    /// Print the identity of this node, a UUID, and end: `weir cert node` wants it.
    #[arg(long, conflicts_with_all = ["check", "detach"])]
    identity: bool,
    /// Take the program off the interfaces and remove its pins, and end. Nothing is enforced then.
    #[arg(long, conflicts_with = "check")]
    detach: bool,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Args, Debug)]
struct RunArgs {
    /// The interface to enforce on.
    #[arg(long, value_name = "IF")]
    iface: String,
    /// The limits file.
    #[arg(long, value_name = "FILE")]
    limits: PathBuf,
    /// Where in the driver's path the XDP program runs.
    #[arg(long, value_name = "MODE", default_value = "native")]
    xdp_mode: config::XdpMode,
    /// Where bpffs is, or is to be, mounted.
    #[arg(long, value_name = "DIR", default_value = config::DEFAULT_BPFFS)]
    bpffs: PathBuf,
    /// Slots of the table of keys, for limits with `per`: a power of two, 8 bytes each.
    #[arg(long, value_name = "N", default_value_t = Sizes::default().key_slots, value_parser = table_slots)]
    table_slots: u32,
    /// Where `weir` reaches this process.
    #[arg(long, value_name = "PATH", default_value = config::DEFAULT_SOCKET)]
    admin_socket: PathBuf,
    /// One line of JSON each second instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    logs::start();
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Run(run)) => run_alone(run),
        Some(Command::Manual { directory }) => manual(&directory),
        None => daemon(cli.daemon),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{}", text(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each said once: some of ours name theirs already.
fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn daemon(args: DaemonArgs) -> anyhow::Result<ExitCode> {
    let Some(config) = read_config(&args.config, &args.overrides)? else {
        return Ok(ExitCode::from(EXIT_USAGE));
    };
    if args.check {
        println!("{}: no errors", args.config.display());
    } else if args.identity {
        println!("{}", config.node.id);
    } else if args.detach {
        start::detach(&config)?;
    } else {
        start::serve(&config)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `weir-node.8`, made from the definition of the command line.
fn manual(directory: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    let page = clap_mangen::Man::new(Cli::command()).section("8");
    page.generate_to(directory)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The node file, with every problem printed. `None` if one is an error.
fn read_config(path: &Path, overrides: &Overrides) -> anyhow::Result<Option<NodeConfig>> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "node file {}: write one, or name another with --config",
            path.display()
        )
    })?;
    let host = Host {
        machine_id: fs::read_to_string("/etc/machine-id").ok(),
        name: nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok()),
        account: Account::of_name,
    };
    let checked = config::check(&text, &host, overrides);
    for problem in &checked.problems {
        eprintln!("{}:{problem}", path.display());
    }
    Ok(checked.value)
}

fn table_slots(text: &str) -> Result<u32, String> {
    let found: u32 = text.parse().map_err(|_| "not a number".to_owned())?;
    let bounds = maps::MIN_KEY_SLOTS as u32..=maps::MAX_KEY_SLOTS as u32;
    if !found.is_power_of_two() || !bounds.contains(&found) {
        let (least, most) = (bounds.start(), bounds.end());
        return Err(format!("expected a power of two from {least} to {most}"));
    }
    Ok(found)
}

fn run_alone(args: RunArgs) -> anyhow::Result<ExitCode> {
    let document = fs::read_to_string(&args.limits)
        .with_context(|| format!("limits file {}", args.limits.display()))?;
    let checked = weir_model::file::check(&document);
    for problem in &checked.problems {
        eprintln!("{}:{problem}", args.limits.display());
    }
    if checked.value.is_none() {
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    start::alone(&start::Alone {
        interface: args.iface,
        document,
        mode: args.xdp_mode,
        bpffs: args.bpffs,
        sizes: Sizes {
            key_slots: args.table_slots,
            ..Sizes::default()
        },
        admin_socket: args.admin_socket,
        json: args.json,
    })
}
