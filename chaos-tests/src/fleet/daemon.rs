//! One `weir-node` on each host.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Timing,
    footprint::Footprint,
    plan::{GRPC_PORT, INTERFACE, MANAGEMENT, Plan, Site, ZOOKEEPER_PORT},
};
use crate::{clock, interrupt::Interrupt};

/// Where a kernel gives out random identities.
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";
/// A daemon that is asked to stop has so long.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// The nodes' metrics port, on their own loopback.
const METRICS_PORT: u16 = 9600;
/// A daemon that says nothing for so long hangs.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What the daemon of this network namespace serves to Prometheus.
///
/// # Errors
///
/// If it does not answer in time.
pub(crate) fn metrics(within: Duration) -> Result<String> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
    let mut stream = TcpStream::connect_timeout(&server, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The daemon of one host: its files, and its process while it runs.
#[derive(Debug)]
pub struct Daemon {
    directory: PathBuf,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Daemon {
    /// The files of the daemon of `site`; nothing is written.
    #[must_use]
    pub fn of(footprint: &Footprint, site: &Site) -> Self {
        Self {
            directory: footprint.directory().join(&site.name),
            environment: Vec::new(),
            child: None,
        }
    }

    /// Writes its configuration.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn configure(
        &self,
        plan: &Plan,
        footprint: &Footprint,
        site: &Site,
        timing: &Timing,
    ) -> Result<()> {
        fs::create_dir_all(&self.directory)?;
        let servers: Vec<String> = plan
            .zookeeper_addresses()
            .map(|host| format!("{host}:{ZOOKEEPER_PORT}"))
            .collect();
        let bpffs = footprint.bpffs().join(&site.name);
        fs::create_dir_all(&bpffs).with_context(|| bpffs.display().to_string())?;
        let text = format!(
            r#"fleet = "{fleet}"
interfaces = ["{INTERFACE}"]
state_dir = "{state}"
management = [{{ ports = [22, {ZOOKEEPER_PORT}, {GRPC_PORT}], from = ["{MANAGEMENT}"] }}]

[node]
id = "{id}"
name = "{name}"

[admin]
socket = "{socket}"

[zookeeper]
servers = "{servers}"
session_timeout = "{session}ms"

[grpc]
listen = "{address}:{GRPC_PORT}"
advertise = "{address}:{GRPC_PORT}"

[timing]
tick = "{tick}ms"
lease = "{lease}ms"

[xdp]
mode = "native"
bpffs = "{bpffs}"

[http]
listen = "127.0.0.1:{METRICS_PORT}"
"#,
            fleet = plan.name,
            state = self.directory.join("state").display(),
            id = fs::read_to_string(RANDOM_UUID).context(RANDOM_UUID)?.trim(),
            name = site.name,
            socket = self.socket().display(),
            servers = servers.join(","),
            session = timing.session.as_millis(),
            address = site.v4(),
            tick = timing.tick.as_millis(),
            lease = timing.lease.as_millis(),
            bpffs = bpffs.display(),
        );
        fs::create_dir_all(self.directory.join("state"))?;
        fs::write(self.configuration(), text)?;
        Ok(())
    }

    /// Has it start with more in its environment from now on.
    pub(super) fn dress(&mut self, name: &str, value: String) {
        self.environment.push((name.to_owned(), value));
    }

    /// Where its files are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts it in the host's namespace.
    ///
    /// # Errors
    ///
    /// If the program cannot be started. Whether it is well shows later.
    pub fn start(&mut self, program: &Path, site: &Site) -> Result<()> {
        let log = self.open_log()?;
        let child = site
            .namespace
            .command(program)
            .arg("--config")
            .arg(self.configuration())
            .envs(self.environment.iter().cloned())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Ends it with SIGKILL, in the middle of whatever it does.
    ///
    /// # Errors
    ///
    /// If it does not run, or did not run any more.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the daemon does not run")?;
        child.kill().context("the daemon had ended")?;
        child.wait()?;
        Ok(())
    }

    /// Asks it to stop, as an init system does, and waits until it has.
    ///
    /// # Errors
    ///
    /// If it does not run, or does not stop in time.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let mut child = self.child.take().context("the daemon does not run")?;
        let never = Interrupt::default();
        clock::wait_for("the daemon to stop", STOPPED_WITHIN, &never, || {
            child.try_wait().ok().flatten()
        })?;
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("the daemon does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// How it ended, if it was started and has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.to_string())
    }

    /// Its process number, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its socket for `weir`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("node.sock")
    }

    /// Its configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("node.toml")
    }

    /// What it wrote, over all its lives.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.with_context(|| path.display().to_string())
    }
}
