//! A take-over as a span: from the decision to lead until the first commit of the new term.

use tracing::{Span, field::Empty, info_span};
use weir_coord_core::record::TermRecord;
use weir_model::NodeId;

use crate::traces::TARGET;

/// One attempt to lead.
#[derive(Debug)]
pub(super) struct TakeOverTrace {
    /// From the decision until grants flow.
    whole: Span,
    /// Its first part: until ZooKeeper says whose the term is.
    term: Option<Span>,
}

impl TakeOverTrace {
    /// `node` is about to ask for a term of its own, because of `reason`.
    pub(super) fn begin(node: NodeId, reason: &'static str) -> Self {
        let whole = info_span!(
            target: TARGET,
            "leader.take_over",
            weir.node.id = %node,
            weir.take_over.reason = reason,
            weir.term = Empty,
            weir.policy.version = Empty,
            weir.fleet.members = Empty,
            weir.fleet.voters = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        let term = info_span!(target: TARGET, parent: &whole, "leader.take_term");
        Self {
            whole,
            term: Some(term),
        }
    }

    /// The term is this node's.
    pub(super) fn leads(&mut self, record: &TermRecord, members: usize, policy: u64) {
        self.term = None;
        self.whole.record("weir.term", record.term.0);
        self.whole.record("weir.policy.version", policy);
        self.whole.record("weir.fleet.members", members);
        self.whole.record("weir.fleet.voters", record.voters.len());
    }

    /// Nodes are told their shares. A commit before the term is its is one of the term before.
    pub(super) fn committed(&mut self) -> bool {
        let leads = self.term.is_none();
        if leads {
            self.whole.record("otel.status_code", "OK");
        }
        leads
    }

    /// It came to nothing.
    pub(super) fn failed(self, reason: &str) {
        self.whole.record("otel.status_code", "ERROR");
        self.whole.record("otel.status_description", reason);
    }
}
