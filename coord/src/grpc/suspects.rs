//! Asking nodes whether they miss the leader, and who it is.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tonic::transport::Endpoint;
use tracing::debug;
use uuid::Uuid;
use weir_model::{NodeId, Term};
use weir_proto::coordination::v1::{self, coordination_client::CoordinationClient};
use weir_tls::{Expected, Security};

/// A voter that takes longer is taken not to answer; it is asked again in the next tick.
const PATIENCE: Duration = Duration::from_millis(300);
/// Answers that wait to be read. Ten nodes are asked in a tick at most.
const ANSWERS: usize = 64;

/// A voter's word on the leader of a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspected {
    /// Whose.
    pub voter: NodeId,
    /// Of which term.
    pub term: Term,
    /// Whether it misses the leader.
    pub suspects: bool,
    /// Who leads now, as far as it knows.
    pub newest: Option<Whereabouts>,
}

/// Where the leader of a term is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its term.
    pub term: Term,
    /// Who it is.
    pub leader: NodeId,
    /// `host:port`.
    pub address: String,
}

/// Asks, without waiting, and collects the answers.
#[derive(Debug)]
pub struct Inquiry {
    answers: mpsc::Receiver<Suspected>,
    asking: mpsc::Sender<Suspected>,
    security: Security,
}

impl Default for Inquiry {
    fn default() -> Self {
        Self::secured(Security::Plain)
    }
}

impl Inquiry {
    /// Asks nobody who cannot show to be the voter that is meant.
    #[must_use]
    pub fn secured(security: Security) -> Self {
        let (asking, answers) = mpsc::channel(ANSWERS);
        Self {
            answers,
            asking,
            security,
        }
    }

    /// Asks a voter, which is reached at `host:port`, whether it misses the leader of `term`. It
    /// must be called within a tokio runtime.
    pub fn ask(&self, voter: NodeId, address: String, term: Term) {
        let asking = self.asking.clone();
        let security = self.security.clone();
        tokio::spawn(async move {
            match timeout(PATIENCE, suspects(voter, &address, term, &security)).await {
                Ok(Ok(answer)) => {
                    let answer = Suspected {
                        voter,
                        term,
                        suspects: answer.suspects,
                        newest: newest(answer),
                    };
                    // Beyond the bound there are answers enough.
                    let _ = asking.try_send(answer);
                }
                Ok(Err(error)) => debug!(%voter, error, "a voter did not answer"),
                Err(_) => debug!(%voter, "a voter did not answer in time"),
            }
        });
    }

    /// The next answer, if there is one.
    pub fn poll(&mut self) -> Option<Suspected> {
        self.answers.try_recv().ok()
    }
}

fn newest(answer: v1::SuspectResponse) -> Option<Whereabouts> {
    let leader = Uuid::from_slice(&answer.newest_leader).ok()?;
    Some(Whereabouts {
        term: Term(answer.newest_term),
        leader: NodeId(leader),
        address: answer.newest_address,
    })
}

async fn suspects(
    voter: NodeId,
    address: &str,
    term: Term,
    security: &Security,
) -> Result<v1::SuspectResponse, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| error.to_string())?
        .tcp_nodelay(true);
    let channel = weir_tls::connect(&endpoint, security, Expected::Node(voter))
        .await
        .map_err(|error| error.to_string())?;
    let request = v1::SuspectRequest { term: term.0 };
    let answer = CoordinationClient::new(channel).suspect(request).await;
    let answer = answer.map_err(|status| status.to_string())?.into_inner();
    // Another host may have the address by now, and in plain text nothing else says so. Its word would count
    // once in its own name, and once in the voter's.
    match Uuid::from_slice(&answer.node) {
        Ok(node) if NodeId(node) == voter => Ok(answer),
        Ok(node) => Err(format!("{node} answers at its address")),
        Err(_) => Err("who answers does not say who it is".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tonic::transport::Server;

    use super::{
        super::{AttachService, Streams, incoming},
        *,
    };

    const TERM: Term = Term(3);

    /// A node that answers, and where.
    async fn serve(streams: Streams) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let (service, _) = AttachService::new(streams);
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming(listener, Security::Plain)));
        address
    }

    #[tokio::test]
    async fn who_has_a_voter_s_address_does_not_vote_for_it() {
        let [voter, other] = [1, 2].map(NodeId::from_u128);
        let streams = Streams::default();
        let address = serve(streams.clone()).await;
        let ask = async |node| suspects(node, &address, TERM, &Security::Plain).await;
        for missed in [Some(TERM), None] {
            streams.suspicion().set(other, missed);
            let answer = ask(other).await.expect("it is the one that was meant");
            assert_eq!(answer.suspects, missed.is_some());
            assert_eq!(answer.node, other.0.into_bytes());
            let error = ask(voter).await.expect_err("another node answers");
            assert!(error.contains(&other.to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn who_knows_nothing_yet_says_nothing() {
        let address = serve(Streams::default()).await;
        let node = NodeId::from_u128(1);
        let asked = suspects(node, &address, TERM, &Security::Plain).await;
        assert!(asked.is_err(), "{asked:?}");
    }
}
