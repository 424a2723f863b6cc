//! From a checked configuration to a running daemon, and back.

mod alone;
mod descriptors;
mod prepared;
mod signals;
mod supervise;

use std::{fs, net::TcpListener, os::unix::net::UnixListener, time::Duration};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tracing::{error, info, warn};
use weir_abi::maps;
use weir_coord::{
    fleet::{Fleet, Host},
    grpc::{self, AttachService, Inbound, Security, Streams},
    zookeeper,
};
use weir_coord_core::{record::LiveRecord, timing::Timing};
use weir_model::{Policy, PolicyVersion, file};

pub use alone::{Alone, alone};
use prepared::Prepared;

#[cfg(feature = "otlp")]
use crate::traces::Exporter;
use crate::{
    attachment::Attachments,
    config::{self, Coordinator, GrpcSettings, NodeConfig, XdpMode},
    daemon::{Coordination, Daemon, Enforcement, Facts, Inputs, Ticks},
    dataplane::{self, Clock, LoadOptions, Sizes},
    privileges::Unprivileged,
    serve::{Asker, QUESTIONS, admin::AdminService, http},
};

/// The kernel's number of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long a stopping daemon waits for ZooKeeper to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);
/// A peer that does not answer a ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Requests and streams that are under way on one connection. Beyond it the peer has to wait.
const MAX_REQUESTS: u32 = 32;

/// Attaches, gives up its privileges, and runs until it is told to stop. Enforcement goes on in the
/// kernel afterwards.
///
/// To be called while there is one thread.
///
/// # Errors
///
/// What keeps the daemon from starting, or made it end.
pub fn serve(config: &NodeConfig) -> anyhow::Result<()> {
    signals::hold()?;
    descriptors::raise();
    dataplane::preflight()?;
    let user = Unprivileged::choose(config.node.user.as_ref())?;
    let prepared = Prepared::new(config, &user)?;
    user.drop_privileges()?;
    let daemon = run(config.clone(), prepared);
    // In a task of its own: to wake what the runtime itself waits for takes a system call each time.
    let ended = runtime()?.block_on(async { tokio::spawn(daemon).await });
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Takes the program off the interfaces and removes its pins.
///
/// # Errors
///
/// That a daemon is running, or that something could not be removed.
pub fn detach(config: &NodeConfig) -> anyhow::Result<()> {
    let group = LoadOptions::group_of(&config.interfaces);
    let interfaces = dataplane::detach(&config.xdp.bpffs, &group)?;
    if interfaces.is_empty() {
        info!(group, "nothing was attached");
    } else {
        info!(
            interfaces = interfaces.join(", "),
            "detached; nothing is enforced here now"
        );
    }
    Ok(())
}

/// `remembered`: the policy that was in force when the host last ran.
fn load_options(config: &NodeConfig, remembered: Option<(PolicyVersion, String)>) -> LoadOptions {
    // One that is not understood any more is reported when the daemon adopts it.
    let policy =
        remembered.and_then(|(version, document)| Some((file::parse(&document).ok()?, version)));
    LoadOptions {
        interfaces: config.interfaces.clone(),
        group: LoadOptions::group_of(&config.interfaces),
        bpffs: config.xdp.bpffs.clone(),
        mode: attach_mode(config.xdp.mode),
        management: management(&config.management),
        clock: Clock::Boot,
        sizes: sizes(config.xdp.sizes, policy.as_ref().map(|(policy, _)| policy)),
        policy,
    }
}

/// What is configured, with room for this policy and another as large while one takes over from the
/// other.
fn sizes(configured: Sizes, policy: Option<&Policy>) -> Sizes {
    let limits = policy.map_or(0, |policy| policy.limits.len());
    let needed = u32::try_from(2 * limits).unwrap_or(u32::MAX);
    Sizes {
        limit_slots: configured
            .limit_slots
            .max(needed.next_power_of_two())
            .min(maps::MAX_SLOTS as u32),
        ..configured
    }
}

const fn attach_mode(mode: XdpMode) -> dataplane::AttachMode {
    match mode {
        XdpMode::Native => dataplane::AttachMode::Native,
        XdpMode::Generic => dataplane::AttachMode::Generic,
    }
}

fn management(entries: &[config::ManagementEntry]) -> Vec<dataplane::ManagementEntry> {
    entries
        .iter()
        .map(|entry| dataplane::ManagementEntry {
            ports: entry.ports.clone(),
            from: entry.from.clone(),
        })
        .collect()
}

/// One thread is enough: a tick takes microseconds, and nothing may run beside it. Those that
/// resolve names come later, and have what this one has.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop")
}

async fn run(config: NodeConfig, prepared: Prepared) -> anyhow::Result<()> {
    let config = &config;
    let stop = signals::stop()?;
    #[cfg(feature = "otlp")]
    let traces = match &config.otlp {
        Some(settings) => Some(Exporter::start(config, settings)?),
        None => None,
    };
    let Prepared {
        memory,
        ensemble,
        security,
        guard,
        sockets,
        unlink: _unlink,
        dataplane,
    } = prepared;
    let attachments = Attachments::new(config.xdp.mode, &config.interfaces)?;
    let known_term = memory.term();
    let enforcement = Enforcement::new(config.node.id, dataplane, memory);

    let (asker, questions) = mpsc::channel(QUESTIONS);
    serve_locally(sockets.local, asker.clone(), security.clone())?;
    if let Some(listener) = sockets.http {
        serve_http(listener, guard, asker.clone(), security.clone())?;
    }
    let fleet = (&config.coordinator, ensemble, sockets.fleet);
    let (facts, coordination, events, inbound) = match fleet {
        (Coordinator::ZooKeeper(settings), Some(ensemble), Some(listener)) => {
            let grpc = &settings.grpc;
            if !security.is_authenticated() {
                warn!(
                    listen = %grpc.listen,
                    "whoever reaches this address can read and change the fleet's limits, and report \
                     in any node's name: set `[grpc] tls`, or keep it to a management network"
                );
            }
            let streams = Streams::default();
            let inbound = serve_fleet(listener, streams.clone(), asker, security.clone())?;
            let (keeper, events) = zookeeper::spawn(ensemble, live(config, grpc));
            let host = Host {
                node: config.node.id,
                address: grpc.advertise.clone(),
                timing: timing(config),
                commit: settings.commit,
                security,
            };
            let mut fleet = Fleet::new(host, keeper, streams);
            fleet.remember_term(known_term);
            let fleet = Coordination::Fleet(fleet);
            let facts = facts(config, &grpc.advertise, &settings.zookeeper.servers);
            (facts, fleet, Some(events), Some(inbound))
        }
        _ => (facts(config, "", ""), alone_in(config), None, None),
    };
    let mut daemon = Daemon::new(facts, enforcement, coordination, attachments);
    let mut inputs = Inputs {
        ticks: Ticks::new(config.timing.tick).context("no timer")?,
        events,
        inbound,
        questions,
    };
    info!(node = %config.node.id, interfaces = config.interfaces.join(", "), "enforcing");
    let ended = daemon.run(&mut inputs, stop).await;
    // Without its last keeper the session is closed, which lets another node lead at once.
    drop(daemon);
    if let Some(events) = &mut inputs.events {
        let closed = async { while events.next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, closed).await;
    }
    #[cfg(feature = "otlp")]
    if let Some(traces) = traces {
        traces.stop().await;
    }
    info!("stopped; the kernel goes on with the last grants, then with floors");
    Ok(ended?)
}

fn facts(config: &NodeConfig, address: &str, zookeeper_servers: &str) -> Facts {
    Facts {
        node: config.node.id,
        name: config.node.name.clone(),
        address: address.to_owned(),
        zookeeper_servers: zookeeper_servers.to_owned(),
        tick: config.timing.tick,
        management: config.management.clone(),
    }
}

fn timing(config: &NodeConfig) -> Timing {
    Timing {
        tick: config.timing.tick,
        lease: config.timing.lease,
    }
}

fn alone_in(config: &NodeConfig) -> Coordination {
    Coordination::Embedded {
        node: config.node.id,
        name: config.node.name.clone(),
        timing: timing(config),
        embedded: None,
    }
}

/// The local socket: operators.
fn serve_locally(listener: UnixListener, asker: Asker, security: Security) -> anyhow::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener).context("local socket")?;
    tokio::spawn(async move {
        let admin = Server::builder()
            .max_concurrent_streams(Some(MAX_REQUESTS))
            .add_service(AdminService::server(asker, security));
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = admin.serve_with_incoming(incoming).await {
            error!(%error, "operators are no longer served");
        }
    });
    Ok(())
}

/// The fleet's address: nodes, and what other nodes pass on from their operators.
fn serve_fleet(
    listener: TcpListener,
    streams: Streams,
    asker: Asker,
    security: Security,
) -> anyhow::Result<Inbound> {
    let listener = tokio::net::TcpListener::from_std(listener).context("grpc.listen")?;
    let (coordination, inbound) = AttachService::new(streams);
    tokio::spawn(async move {
        let router = Server::builder()
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(Some(MAX_REQUESTS))
            .add_service(coordination)
            .add_service(AdminService::server(asker, security.clone()));
        let incoming = grpc::incoming(listener, security);
        if let Err(error) = router.serve_with_incoming(incoming).await {
            error!(%error, "other nodes are no longer served");
        }
    });
    Ok(inbound)
}

fn serve_http(
    listener: TcpListener,
    guard: http::Guard,
    asker: Asker,
    security: Security,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("http.listen")?;
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, guard, asker, security).await {
            error!(%error, "metrics, health and the console are no longer served");
        }
    });
    Ok(())
}

fn live(config: &NodeConfig, grpc: &GrpcSettings) -> LiveRecord {
    LiveRecord {
        node: config.node.id,
        name: config.node.name.clone(),
        address: grpc.advertise.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        weight: config.node.weight,
        boot_id: fs::read_to_string(BOOT_ID)
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}
