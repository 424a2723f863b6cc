//! Real ZooKeeper servers, from the Debian package.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{
    log_tail,
    plan::{Plan, ZOOKEEPER_PORT},
};
use crate::{clock, interrupt::Interrupt};

/// ZooKeeper's own unit of time. Sessions last at least two of them.
const SERVER_TICK: Duration = Duration::from_millis(500);
/// The shortest session that these servers grant.
pub const SHORTEST_SESSION: Duration = Duration::from_secs(1);
const _: () = assert!(SHORTEST_SESSION.as_millis() == 2 * SERVER_TICK.as_millis());

/// The Debian package's script.
const SCRIPT: &str = "/usr/share/zookeeper/bin/zkServer.sh";
/// A small heap, a collector and a compiler that start fast: a test ensemble is tiny.
const JAVA_FLAGS: &str = "-Xms48m -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
                          -Dzookeeper.root.logger=WARN,CONSOLE";
const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Starts the servers of a plan in its control namespace, with data and logs below `directory`.
///
/// # Errors
///
/// If ZooKeeper is not installed or a server cannot be started.
pub(super) fn start(plan: &Plan, directory: &Path) -> Result<()> {
    if !Path::new(SCRIPT).exists() {
        bail!("no ZooKeeper at {SCRIPT}: install it with `cargo xtask setup`");
    }
    for (number, address) in (1_usize..).zip(plan.zookeeper_addresses()) {
        let home = directory.join(format!("zookeeper{number}"));
        fs::create_dir_all(home.join("data"))?;
        fs::write(home.join("data/myid"), format!("{number}\n"))?;
        let settings = home.join("zoo.cfg");
        fs::write(&settings, configuration(plan, address, &home.join("data")))?;
        let log = fs::File::create(home.join("log"))?;
        plan.control
            .namespace
            .command(SCRIPT)
            .arg("start-foreground")
            .arg(&settings)
            .env("JVMFLAGS", JAVA_FLAGS)
            .env("JMXDISABLE", "true")
            .current_dir(&home)
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start ZooKeeper")?;
    }
    Ok(())
}

fn configuration(plan: &Plan, address: Ipv4Addr, data: &Path) -> String {
    let mut text = format!(
        "tickTime={tick}\ninitLimit=20\nsyncLimit=10\ndataDir={data}\nclientPort={ZOOKEEPER_PORT}\n\
         clientPortAddress={address}\nminSessionTimeout={session}\nmaxClientCnxns=0\n\
         admin.enableServer=false\n4lw.commands.whitelist=srvr\n",
        tick = SERVER_TICK.as_millis(),
        session = SHORTEST_SESSION.as_millis(),
        data = data.display(),
    );
    if plan.zookeeper > 1 {
        for (number, peer) in (1..).zip(plan.zookeeper_addresses()) {
            text.push_str(&format!("server.{number}={peer}:2888:3888\n"));
        }
    }
    text
}

/// Waits until every server serves.
///
/// # Errors
///
/// If one does not in time; with the end of its log.
pub(super) fn wait_until_serving(
    plan: &Plan,
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<()> {
    for (number, address) in (1_usize..).zip(plan.zookeeper_addresses()) {
        let what = format!("ZooKeeper server {number} to serve");
        clock::wait_for(&what, READY_WITHIN, interrupt, || {
            plan.control
                .namespace
                .inside(|| serves(address))
                .ok()?
                .then_some(())
        })
        .with_context(|| log_tail(&directory.join(format!("zookeeper{number}/log"))))?;
    }
    Ok(())
}

/// Asks for a server's statistics; one without quorum answers that it does not serve.
fn serves(address: Ipv4Addr) -> bool {
    let ask = || -> std::io::Result<String> {
        let server = SocketAddr::from((address, ZOOKEEPER_PORT));
        let mut stream = TcpStream::connect_timeout(&server, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"srvr")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("Mode: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ensemble_names_its_members_and_a_single_server_does_not() {
        let text = |servers| {
            let plan = Plan::new("t", 1, 1, servers).unwrap();
            let address = plan.zookeeper_addresses().next().unwrap();
            configuration(&plan, address, Path::new("/d"))
        };
        assert!(text(1).contains("clientPortAddress=198.18.0.10\n"));
        assert!(!text(1).contains("server.1"));
        assert!(text(3).contains("server.3=198.18.0.12:2888:3888\n"));
    }
}
