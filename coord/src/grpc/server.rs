//! The leader's end: one stream from each node.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};
use tracing::debug;
use weir_model::{
    NodeId, Term,
    message::{FromNode, ToNode},
};
use weir_proto::coordination::{
    MAX_STREAM_BYTES,
    stream::{EncodedRegisters, ProposeEncoder, ReportDecoder},
    v1::{
        self,
        coordination_server::{Coordination, CoordinationServer},
    },
};

use super::{INBOX, OUTBOX, Whereabouts};

/// What nodes said, in the order of arrival.
pub type Inbound = mpsc::Receiver<FromNode>;

/// A node's word on who leads, and whether it misses a leader, kept up to date by the fleet.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    missed: Option<(NodeId, Term)>,
    newest: Option<Whereabouts>,
}

impl Suspicion {
    /// This node misses the leader of `term`, or of none.
    pub fn set(&self, node: NodeId, missed: Option<Term>) {
        self.lock().missed = missed.map(|term| (node, term));
    }

    /// The newest term that this node knows of, and its leader.
    pub fn set_newest(&self, newest: Option<Whereabouts>) {
        self.lock().newest = newest;
    }

    /// Whose word it is, and whether it misses the leader of `term`.
    fn of(&self, term: Term) -> Option<NodeId> {
        let missed = self.lock().missed;
        missed
            .filter(|(_, missed)| *missed == term)
            .map(|(node, _)| node)
    }

    fn newest(&self) -> Option<Whereabouts> {
        self.lock().newest.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every critical section is a single assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Outbox = mpsc::Sender<Result<ToNode, Status>>;

/// The open streams of the nodes that are attached to this leader.
///
/// While closed (this node does not lead) a node that attaches is turned away.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    open: Arc<Mutex<Option<BTreeMap<NodeId, Outbox>>>>,
    registers: EncodedRegisters,
    suspicion: Suspicion,
}

impl Streams {
    /// Begins to take streams.
    pub fn open(&self) {
        self.lock().get_or_insert_default();
    }

    /// Ends every stream and takes no more.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// Sends to a node. Dropped if it has no stream, or one that does not keep up.
    pub fn send(&self, to: NodeId, message: ToNode) {
        if let Some(outbox) = self.lock().as_ref().and_then(|open| open.get(&to))
            && outbox.try_send(Ok(message)).is_err()
        {
            debug!(node = %to, "a message to a node was dropped: its stream is gone or slow");
        }
    }

    /// What this node answers when it is asked whether it misses a leader.
    #[must_use]
    pub const fn suspicion(&self) -> &Suspicion {
        &self.suspicion
    }

    fn is_open(&self) -> bool {
        self.lock().is_some()
    }

    /// The node's newest stream takes the place of an older one. `false` if closed.
    fn register(&self, node: NodeId, outbox: Outbox) -> bool {
        self.lock()
            .as_mut()
            .map(|open| open.insert(node, outbox))
            .is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<NodeId, Outbox>>> {
        // Every critical section is a single map operation: a panic leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of nodes, for `serve_with_incoming`.
///
/// What a leader says goes out at once. By default TCP holds back a small message until the one
/// before is acknowledged, which the receiver may put off for 40 ms: half a tick for each round of
/// proposals. A server's own setting does not reach connections that it is handed.
#[must_use]
pub fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// The gRPC service.
#[derive(Debug)]
pub struct AttachService {
    streams: Streams,
    inbox: mpsc::Sender<FromNode>,
}

impl AttachService {
    /// The service, and what arrives on it.
    #[must_use]
    pub fn new(streams: Streams) -> (CoordinationServer<Self>, Inbound) {
        let (inbox, inbound) = mpsc::channel(INBOX);
        let service = CoordinationServer::new(Self { streams, inbox })
            .max_decoding_message_size(MAX_STREAM_BYTES)
            .max_encoding_message_size(MAX_STREAM_BYTES);
        (service, inbound)
    }
}

#[tonic::async_trait]
impl Coordination for AttachService {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<v1::ToNode, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::FromNode>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        if !self.streams.is_open() {
            return Err(Status::failed_precondition("this node does not lead"));
        }
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let listener = Listener {
            streams: self.streams.clone(),
            inbox: self.inbox.clone(),
            outbox,
        };
        tokio::spawn(listener.run(request.into_inner()));
        // Encoded as they leave: what found no room never was part of the stream.
        let mut encoder = ProposeEncoder::sharing(self.streams.registers.clone());
        let encoded = ReceiverStream::new(messages)
            .map(move |message| message.map(|message| encoder.encode(message)));
        Ok(Response::new(Box::pin(encoded)))
    }

    async fn suspect(
        &self,
        request: Request<v1::SuspectRequest>,
    ) -> Result<Response<v1::SuspectResponse>, Status> {
        let suspicion = &self.streams.suspicion;
        let voter = suspicion.of(Term(request.into_inner().term));
        let newest = suspicion.newest();
        let id = |node: NodeId| node.0.into_bytes().to_vec();
        Ok(Response::new(v1::SuspectResponse {
            node: voter.map_or_else(Vec::new, id),
            suspects: voter.is_some(),
            newest_term: newest.as_ref().map_or(0, |newest| newest.term.0),
            newest_leader: newest
                .as_ref()
                .map_or_else(Vec::new, |newest| id(newest.leader)),
            newest_address: newest.map_or_else(String::new, |newest| newest.address),
        }))
    }
}

/// Reads one node's stream until it ends.
struct Listener {
    streams: Streams,
    inbox: mpsc::Sender<FromNode>,
    outbox: Outbox,
}

impl Listener {
    async fn run(self, mut stream: Streaming<v1::FromNode>) {
        let mut node = None;
        let mut decoder = ReportDecoder::default();
        while let Some(message) = stream.next().await {
            let message = message.and_then(|wire| {
                decoder
                    .decode(wire)
                    .map_err(|error| Status::invalid_argument(error.to_string()))
            });
            match message {
                Ok(message) => {
                    if !self.take(&mut node, message) {
                        break;
                    }
                }
                Err(status) => {
                    debug!(%status, "a node's stream ended");
                    let _ = self.outbox.try_send(Err(status));
                    break;
                }
            }
        }
    }

    /// `false` when the stream has to end: this node no longer leads, or the peer changed its name.
    fn take(&self, known: &mut Option<NodeId>, message: FromNode) -> bool {
        let sender = match &message {
            FromNode::Report(report) => report.node,
            FromNode::Ack(ack) => ack.node,
            FromNode::Refuse(refuse) => refuse.node,
            FromNode::Promise(promise) => promise.node,
        };
        if *known.get_or_insert(sender) != sender {
            let status = Status::invalid_argument("one stream speaks for one node");
            let _ = self.outbox.try_send(Err(status));
            return false;
        }
        if matches!(message, FromNode::Report(_))
            && !self.streams.register(sender, self.outbox.clone())
        {
            let _ = self
                .outbox
                .try_send(Err(Status::unavailable("this node no longer leads")));
            return false;
        }
        if self.inbox.try_send(message).is_err() {
            // Rows that this report had are missed until they are said again: see `weir_coord_core::news`.
            debug!(node = %sender, "a message from a node was dropped: the inbox is full");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn what_a_leader_says_is_not_held_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let _node = TcpStream::connect(address).await.expect("a connection");
        let accepted = incoming(listener).next().await.expect("the same one");
        assert!(accepted.expect("accepted").nodelay().expect("its option"));
    }
}
