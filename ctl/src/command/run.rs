//! `weir run`: becomes the daemon, for this host alone.

use std::{
    env, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::anyhow;

use crate::{
    address::Address,
    cli::{Cli, Run},
};

const DAEMON: &str = "weir-node";

/// Replaces this process by the daemon; returns only if that fails.
pub(super) fn run(cli: &Cli, arguments: &Run) -> anyhow::Error {
    let beside = env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join(DAEMON)));
    let program = match &beside {
        Some(path) if path.is_file() => path.clone(),
        // A bare name is looked up in PATH.
        _ => PathBuf::from(DAEMON),
    };
    let mut command = Command::new(&program);
    command
        .args(["run", "--iface", &arguments.iface, "--limits"])
        .arg(&arguments.file);
    if let Some(mode) = &arguments.xdp_mode {
        command.args(["--xdp-mode", mode]);
    }
    if let Some(slots) = arguments.table_slots {
        command.args(["--table-slots", &slots.to_string()]);
    }
    if let Some(bpffs) = &arguments.bpffs {
        command.arg("--bpffs").arg(bpffs);
    }
    if let Address::Socket(socket) = &cli.address {
        command.arg("--admin-socket").arg(socket);
    }
    if cli.json {
        command.arg("--json");
    }
    failed(&program, beside.as_deref(), &command.exec())
}

fn failed(program: &Path, beside: Option<&Path>, error: &io::Error) -> anyhow::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return anyhow!("cannot run {}: {error}", program.display());
    }
    let place = beside.and_then(Path::parent).map_or_else(
        || String::from("beside this command"),
        |directory| format!("in {}", directory.display()),
    );
    anyhow!("{DAEMON} is neither {place} nor in PATH; install it beside this command")
}
