//! The operator's service. What only the leader knows is asked of the leader.

use std::time::Duration;

use tokio::sync::oneshot;
use tonic::{Request, Response, Status, transport::Endpoint};
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

use super::{Answer, Asker, Question};

/// To reach the leader takes far less, or it is not there.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Set on what is passed on, so that it is passed on only once.
const FORWARDED: &str = "weir-forwarded";

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct AdminService {
    asker: Asker,
}

impl AdminService {
    /// The service, asking `asker`.
    pub fn server(asker: Asker) -> AdminServer<Self> {
        AdminServer::new(Self { asker })
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_REPLY_BYTES)
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<Answer<T>>) -> Question,
    ) -> Result<Answer<T>, Status> {
        let (answer, answered) = oneshot::channel();
        let stopping = |_| Status::unavailable("this node is shutting down");
        self.asker
            .send(question(answer))
            .await
            .map_err(|_| stopping(()))?;
        answered.await.map_err(|_| stopping(()))
    }
}

type Leader = AdminClient<tonic::transport::Channel>;

async fn leader(address: &str, is_forwarded: bool) -> Result<Leader, Status> {
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
    let channel = endpoint
        .connect()
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

/// Answers here, or passes the same call on to the leader.
macro_rules! answer {
    ($self:ident, $request:ident, $question:expr, $method:ident, $message:expr) => {{
        let is_forwarded = $request.metadata().contains_key(FORWARDED);
        match $self.ask($question).await? {
            Answer::Here(reply) => Ok(Response::new(reply)),
            Answer::Refused(status) => Err(status),
            Answer::Elsewhere(address) => {
                leader(&address, is_forwarded)
                    .await?
                    .$method(forwarded($message))
                    .await
            }
            Answer::Partly(reply, address) => {
                let asked = async {
                    leader(&address, is_forwarded)
                        .await?
                        .$method(forwarded($message))
                        .await
                };
                match asked.await {
                    Ok(leaders) => Ok(Response::new(leaders.into_inner().seen_from(reply))),
                    Err(_) => Ok(Response::new(reply)),
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
        let message = request.get_ref().clone();
        let copy = message.clone();
        answer!(
            self,
            request,
            |answer| Question::Apply(message, answer),
            apply,
            copy
        )
    }

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
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
        answer!(
            self,
            request,
            Question::Limits,
            limits,
            v1::LimitsRequest {}
        )
    }

    async fn nodes(
        &self,
        request: Request<v1::NodesRequest>,
    ) -> Result<Response<v1::NodesReply>, Status> {
        answer!(self, request, Question::Nodes, nodes, v1::NodesRequest {})
    }
}

/// A leader's reply, with what is about the answering node put back.
trait SeenFrom {
    fn seen_from(self, own: Self) -> Self;
}

impl SeenFrom for v1::StatusReply {
    fn seen_from(self, own: Self) -> Self {
        Self {
            node: own.node,
            zookeeper: own.zookeeper,
            policy_version: own.policy_version,
            daemon_version: own.daemon_version,
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
all_of_it!(v1::ApplyReply, v1::LimitsReply, v1::NodesReply);
