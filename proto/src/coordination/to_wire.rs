//! From the domain to the wire.

use weir_model::{Amount, NodeId, message, time::nanos_of};

use super::v1;

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
            rows: propose.rows.into_iter().map(Into::into).collect(),
        }
    }
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
