//! The operator's service. What only the leader knows is asked of the leader.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::sync::oneshot;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};
use weir_coord::grpc::Security;
use weir_proto::{
    MAX_MESSAGE_BYTES,
    admin::{
        MAX_REPLY_BYTES,
        v1::{
            self,
            admin_client::AdminClient,
            admin_server::{Admin, AdminServer},
        },
    },
};
use weir_tls::{Expected, Peer, Role};

use super::{Answer, Asker, Leader, Question, author};

/// To reach the leader takes far less, or it is not there.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Set on what is passed on, so that it is passed on only once.
const FORWARDED: &str = "weir-forwarded";

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct AdminService {
    asker: Asker,
    security: Security,
}

impl AdminService {
    /// The same for those who ask within the process.
    pub(super) const fn new(asker: Asker, security: Security) -> Self {
        Self { asker, security }
    }

    /// The service, asking `asker`, and the leader where only it can answer.
    pub fn server(asker: Asker, security: Security) -> AdminServer<Self> {
        AdminServer::new(Self::new(asker, security))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_REPLY_BYTES)
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Answer<T>>) -> Question,
    ) -> Result<Answer<T>, Status> {
        let (answer, answered) = oneshot::channel();
        self.send(question(answer)).await?;
        answered.await.map_err(|_| stopping())
    }

    async fn send(&self, question: Question) -> Result<(), Status> {
        let sent = self.asker.send(question).await;
        sent.map_err(|_| stopping())
    }
}

fn stopping() -> Status {
    Status::unavailable("this node is shutting down")
}

async fn connected(
    Leader { node, address }: &Leader,
    security: &Security,
    is_forwarded: bool,
) -> Result<AdminClient<Channel>, Status> {
    if is_forwarded {
        return Err(Status::unavailable("the leader is changing; try again"));
    }
    let unreachable = |error: &dyn std::error::Error| {
        Status::unavailable(format!(
            "the leader at {address} cannot be reached: {error}"
        ))
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| unreachable(&error))?
        .connect_timeout(LEADER_TIMEOUT)
        .timeout(LEADER_TIMEOUT * 5);
    let channel = weir_tls::connect(&endpoint, security, Expected::Node(*node))
        .await
        .map_err(|error| unreachable(&error))?;
    Ok(AdminClient::new(channel)
        .max_decoding_message_size(MAX_REPLY_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

fn forwarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
    request
}

fn is_passed_on<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(FORWARDED)
}

/// Whether whoever asks may. In plain text, and on the local socket, everybody may.
///
/// A node passes on what its own operators may ask of it, so what it passes on is theirs: whoever has
/// a node's key can change limits, as it can by the node's access to ZooKeeper.
fn permitted<T>(request: &Request<T>, needed: Role) -> Result<(), Status> {
    let peer = request.extensions().get::<Peer>();
    let Some(identity) = peer.and_then(|peer| peer.identity) else {
        return Ok(());
    };
    let is_passed_on = identity.node.is_some() && is_passed_on(request);
    let is_permitted = match needed {
        Role::Read => identity.may_read(),
        Role::Operate => identity.may_operate() || is_passed_on,
    };
    if is_permitted {
        return Ok(());
    }
    Err(Status::permission_denied(format!(
        "that takes a certificate with the URI name `{}`; `weir cert operator` makes one",
        needed.uri()
    )))
}

/// What it takes to apply: to see what that would change, no more than to look.
const fn applying(request: &v1::ApplyRequest) -> Role {
    if request.dry_run {
        Role::Read
    } else {
        Role::Operate
    }
}

/// Answers here, or passes the same call on to the leader.
macro_rules! answer {
    ($self:ident, $request:ident, $question:expr, $method:ident, $message:expr) => {{
        let is_forwarded = is_passed_on(&$request);
        match $self.ask($question).await? {
            Answer::Here(reply) => Ok(Response::new(reply)),
            Answer::Refused(status) => Err(status),
            Answer::Elsewhere(leader) => {
                connected(&leader, &$self.security, is_forwarded)
                    .await?
                    .$method(forwarded($message))
                    .await
            }
            Answer::Partly(reply, leader) => {
                let asked = async {
                    connected(&leader, &$self.security, is_forwarded)
                        .await?
                        .$method(forwarded($message))
                        .await
                };
                match asked.await {
                    Ok(leaders) => Ok(Response::new(leaders.into_inner().seen_from(reply))),
                    Err(_) => Ok(Response::new(reply.alone())),
                }
            }
        }
    }};
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyReply>, Status> {
        permitted(&request, applying(request.get_ref()))?;
        let mut message = request.get_ref().clone();
        message.author = author::asking(&request, message.author, is_passed_on(&request))?;
        let copy = message.clone();
        answer!(
            self,
            request,
            |answer| Question::Apply(message, answer),
            apply,
            copy
        )
    }

    async fn confirm(
        &self,
        request: Request<v1::ConfirmRequest>,
    ) -> Result<Response<v1::ConfirmReply>, Status> {
        permitted(&request, Role::Operate)?;
        let message = *request.get_ref();
        answer!(
            self,
            request,
            |answer| Question::Confirm(message, answer),
            confirm,
            message
        )
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::ApplyReply>, Status> {
        permitted(&request, Role::Operate)?;
        let mut message = request.get_ref().clone();
        message.author = author::asking(&request, message.author, is_passed_on(&request))?;
        let copy = message.clone();
        answer!(
            self,
            request,
            |answer| Question::Rollback(message, answer),
            rollback,
            copy
        )
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryReply>, Status> {
        permitted(&request, Role::Read)?;
        answer!(
            self,
            request,
            Question::History,
            history,
            v1::HistoryRequest {}
        )
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainReply>, Status> {
        permitted(&request, Role::Operate)?;
        let message = request.get_ref().clone();
        let copy = message.clone();
        answer!(
            self,
            request,
            |answer| Question::Drain(message, answer),
            drain,
            copy
        )
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveReply>, Status> {
        permitted(&request, Role::Operate)?;
        let message = request.get_ref().clone();
        let copy = message.clone();
        answer!(
            self,
            request,
            |answer| Question::Remove(message, answer),
            remove,
            copy
        )
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        permitted(&request, Role::Read)?;
        answer!(
            self,
            request,
            Question::Status,
            status,
            v1::StatusRequest {}
        )
    }

    async fn limits(
        &self,
        request: Request<v1::LimitsRequest>,
    ) -> Result<Response<v1::LimitsReply>, Status> {
        permitted(&request, Role::Read)?;
        let top = request.get_ref().top.try_into().unwrap_or(usize::MAX);
        answer!(
            self,
            request,
            |answer| Question::Limits { top, answer },
            limits,
            // Of sources each node tells what it sees itself.
            v1::LimitsRequest { top: 0 }
        )
    }

    async fn overview(
        &self,
        request: Request<v1::OverviewRequest>,
    ) -> Result<Response<v1::OverviewReply>, Status> {
        permitted(&request, Role::Read)?;
        let message = request.get_ref().clone();
        // Of sources each node tells what it sees itself.
        let copy = v1::OverviewRequest {
            top: 0,
            ..message.clone()
        };
        answer!(
            self,
            request,
            |answer| Question::Overview(message, answer),
            overview,
            copy
        )
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        permitted(&request, Role::Read)?;
        let text = &request.get_ref().address;
        let address = text.parse().map_err(|_| {
            Status::invalid_argument(format!("{text:?} is not an IPv4 or IPv6 address"))
        })?;
        let (answer, answered) = oneshot::channel();
        self.send(Question::Explain(address, answer)).await?;
        Ok(Response::new(answered.await.map_err(|_| stopping())?))
    }

    async fn demand(
        &self,
        request: Request<v1::DemandRequest>,
    ) -> Result<Response<v1::DemandReply>, Status> {
        permitted(&request, Role::Read)?;
        let (answer, answered) = oneshot::channel();
        self.send(Question::Demand(answer)).await?;
        Ok(Response::new(answered.await.map_err(|_| stopping())?))
    }

    async fn nodes(
        &self,
        request: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        permitted(&request, Role::Read)?;
        answer!(self, request, Question::Nodes, nodes, v1::NodesRequest {})
    }
}

/// A leader's reply, with what is about the answering node put back.
trait SeenFrom: Sized {
    fn seen_from(self, own: Self) -> Self;

    /// What a node knows by itself while its leader cannot be asked.
    fn alone(self) -> Self {
        self
    }
}

impl SeenFrom for v1::StatusReply {
    /// What this node lets pass it knows better than a leader that it may not reach.
    fn seen_from(mut self, own: Self) -> Self {
        let failing = own
            .limits
            .iter()
            .filter(|limit| limit.nodes_failing_open > 0);
        let failing: HashSet<&str> = failing.map(|limit| limit.name.as_str()).collect();
        for limit in &mut self.limits {
            if failing.contains(limit.name.as_str()) {
                limit.promise_kept = false;
                limit.nodes_failing_open = limit.nodes_failing_open.max(1);
            }
        }
        Self {
            node: own.node,
            zookeeper: own.zookeeper,
            policy_version: own.policy_version,
            daemon_version: own.daemon_version,
            ..self
        }
    }
}

impl SeenFrom for v1::LimitsReply {
    /// A leader adds up limits, and sees its own sources.
    fn seen_from(mut self, own: Self) -> Self {
        let rows = own.limits.into_iter().map(|row| (row.name.clone(), row));
        let mut rows: HashMap<String, v1::LimitRow> = rows.collect();
        for row in &mut self.limits {
            if let Some(own) = rows.remove(&row.name) {
                row.top = own.top;
                row.top_seconds = own.top_seconds;
                row.top_left_out = own.top_left_out;
            }
        }
        Self {
            node: own.node,
            ..self
        }
    }
}

impl SeenFrom for v1::OverviewReply {
    /// A leader adds up; of what fails open here, and of sources, this node knows better.
    fn seen_from(mut self, own: Self) -> Self {
        let failing = own.limits.iter().filter(|one| one.nodes_failing_open > 0);
        let failing = failing.filter_map(|one| Some(one.row.as_ref()?.name.as_str()));
        let failing: HashSet<&str> = failing.collect();
        for limit in &mut self.limits {
            if limit
                .row
                .as_ref()
                .is_some_and(|row| failing.contains(row.name.as_str()))
            {
                limit.promise_kept = false;
                limit.nodes_failing_open = limit.nodes_failing_open.max(1);
            }
        }
        Self {
            fleet: match (self.fleet, own.fleet) {
                (Some(leaders), Some(own)) => Some(leaders.seen_from(own)),
                (leaders, own) => leaders.or(own),
            },
            sources: own.sources,
            ..self
        }
    }

    fn alone(self) -> Self {
        Self {
            alone: true,
            ..self
        }
    }
}

macro_rules! all_of_it {
    ($($reply:ty),*) => {
        $(impl SeenFrom for $reply {
            fn seen_from(self, _: Self) -> Self {
                self
            }
        })*
    };
}
all_of_it!(
    v1::ApplyReply,
    v1::ConfirmReply,
    v1::DrainReply,
    v1::HistoryReply,
    v1::NodesReply,
    v1::RemoveReply
);

#[cfg(test)]
mod tests {
    use weir_tls::Identity;

    use super::*;

    fn asked_by(identity: Option<Identity>, is_forwarded: bool) -> [bool; 2] {
        let mut request = if is_forwarded {
            forwarded(())
        } else {
            Request::new(())
        };
        request.extensions_mut().insert(Peer {
            address: ([192, 0, 2, 1], 7946).into(),
            identity,
            name: None,
        });
        [Role::Read, Role::Operate].map(|role| permitted(&request, role).is_ok())
    }

    #[test]
    fn no_call_is_open_to_everybody() {
        let source = include_str!("admin.rs");
        let (_, service) = source
            .split_once("impl Admin for AdminService {")
            .expect("it is here");
        let (service, _) = service.split_once("\n}\n").expect("it has an end");
        for call in service.split("async fn ").skip(1) {
            let (name, body) = call.split_once("Status> {").expect("a call");
            let first = body.trim_start();
            assert!(first.starts_with("permitted(&request, "), "{name}");
        }
    }

    #[test]
    fn who_may_read_may_not_change() {
        let role = |role| Identity {
            role: Some(role),
            ..Identity::default()
        };
        let node = Identity {
            node: Some(weir_model::NodeId::from_u128(1)),
            ..Identity::default()
        };
        assert_eq!(asked_by(Some(role(Role::Read)), false), [true, false]);
        assert_eq!(asked_by(Some(role(Role::Read)), true), [true, false]);
        assert_eq!(asked_by(Some(role(Role::Operate)), false), [true, true]);
        assert_eq!(asked_by(Some(node), false), [true, false]);
        assert_eq!(
            asked_by(Some(node), true),
            [true, true],
            "its operator's word"
        );
        assert_eq!(asked_by(Some(Identity::default()), true), [false, false]);
        assert_eq!(asked_by(None, false), [true, true], "in plain text");
        let apply = |dry_run| v1::ApplyRequest {
            dry_run,
            ..v1::ApplyRequest::default()
        };
        assert_eq!(applying(&apply(true)), Role::Read);
        assert_eq!(applying(&apply(false)), Role::Operate);
        assert!(permitted(&Request::new(()), Role::Operate).is_ok(), "local");
    }

    #[test]
    fn sums_are_the_leaders_and_sources_this_nodes() {
        let source = |text: &str| v1::HeavySource {
            source: text.to_owned(),
            ..v1::HeavySource::default()
        };
        let reply = |name: &str, offered, top| v1::LimitsReply {
            limits: vec![v1::LimitRow {
                name: name.to_owned(),
                offered,
                top: vec![source(top)],
                top_seconds: offered,
                ..v1::LimitRow::default()
            }],
            node: None,
        };
        let seen = reply("a", 300.0, "192.0.2.1/32").seen_from(reply("a", 20.0, "192.0.2.9/32"));
        assert_eq!(seen.limits[0].offered, 300.0);
        assert_eq!(seen.limits[0].top, [source("192.0.2.9/32")]);
        assert_eq!(seen.limits[0].top_seconds, 20.0);
    }

    #[test]
    fn an_overview_is_the_leaders_with_what_this_node_knows_better() {
        let reply = |name: &str, open, source: &str| v1::OverviewReply {
            fleet: Some(v1::StatusReply {
                node: Some(v1::Node {
                    name: name.to_owned(),
                    ..v1::Node::default()
                }),
                term: 4,
                ..v1::StatusReply::default()
            }),
            limits: vec![v1::OverviewLimit {
                row: Some(v1::LimitRow {
                    name: "a".to_owned(),
                    nodes: 3,
                    ..v1::LimitRow::default()
                }),
                promise_kept: true,
                nodes_failing_open: open,
                ..v1::OverviewLimit::default()
            }],
            nodes: vec![v1::NodeRow::default(); 3 * (1 - open as usize)],
            sources: vec![v1::OverviewSource {
                limit: source.to_owned(),
                ..v1::OverviewSource::default()
            }],
            alone: false,
        };
        let seen = reply("leader", 0, "theirs").seen_from(reply("asked", 1, "ours"));
        assert_eq!(seen.fleet.unwrap().node.unwrap().name, "asked");
        assert_eq!(seen.nodes.len(), 3, "of all members only a leader knows");
        assert_eq!(seen.sources[0].limit, "ours");
        assert!(!seen.alone && reply("asked", 0, "ours").alone().alone);
        let limit = &seen.limits[0];
        assert_eq!((limit.promise_kept, limit.nodes_failing_open), (false, 1));
    }

    #[test]
    fn what_fails_open_here_is_a_broken_promise_whatever_the_leader_says() {
        let reply = |nodes_failing_open| v1::StatusReply {
            limits: vec![v1::LimitStatus {
                name: "a".to_owned(),
                promise_kept: nodes_failing_open == 0,
                nodes_failing_open,
                ..v1::LimitStatus::default()
            }],
            ..v1::StatusReply::default()
        };
        let seen = reply(0).seen_from(reply(1)).limits.remove(0);
        assert_eq!((seen.promise_kept, seen.nodes_failing_open), (false, 1));
        assert!(reply(0).seen_from(reply(0)).limits[0].promise_kept);
        assert!(!reply(2).seen_from(reply(0)).limits[0].promise_kept);
    }
}
