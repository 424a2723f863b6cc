//! From the domain to the wire.

use prost::Message as _;
use weir_model::{Amount, NodeId, message, register, time::nanos_of};

use super::{envelopes::to_columns, v1};

fn identity(node: NodeId) -> Vec<u8> {
    node.0.into_bytes().to_vec()
}

impl From<message::FromNode> for v1::FromNode {
    fn from(message: message::FromNode) -> Self {
        use v1::from_node::Message;
        let message = match message {
            message::FromNode::Report(report) => Message::Report(report.into()),
            message::FromNode::Ack(ack) => Message::Ack(ack.into()),
            message::FromNode::Refuse(refuse) => Message::Refuse(refuse.into()),
            message::FromNode::Promise(promise) => Message::Promise(promise.into()),
        };
        Self {
            message: Some(message),
        }
    }
}

impl From<message::ToNode> for v1::ToNode {
    fn from(message: message::ToNode) -> Self {
        use v1::to_node::Message;
        let message = match message {
            message::ToNode::Propose(propose) => Message::Propose(propose.into()),
            message::ToNode::Commit(commit) => Message::Commit(commit.into()),
            message::ToNode::Prepare(prepare) => Message::Prepare(prepare.into()),
        };
        Self {
            message: Some(message),
        }
    }
}

impl From<message::Report> for v1::Report {
    fn from(report: message::Report) -> Self {
        Self {
            node: identity(report.node),
            token: Some(report.token.into()),
            promised: report.promised.0,
            seen: Some(report.seen.into()),
            policy: report.policy.0,
            limits: report.limits.into_iter().map(Into::into).collect(),
            abstains: report.abstains,
            prepared: report.prepared.0,
            heavy: report.heavy.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<message::LimitReport> for v1::LimitReport {
    fn from(row: message::LimitReport) -> Self {
        Self {
            limit: row.limit.0,
            offered: row.offered,
            admitted: row.admitted,
            dropped: row.dropped,
            held: Some(row.held.into()),
            expires_ns: row.expires.0,
        }
    }
}

impl From<message::Ack> for v1::Ack {
    fn from(ack: message::Ack) -> Self {
        Self {
            node: identity(ack.node),
            incarnation: ack.incarnation.0,
            position: Some(ack.position.into()),
            holds: ack.holds,
            votes: ack.votes,
        }
    }
}

impl From<message::Prepare> for v1::Prepare {
    fn from(prepare: message::Prepare) -> Self {
        Self {
            term: prepare.term.0,
            leader: identity(prepare.leader),
        }
    }
}

impl From<message::Promise> for v1::Promise {
    fn from(promise: message::Promise) -> Self {
        Self {
            node: identity(promise.node),
            token: Some(promise.token.into()),
            term: promise.term.0,
            abstains: promise.abstains,
            register: promise.register.map(Into::into),
        }
    }
}

impl From<register::EnvelopeRecord> for v1::Register {
    fn from(record: register::EnvelopeRecord) -> Self {
        let position = message::Position {
            term: record.term,
            generation: record.generation,
        };
        Self {
            position: Some(position.into()),
            lease_ns: nanos_of(record.lease),
            policy: record.policy.0,
            envelopes: Some(to_columns(&record.nodes)),
        }
    }
}

impl From<&register::RegisterUpdate> for v1::RegisterUpdate {
    fn from(update: &register::RegisterUpdate) -> Self {
        Self {
            base: update.base.map(|base| base.0),
            lease_ns: nanos_of(update.lease),
            envelopes: Some(to_columns(&update.nodes)),
        }
    }
}

impl From<message::Refuse> for v1::Refuse {
    fn from(refuse: message::Refuse) -> Self {
        Self {
            node: identity(refuse.node),
            promised: refuse.promised.0,
            leader: refuse.leader.map(identity),
            policy: refuse.policy.0,
        }
    }
}

impl From<message::Propose> for v1::Propose {
    fn from(propose: message::Propose) -> Self {
        Self {
            position: Some(propose.position.into()),
            leader: identity(propose.leader),
            policy: propose.policy.0,
            anchor: Some(propose.anchor.into()),
            lease_ns: nanos_of(propose.lease),
            rows: propose.rows.iter().copied().map(Into::into).collect(),
            register: propose.register.as_deref().map(encoded_register),
            hot: propose.hot.map(|hot| v1::HotKeys {
                keys: hot.into_iter().map(Into::into).collect(),
            }),
        }
    }
}

/// The bytes of a register that travels with a proposal.
pub(super) fn encoded_register(update: &register::RegisterUpdate) -> Vec<u8> {
    v1::RegisterUpdate::from(update).encode_to_vec()
}

impl From<message::Row> for v1::Row {
    fn from(row: message::Row) -> Self {
        Self {
            limit: row.limit.0,
            amount: Some(row.amount.into()),
            floor: Some(row.floor.into()),
        }
    }
}

impl From<message::Commit> for v1::Commit {
    fn from(commit: message::Commit) -> Self {
        Self {
            position: Some(commit.position.into()),
        }
    }
}

impl From<message::Position> for v1::Position {
    fn from(position: message::Position) -> Self {
        Self {
            term: position.term.0,
            generation: position.generation.0,
        }
    }
}

impl From<message::Token> for v1::Token {
    fn from(token: message::Token) -> Self {
        Self {
            incarnation: token.incarnation.0,
            at_ns: token.at.0,
        }
    }
}

impl From<Amount> for v1::Amount {
    fn from(amount: Amount) -> Self {
        Self {
            rate: amount.rate.0,
            burst: amount.burst.0,
        }
    }
}
