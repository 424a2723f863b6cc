//! A made-up daemon: an Admin service on a unix socket of its own, with replies to order.

// Not every test uses all of it.
#![allow(dead_code)]

pub(crate) mod feed;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tempfile::TempDir;
use tokio::{net::UnixListener, sync::oneshot};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use weir_model::NodeId;
use weir_proto::admin::v1::{
    self,
    admin_server::{Admin, AdminServer},
};

/// A limits file that is good.
pub(crate) const LIMITS: &str = "version = 1\n[[limit]]\nname = \"flood\"\nproto = \"udp\"\nports = [9000]\nrate = \"30k packets/s\"\n";

/// What the daemon answers.
#[derive(Clone, Debug)]
pub(crate) struct Replies {
    pub(crate) status: v1::StatusReply,
    pub(crate) limits: v1::LimitsReply,
    pub(crate) nodes: v1::NodesReply,
    pub(crate) apply: v1::ApplyReply,
    pub(crate) explain: v1::ExplainReply,
    pub(crate) demand: v1::DemandReply,
    /// Instead of any of them.
    pub(crate) refusal: Option<Status>,
    /// The last request to apply.
    pub(crate) applied: Option<v1::ApplyRequest>,
    pub(crate) history: v1::HistoryReply,
    /// Which version was to be confirmed, or to be gone back to.
    pub(crate) confirmed: Option<v1::ConfirmRequest>,
    pub(crate) rolled_back: Option<v1::RollbackRequest>,
    pub(crate) drained: Option<v1::DrainRequest>,
    pub(crate) removed: Option<v1::RemoveRequest>,
    /// The last that was asked for heaviest sources, and for a source.
    pub(crate) asked_top: u32,
    pub(crate) asked_source: String,
    /// The last overview that was asked for, and how many were.
    pub(crate) asked_overview: v1::OverviewRequest,
    pub(crate) overviews: u64,
    /// Another fleet, for overviews alone.
    pub(crate) feed: Option<feed::Feed>,
}

/// A running daemon; it ends with this.
pub(crate) struct Daemon {
    directory: TempDir,
    replies: Arc<Mutex<Replies>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let replies = Arc::new(Mutex::new(Replies::new()));
        let service = AdminServer::new(Service(Arc::clone(&replies)));
        let socket = directory.path().join("node.sock");
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let serve = async move {
            let listener = UnixListener::bind(socket).expect("a socket");
            ready.send(()).expect("somebody waits");
            Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
                    let _ = stopped.await;
                })
                .await
                .expect("the server serves");
        };
        let server = std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(serve);
        });
        is_ready.recv().expect("the server is ready");
        Self {
            directory,
            replies,
            stop: Some(stop),
            server: Some(server),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.directory.path().join("node.sock").display())
    }

    /// `weir` with these arguments, asking this daemon.
    pub(crate) fn weir(&self, arguments: &[&str]) -> Command {
        weir(&self.address(), arguments)
    }

    pub(crate) fn reply(&self, change: impl FnOnce(&mut Replies)) {
        change(&mut self.replies.lock().expect("no test panicked in here"));
    }

    pub(crate) fn look<T>(&self, at: impl FnOnce(&Replies) -> T) -> T {
        at(&self.replies.lock().expect("no test panicked in here"))
    }

    pub(crate) fn applied(&self) -> Option<v1::ApplyRequest> {
        let replies = self.replies.lock().expect("no test panicked in here");
        replies.applied.clone()
    }

    /// The path of a new file.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.directory.path().join(name);
        std::fs::write(&path, content).expect("a written file");
        path.display().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// `weir` with these arguments, asking an address.
pub(crate) fn weir(address: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .env_remove("WEIR_ADDRESS")
        .args(["--address", address])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is UTF-8")
}

struct Service(Arc<Mutex<Replies>>);

impl Service {
    fn answer<T>(&self, reply: impl FnOnce(&mut Replies) -> T) -> Result<Response<T>, Status> {
        let mut replies = self.0.lock().expect("no test panicked in here");
        match replies.refusal.clone() {
            Some(refusal) => Err(refusal),
            None => Ok(Response::new(reply(&mut replies))),
        }
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyReply>, Status> {
        self.answer(|replies| {
            replies.applied = Some(request.into_inner());
            replies.apply.clone()
        })
    }

    async fn confirm(
        &self,
        request: Request<v1::ConfirmRequest>,
    ) -> Result<Response<v1::ConfirmReply>, Status> {
        self.answer(|replies| {
            replies.confirmed = Some(request.into_inner());
            v1::ConfirmReply { version: 5 }
        })
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::ApplyReply>, Status> {
        self.answer(|replies| {
            replies.rolled_back = Some(request.into_inner());
            replies.apply.clone()
        })
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainReply>, Status> {
        self.answer(|replies| {
            replies.drained = Some(request.into_inner());
            v1::DrainReply { node: node(3, "") }
        })
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveReply>, Status> {
        self.answer(|replies| {
            replies.removed = Some(request.into_inner());
            v1::RemoveReply { node: node(3, "") }
        })
    }

    async fn history(
        &self,
        _request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryReply>, Status> {
        self.answer(|replies| replies.history.clone())
    }

    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        self.answer(|replies| replies.status.clone())
    }

    async fn limits(
        &self,
        request: Request<v1::LimitsRequest>,
    ) -> Result<Response<v1::LimitsReply>, Status> {
        self.answer(|replies| {
            replies.asked_top = request.into_inner().top;
            replies.limits.clone()
        })
    }

    async fn overview(
        &self,
        request: Request<v1::OverviewRequest>,
    ) -> Result<Response<v1::OverviewReply>, Status> {
        self.answer(|replies| {
            replies.asked_overview = request.into_inner();
            replies.overviews += 1;
            replies.overview()
        })
    }

    async fn demand(
        &self,
        _request: Request<v1::DemandRequest>,
    ) -> Result<Response<v1::DemandReply>, Status> {
        self.answer(|replies| replies.demand.clone())
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        self.answer(|replies| {
            replies.asked_source = request.into_inner().address;
            replies.explain.clone()
        })
    }

    async fn nodes(
        &self,
        _request: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        self.answer(|replies| replies.nodes.clone())
    }
}

fn node(number: u8, address: &str) -> Option<v1::Node> {
    let id = NodeId::from_u128(number.into());
    Some(v1::Node::new(id, format!("host{number}"), address))
}

impl Replies {
    /// A fleet of three, of which the second leads, the third is gone, and the first is flooded.
    fn new() -> Self {
        let [host1, host2, host3] = [
            node(1, "198.18.1.1:7946"),
            node(2, "198.18.2.1:7946"),
            node(3, ""),
        ];
        Self {
            status: status(&host1, &host2, &host3),
            limits: v1::LimitsReply {
                limits: vec![v1::LimitRow {
                    name: "flood".to_owned(),
                    promise: v1::Promise::Strict.into(),
                    mode: v1::Mode::Enforce.into(),
                    unit: v1::Unit::Packets.into(),
                    rate: 30_000.0,
                    burst: 3_000.0,
                    offered: 90_000.0,
                    admitted: 29_700.0,
                    dropped: 60_300.0,
                    nodes: 3,
                    ..v1::LimitRow::default()
                }],
                node: host1.clone(),
            },
            explain: v1::ExplainReply {
                node: host1.clone(),
                ..v1::ExplainReply::default()
            },
            demand: v1::DemandReply {
                node: host1.clone(),
                policy_version: 3,
                ..v1::DemandReply::default()
            },
            nodes: nodes(host1, host2, host3),
            apply: v1::ApplyReply {
                version: 4,
                changes: vec![
                    change("flood", v1::ChangeKind::Added, &[]),
                    change(
                        "dns",
                        v1::ChangeKind::Changed,
                        &[
                            ("rate", "1000 packets/s", "2000 packets/s"),
                            ("ports", "", "53"),
                        ],
                    ),
                    change("old", v1::ChangeKind::Removed, &[]),
                ],
                warnings: Vec::new(),
            },
            refusal: None,
            applied: None,
            history: v1::HistoryReply {
                versions: vec![version(5, true, Some(42_000)), version(4, false, None)],
            },
            confirmed: None,
            rolled_back: None,
            drained: None,
            removed: None,
            asked_top: 0,
            asked_source: String::new(),
            asked_overview: v1::OverviewRequest::default(),
            overviews: 0,
            feed: None,
        }
    }

    /// What the other replies say, put together for what was asked.
    fn overview(&self) -> v1::OverviewReply {
        let asked = &self.asked_overview;
        if let Some(feed) = self.feed {
            return feed.overview(self.overviews, asked);
        }
        let mut nodes = self.nodes.nodes.clone();
        for row in &mut nodes {
            let is_node = row
                .node
                .as_ref()
                .is_some_and(|node| node.name == asked.node);
            row.limits
                .retain(|limit| is_node || limit.limit == asked.limit);
        }
        let limits = self.limits.limits.iter().zip(&self.status.limits);
        let limits = limits.map(|(row, state)| v1::OverviewLimit {
            row: Some(row.clone()),
            promise_kept: state.promise_kept,
            nodes_on_floor: state.nodes_on_floor,
            nodes_failing_open: state.nodes_failing_open,
            pending: state.pending.len() as u32,
        });
        v1::OverviewReply {
            fleet: Some(v1::StatusReply {
                limits: Vec::new(),
                ..self.status.clone()
            }),
            limits: limits.collect(),
            nodes,
            sources: Vec::new(),
            alone: false,
        }
    }
}

fn status(
    host1: &Option<v1::Node>,
    host2: &Option<v1::Node>,
    host3: &Option<v1::Node>,
) -> v1::StatusReply {
    let member = |node: &Option<v1::Node>, last_report_ms: Option<u64>| v1::Member {
        node: node.clone(),
        live: last_report_ms.is_some(),
        is_leader: node == host2,
        on_floor: last_report_ms.is_none(),
        last_report_ms,
        policy_version: if last_report_ms.is_some() { 3 } else { 2 },
    };
    v1::StatusReply {
        node: host1.clone(),
        leader: host2.clone(),
        term: 4,
        zookeeper: Some(v1::ZooKeeper {
            connected: true,
            since_ms: 125_000,
            servers: "198.18.0.10:2181".to_owned(),
        }),
        policy_version: 3,
        members: vec![
            member(host1, Some(80)),
            member(host2, Some(0)),
            member(host3, None),
        ],
        limits: vec![v1::LimitStatus {
            name: "flood".to_owned(),
            promise: v1::Promise::Strict.into(),
            unit: v1::Unit::Packets.into(),
            budget: 30_000.0,
            promise_kept: true,
            pending: host3.iter().cloned().collect(),
            nodes_on_floor: 1,
            offered_rate: 90_000.0,
            admitted_rate: 29_700.0,
            per: None,
            nodes_failing_open: 0,
            hot_keys: 0,
            heaviest_hot: None,
        }],
        daemon_version: "0.1.0".to_owned(),
        voters: [host1, host2, host3]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
        trial: None,
    }
}

fn version(number: u64, in_force: bool, confirm_within_ms: Option<u64>) -> v1::Version {
    v1::Version {
        version: number,
        stored_at_ms: 0,
        in_force,
        confirm_within_ms,
        ..v1::Version::default()
    }
}

fn nodes(
    host1: Option<v1::Node>,
    host2: Option<v1::Node>,
    host3: Option<v1::Node>,
) -> v1::NodesReply {
    let flooded = v1::NodeLimit {
        limit: "flood".to_owned(),
        unit: v1::Unit::Packets.into(),
        rate: 30_000.0,
        share: 29_700.0,
        floor: 4.6875,
        offered: 90_000.0,
        admitted: 29_700.0,
        dropped: 60_300.0,
        lease_left_ms: Some(1_900),
        on_floor: false,
        per: None,
    };
    let idle = v1::NodeLimit {
        share: 4.6875,
        offered: 0.0,
        admitted: 0.0,
        dropped: 0.0,
        lease_left_ms: None,
        on_floor: true,
        ..flooded.clone()
    };
    let row = |node, live, is_leader, limits| v1::NodeRow {
        node,
        live,
        is_leader,
        limits,
    };
    v1::NodesReply {
        nodes: vec![
            row(host1, true, false, vec![flooded]),
            row(host2, true, true, Vec::new()),
            row(host3, false, false, vec![idle]),
        ],
    }
}

fn change(name: &str, kind: v1::ChangeKind, fields: &[(&str, &str, &str)]) -> v1::LimitChange {
    let field = |(field, before, after): &(&str, &str, &str)| v1::FieldChange {
        field: (*field).to_owned(),
        before: (*before).to_owned(),
        after: (*after).to_owned(),
    };
    v1::LimitChange {
        name: name.to_owned(),
        kind: kind.into(),
        fields: fields.iter().map(field).collect(),
    }
}
