//! Real ZooKeeper servers, from the Debian package.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    log_tail,
    plan::{Plan, Site, ZOOKEEPER_PORT},
};
use crate::{clock, interrupt::Interrupt, namespace::Namespace};

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
/// How far its priority is behind the daemons': what it burns at an election is another machine's in
/// earnest.
const BEHIND: &str = "10";
const READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// The ZooKeeper servers of a fleet.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    namespace: Namespace,
    address: Ipv4Addr,
    home: PathBuf,
    child: Option<Child>,
}

impl Ensemble {
    /// The servers of a plan, with data and logs below `directory`; nothing is started.
    pub(super) fn of(plan: &Plan, directory: &Path) -> Self {
        let server = |site: &Site| Server {
            namespace: site.namespace.clone(),
            address: site.v4(),
            home: directory.join(&site.name),
            child: None,
        };
        Self {
            servers: plan.servers.iter().map(server).collect(),
        }
    }

    /// Writes their configuration and starts them all.
    ///
    /// # Errors
    ///
    /// If ZooKeeper is not installed or a server cannot be started.
    pub(super) fn begin(&mut self, plan: &Plan) -> Result<()> {
        if !Path::new(SCRIPT).exists() {
            bail!("no ZooKeeper at {SCRIPT}: install it with `cargo xtask setup`");
        }
        for server in 0..self.servers.len() {
            let Server { address, home, .. } = &self.servers[server];
            fs::create_dir_all(home.join("data"))?;
            fs::write(home.join("data/myid"), format!("{}\n", server + 1))?;
            let text = configuration(plan, *address, &home.join("data"));
            fs::write(home.join("zoo.cfg"), text)?;
            self.start(server)?;
        }
        Ok(())
    }

    /// How many servers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none, which is never so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// What the servers wrote, in their order.
    pub(super) fn logs(&self) -> impl Iterator<Item = PathBuf> {
        self.servers.iter().map(|server| server.home.join("log"))
    }

    /// Starts a server that does not run.
    ///
    /// # Errors
    ///
    /// If it cannot be started. Whether it serves shows later.
    pub fn start(&mut self, server: usize) -> Result<()> {
        let Server {
            namespace,
            home,
            child,
            ..
        } = &mut self.servers[server];
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.join("log"))?;
        let started = namespace
            .command("nice")
            .args(["-n", BEHIND, SCRIPT, "start-foreground"])
            .arg(home.join("zoo.cfg"))
            .env("JVMFLAGS", JAVA_FLAGS)
            .env("JMXDISABLE", "true")
            .current_dir(&home)
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start ZooKeeper")?;
        *child = Some(started);
        Ok(())
    }

    /// Ends a server with SIGKILL.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn kill(&mut self, server: usize) -> Result<()> {
        self.signal(server, Signal::SIGKILL)?;
        if let Some(mut child) = self.servers[server].child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Stops a server's processes without closing its connections.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self, server: usize) -> Result<()> {
        self.signal(server, Signal::SIGSTOP)
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self, server: usize) -> Result<()> {
        self.signal(server, Signal::SIGCONT)
    }

    /// To the whole group: the script may stand between this process and the server.
    fn signal(&self, server: usize, signal: Signal) -> Result<()> {
        let child = self.servers[server].child.as_ref();
        let child = child.context("this ZooKeeper server does not run")?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        Ok(killpg(group, signal)?)
    }

    /// Which server leads the ensemble; the only one leads itself.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = |server: &Server| {
            let mode = server.mode();
            mode.is_some_and(|mode| mode == "leader" || mode == "standalone")
        };
        self.servers.iter().position(leads)
    }

    /// Whether a server serves.
    #[must_use]
    pub fn serves(&self, server: usize) -> bool {
        self.servers[server].mode().is_some()
    }

    /// What asks each of them, from a thread of its own.
    #[must_use]
    pub fn probes(&self) -> Vec<Probe> {
        let probe = |server: &Server| Probe {
            namespace: server.namespace.clone(),
            address: server.address,
        };
        self.servers.iter().map(probe).collect()
    }

    /// Waits until every server serves.
    ///
    /// # Errors
    ///
    /// If one does not in time; with the end of its log.
    pub fn wait_until_serving(&self, interrupt: &Interrupt) -> Result<()> {
        for (number, server) in self.servers.iter().enumerate() {
            let what = format!("ZooKeeper server {} to serve", number + 1);
            clock::wait_for(&what, READY_WITHIN, interrupt, || {
                self.serves(number).then_some(())
            })
            .with_context(|| log_tail(&server.home.join("log")))?;
        }
        Ok(())
    }
}

/// Asks one server what it is.
#[derive(Clone, Debug)]
pub struct Probe {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Probe {
    /// Whether it has a quorum, by its own word. One that does not answer has none.
    #[must_use]
    pub fn serves(&self) -> bool {
        let mode = self.namespace.inside(|| mode(self.address));
        mode.is_ok_and(|mode| mode.is_some())
    }
}

impl Server {
    /// What it says that it is, asked from beside it: a cut network does not keep that from us.
    fn mode(&self) -> Option<String> {
        self.namespace.inside(|| mode(self.address)).ok()?
    }
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
    if plan.servers.len() > 1 {
        for (number, peer) in (1..).zip(plan.zookeeper_addresses()) {
            text.push_str(&format!("server.{number}={peer}:2888:3888\n"));
        }
    }
    text
}

/// What a server says that it is; nothing of one that has no quorum, or does not answer.
fn mode(address: Ipv4Addr) -> Option<String> {
    let ask = || -> std::io::Result<String> {
        let server = SocketAddr::from((address, ZOOKEEPER_PORT));
        let mut stream = TcpStream::connect_timeout(&server, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"srvr")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    mode_of(&ask().ok()?)
}

fn mode_of(answer: &str) -> Option<String> {
    let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
    mode.map(|mode| mode.trim().to_owned())
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
        assert!(text(1).contains("clientPortAddress=198.18.51.1\n"));
        assert!(!text(1).contains("server.1"));
        assert!(text(3).contains("server.3=198.18.53.1:2888:3888\n"));
    }

    #[test]
    fn a_server_without_quorum_has_no_mode() {
        let serves = "Zookeeper version: 3.8.0\nMode: leader\nNode count: 5\n";
        assert_eq!(mode_of(serves).as_deref(), Some("leader"));
        let lost = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(mode_of(lost), None);
    }
}
