//! Flags and environment variables, which go before the file.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::XdpMode;

/// What the command line and the environment say. A flag goes before its variable, and both before
/// the node file.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Instead of the node file")]
pub struct Overrides {
    /// The fleet to belong to.
    #[arg(long, env = "WEIR_FLEET", value_name = "NAME")]
    pub fleet: Option<String>,
    /// An interface to enforce on; may be repeated, or several with commas.
    #[arg(
        long = "interface",
        env = "WEIR_INTERFACES",
        value_name = "IF",
        value_delimiter = ','
    )]
    pub interfaces: Vec<String>,
    /// Where to keep what survives a reboot.
    #[arg(long, env = "WEIR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What people call this node.
    #[arg(long, env = "WEIR_NODE_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Where operators reach the daemon.
    #[arg(long, env = "WEIR_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// ZooKeeper's servers, separated by commas.
    #[arg(long, env = "WEIR_ZOOKEEPER", value_name = "HOST:PORT,…")]
    pub zookeeper: Option<String>,
    /// Where to listen for other nodes.
    #[arg(long, env = "WEIR_GRPC_LISTEN", value_name = "ADDRESS:PORT")]
    pub grpc_listen: Option<SocketAddr>,
    /// Where other nodes reach this one.
    #[arg(long, env = "WEIR_GRPC_ADVERTISE", value_name = "HOST:PORT")]
    pub grpc_advertise: Option<String>,
    /// Where to serve metrics and health.
    #[arg(long, env = "WEIR_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    pub http_listen: Option<SocketAddr>,
    /// Where in the driver's path the XDP program runs.
    #[arg(long, env = "WEIR_XDP_MODE", value_name = "MODE")]
    pub xdp_mode: Option<XdpMode>,
    /// Where bpffs is, or is to be, mounted.
    #[arg(long, env = "WEIR_BPFFS", value_name = "DIR")]
    pub bpffs: Option<PathBuf>,
}
