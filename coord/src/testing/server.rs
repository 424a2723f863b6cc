//! A ZooKeeper server of one's own, gone when it is dropped.

use std::{
    fs,
    io::{self, BufRead, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Where Debian's package `zookeeper` puts the server; its manifest names what it needs, but not all
/// that it needs for TLS.
const CLASS_PATH: &str = "/usr/share/java/zookeeper.jar:/usr/share/java/netty-codec.jar:\
                          /usr/share/java/netty-resolver.jar";
/// How long a server may take to answer.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// The pause between two looks at whether it does.
const START_POLL: Duration = Duration::from_millis(25);
/// How often another port is tried, should somebody else have taken the one that was free.
const START_ATTEMPTS: usize = 3;

/// Runs its arguments as a server that ends when standard input does: when this process is gone,
/// in whatever way, so is the server. Says the server's process id.
const SUPERVISOR: &str = r#"
exec 3<&0 4>"$1" 2>&4
shift
"$@" </dev/null >&4 &
server=$!
echo $server
(cat <&3; kill -9 $server) >&4 &
watchdog=$!
wait $server
kill $watchdog
"#;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's unit of time: sessions have from 2 to [`Options::SESSION_TICKS_MAX`] of them.
    pub tick: Duration,
    /// The Java heap, in MiB.
    pub heap_mib: u32,
    /// Further lines of its configuration.
    pub settings: Vec<String>,
    /// Its number in an ensemble.
    pub number: Option<usize>,
}

impl Options {
    /// The longest session, in ticks.
    pub const SESSION_TICKS_MAX: u32 = 600;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            heap_mib: 64,
            settings: Vec::new(),
            number: None,
        }
    }
}

/// A standalone ZooKeeper server on a free port of the loopback, with a directory of its own.
#[derive(Debug)]
pub struct ZooKeeperServer {
    options: Options,
    directory: TempDir,
    port: u16,
    process: Option<Process>,
}

/// A running server.
#[derive(Debug)]
struct Process {
    supervisor: Child,
    server: Pid,
}

impl ZooKeeperServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    ///
    /// That it could not be started, with the end of what it said.
    pub fn start(options: Options) -> io::Result<Self> {
        let mut server = Self {
            options,
            directory: TempDir::with_prefix("weir-zookeeper-")?,
            port: 0,
            process: None,
        };
        for attempt in 1.. {
            server.port = free_port()?;
            match server.restart() {
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                Err(_) => {}
                Ok(()) => break,
            }
        }
        Ok(server)
    }

    /// A server that is not running yet, with a port that [`ZooKeeperServer::restart`] starts it
    /// on.
    ///
    /// # Errors
    ///
    /// That there is no directory or port for it.
    pub fn stopped(options: Options) -> io::Result<Self> {
        Ok(Self {
            options,
            directory: TempDir::with_prefix("weir-zookeeper-")?,
            port: free_port()?,
            process: None,
        })
    }

    /// `host:port`.
    #[must_use]
    pub fn connect_string(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Kills the server, if it runs, and starts it again with the same data and port.
    ///
    /// # Errors
    ///
    /// As for [`ZooKeeperServer::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        let configuration = self.configure()?;
        let said = self.directory.path().join("server.log");
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&said)
            .arg("java")
            .arg(format!("-Xmx{}m", self.options.heap_mib))
            .args([
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Xshare:auto",
            ])
            .arg("-Dzookeeper.admin.enableServer=false")
            .arg("-Dzookeeper.jmx.log4j.disable=true")
            .args(["-cp", CLASS_PATH])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(configuration)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut pid = String::new();
        if let Some(said) = supervisor.stdout.take() {
            io::BufReader::new(said).read_line(&mut pid)?;
        }
        let server = Pid::from_raw(pid.trim().parse().map_err(io::Error::other)?);
        self.process = Some(Process { supervisor, server });
        self.wait_until_ready(&said)
    }

    /// Kills the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            if matches!(process.supervisor.try_wait(), Ok(None)) {
                // Failing means that it has just ended by itself.
                let _ = kill(process.server, Signal::SIGKILL);
            }
            let _ = process.supervisor.wait();
        }
    }

    /// Stops the server's process without closing its connections.
    ///
    /// # Errors
    ///
    /// That there is no process.
    pub fn pause(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    ///
    /// That there is no process.
    pub fn resume(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The answer to a four-letter word, such as `mntr` or `wchp`.
    ///
    /// # Errors
    ///
    /// That the server does not answer.
    pub fn ask(&self, word: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(word.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What the server says that it is: `leader`, `follower` or `standalone`. `None` while it has no
    /// quorum, or does not answer.
    #[must_use]
    pub fn mode(&self) -> Option<String> {
        let answer = self.ask("srvr").ok()?;
        let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(|mode| mode.trim().to_owned())
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let process = self.process.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(kill(process.server, signal)?)
    }

    fn configure(&self) -> io::Result<std::path::PathBuf> {
        let path = self.directory.path().join("zoo.cfg");
        let data = self.directory.path().join("data");
        fs::create_dir_all(&data)?;
        let tick_ms = self.options.tick.as_millis();
        let session_max_ms = tick_ms * u128::from(Options::SESSION_TICKS_MAX);
        if let Some(number) = self.options.number {
            fs::write(data.join("myid"), number.to_string())?;
        }
        let settings = self.options.settings.join("\n");
        let (port, address, data) = (self.port, Ipv4Addr::LOCALHOST, data.display());
        fs::write(
            &path,
            format!(
                "tickTime={tick_ms}\nmaxSessionTimeout={session_max_ms}\ndataDir={data}\n\
                 clientPort={port}\nclientPortAddress={address}\nmaxClientCnxns=0\n\
                 4lw.commands.whitelist=*\n{settings}\n"
            ),
        )?;
        Ok(path)
    }

    fn wait_until_ready(&mut self, said: &Path) -> io::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if self.ask("ruok").is_ok_and(|answer| answer == "imok") {
                return Ok(());
            }
            let ended = self
                .process
                .as_mut()
                .and_then(|process| process.supervisor.try_wait().transpose());
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(said).unwrap_or_default();
                let end: Vec<&str> = said.lines().rev().take(20).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                self.kill();
                return Err(io::Error::other(format!(
                    "ZooKeeper did not start (is the package `zookeeper` installed?):\n{}",
                    end.join("\n")
                )));
            }
            thread::sleep(START_POLL);
        }
    }
}

impl Drop for ZooKeeperServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
