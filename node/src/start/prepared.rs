//! What a daemon opens while it may, in an order that leaves nothing behind if a step fails.

use std::{fs, net::TcpListener, os::unix::net::UnixListener, path::Path};

use anyhow::Context;
use tracing::warn;
use weir_coord::{grpc::Security, zookeeper};
use weir_model::NodeId;
use weir_tls::Credentials;

use super::load_options;
use crate::{
    config::{Coordinator, NodeConfig},
    daemon::Memory,
    dataplane::{self, Dataplane},
    privileges::Unprivileged,
    serve::{
        http::{Guard, Secret},
        sockets::{self, SocketError},
    },
};

/// Of the state directory.
const STATE_MODE: u32 = 0o700;
/// Of a token: fewer bytes could be tried one after the other.
const LEAST_SECRET: usize = 16;

/// Everything that a daemon needs privileges to get, and none to use.
pub(super) struct Prepared {
    pub(super) memory: Memory,
    /// `None` with the embedded coordinator.
    pub(super) ensemble: Option<zookeeper::Settings>,
    /// How it speaks to other nodes.
    pub(super) security: Security,
    /// Who may look over HTTP.
    pub(super) guard: Guard,
    pub(super) sockets: Sockets,
    pub(super) unlink: sockets::Unlink,
    pub(super) dataplane: Dataplane,
}

impl Prepared {
    /// Opens all of it for a daemon that will tick as `user`.
    pub(super) fn new(config: &NodeConfig, user: &Unprivileged) -> anyhow::Result<Self> {
        let memory = memory(&config.state_dir, config.node.id, &config.fleet, user)?;
        // What may fail without a trace comes before what changes the host.
        let ensemble = ensemble_settings(config)?;
        let security = security(config, user)?;
        let guard = guard(config, user)?;
        let sockets = Sockets::bind(config, user)?;
        let unlink = sockets::Unlink::on_drop(&config.admin_socket);
        let dataplane = dataplane::load(&load_options(config, memory.policy()))?;
        Ok(Self {
            memory,
            ensemble,
            security,
            guard,
            sockets,
            unlink,
            dataplane,
        })
    }
}

/// What the host remembers, in a directory that is the user's.
pub(super) fn memory(
    directory: &Path,
    node: NodeId,
    fleet: &str,
    user: &Unprivileged,
) -> anyhow::Result<Memory> {
    user.own_directory(directory, STATE_MODE)?;
    let opened = user.acting(|| Memory::open(directory, node, fleet))?;
    opened.with_context(|| format!("as user {}", user.name()))
}

/// Everything that is listened on.
pub(super) struct Sockets {
    pub(super) local: UnixListener,
    pub(super) http: Option<TcpListener>,
    pub(super) fleet: Option<TcpListener>,
}

impl Sockets {
    fn bind(config: &NodeConfig, user: &Unprivileged) -> Result<Self, SocketError> {
        let http = match &config.http {
            Some(http) => Some(sockets::tcp("http.listen", http.listen)?),
            None => None,
        };
        let fleet = match &config.coordinator {
            Coordinator::ZooKeeper(fleet) => Some(sockets::tcp("grpc.listen", fleet.grpc.listen)?),
            Coordinator::Embedded => None,
        };
        Ok(Self {
            local: sockets::unix(&config.admin_socket, user)?,
            http,
            fleet,
        })
    }
}

/// How to speak to ZooKeeper; `None` with the embedded coordinator.
fn ensemble_settings(config: &NodeConfig) -> anyhow::Result<Option<zookeeper::Settings>> {
    let Coordinator::ZooKeeper(fleet) = &config.coordinator else {
        return Ok(None);
    };
    let ensemble = &fleet.zookeeper;
    let mut settings = zookeeper::Settings::new(&ensemble.servers, &config.fleet)?
        .with_session_timeout(ensemble.session_timeout);
    if let Some(tls) = &ensemble.tls {
        let ca = read("ca_file", &tls.ca_file)?;
        let identity = match &tls.identity {
            Some((certificate, key)) => Some((
                read("certificate_file", certificate)?,
                read("key_file", key)?,
            )),
            None => None,
        };
        let identity = identity.as_ref();
        let identity = identity.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        settings = settings.with_tls(zookeeper::Tls::new(&ca, identity)?);
    }
    let Some(auth) = &ensemble.auth else {
        return Ok(Some(settings));
    };
    let text = read("password_file", &auth.password_file)?;
    let password = text.lines().next().unwrap_or_default();
    anyhow::ensure!(
        !password.is_empty(),
        "ZooKeeper password file {} is empty: its first line is the password",
        auth.password_file.display()
    );
    Ok(Some(settings.with_credentials(
        zookeeper::Credentials::new(&auth.user, password),
    )))
}

/// How to speak to other nodes, and to be known to them.
fn security(config: &NodeConfig, user: &Unprivileged) -> anyhow::Result<Security> {
    let Coordinator::ZooKeeper(fleet) = &config.coordinator else {
        return Ok(Security::Plain);
    };
    let Some(files) = &fleet.grpc.tls else {
        return Ok(Security::Plain);
    };
    let credentials = Credentials::load(files.clone()).context("[grpc] tls")?;
    let (own, shown) = (config.node.id, credentials.identity().node);
    anyhow::ensure!(
        shown == Some(own),
        "[grpc] tls: {} is not this node's, which is {own}: it has to have the URI name \
         `weir:node:{own}`; `weir cert node --id {own}` makes one",
        files.certificate.display()
    );
    warn_of_unreadable(&credentials, user)?;
    Ok(Security::Tls(credentials))
}

/// Who may look over HTTP.
fn guard(config: &NodeConfig, user: &Unprivileged) -> anyhow::Result<Guard> {
    let Some(http) = &config.http else {
        return Ok(Guard::default());
    };
    let security = match &http.tls {
        Some(files) => {
            let credentials = Credentials::load(files.clone()).context("[http] tls")?;
            warn_of_unreadable(&credentials, user)?;
            Security::Tls(credentials)
        }
        None => Security::Plain,
    };
    let token = match &http.token_file {
        Some(file) => Some(secret("[http] token_file", file)?),
        None => None,
    };
    Ok(Guard { security, token })
}

fn warn_of_unreadable(credentials: &Credentials, user: &Unprivileged) -> anyhow::Result<()> {
    for file in user.acting(|| credentials.unreadable())? {
        warn!(
            file = %file.display(),
            user = %user.name(),
            "the user that ticks cannot read this file: it is read again when it is rotated, so \
             give it to the user's group"
        );
    }
    Ok(())
}

/// The first line of a file.
fn secret(key: &str, file: &Path) -> anyhow::Result<Secret> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("{key} {name}"))?;
    let line = text.lines().next().unwrap_or_default();
    anyhow::ensure!(
        line.len() >= LEAST_SECRET,
        "{key} {name}: its first line is the secret, and has {} bytes, expected {LEAST_SECRET} or \
         more: `head -c 32 /dev/urandom | base64 > {name}` makes one",
        line.len()
    );
    Ok(Secret::new(line))
}

/// A file that the node file names for ZooKeeper.
fn read(key: &str, file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("[zookeeper] {key} {}", file.display()))
}
