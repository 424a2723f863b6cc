//! The operator's service. What only the leader knows is asked of the leader.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
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

use super::{Answer, Asker, Leader, Question, author, pace::Pace, seen::SeenFrom as _};

/// The daemon is asked so often in a second by operators that come the same way; others wait their turn.
/// Each question is answered between two packets of the protocol, and may take milliseconds.
const QUESTIONS_PER_SECOND: u32 = 200;

/// To reach the leader takes far less, or it is not there.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a question that only a leader can answer waits for one: another leads within a second or
/// two of the last one's end.
const LEADER_WITHIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LEADER_POLL: Duration = Duration::from_millis(100);
/// Set on what is passed on, so that it is passed on only once.
const FORWARDED: &str = "weir-forwarded";

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct AdminService {
    asker: Asker,
    security: Security,
    pace: Arc<Mutex<Pace>>,
}

impl AdminService {
    /// The same for those who ask within the process.
    pub(super) fn new(asker: Asker, security: Security) -> Self {
        let pace = Arc::new(Mutex::new(Pace::new(QUESTIONS_PER_SECOND)));
        Self {
            asker,
            security,
            pace,
        }
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

    /// Asks until there is a leader, or has been none for too long. Nobody has begun to do anything
    /// before that.
    async fn led<T>(
        &self,
        question: impl Fn(oneshot::Sender<Answer<T>>) -> Question,
        is_forwarded: bool,
    ) -> Result<Led<T>, Status> {
        let by = Instant::now() + LEADER_WITHIN;
        loop {
            let missing = match self.ask(&question).await? {
                Answer::Here(reply) => return Ok(Led::Here(reply)),
                Answer::Partly(reply, leader) => return Ok(Led::Partly(reply, leader)),
                Answer::Refused(status) => return Err(status),
                Answer::Elsewhere(leader) => {
                    match connected(&leader, &self.security, is_forwarded).await {
                        Ok(leader) => return Ok(Led::Through(leader)),
                        Err(status) => status,
                    }
                }
                Answer::Leaderless => Status::unavailable("the fleet has no leader now"),
            };
            if Instant::now() >= by {
                return Err(missing);
            }
            sleep(LEADER_POLL).await;
        }
    }

    async fn send(&self, question: Question) -> Result<(), Status> {
        let wait = {
            // Its critical section is arithmetic: nothing is left half done.
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.wait(Instant::now().into_std())
        };
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let sent = self.asker.send(question).await;
        sent.map_err(|_| stopping())
    }
}

/// Who answers.
enum Led<T> {
    /// This node has.
    Here(T),
    /// This node has, as far as it knows.
    Partly(T, Leader),
    /// The leader, who has not been asked yet.
    Through(AdminClient<Channel>),
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
        match $self.led($question, is_forwarded).await? {
            Led::Here(reply) => Ok(Response::new(reply)),
            Led::Through(mut leader) => leader.$method(forwarded($message)).await,
            Led::Partly(reply, leader) => {
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
        answer!(
            self,
            request,
            |answer| Question::Apply(message.clone(), answer),
            apply,
            message.clone()
        )
    }

    async fn confirm(
        &self,
        request: Request<v1::ConfirmRequest>,
    ) -> Result<Response<v1::ConfirmReply>, Status> {
        permitted(&request, Role::Operate)?;
        let mut message = request.get_ref().clone();
        message.author = author::asking(&request, message.author, is_passed_on(&request))?;
        answer!(
            self,
            request,
            |answer| Question::Confirm(message.clone(), answer),
            confirm,
            message.clone()
        )
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::ApplyReply>, Status> {
        permitted(&request, Role::Operate)?;
        let mut message = request.get_ref().clone();
        message.author = author::asking(&request, message.author, is_passed_on(&request))?;
        answer!(
            self,
            request,
            |answer| Question::Rollback(message.clone(), answer),
            rollback,
            message.clone()
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
        answer!(
            self,
            request,
            |answer| Question::Drain(message.clone(), answer),
            drain,
            message.clone()
        )
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRequest>,
    ) -> Result<Response<v1::RemoveReply>, Status> {
        permitted(&request, Role::Operate)?;
        let message = request.get_ref().clone();
        answer!(
            self,
            request,
            |answer| Question::Remove(message.clone(), answer),
            remove,
            message.clone()
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
            |answer| Question::Overview(message.clone(), answer),
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

    #[tokio::test]
    async fn a_flood_of_questions_waits_its_turn() {
        let (asker, mut questions) = tokio::sync::mpsc::channel(1);
        let service = AdminService::new(asker, Security::Plain);
        let daemon = tokio::spawn(async move {
            while let Some(Question::Alive(answer)) = questions.recv().await {
                let _ = answer.send(());
            }
        });
        let begin = Instant::now();
        for _ in 0..QUESTIONS_PER_SECOND + 100 {
            let (answer, answered) = oneshot::channel();
            let sent = service.clone().send(Question::Alive(answer)).await;
            assert!(sent.is_ok() && answered.await.is_ok());
        }
        assert!(
            begin.elapsed() >= Duration::from_millis(490),
            "half a second for a hundred"
        );
        drop(service);
        daemon.await.expect("it has answered");
    }

    #[tokio::test]
    async fn a_question_for_a_leader_waits_for_one() {
        let (asker, mut questions) = tokio::sync::mpsc::channel(1);
        let service = AdminService::new(asker, Security::Plain);
        let daemon = tokio::spawn(async move {
            let mut asked = 0;
            while let Some(Question::Apply(_, answer)) = questions.recv().await {
                asked += 1;
                let _ = answer.send(if asked < 3 {
                    Answer::Leaderless
                } else {
                    Answer::Here(v1::ApplyReply {
                        version: asked,
                        ..v1::ApplyReply::default()
                    })
                });
            }
            asked
        });
        let reply = service.apply(Request::new(v1::ApplyRequest::default()));
        assert_eq!(reply.await.unwrap().into_inner().version, 3);
        drop(service);
        assert_eq!(daemon.await.unwrap(), 3, "it is asked no more");
    }
}
