//! The node file, `/etc/weir/node.toml`: raw text to checked values, all problems at once.
//!
//! Each value comes from the first of: a flag, the environment, the file, a default. Flags and
//! environment arrive as [`Overrides`], facts of the host as [`Host`], so reading is pure.

mod address;
mod http;
mod management;
mod otlp;
mod overrides;
mod read;
#[cfg(test)]
mod tests;
mod tls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use uuid::Uuid;
use weir_coord::fleet::CommitBy;
use weir_model::{
    NodeId,
    file::{Document, Outcome, Problem},
};
use weir_tls::TlsFiles;

use crate::{dataplane::Sizes, privileges::Account};

pub use http::HttpSettings;
pub use management::{ManagementEntry, default_management};
pub use otlp::OtlpSettings;
pub use overrides::Overrides;

/// Where the file is unless said otherwise.
pub const DEFAULT_PATH: &str = "/etc/weir/node.toml";
/// Where the daemon keeps what survives a reboot unless said otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/weir";
/// Where operators reach the daemon unless said otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/node.sock";
/// Where bpffs is mounted unless said otherwise.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";
/// The period of report, reallocate, grant unless said otherwise.
pub const DEFAULT_TICK: Duration = Duration::from_millis(100);
/// How long a grant lives unless said otherwise.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(2);
/// The ZooKeeper session timeout unless said otherwise.
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(4);

/// Fewest ticks in a lease: it has to outlive a few lost messages.
pub const LEAST_TICKS_IN_LEASE: u32 = 5;

/// Everything that a daemon is told, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The fleet that it belongs to, `[a-z0-9-]{1,63}`.
    pub fleet: String,
    /// The interfaces that it enforces on: at least one, each once.
    pub interfaces: Vec<String>,
    /// Where it keeps what survives a reboot.
    pub state_dir: PathBuf,
    /// What passes before any limit is looked at.
    pub management: Vec<ManagementEntry>,
    /// `[node]`.
    pub node: NodeSettings,
    /// `[admin] socket`.
    pub admin_socket: PathBuf,
    /// `[coordinator]`, and the tables that its kind needs.
    pub coordinator: Coordinator,
    /// `[timing]`.
    pub timing: Timing,
    /// `[xdp]`.
    pub xdp: XdpSettings,
    /// `[http]`: metrics and health; `None` for neither.
    pub http: Option<HttpSettings>,
    /// `[otlp]`: where traces are sent; `None` for nowhere.
    pub otlp: Option<OtlpSettings>,
}

/// `[node]`: who the daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Its identity: `id`, else one made from the machine id.
    pub id: NodeId,
    /// What people call it: `name`, else the host's name.
    pub name: String,
    /// Its weight in a max-min division, 1 to 1,000.
    pub weight: u32,
    /// The user that it ticks as; `None` leaves the choice to
    /// [`Unprivileged::choose`](crate::privileges::Unprivileged::choose). Never root.
    pub user: Option<Account>,
}

/// Who decides about shares.
// One exists in a process, so the size of the larger variant costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coordinator {
    /// A leader, elected through ZooKeeper.
    ZooKeeper(FleetSettings),
    /// This process, for this host alone.
    Embedded,
}

/// What a member of a fleet is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetSettings {
    /// `[coordinator] commit`: what makes a leader's decisions last. The same on every node.
    pub commit: CommitBy,
    /// `[zookeeper]`.
    pub zookeeper: ZooKeeperSettings,
    /// `[grpc]`.
    pub grpc: GrpcSettings,
}

/// `[zookeeper]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperSettings {
    /// `host:port`, separated by commas.
    pub servers: String,
    /// How long the ensemble keeps a silent node's ephemerals. The servers clamp it.
    pub session_timeout: Duration,
    /// Credentials for the `digest` scheme.
    pub auth: Option<ZooKeeperAuth>,
    /// TLS; `None` for plain text.
    pub tls: Option<ZooKeeperTls>,
}

/// `[zookeeper] tls`. Files of PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperTls {
    /// The authorities that are trusted.
    pub ca_file: PathBuf,
    /// What is shown to servers that want it: a certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `[zookeeper] auth`. The secret stands in a file of its own, so that this one can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperAuth {
    /// The name.
    pub user: String,
    /// The file whose first line is the password.
    pub password_file: PathBuf,
}

/// `[grpc]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcSettings {
    /// Where the daemon listens for other nodes.
    pub listen: SocketAddr,
    /// Where other nodes reach it, `host:port`.
    pub advertise: String,
    /// Both sides of every connection show certificates; `None` for plain text.
    pub tls: Option<TlsFiles>,
}

/// `[timing]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The period of report, reallocate, grant.
    pub tick: Duration,
    /// How long a grant lives: at least [`LEAST_TICKS_IN_LEASE`] ticks.
    pub lease: Duration,
}

/// `[xdp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpSettings {
    /// Where in the driver's path the program runs.
    pub mode: XdpMode,
    /// Where bpffs is, or is to be, mounted.
    pub bpffs: PathBuf,
    /// How much the data plane has room for.
    pub sizes: Sizes,
}

/// Where in the driver's path an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum XdpMode {
    /// In the driver, before the kernel allocates a packet buffer.
    Native,
    /// In the kernel, after that: slow, for interfaces whose driver has no XDP.
    Generic,
}

/// Facts of the host that defaults are made from, and names are looked up in.
#[derive(Clone, Debug)]
pub struct Host {
    /// What `/etc/machine-id` says, if it can be read.
    pub machine_id: Option<String>,
    /// The host's name, if it is known.
    pub name: Option<String>,
    /// The user of that name, if there is one.
    pub account: fn(&str) -> Option<Account>,
}

/// Reads a node file.
///
/// # Errors
///
/// Every problem that keeps a daemon from using it, in the order of the file.
pub fn parse(text: &str, host: &Host, overrides: &Overrides) -> Result<NodeConfig, Vec<Problem>> {
    check(text, host, overrides).into_result()
}

/// Reads a node file, and says what is doubtful about it too.
#[must_use]
pub fn check(text: &str, host: &Host, overrides: &Overrides) -> Outcome<NodeConfig> {
    let document = Document::parse(text);
    let config = read::read(document.root(), host, overrides);
    document.finish(config)
}

/// The namespace of identities that are made from machine ids.
const MACHINES: Uuid = Uuid::from_u128(0x6d1f_3f0e_52ab_4c59_9a3e_77c1_0b7a_44e2);

/// The identity of the host with this machine id.
///
/// A machine id is confidential (`machine-id(5)`), so the identity is a name-based UUID of it (RFC
/// 9562, version 5) and does not give it away.
#[must_use]
pub fn id_of_machine(machine_id: &str) -> NodeId {
    NodeId(Uuid::new_v5(&MACHINES, machine_id.trim().as_bytes()))
}
