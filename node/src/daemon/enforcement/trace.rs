//! A change of policy on one host as a span: from the moment that it is heard of until it is in force.

use tracing::{Span, field::Empty, info_span};
use weir_coord::traces::TARGET;
use weir_model::{NodeId, PolicyVersion};

/// One change. One that is replaced by another before it is in force ends without a status.
#[derive(Clone, Debug)]
pub(super) struct PolicyTrace(Span);

impl PolicyTrace {
    /// `node` hears of another policy.
    pub(super) fn begin(node: NodeId, version: PolicyVersion) -> Self {
        Self(info_span!(
            target: TARGET,
            "policy.change",
            weir.node.id = %node,
            weir.policy.version = version.0,
            otel.status_code = Empty,
            otel.status_description = Empty,
        ))
    }

    /// Nothing that anybody waits for.
    pub(super) const fn none() -> Self {
        Self(Span::none())
    }

    /// Part of it: writing the policy beside the one in force.
    pub(super) fn prepare(&self) -> Span {
        if self.0.is_none() {
            return Span::none();
        }
        info_span!(target: TARGET, parent: &self.0, "policy.prepare")
    }

    /// Part of it: going over to it.
    pub(super) fn activate(&self) -> Span {
        if self.0.is_none() {
            return Span::none();
        }
        info_span!(target: TARGET, parent: &self.0, "policy.activate")
    }

    /// What came of it.
    pub(super) fn end(self, is_in_force: bool) {
        if is_in_force {
            self.0.record("otel.status_code", "OK");
        } else {
            self.0.record("otel.status_code", "ERROR");
            let why = "the policy cannot be enforced here; the daemon's log says why";
            self.0.record("otel.status_description", why);
        }
    }
}
