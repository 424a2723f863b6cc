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
    let answer = answer.map_err(|status| status.to_string())?;
    Ok(answer.into_inner())
}
