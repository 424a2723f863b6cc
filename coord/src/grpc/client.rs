//! A node's end: the stream to whoever leads.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};
use tracing::{debug, info};
use weir_coord_core::news::Omission;
use weir_model::{
    NodeId,
    message::{FromNode, ToNode},
};
use weir_proto::coordination::{
    MAX_STREAM_BYTES,
    stream::{ProposeDecoder, ReportEncoder},
    v1::{self, coordination_client::CoordinationClient},
};
use weir_tls::{Expected, Security};

use super::{INBOX, OUTBOX};

/// To reach a host of the fleet takes far less, or it is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Another attempt begins before the last one is given up: what a network that was cut has lost, TCP
/// sends again after a second only, and a lease lasts two.
const ANOTHER_ATTEMPT: Duration = Duration::from_millis(100);
/// A peer that does not answer a ping for so long is gone: its host may have lost power.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// The pause between two attempts. A lease lasts many of them.
const RETRY: Duration = Duration::from_millis(50);

/// A leader that never says anything is connected to again after so many times the silence at last.
const LONGEST_SILENCE: u32 = 16;

/// The stream to the leader, kept open by a task of its own while the leader's address is known.
#[derive(Debug)]
pub struct LeaderLink {
    leader: watch::Sender<Option<Whereabouts>>,
    outgoing: watch::Sender<Option<Outbox>>,
    incoming: mpsc::Receiver<ToNode>,
}

/// Who leads, and where that is: `host:port`.
type Whereabouts = (NodeId, String);

type Outbox = mpsc::Sender<FromNode>;

impl LeaderLink {
    /// Starts the task. Ends when the link is dropped.
    ///
    /// A leader that says nothing for as long as `silence` is connected to once more, beside the stream
    /// that there is, which is given up as soon as there is another.
    #[must_use]
    pub fn spawn(silence: Duration) -> Self {
        Self::secured(silence, Security::Plain)
    }

    /// As [`LeaderLink::spawn`]; nobody is spoken to who cannot show to be the leader.
    #[must_use]
    pub fn secured(silence: Duration, security: Security) -> Self {
        let (leader, leaders) = watch::channel(None);
        let (outgoing, _) = watch::channel(None);
        let (inbox, incoming) = mpsc::channel(INBOX);
        let ends = Ends {
            outgoing: outgoing.clone(),
            inbox,
            silence,
            security,
        };
        tokio::spawn(keep_attached(leaders, ends));
        Self {
            leader,
            outgoing,
            incoming,
        }
    }

    /// Who leads now, and where, `host:port`. A stream to anybody else ends.
    pub fn follow(&self, leader: Option<(NodeId, String)>) {
        self.leader.send_if_modified(|current| {
            let changed = *current != leader;
            *current = leader;
            changed
        });
    }

    /// Sends to the leader. Dropped if there is no stream, or one that does not keep up.
    pub fn send(&self, message: FromNode) {
        if let Some(outbox) = &*self.outgoing.borrow()
            && outbox.try_send(message).is_err()
        {
            debug!("a message to the leader was dropped: its stream is gone or slow");
        }
    }

    /// The next message of whoever leads.
    pub async fn receive(&mut self) -> Option<ToNode> {
        self.incoming.recv().await
    }
}

/// The protocol's ends of the stream.
struct Ends {
    outgoing: watch::Sender<Option<Outbox>>,
    inbox: mpsc::Sender<ToNode>,
    silence: Duration,
    security: Security,
}

async fn keep_attached(mut leaders: watch::Receiver<Option<Whereabouts>>, ends: Ends) {
    loop {
        let Some(leader) = leaders.borrow_and_update().clone() else {
            if leaders.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = leaders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            reason = ends.attach(&leader) => {
                debug!(leader = %leader.1, %reason, "not attached to the leader");
                ends.outgoing.send_replace(None);
                sleep(RETRY).await;
            }
        }
        ends.outgoing.send_replace(None);
    }
}

impl Ends {
    /// Holds a stream until it ends; returns why.
    async fn attach(&self, leader: &Whereabouts) -> String {
        let address = &leader.1;
        let mut attached = match open(leader, &self.security).await {
            Ok(attached) => attached,
            Err(reason) => return reason,
        };
        let mut silence = self.silence;
        loop {
            info!(leader = %address, "attached to the leader");
            let Attached { outbox, stream } = attached;
            self.outgoing.send_replace(Some(outbox));
            let begin = Instant::now();
            let heard = watch::Sender::new(begin);
            attached = tokio::select! {
                reason = self.listen(stream, &heard) => return reason,
                other = another(leader, &self.security, silence, heard.subscribe()) => other,
            };
            // What was cut waits until TCP tries again, which after a while is seconds.
            debug!(leader = %address, "the stream was silent; another one takes its place");
            // Somebody who is no member, and will be none, is never spoken to.
            silence = if *heard.borrow() > begin {
                self.silence
            } else {
                (silence * 2).min(self.silence * LONGEST_SILENCE)
            };
        }
    }

    /// Takes what the leader says until the stream ends.
    async fn listen(
        &self,
        mut stream: Streaming<v1::ToNode>,
        heard: &watch::Sender<Instant>,
    ) -> String {
        let mut decoder = ProposeDecoder::default();
        while let Some(message) = stream.next().await {
            heard.send_replace(Instant::now());
            let wire = match message {
                Ok(wire) => wire,
                Err(status) => return status.to_string(),
            };
            match decoder.decode(wire) {
                Ok(message) => {
                    if self.inbox.try_send(message).is_err() {
                        debug!("a message of the leader was dropped: the inbox is full");
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
        "the leader ended the stream".to_owned()
    }
}

/// Another stream, begun and begun again while nothing is heard on the one that there is.
async fn another(
    leader: &Whereabouts,
    security: &Security,
    silence: Duration,
    mut heard: watch::Receiver<Instant>,
) -> Attached {
    loop {
        let last = *heard.borrow_and_update();
        sleep_until(last + silence).await;
        if heard.has_changed().unwrap_or(false) {
            continue;
        }
        tokio::select! {
            Ok(()) = heard.changed() => {}
            opened = open(leader, security) => match opened {
                Ok(attached) => return attached,
                Err(reason) => {
                    debug!(leader = %leader.1, %reason, "the leader is silent");
                    sleep(RETRY).await;
                }
            },
        }
    }
}

/// An open stream.
struct Attached {
    outbox: Outbox,
    stream: Streaming<v1::ToNode>,
}

/// Opens a stream, or says why there is none.
async fn open((leader, address): &Whereabouts, security: &Security) -> Result<Attached, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| error.to_string())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let channel = match timeout(CONNECT_TIMEOUT, connect(&endpoint, security, *leader)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(reason(&error)),
        Err(_) => return Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
    };
    let mut client = CoordinationClient::new(channel)
        .max_decoding_message_size(MAX_STREAM_BYTES)
        .max_encoding_message_size(MAX_STREAM_BYTES);
    let (outbox, messages) = mpsc::channel(OUTBOX);
    // Shortened and encoded as they leave: what found no room never was part of the stream.
    let mut omission = Omission::default();
    let mut encoder = ReportEncoder::default();
    let encoded = ReceiverStream::new(messages).map(move |message| {
        encoder.encode(match message {
            FromNode::Report(report) => FromNode::Report(omission.shorten(report)),
            other => other,
        })
    });
    let attached = client.attach(encoded).await;
    Ok(Attached {
        outbox,
        stream: attached.map_err(|status| status.to_string())?.into_inner(),
    })
}

/// An error and its causes: transports name theirs not.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The first connection of several attempts, each begun a while after the one before it. At most
/// `CONNECT_TIMEOUT / ANOTHER_ATTEMPT` are under way. A peer that refuses ends them all.
async fn connect(
    endpoint: &Endpoint,
    security: &Security,
    leader: NodeId,
) -> Result<Channel, tonic::transport::Error> {
    let expected = Expected::Node(leader);
    let mut attempts = FuturesUnordered::new();
    let mut next = interval(ANOTHER_ATTEMPT);
    loop {
        tokio::select! {
            _ = next.tick() => attempts.push(weir_tls::connect(endpoint, security, expected)),
            Some(connected) = attempts.next() => return connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_refuses_is_not_asked_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        drop(listener);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let anybody = NodeId::from_u128(1);
        let connecting = connect(&endpoint, &Security::Plain, anybody);
        let refused = timeout(CONNECT_TIMEOUT, connecting).await;
        assert!(refused.expect("an answer, not a timeout").is_err());
    }
}
