//! Where a document's commands are typed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::shell::Shell;
use crate::{
    command,
    fleet::{self, Fleet, Plan, Timing},
    interrupt::Interrupt,
    namespace::Namespace,
    progress::Progress,
};

/// The fleet's name; its hosts are those that documents speak of.
const FLEET: &str = "documents";
/// Longest that a document's commands may take in one place.
const TYPED_WITHIN_SECONDS: &str = "300";
/// Where installed programs are.
const INSTALLED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where machines keep what is changed on them.
const CHANGES: &str = "machine";

/// Machines have no init system. This stands in for it: it does what the unit's lines say, as root and
/// without the sandbox, and comes back when the daemon answers.
const SYSTEMCTL: &str = r#"#!/bin/bash
verb=$1 unit=${!#}
lines() { sed -n "s/^$1=//p" /usr/lib/systemd/system/$unit.service; }
start() {
    mkdir -p /run/weir; chgrp weir /run/weir
    bash -ec "$(lines ExecStartPre)" || exit 1
    setsid $(lines ExecStart) > /var/log/$unit.log 2>&1 < /dev/null & echo $! > /run/$unit.pid
    for _ in $(seq 200); do weir status > /dev/null 2>&1 && return; sleep 0.1; done
    cat /var/log/$unit.log; exit 1
}
stop() {
    [ -e /run/$unit.pid ] || return 0
    kill -TERM $(cat /run/$unit.pid); tail --pid $(cat /run/$unit.pid) -f /dev/null; rm /run/$unit.pid
}
case "$verb $*" in
    start*|enable*--now*) start ;;
    stop*|disable*--now*) stop ;;
    restart*) stop; start ;;
esac
"#;

/// A fleet of three, `edge-1` to `edge-3`, that enforces `limits`.
///
/// # Errors
///
/// If it does not come up.
pub(super) fn fleet(
    limits: &Path,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Fleet> {
    let mut plan = Plan::new(FLEET, 3, 1, 1)?;
    for (number, host) in (1..).zip(&mut plan.hosts) {
        host.name = format!("edge-{number}");
    }
    fleet::build(plan, Timing::default(), Some(limits), interrupt, progress)
}

/// A shell on the fleet's first host.
///
/// # Errors
///
/// If it cannot be started.
pub(super) fn on_fleet(fleet: &Fleet, directory: &Path) -> Result<Shell> {
    let mut shell = fleet.plan.hosts[0].namespace.command("timeout");
    let socket = fleet.operator.socket(0).display().to_string();
    Shell::start(
        shell
            .args(["--kill-after", "5", TYPED_WITHIN_SECONDS, "bash", "-s"])
            .env("PATH", path()?)
            .env("WEIR_ADDRESS", format!("unix:{socket}"))
            .current_dir(directory),
    )
}

/// Machines that a reader has: clean ones, on one wire, that reach nothing else. They are removed when
/// this is dropped.
#[derive(Debug)]
pub(super) struct Machines {
    namespaces: Vec<Namespace>,
    directory: PathBuf,
}

impl Machines {
    /// Two machines with `eth0`, 192.0.2.11 and 192.0.2.12.
    ///
    /// # Errors
    ///
    /// If the system refuses them.
    pub(super) fn two(directory: &Path) -> Result<Self> {
        let named = |number| Namespace::named(format!("weir-documents-machine{number}"));
        let machines = Self {
            namespaces: [1, 2].map(named).into(),
            directory: directory.to_owned(),
        };
        for namespace in &machines.namespaces {
            namespace.remove()?;
            namespace.create()?;
        }
        let [first, second] = [&machines.namespaces[0], &machines.namespaces[1]];
        let peer = second.name();
        first.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {peer}\n\
             address add 192.0.2.11/24 dev eth0\nlink set eth0 up\n"
        ))?;
        second.ip("address add 192.0.2.12/24 dev eth0\nlink set eth0 up\n")?;
        Ok(machines)
    }

    /// A shell on one of them, to which this machine's files look as they are; but what it changes is
    /// changed in memory, and forgotten when it ends: packages, configuration, pins.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(super) fn shell(&self, machine: usize) -> Result<Shell> {
        let changes = self.directory.join(format!("{CHANGES}{machine}"));
        fs::create_dir_all(&changes)?;
        let enter = format!(
            "set -e; mount --make-rprivate /
             mount -t tmpfs none {changes}; cd {changes}
             cover() {{ # its files, and what is changed of them in a layer above
                 mkdir $2.changed $2.work
                 mount -t overlay none \\
                     -o lowerdir=$1,upperdir=$PWD/$2.changed,workdir=$PWD/$2.work root$1
             }}
             mkdir root; cover / all
             mount -t proc none root/proc
             for part in sys dev; do mount --rbind /$part root/$part; done
             mount -t bpf none root/sys/fs/bpf
             mount -t tmpfs none root/run; mkdir root/run/lock
             mkdir -p root{workplace}; cover {workplace} workplace
             # Two machines, not one and its clone: nodes are told apart by it.
             tr -d - < /proc/sys/kernel/random/uuid > root/etc/machine-id
             cat > root/usr/local/bin/systemctl <<'END OF FILE'
{SYSTEMCTL}END OF FILE
             chmod +x root/usr/local/bin/systemctl
             exec chroot root bash -c 'cd {workplace} && exec bash -s'",
            changes = changes.display(),
            workplace = env::current_dir()?.display(),
        );
        let mut shell = self.namespaces[machine].command("timeout");
        Shell::start(
            shell
                .args(["--kill-after", "5", TYPED_WITHIN_SECONDS])
                .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
                .args(["bash", "-c", &enter])
                // What has been installed comes first.
                .env("PATH", format!("{INSTALLED}:{}", programs()?.display()))
                .env_remove("WEIR_ADDRESS"),
        )
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // A left-over is removed by the next run.
            let _left_over = namespace.remove();
        }
    }
}

/// Where the programs of this build are.
fn programs() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    Ok(own
        .parent()
        .context("this program is in a directory")?
        .to_owned())
}

/// The programs of this build come first.
fn path() -> Result<OsString> {
    let others = env::var_os("PATH").unwrap_or_default();
    let all = [programs()?].into_iter().chain(env::split_paths(&others));
    Ok(env::join_paths(all)?)
}

/// Runs a command line of this build outside of all places.
///
/// # Errors
///
/// If it cannot be started, or fails.
pub(super) fn here(line: &str) -> Result<String> {
    let mut bash = Command::new("bash");
    command::run(bash.args(["-c", line]).env("PATH", path()?))
}
