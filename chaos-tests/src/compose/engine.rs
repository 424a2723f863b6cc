//! The Docker daemon.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{clock, command, interrupt::Interrupt};

/// A daemon that starts reads all that it has stored.
const STARTING: Duration = Duration::from_secs(60);
const STOPPING: Duration = Duration::from_secs(30);

/// A Docker daemon that answers. One that was started here ends with this value; what it has
/// stored stays for the next.
#[derive(Debug)]
pub(super) struct Engine {
    /// What `DOCKER_HOST` is to be; `None` for what it is.
    host: Option<String>,
    /// Whether Compose is a plug-in of it, and not a program of its own.
    has_plug_in: bool,
    started: Option<Child>,
}

impl Engine {
    /// The daemon that answers already, or else one of its own with its files in `directory`.
    ///
    /// # Errors
    ///
    /// If there is none and none can be started.
    pub(super) fn find_or_start(directory: &Path, interrupt: &Interrupt) -> Result<Self> {
        let found = Self {
            host: None,
            has_plug_in: has_plug_in(),
            started: None,
        };
        if found.answers() {
            return Ok(found);
        }
        if env::var_os("DOCKER_HOST").is_some() {
            bail!("the Docker daemon of DOCKER_HOST does not answer");
        }
        Self::start(directory, interrupt)
    }

    fn start(directory: &Path, interrupt: &Interrupt) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let path = |name: &str| directory.join(name).display().to_string();
        let host = format!("unix://{}", path("docker.sock"));
        let log = File::create(directory.join("dockerd.log"))?;
        let child = Command::new("dockerd")
            .args(["--host", &host, "--data-root", &path("data")])
            .args([
                "--exec-root",
                &path("run"),
                "--pidfile",
                &path("docker.pid"),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start dockerd: apt-get install docker.io")?;
        let engine = Self {
            host: Some(host),
            has_plug_in: has_plug_in(),
            started: Some(child),
        };
        clock::wait_for("the Docker daemon", STARTING, interrupt, || {
            engine.answers().then_some(())
        })
        .with_context(|| format!("see {}", path("dockerd.log")))?;
        Ok(engine)
    }

    fn answers(&self) -> bool {
        command::run(
            self.docker()
                .args(["version", "--format", "{{.Server.Version}}"]),
        )
        .is_ok()
    }

    /// A command that talks to it.
    #[must_use]
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(host) = &self.host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    /// `docker`, which talks to it.
    #[must_use]
    pub(super) fn docker(&self) -> Command {
        self.command("docker")
    }

    /// Compose: the plug-in of Docker, or else the program of its own that came before it.
    #[must_use]
    pub(super) fn compose(&self) -> Command {
        if !self.has_plug_in {
            return self.command("docker-compose");
        }
        let mut plug_in = self.docker();
        plug_in.arg("compose");
        plug_in
    }

    /// Makes the images from packages of Debian, and of the programs in `binaries`.
    ///
    /// # Errors
    ///
    /// If the script fails.
    pub(super) fn make_images(&self, repository: &Path, binaries: &Path) -> Result<()> {
        let script: PathBuf = repository.join("deploy/container/from-debian.sh");
        let mut make = self.command(script);
        command::run(make.arg("--binaries").arg(binaries)).map(drop)
    }
}

/// Asks the client alone, so it may be asked before a daemon answers.
fn has_plug_in() -> bool {
    command::run(Command::new("docker").args(["compose", "version"])).is_ok()
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(child) = &mut self.started else {
            return;
        };
        let pid = i32::try_from(child.id()).map(Pid::from_raw);
        // It removes mounts and its socket when it is asked to end, and not when it is killed.
        let asked = pid.is_ok_and(|pid| kill(pid, Signal::SIGTERM).is_ok());
        let gone = || child.try_wait().ok().flatten();
        let never = Interrupt::default();
        if !asked || clock::wait_for("dockerd's end", STOPPING, &never, gone).is_err() {
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }
}
