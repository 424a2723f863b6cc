//! Three daemons that show certificates to each other, on an ensemble that asks for a password, and
//! operators who ask them with the real `weir`. They share one network namespace, and have an
//! interface each.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use weir_coord::testing::{Ensemble, Options};

use crate::daemon_support::{Daemon, Ended, Host};

pub const DAEMONS: usize = 3;
/// Whom daemons become where there is no `weir`.
const NOBODY: u32 = 65_534;
const SERVERS: usize = 3;

/// The fleet.
pub struct Secured {
    pub host: Host,
    pub ensemble: Ensemble,
    pub daemons: Vec<Option<Daemon>>,
    filter: &'static str,
    /// What `weir cert` printed.
    pub printed: String,
}

impl Secured {
    /// Starts all of it. `password` is ZooKeeper's, `token` the one for metrics, and daemons log by
    /// `filter`.
    pub fn start(password: &str, token: &str, filter: &'static str) -> Self {
        let ensemble = Ensemble::start(SERVERS, &Options::default()).unwrap();
        let host = Host::new();
        host.mount_bpffs(0);
        for daemon in 1..DAEMONS {
            host.add_spare_interface(&interface(daemon));
        }
        fs::write(host.path("zookeeper.secret"), format!("{password}\n")).unwrap();
        fs::write(host.path("http.token"), format!("{token}\n")).unwrap();
        let mut fleet = Self {
            host,
            ensemble,
            daemons: Vec::new(),
            filter,
            printed: String::new(),
        };
        fleet.make_authority("ca");
        fs::copy(fleet.path("ca/ca.pem"), fleet.path("trusted.pem")).unwrap();
        for daemon in 0..DAEMONS {
            fleet.certify(daemon, "ca");
            fleet.configure(daemon);
            let started = fleet.launch(daemon);
            fleet.daemons.push(Some(started));
        }
        fleet
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.host.path(name)
    }

    /// Makes an authority in this directory, with an operator `ada` and a `reader`.
    pub fn make_authority(&mut self, directory: &str) {
        self.cert(&["ca", "--out", directory]);
        for (name, role) in [("ada", "operate"), ("reader", "read")] {
            let signed = ["--ca-dir", directory, "--out", directory];
            let asked = ["operator", name, "--role", role];
            self.cert(&[&asked[..], &signed[..]].concat());
        }
    }

    /// Puts a new certificate of that authority in the place of a daemon's.
    pub fn certify(&mut self, daemon: usize, authority: &str) {
        let name = name(daemon);
        let fresh = format!("fresh-{authority}");
        let node = ["node", &name, "--id", &id(daemon)].map(str::to_owned);
        let signed = ["--ca-dir", authority, "--out", &fresh].map(str::to_owned);
        let words = [node, signed].concat();
        self.cert(&words.iter().map(String::as_str).collect::<Vec<_>>());
        for file in [format!("{name}.key"), format!("{name}.pem")] {
            let made = self.path(&fresh).join(&file);
            chown(&made, Some(NOBODY), Some(NOBODY)).unwrap();
            fs::rename(&made, self.path(&file)).unwrap();
        }
    }

    fn cert(&mut self, arguments: &[&str]) {
        let made = Ended::of(
            Command::new(weir())
                .arg("cert")
                .args(arguments)
                .current_dir(self.host.directory.path()),
        );
        made.expect(0, &["certificate", "key"]);
        self.printed += &made.output;
        for directory in ["ca", "ca-2", "fresh-ca", "fresh-ca-2"] {
            let path = self.path(directory);
            if path.exists() {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    fn configure(&self, daemon: usize) {
        let directory = self.host.directory.path().display();
        let servers = self.ensemble.connect_string();
        let servers: Vec<String> = servers
            .split(',')
            .map(|server| self.host.forward(server))
            .collect();
        let (name, servers) = (name(daemon), servers.join(","));
        let text = format!(
            "fleet = \"test\"\ninterfaces = [\"{interface}\"]\nstate_dir = \"{directory}/{name}\"\n\
             management = [{{ ports = [22], from = [\"198.18.0.0/16\"] }}]\n\
             [node]\nid = \"{id}\"\nname = \"{name}\"\n\
             [admin]\nsocket = \"{directory}/{name}.sock\"\n\
             [zookeeper]\nservers = \"{servers}\"\nsession_timeout = \"1s\"\n\
             auth = {{ user = \"weir\", password_file = \"{directory}/zookeeper.secret\" }}\n\
             [grpc]\nlisten = \"{address}\"\nadvertise = \"{address}\"\n\
             tls = {{ ca_file = \"{directory}/trusted.pem\", \
             certificate_file = \"{directory}/{name}.pem\", key_file = \"{directory}/{name}.key\" }}\n\
             [timing]\nlease = \"1s\"\n\
             [xdp]\nbpffs = \"{directory}/bpf\"\ntable_slots = 65536\n\
             [http]\nlisten = \"{http}\"\ninsecure = true\ntoken_file = \"{directory}/http.token\"\n",
            interface = interface(daemon),
            id = id(daemon),
            address = self.address(daemon),
            http = self.http(daemon),
        );
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    /// Starts a daemon that does not run.
    pub fn restart(&mut self, daemon: usize) {
        self.daemons[daemon] = Some(self.launch(daemon));
    }

    fn launch(&self, daemon: usize) -> Daemon {
        let config = self.path(&format!("{}.toml", name(daemon)));
        let mut command = self.host.command(&["--config", config.to_str().unwrap()]);
        command.env("RUST_LOG", self.filter);
        self.host
            .start_logged(command, &format!("{}.log", name(daemon)))
    }

    /// Where other nodes and operators reach a daemon.
    pub fn address(&self, daemon: usize) -> String {
        format!("{}:{}", self.host.address(), 7_946 + daemon)
    }

    /// Where it serves metrics.
    pub fn http(&self, daemon: usize) -> String {
        format!("{}:{}", self.host.address(), 9_100 + daemon)
    }

    /// All that a daemon wrote.
    pub fn log(&self, daemon: usize) -> String {
        fs::read_to_string(self.path(&format!("{}.log", name(daemon)))).unwrap()
    }

    /// `weir` with these arguments, as an operator whom that authority vouches for.
    pub fn operator(&self, daemon: usize, (authority, who): (&str, &str), words: &[&str]) -> Ended {
        let file = |name: &str| self.path(authority).join(name);
        let mut command = self.stranger(daemon, words);
        command
            .arg("--ca")
            .arg(self.path("trusted.pem"))
            .arg("--certificate")
            .arg(file(&format!("{who}.pem")))
            .arg("--key")
            .arg(file(&format!("{who}.key")));
        Ended::of(&mut command)
    }

    /// `weir` without a certificate.
    pub fn stranger(&self, daemon: usize, words: &[&str]) -> Command {
        let mut command = Command::new(weir());
        command
            .args(words)
            .args(["--timeout", "10s", "--address"])
            .arg(format!("https://{}", self.address(daemon)))
            .current_dir(self.host.directory.path())
            .env_remove("WEIR_ADDRESS")
            .stdin(Stdio::null());
        command
    }

    /// Who leads, as a daemon says, once so many members are alive.
    pub fn leader(&self, asked: usize, authority: &str, alive: usize) -> Option<usize> {
        let status = self.operator(asked, (authority, "reader"), &["status", "--json"]);
        let line = status.output.lines().find(|line| line.starts_with('{'))?;
        let status: serde_json::Value = serde_json::from_str(line).ok()?;
        let members = status["members"].as_array()?.iter();
        let living: Vec<_> = members.filter(|member| member["live"] == true).collect();
        let leader = status["leader"]["name"].as_str()?;
        // One that was killed is named until another leads, and its session may be over before.
        let leads = |member: &&serde_json::Value| member["name"] == leader;
        if living.len() != alive || !living.iter().any(leads) {
            return None;
        }
        (0..DAEMONS).find(|daemon| name(*daemon) == leader)
    }

    /// Waits until that is so.
    #[track_caller]
    pub fn wait_for_leader(&self, asked: usize, authority: &str, alive: usize) -> usize {
        let mut leader = None;
        self.host.wait_until("a leader of all that live", || {
            leader = self.leader(asked, authority, alive);
            leader.is_some()
        });
        leader.unwrap()
    }
}

pub fn name(daemon: usize) -> String {
    format!("edge-{}", daemon + 1)
}

fn interface(daemon: usize) -> String {
    format!("eth{daemon}")
}

fn id(daemon: usize) -> String {
    format!("7b0e2c1e-4c1f-4c3e-9d55-0f6a3f1d2a{:02x}", daemon + 1)
}

/// The program, which is built beside the daemon.
fn weir() -> &'static Path {
    static WEIR: OnceLock<PathBuf> = OnceLock::new();
    WEIR.get_or_init(|| {
        let program = Path::new(env!("CARGO_BIN_EXE_weir-node")).with_file_name("weir");
        if !program.exists() {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "weir"])
                .status();
            assert!(built.unwrap().success(), "no {}", program.display());
        }
        program
    })
}
