//! What a node serves: coordination and administration over gRPC, metrics and health over HTTP.

pub mod admin;
pub(crate) mod author;
mod console;
pub mod http;
mod pace;
mod seen;
pub mod sockets;

use std::net::IpAddr;

use tokio::sync::{mpsc, oneshot};
use weir_model::NodeId;
use weir_proto::admin::v1;

/// Questions that wait for the daemon. Beyond it callers wait to ask.
pub const QUESTIONS: usize = 64;

/// What the daemon is asked by those who serve.
#[derive(Debug)]
pub enum Question {
    /// Put a document in force.
    Apply(v1::ApplyRequest, oneshot::Sender<Answer<v1::ApplyReply>>),
    /// Keep a change.
    Confirm(
        v1::ConfirmRequest,
        oneshot::Sender<Answer<v1::ConfirmReply>>,
    ),
    /// Put an earlier version in force again.
    Rollback(v1::RollbackRequest, oneshot::Sender<Answer<v1::ApplyReply>>),
    /// The stored versions.
    History(oneshot::Sender<Answer<v1::HistoryReply>>),
    /// Have a member give back its share.
    Drain(v1::DrainRequest, oneshot::Sender<Answer<v1::DrainReply>>),
    /// Take a member out of the fleet.
    Remove(v1::RemoveRequest, oneshot::Sender<Answer<v1::RemoveReply>>),
    /// The fleet at a glance.
    Status(oneshot::Sender<Answer<v1::StatusReply>>),
    /// Every limit, each with its heaviest sources.
    Limits {
        /// At most so many; 0 for none.
        top: usize,
        /// Where the answer goes.
        answer: oneshot::Sender<Answer<v1::LimitsReply>>,
    },
    /// What a live view shows.
    Overview(
        v1::OverviewRequest,
        oneshot::Sender<Answer<v1::OverviewReply>>,
    ),
    /// Why a source is, or is not, being dropped here.
    Explain(IpAddr, oneshot::Sender<v1::ExplainReply>),
    /// What was offered to each limit here.
    Demand(oneshot::Sender<v1::DemandReply>),
    /// What the limit with this name carried here over the last minutes; `None` if it is not followed.
    TimeLine(String, oneshot::Sender<Option<TimeLine>>),
    /// Every node.
    Nodes(oneshot::Sender<Answer<v1::NodesReply>>),
    /// Everything, for Prometheus.
    Metrics(oneshot::Sender<String>),
    /// Whether the daemon's loop turns.
    Alive(oneshot::Sender<()>),
    /// Whether it enforces a policy and has its part; otherwise what is missing.
    Ready(oneshot::Sender<Result<(), &'static str>>),
}

/// The last minutes of a limit on one host.
#[derive(Clone, Debug, Default)]
pub struct TimeLine {
    /// Times with the same traffic, oldest first: seconds, and tokens per second that arrived.
    pub spans: Vec<(f32, f32)>,
    /// Whole minutes, latest first.
    pub minutes: Vec<v1::PastMinute>,
}

/// Who leads, and where that is.
#[derive(Clone, Debug)]
pub struct Leader {
    /// The node.
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
}

/// What the daemon answers.
#[derive(Debug)]
pub enum Answer<T> {
    /// All that there is to say.
    Here(T),
    /// As much as this node knows; the leader at this address knows more, if it can be reached.
    Partly(T, Leader),
    /// Only the leader, at this address, can answer.
    Elsewhere(Leader),
    /// Only a leader can answer, and nobody leads.
    Leaderless,
    /// The answer is no.
    Refused(tonic::Status),
}

/// Where questions are asked.
pub type Asker = mpsc::Sender<Question>;
