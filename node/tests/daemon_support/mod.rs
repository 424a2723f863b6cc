//! A daemon on a host of its own: a network namespace with one end of a veth pair, a bpffs mount
//! and a directory. All of it goes when it is dropped.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    fs,
    io::Read,
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use weir_proto::admin::v1::admin_client::AdminClient;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// What the tests look at again and again, they look at so often.
const POLL: Duration = Duration::from_millis(20);

/// One host.
pub struct Host {
    pub directory: tempfile::TempDir,
    namespace: String,
    outside: String,
    /// 198.18.`net`.1 is the host, .2 this process.
    net: u32,
}

impl Host {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id());
        let host = Self {
            directory: tempfile::tempdir().unwrap(),
            namespace: format!("weird-{tag}"),
            outside: format!("wd{tag}"),
            net: 100 + (std::process::id() * 7 + number) % 100,
        };
        // The daemon ends as another user, who has to get at its state.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(host.directory.path(), open).unwrap();
        ip(&["netns", "add", &host.namespace]);
        ip(&["-n", &host.namespace, "link", "set", "lo", "up"]);
        host.add_interface();
        host
    }

    /// Makes `eth0` in the host, with its other end here.
    pub fn add_interface(&self) {
        let Self {
            namespace,
            outside,
            net,
            ..
        } = self;
        let peer = ["peer", "name", "eth0", "netns", namespace];
        let add = ["link", "add", outside.as_str(), "type", "veth"];
        ip(&[&add[..], &peer[..]].concat());
        ip(&["addr", "add", &format!("198.18.{net}.2/24"), "dev", outside]);
        ip(&["link", "set", outside, "up"]);
        ip(&[
            "-n",
            namespace,
            "addr",
            "add",
            &format!("198.18.{net}.1/24"),
            "dev",
            "eth0",
        ]);
        ip(&["-n", namespace, "link", "set", "eth0", "up"]);
    }

    /// Makes another interface, that nobody sends to.
    pub fn add_spare_interface(&self, name: &str) {
        let peer = format!("{name}-peer");
        let link = ["-n", &self.namespace, "link"];
        let pair = ["add", name, "type", "veth", "peer", "name", &peer];
        ip(&[&link[..], &pair[..]].concat());
        for end in [name, &peer] {
            ip(&[&link[..], &["set", end, "up"]].concat());
        }
    }

    /// What runs in the host.
    pub fn processes(&self) -> Vec<u32> {
        let list = Command::new("ip")
            .args(["netns", "pids", &self.namespace])
            .output()
            .unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        list.lines()
            .map(|pid| pid.trim().parse().unwrap())
            .collect()
    }

    pub fn remove_interface(&self) {
        ip(&["link", "del", &self.outside]);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A node file for this host, with further lines at the top level and tables at the end.
    pub fn node_file(&self, tables: &str) -> PathBuf {
        let directory = self.directory.path().display();
        let text = format!(
            "fleet = \"test\"\ninterfaces = [\"eth0\"]\nstate_dir = \"{directory}/state\"\n\
             management = [{{ ports = [22], from = [\"198.18.0.0/16\"] }}]\n\
             [node]\nid = \"7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a01\"\nname = \"host\"\n\
             [admin]\nsocket = \"{directory}/node.sock\"\n\
             [xdp]\nbpffs = \"{directory}/bpf\"\n{tables}"
        );
        let path = self.path("node.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// `weir-node` with these arguments, in the host's network namespace.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_as(&[], arguments)
    }

    /// The same, started by `setpriv` with these arguments, unless there are none.
    pub fn command_as(&self, privileges: &[&str], arguments: &[&str]) -> Command {
        let setpriv: &[&str] = if privileges.is_empty() {
            &[]
        } else {
            &["setpriv"]
        };
        let mut command = self.command_within(&[setpriv, privileges].concat());
        command.args(arguments);
        command
    }

    /// `weir-node` in the host's network namespace, as the argument of another command.
    pub fn command_within(&self, wrapper: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.namespace))
            .args(wrapper)
            .arg(env!("CARGO_BIN_EXE_weir-node"))
            .stdin(Stdio::null());
        command
    }

    /// Mounts bpffs for daemons that may not, as `user`'s.
    pub fn mount_bpffs(&self, user: u32) {
        let bpffs = self.path("bpf");
        fs::create_dir_all(&bpffs).unwrap();
        let status = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(&bpffs)
            .args(["-o", &format!("mode=0700,uid={user},gid={user}")])
            .status();
        assert!(status.unwrap().success(), "mount {}", bpffs.display());
    }

    /// Runs to its end, and must end by itself.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(arguments))
    }

    /// The same without any capability.
    pub fn run_unprivileged(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set=-all", "--inh-caps=-all"])
            .arg(env!("CARGO_BIN_EXE_weir-node"))
            .args(arguments);
        Ended::of(&mut command)
    }

    pub fn start(&self, config: &Path) -> Daemon {
        self.start_with(&["--config", config.to_str().unwrap()])
    }

    pub fn start_with(&self, arguments: &[&str]) -> Daemon {
        self.start_command(self.command(arguments))
    }

    pub fn start_command(&self, command: Command) -> Daemon {
        let _earlier = fs::remove_file(self.path("log"));
        self.start_logged(command, "log")
    }

    /// The same, for one of several: each has a log of its own, which goes on when it is started
    /// again.
    pub fn start_logged(&self, mut command: Command, log: &str) -> Daemon {
        let log = self.path(log);
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Daemon { child, log }
    }

    /// Whether an XDP program is on the interface.
    pub fn is_attached(&self) -> bool {
        let show = Command::new("ip")
            .args(["-n", &self.namespace, "link", "show", "dev", "eth0"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&show.stdout).contains("prog/xdp")
    }

    /// The host's address.
    pub fn address(&self) -> String {
        format!("198.18.{}.1", self.net)
    }

    /// Has the host reach `server`, which listens on this process's loopback; returns under which
    /// address. Every connection ends with its other half.
    pub fn forward(&self, server: &str) -> String {
        let listener = TcpListener::bind(format!("198.18.{}.2:0", self.net)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = server.to_owned();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&server) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        address
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not yet: {what}");
            std::thread::sleep(POLL);
        }
    }

    /// Sends this many datagrams and returns how many arrived behind the limiter.
    pub fn flood(&self, datagrams: u32) -> u32 {
        let before = self.received();
        let socket = UdpSocket::bind(format!("198.18.{}.2:0", self.net)).unwrap();
        for _ in 0..datagrams {
            let _ = socket.send_to(&[0; 64], format!("198.18.{}.1:9999", self.net));
        }
        self.received() - before
    }

    /// UDP datagrams that reached the host's stack: nobody listens, so each is counted there.
    fn received(&self) -> u32 {
        let snmp = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.namespace))
            .args(["cat", "/proc/net/snmp"])
            .output()
            .unwrap();
        let text = String::from_utf8(snmp.stdout).unwrap();
        let line = text
            .lines()
            .filter(|line| line.starts_with("Udp:"))
            .nth(1)
            .unwrap();
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let bpffs = self.path("bpf");
        let _ = Command::new("umount")
            .arg(bpffs)
            .stderr(Stdio::null())
            .status();
        let _ = Command::new("ip")
            .args(["netns", "del", &self.namespace])
            .status();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {}", arguments.join(" "));
}

/// What became of a run.
pub struct Ended {
    pub code: Option<i32>,
    pub output: String,
}

impl Ended {
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: status.code(),
            output: text(stdout) + &text(stderr),
        }
    }

    #[track_caller]
    pub fn expect(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.output);
        for text in texts {
            assert!(
                self.output.contains(text),
                "no {text:?} in:\n{}",
                self.output
            );
        }
    }
}

/// A daemon that runs. It is killed when it is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub fn log(&self) -> String {
        let mut text = String::new();
        fs::File::open(&self.log)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended {
                    code: status.code(),
                    output: self.log(),
                };
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an operator on this host asks of its daemon.
pub fn ask<T>(
    host: &Host,
    question: impl AsyncFnOnce(AdminClient<tonic::transport::Channel>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let socket = format!("unix:{}", host.path("node.sock").display());
    runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(socket).unwrap();
        question(AdminClient::new(endpoint.connect().await.unwrap())).await
    })
}
