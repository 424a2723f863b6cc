//! The command line.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use weir_model::file::quantity;

use crate::{address::Address, source::Source};

/// The shortest pause between two ticks of a live view: hosts count no more often.
pub(crate) const INTERVAL_LEAST: Duration = Duration::from_millis(100);
/// The longest.
pub(crate) const INTERVAL_MOST: Duration = Duration::from_secs(3_600);

/// A change may wait as long as that to be confirmed.
const CONFIRMATION_LEAST: Duration = Duration::from_secs(1);
const CONFIRMATION_MOST: Duration = Duration::from_secs(86_400);

/// Limits for a fleet of edge hosts, enforced in XDP and coordinated over ZooKeeper.
#[derive(Parser, Debug)]
#[command(
    name = "weir",
    version,
    max_term_width = 100,
    after_help = "Example: weir check limits.toml && weir apply limits.toml && weir status"
)]
pub(crate) struct Cli {
    /// Where a node of the fleet answers: unix:/PATH, https://HOST:PORT, or http://HOST:PORT where
    /// there is no TLS. Any node will do.
    #[arg(
        long,
        global = true,
        env = "WEIR_ADDRESS",
        default_value = Address::DEFAULT,
        value_name = "URL"
    )]
    pub(crate) address: Address,
    #[command(flatten)]
    pub(crate) certificates: Certificates,
    /// How long to wait for an answer.
    #[arg(
        long,
        global = true,
        default_value = "20s",
        value_parser = timeout,
        value_name = "DURATION"
    )]
    pub(crate) timeout: Duration,
    /// Print one line of JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What https://HOST:PORT takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Certificates {
    /// The certificate of the fleet's authority, for https://HOST:PORT.
    #[arg(long, global = true, env = "WEIR_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The own certificate: it names a role, read or operate.
    #[arg(long, global = true, env = "WEIR_CERTIFICATE", value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// The own certificate's key.
    #[arg(long, global = true, env = "WEIR_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Say everything that is wrong with a limits file, without applying it.
    #[command(after_help = "Example: weir check /etc/weir/limits.toml")]
    Check(File),
    /// Put a limits file in force, fleet-wide.
    #[command(
        after_help = "Examples:\n  weir apply limits.toml --dry-run             say what would change\n  \
                      weir apply limits.toml                       change it\n  \
                      weir apply limits.toml --confirm-within 60s  change it, and go back unless\n  \
                      weir confirm                                 says within a minute to keep it"
    )]
    Apply(Apply),
    /// What applying a limits file would change, limit by limit.
    #[command(after_help = "Example: weir diff limits.toml")]
    Diff(File),
    /// Keep a change that was applied with --confirm-within.
    #[command(after_help = "Example: weir apply limits.toml --confirm-within 60s && weir confirm")]
    Confirm(Confirm),
    /// Put an earlier version in force again, under a new number.
    #[command(
        after_help = "Examples:\n  weir rollback       the version that was in force before\n  \
                      weir rollback 4     version 4; `weir history` lists them\n\n\
                      A change that waits to be confirmed is ended by it."
    )]
    Rollback(Rollback),
    /// The stored versions of the limits, latest first.
    #[command(after_help = "Example: weir history --json | jq '.versions[0].version'")]
    History,
    /// Have a member give back its share: it keeps its floors, for maintenance.
    #[command(after_help = "Examples:\n  weir drain edge-3\n  weir drain edge-3 --undo")]
    Drain(Drain),
    /// Take a member out of the fleet: what was reserved for it is given back.
    #[command(
        after_help = "Examples:\n  weir remove edge-3                 it runs, and acknowledges\n  \
                      weir remove edge-3 --powered-off   it is lost for good\n\n\
                      --powered-off is your word that the host has no power, and will have none \
                      before its data is wiped: if it still runs, the fleet may exceed its limits."
    )]
    Remove(Remove),
    /// Whose acknowledgements commit: a majority of them has to be alive.
    #[command(after_help = "Example: weir voters")]
    Voters,
    /// The fleet at a glance; exits with 1 while a promise is broken.
    #[command(after_help = "Example: weir --address http://edge-1:7946 status")]
    Status,
    /// Every limit, summed over the fleet.
    #[command(
        after_help = "Examples:\n  weir limits --json | jq '.limits[].admitted'\n  \
                      weir limits --top 3                the heaviest sources of each\n\n\
                      Sources are those that the answering node itself sees, estimated from sampled \
                      packets of the last 10 to 20 seconds. Of more than 256 limits with \
                      traffic, those with the most are followed."
    )]
    Limits(Limits),
    /// Every limit on every node: share, floor, traffic, lease left.
    #[command(after_help = "Example: weir nodes")]
    Nodes,
    /// The fleet, live, full screen: limits, nodes, heaviest sources.
    #[command(
        after_help = "Examples:\n  weir top                              ? lists the keys, q quits\n  \
                      weir top --json --ticks 1 --limit dns  one line, with every node's share of dns\n\n\
                      With --json a line for each tick. Colours are left out if NO_COLOR is set. \
                      Sources are those that the answering node itself sees."
    )]
    Top(Top),
    /// Why a source is, or is not, being dropped by the answering node.
    #[command(after_help = "Examples:\n  weir explain 198.51.100.7\n  \
                      weir --address http://edge-1:7946 explain 2001:db8::7\n\n\
                      Any node answers for itself: ask the one that the source's packets reach. Rates \
                      are estimates from sampled packets. Management traffic passes before any limit \
                      is looked at.")]
    Explain(Explain),
    /// Make a development authority, and certificates for nodes and operators.
    #[command(subcommand)]
    Cert(Cert),
    /// Who would have been limited by a limits file, given what hosts recorded.
    #[command(after_help = "Examples:\n  weir replay limits.toml\n  \
                      weir replay old.toml --save monday.json && weir replay new.toml --demand monday.json\n\n\
                      Each host remembers what was offered to each limit in the last ten minutes, \
                      second by second; longer where it did not change. All members are asked. A \
                      fleet is replayed as one bucket; of keyed limits, the heaviest sources of the \
                      answering node are. Numbers in brackets would only be counted: shadow mode.")]
    Replay(Replay),
    /// Enforce a limits file on this host alone, without ZooKeeper, until interrupted.
    #[command(after_help = "Example: sudo weir run --iface eth0 limits.toml")]
    Run(Run),
    /// What a shell reads to complete commands and options.
    #[command(after_help = "Example: weir completions bash > /etc/bash_completion.d/weir")]
    Completions(Completions),
    /// Write the manual pages, which packages hold.
    #[command(hide = true)]
    Manual(Manual),
}

#[derive(Args, Debug)]
pub(crate) struct File {
    /// The limits file; - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: Source,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// The limits file; - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: Source,
    /// Say what would change, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Refuse unless this version is in force; 0 if no policy is yet.
    #[arg(long, value_name = "VERSION")]
    pub(crate) expected_version: Option<u64>,
    /// Go back by itself unless `weir confirm` is said within this time, 1 s to 1 day.
    #[arg(long, value_parser = confirmation, value_name = "DURATION", conflicts_with = "dry_run")]
    pub(crate) confirm_within: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Confirm {
    /// Only if this version waits; otherwise whichever does.
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) version: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Drain {
    /// The member's name or UUID.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Let it have a share again.
    #[arg(long)]
    pub(crate) undo: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// The member's name or UUID.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// It has no power: it is not asked.
    #[arg(long)]
    pub(crate) powered_off: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// The version to go back to; otherwise the one that was in force before.
    #[arg(value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) version: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Limits {
    /// Below each limit its N heaviest sources, as the answering node sees them.
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        default_missing_value = "5",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub(crate) top: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// The pause between two ticks, 100 ms to 1 h.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// End after so many ticks.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) ticks: Option<u64>,
    /// Tick as soon as the last is answered and drawn, to measure how long that takes.
    #[arg(long, hide = true, conflicts_with = "json")]
    pub(crate) flat_out: bool,
    /// Begin with this limit: every node's share of it, and who sends to it.
    #[arg(long, value_name = "NAME")]
    pub(crate) limit: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The source's IPv4 or IPv6 address.
    #[arg(value_name = "ADDRESS", value_parser = source_address)]
    pub(crate) source: IpAddr,
}

#[derive(Args, Debug)]
pub(crate) struct Replay {
    /// The candidate; - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: Source,
    /// Demand that was saved before, instead of asking the fleet.
    #[arg(long, value_name = "RECORD")]
    pub(crate) demand: Option<Source>,
    /// Keep the demand in a file.
    #[arg(long, value_name = "RECORD")]
    pub(crate) save: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The interface to enforce on.
    #[arg(long, value_name = "IF")]
    pub(crate) iface: String,
    /// The limits file.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where in the driver's path the XDP program runs: native or generic.
    #[arg(long, value_name = "MODE", value_parser = ["native", "generic"])]
    pub(crate) xdp_mode: Option<String>,
    /// Where bpffs is, or is to be, mounted.
    #[arg(long, value_name = "DIR")]
    pub(crate) bpffs: Option<PathBuf>,
    /// Slots of the table of keys, for limits with `per`: a power of two [default: 1048576].
    #[arg(long, value_name = "N")]
    pub(crate) table_slots: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// Which shell.
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct Manual {
    /// Where they go.
    #[arg(value_name = "DIRECTORY")]
    pub(crate) directory: PathBuf,
}

/// `weir cert`.
#[derive(Subcommand, Debug)]
pub(crate) enum Cert {
    /// Make an authority: ca.pem, which everybody gets, and ca.key, which nobody else does.
    #[command(after_help = "Example: weir cert ca --out weir-ca")]
    Ca(CertCa),
    /// Make a node's certificate: NAME.pem and NAME.key, beside a copy of ca.pem if elsewhere.
    #[command(after_help = "Example:\n  \
                      weir cert node edge-1 --id $(ssh edge-1 weir-node --identity) --ca-dir weir-ca\n\n\
                      On the host the files are named in /etc/weir/node.toml:\n  \
                      [grpc] tls = { ca_file = \"…/ca.pem\", certificate_file = \"…/edge-1.pem\", key_file = \"…/edge-1.key\" }\n\
                      and belong to root and the group of the user that ticks: chgrp weir, chmod 0640.")]
    Node(CertNode),
    /// Make an operator's certificate, with a role: NAME.pem and NAME.key.
    #[command(
        after_help = "Examples:\n  weir cert operator ada --role operate --ca-dir weir-ca\n  \
                      weir cert operator prometheus --role read --days 30 --ca-dir weir-ca"
    )]
    Operator(CertOperator),
}

#[derive(Args, Debug)]
pub(crate) struct CertCa {
    /// Where the files go: a directory, made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// How long it lasts.
    #[arg(long, value_name = "DAYS", default_value_t = 3_650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

#[derive(Args, Debug)]
pub(crate) struct CertNode {
    /// What the files are called.
    #[arg(value_name = "NAME", value_parser = file_name)]
    pub(crate) name: String,
    /// The node's identity, a UUID: `weir-node --identity` says it on the host.
    #[arg(long, value_name = "UUID")]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Args, Debug)]
pub(crate) struct CertOperator {
    /// What the files are called.
    #[arg(value_name = "NAME", value_parser = file_name)]
    pub(crate) name: String,
    /// read: look at the fleet; operate: change it too.
    #[arg(long, value_name = "ROLE", value_parser = ["read", "operate"])]
    pub(crate) role: String,
    #[command(flatten)]
    pub(crate) signing: Signing,
}

#[derive(Args, Debug)]
pub(crate) struct Signing {
    /// Where ca.pem and ca.key are.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) ca_dir: PathBuf,
    /// Where the files go: a directory, made if it is not there.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) out: PathBuf,
    /// How long it lasts. Make another, under the same name elsewhere, and put it in the old one's
    /// place before: daemons notice.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

/// A name that is no path.
fn file_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_name = (1..=63).contains(&text.len()) && text.bytes().all(is_allowed);
    if !is_name || text.starts_with('.') || text == "ca" {
        return Err("expected 1 to 63 letters, digits, -, _ and ., and not `ca`".to_owned());
    }
    Ok(text.to_owned())
}

fn timeout(text: &str) -> Result<Duration, String> {
    quantity::duration(text).map_err(|complaint| complaint.to_string())
}

fn confirmation(text: &str) -> Result<Duration, String> {
    let within = timeout(text)?;
    if (CONFIRMATION_LEAST..=CONFIRMATION_MOST).contains(&within) {
        Ok(within)
    } else {
        Err(String::from("expected 1s to 24h"))
    }
}

fn source_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            format!("expected one address, not a prefix: try {address}")
        }
        _ => String::from("expected an IPv4 or IPv6 address"),
    })
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = timeout(text)?;
    if (INTERVAL_LEAST..=INTERVAL_MOST).contains(&interval) {
        Ok(interval)
    } else {
        Err(String::from("expected 100ms to 1h"))
    }
}
