//! From a checked configuration to a running daemon, and back.

mod alone;

use std::{fs, time::Duration};

use anyhow::Context;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tracing::{error, info, warn};
use weir_coord::{
    fleet::{Fleet, Host},
    grpc::{AttachService, Inbound, Streams},
    zookeeper,
};
use weir_coord_core::{record::LiveRecord, timing::Timing};

pub use alone::{Alone, alone};

use crate::{
    attachment::Attachments,
    config::{self, Coordinator, GrpcSettings, NodeConfig, XdpMode},
    daemon::{Coordination, Daemon, Enforcement, Facts, Inputs, Memory},
    dataplane::{self, Clock, LoadOptions},
    serve::{
        Asker, QUESTIONS,
        admin::AdminService,
        http,
        sockets::{self, SocketError},
    },
};

/// The kernel's number of this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// How long a stopping daemon waits for ZooKeeper to hear of it.
const FAREWELL: Duration = Duration::from_millis(500);
/// A peer that does not answer a ping for so long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Attaches, and runs until it is told to stop. Enforcement goes on in the kernel afterwards.
///
/// # Errors
///
/// What keeps the daemon from starting, or made it end.
pub fn serve(config: NodeConfig) -> anyhow::Result<()> {
    runtime()?.block_on(run(config))
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

fn load_options(config: &NodeConfig) -> LoadOptions {
    LoadOptions {
        interfaces: config.interfaces.clone(),
        group: LoadOptions::group_of(&config.interfaces),
        bpffs: config.xdp.bpffs.clone(),
        mode: attach_mode(config.xdp.mode),
        management: management(&config.management),
        clock: Clock::Boot,
        sizes: dataplane::Sizes::default(),
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

/// One thread is enough: a tick takes microseconds, and nothing may run beside it.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop")
}

async fn run(config: NodeConfig) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    dataplane::preflight()?;
    let memory = Memory::open(&config.state_dir, config.node.id, &config.fleet)?;
    // What may fail without a trace comes before what changes the host.
    let ensemble = ensemble_settings(&config)?;
    let sockets = Sockets::bind(&config).await?;
    let _unlink = sockets::Unlink::on_drop(&config.admin_socket);
    let dataplane = dataplane::load(&load_options(&config))?;
    let attachments = Attachments::new(config.xdp.mode, &config.interfaces)?;
    let enforcement = Enforcement::new(config.node.id, dataplane, memory);

    let (asker, questions) = mpsc::channel(QUESTIONS);
    serve_locally(sockets.local, asker.clone());
    if let Some(listener) = sockets.http {
        serve_http(listener, asker.clone());
    }
    let fleet = (&config.coordinator, ensemble, sockets.fleet);
    let (facts, coordination, events, inbound) = match fleet {
        (Coordinator::ZooKeeper(named, grpc), Some(ensemble), Some(listener)) => {
            warn!(
                listen = %grpc.listen,
                "whoever reaches this address can read and change the fleet's limits: there is no \
                 TLS yet; keep it to a management network"
            );
            let streams = Streams::default();
            let inbound = serve_fleet(listener, streams.clone(), asker);
            let (keeper, events) = zookeeper::spawn(ensemble, live(&config, grpc));
            let host = Host {
                node: config.node.id,
                address: grpc.advertise.clone(),
                timing: timing(&config),
            };
            let fleet = Coordination::Fleet(Fleet::new(host, keeper, streams));
            let facts = facts(&config, &grpc.advertise, &named.servers);
            (facts, fleet, Some(events), Some(inbound))
        }
        _ => (facts(&config, "", ""), alone_in(&config), None, None),
    };
    let mut daemon = Daemon::new(facts, enforcement, coordination, attachments);
    let mut inputs = Inputs {
        events,
        inbound,
        questions,
    };
    info!(node = %config.node.id, interfaces = config.interfaces.join(", "), "enforcing");
    let ended = daemon.run(&mut inputs, config.timing.tick, stop).await;
    // Without its last keeper the session is closed, which lets another node lead at once.
    drop(daemon);
    if let Some(events) = &mut inputs.events {
        let closed = async { while events.next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, closed).await;
    }
    info!("stopped; the kernel goes on with the last grants, then with floors");
    Ok(ended?)
}

/// Everything that is listened on.
struct Sockets {
    local: UnixListener,
    http: Option<TcpListener>,
    fleet: Option<TcpListener>,
}

impl Sockets {
    async fn bind(config: &NodeConfig) -> Result<Self, SocketError> {
        let http = match config.http_listen {
            Some(address) => Some(sockets::tcp("http.listen", address).await?),
            None => None,
        };
        let fleet = match &config.coordinator {
            Coordinator::ZooKeeper(_, grpc) => {
                Some(sockets::tcp("grpc.listen", grpc.listen).await?)
            }
            Coordinator::Embedded => None,
        };
        Ok(Self {
            local: sockets::unix(&config.admin_socket).await?,
            http,
            fleet,
        })
    }
}

fn facts(config: &NodeConfig, address: &str, zookeeper_servers: &str) -> Facts {
    Facts {
        node: config.node.id,
        name: config.node.name.clone(),
        address: address.to_owned(),
        zookeeper_servers: zookeeper_servers.to_owned(),
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
fn serve_locally(listener: UnixListener, asker: Asker) {
    tokio::spawn(async move {
        let admin = Server::builder().add_service(AdminService::server(asker));
        let incoming = UnixListenerStream::new(listener);
        if let Err(error) = admin.serve_with_incoming(incoming).await {
            error!(%error, "operators are no longer served");
        }
    });
}

/// The fleet's address: nodes, and what other nodes pass on from their operators.
fn serve_fleet(listener: TcpListener, streams: Streams, asker: Asker) -> Inbound {
    let (coordination, inbound) = AttachService::new(streams);
    tokio::spawn(async move {
        let router = Server::builder()
            .tcp_nodelay(true)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(coordination)
            .add_service(AdminService::server(asker));
        if let Err(error) = router
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
        {
            error!(%error, "other nodes are no longer served");
        }
    });
    inbound
}

fn serve_http(listener: TcpListener, asker: Asker) {
    tokio::spawn(async move {
        if let Err(error) = http::serve(listener, asker).await {
            error!(%error, "metrics and health are no longer served");
        }
    });
}

/// How to speak to ZooKeeper; `None` with the embedded coordinator.
fn ensemble_settings(config: &NodeConfig) -> anyhow::Result<Option<zookeeper::Settings>> {
    let Coordinator::ZooKeeper(ensemble, _) = &config.coordinator else {
        return Ok(None);
    };
    let settings = zookeeper::Settings::new(&ensemble.servers, &config.fleet)?
        .with_session_timeout(ensemble.session_timeout);
    let Some(auth) = &ensemble.auth else {
        return Ok(Some(settings));
    };
    let text = fs::read_to_string(&auth.password_file)
        .with_context(|| format!("ZooKeeper password file {}", auth.password_file.display()))?;
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

/// Ready once the daemon is told to stop. It is asked for before anything is served, so that no
/// signal is missed.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let mut hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("told to stop"),
            _ = interrupt.recv() => info!("interrupted"),
            _ = hangup.recv() => info!("the terminal is gone"),
        }
    })
}
