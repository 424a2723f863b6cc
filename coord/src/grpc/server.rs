//! The leader's end: one stream from each node.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, warn};
use weir_model::{
    NodeId, Term,
    message::{FromNode, ToNode},
};
use weir_proto::coordination::{
    MAX_NODES, MAX_STREAM_BYTES,
    stream::{EncodedRegisters, ProposeEncoder, ReportDecoder},
    v1::{
        self,
        coordination_server::{Coordination, CoordinationServer},
    },
};
use weir_tls::{Bounds, Connection, Peer, Security, accept};

use super::{INBOX, OUTBOX, Whereabouts, pace::Pace};

/// Who has said nothing after so long, which is longer than any tick, is not going to.
const FIRST_WITHIN: Duration = Duration::from_secs(30);

/// What nodes said, in the order of arrival.
pub type Inbound = mpsc::Receiver<FromNode>;

/// A node's word on who leads, and whether it misses a leader, kept up to date by the fleet.
#[derive(Clone, Debug, Default)]
pub struct Suspicion {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    node: Option<NodeId>,
    missed: Option<Term>,
    newest: Option<Whereabouts>,
}

impl Suspicion {
    /// This node is `node`, and misses the leader of this term, or of none.
    pub fn set(&self, node: NodeId, missed: Option<Term>) {
        let mut known = self.lock();
        known.node = Some(node);
        known.missed = missed;
    }

    /// The newest term that this node knows of, and its leader.
    pub fn set_newest(&self, newest: Option<Whereabouts>) {
        self.lock().newest = newest;
    }

    /// Whose word it is, whether it misses the leader of `term`, and who leads the newest one; `None` as
    /// long as this node has not heard of any term.
    fn of(&self, term: Term) -> Option<(NodeId, bool, Option<Whereabouts>)> {
        let known = self.lock();
        Some((
            known.node?,
            known.missed == Some(term),
            known.newest.clone(),
        ))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Every critical section is a few assignments, of which none can fail.
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

    /// The node's newest stream takes the place of an older one, which ends when it says something.
    /// `false` if it has been replaced, if this node does not lead, or if there are [`MAX_NODES`]
    /// streams, which only happens where anybody may make up a node.
    fn register(&self, node: NodeId, outbox: &Outbox, is_new: bool) -> bool {
        self.lock().as_mut().is_some_and(|open| {
            let has_room = open.len() < MAX_NODES;
            match open.get_mut(&node) {
                Some(known) if is_new => {
                    *known = outbox.clone();
                    true
                }
                Some(known) => known.same_channel(outbox),
                None if has_room => {
                    open.insert(node, outbox.clone());
                    true
                }
                None => false,
            }
        })
    }

    /// The stream has ended.
    fn forget(&self, node: NodeId, outbox: &Outbox) {
        let mut open = self.lock();
        if let Some(open) = open.as_mut()
            && open
                .get(&node)
                .is_some_and(|newest| newest.same_channel(outbox))
        {
            open.remove(&node);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<NodeId, Outbox>>> {
        // Every critical section is a single map operation: a panic leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections of nodes, for `serve_with_incoming`.
///
/// It must be called within a tokio runtime.
#[must_use]
pub fn incoming(
    listener: TcpListener,
    security: Security,
) -> ReceiverStream<io::Result<Connection>> {
    accept(listener, security, Bounds::default())
}

/// The node that a request comes from, by its certificate; `None` in plain text.
fn node_of<T>(request: &Request<T>) -> Result<Option<NodeId>, Status> {
    let peer = request.extensions().get::<Peer>();
    let Some(identity) = peer.and_then(|peer| peer.identity) else {
        return Ok(None);
    };
    let is_none = || Status::permission_denied("the certificate is no node's");
    identity.node.ok_or_else(is_none).map(Some)
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
        let shown = node_of(&request)?;
        if !self.streams.is_open() {
            return Err(Status::failed_precondition("this node does not lead"));
        }
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let listener = Listener {
            streams: self.streams.clone(),
            inbox: self.inbox.clone(),
            outbox,
            shown,
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
        node_of(&request)?;
        let suspicion = &self.streams.suspicion;
        let (node, suspects, newest) = suspicion
            .of(Term(request.into_inner().term))
            .ok_or_else(|| Status::unavailable("this node has heard of no term yet"))?;
        let id = |node: NodeId| node.0.into_bytes().to_vec();
        Ok(Response::new(v1::SuspectResponse {
            node: id(node),
            suspects,
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
    /// Who it is by its certificate.
    shown: Option<NodeId>,
}

impl Listener {
    async fn run(self, mut stream: Streaming<v1::FromNode>) {
        let mut node = None;
        self.listen(&mut stream, &mut node).await;
        if let Some(node) = node {
            self.streams.forget(node, &self.outbox);
        }
    }

    async fn listen(&self, stream: &mut Streaming<v1::FromNode>, node: &mut Option<NodeId>) {
        let mut decoder = ReportDecoder::default();
        let mut pace = Pace::new(Instant::now());
        let mut next = timeout(FIRST_WITHIN, stream.next()).await.ok().flatten();
        while let Some(message) = next {
            let message = message.and_then(|wire| {
                decoder
                    .decode(wire)
                    .map_err(|error| Status::invalid_argument(error.to_string()))
            });
            let taken = message.and_then(|message| {
                let pause = pace.until_next(&message, Instant::now());
                self.take(node, message).map(|()| pause)
            });
            match taken {
                Ok(pause) if pause.is_zero() => {}
                Ok(pause) => sleep(pause).await,
                Err(status) => {
                    debug!(%status, "a node's stream ended");
                    let _ = self.outbox.try_send(Err(status));
                    break;
                }
            }
            next = stream.next().await;
        }
    }

    /// Fails when the stream has to end.
    fn take(&self, known: &mut Option<NodeId>, message: FromNode) -> Result<(), Status> {
        let sender = match &message {
            FromNode::Report(report) => report.node,
            FromNode::Ack(ack) => ack.node,
            FromNode::Refuse(refuse) => refuse.node,
            FromNode::Promise(promise) => promise.node,
        };
        if self.shown.is_some_and(|shown| shown != sender) {
            warn!(shown = ?self.shown, claimed = %sender, "a node speaks in another's name");
            return Err(Status::permission_denied(
                "the certificate is another node's: it has to name the identity of this one",
            ));
        }
        let is_new = known.is_none();
        if *known.get_or_insert(sender) != sender {
            return Err(Status::invalid_argument("one stream speaks for one node"));
        }
        let is_report = matches!(message, FromNode::Report(_));
        if (is_new || is_report) && !self.streams.register(sender, &self.outbox, is_new) {
            return Err(Status::unavailable(
                "this node no longer leads, or has a newer stream",
            ));
        }
        if self.inbox.try_send(message).is_err() {
            // Rows that this report had are missed until they are said again: see `weir_coord_core::news`.
            debug!(node = %sender, "a message from a node was dropped: the inbox is full");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        mpsc::channel(1).0
    }

    #[test]
    fn a_newer_stream_takes_the_place_and_keeps_it() {
        let streams = Streams::default();
        let node = NodeId::from_u128(1);
        let (old, new) = (outbox(), outbox());
        assert!(!streams.register(node, &old, true), "it does not lead");
        streams.open();
        assert!(streams.register(node, &old, true));
        assert!(streams.register(node, &old, false));
        assert!(streams.register(node, &new, true));
        assert!(!streams.register(node, &old, false), "it was replaced");
        streams.forget(node, &old);
        assert!(
            streams.register(node, &new, false),
            "and takes nothing with it"
        );
        streams.forget(node, &new);
        assert_eq!(streams.lock().as_ref().map(BTreeMap::len), Some(0));
    }

    #[test]
    fn nodes_that_are_made_up_fill_no_memory() {
        let streams = Streams::default();
        streams.open();
        let made_up = (0..2 * MAX_NODES as u128).map(NodeId::from_u128);
        let taken = made_up.filter(|node| streams.register(*node, &outbox(), true));
        assert_eq!(taken.count(), MAX_NODES);
        let known = NodeId::from_u128(1);
        assert!(streams.register(known, &outbox(), true), "it comes back");
    }
}
