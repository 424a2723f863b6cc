//! From the wire to the domain, or an error that names the field.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prost::Message as _;
use weir_model::{
    Amount, Generation, Incarnation, LimitId, Nanos, PolicyVersion, Term, Units, UnitsPerSecond,
    message, register,
};

use super::{
    envelopes::from_columns,
    keys::{heavy_keys, hot_keys},
    v1,
};
use crate::{
    MAX_ROWS,
    error::{WireError, at_most, node_id, required},
};

impl TryFrom<v1::FromNode> for message::FromNode {
    type Error = WireError;

    fn try_from(wire: v1::FromNode) -> Result<Self, WireError> {
        use v1::from_node::Message;
        Ok(match required("from_node.message", wire.message)? {
            Message::Report(report) => Self::Report(report.try_into()?),
            Message::Ack(ack) => Self::Ack(ack.try_into()?),
            Message::Refuse(refuse) => Self::Refuse(refuse.try_into()?),
            Message::Promise(promise) => Self::Promise(promise.try_into()?),
            Message::ReportChange(_) => {
                return Err(WireError::Baseless {
                    field: "from_node.report_change",
                });
            }
        })
    }
}

impl TryFrom<v1::ToNode> for message::ToNode {
    type Error = WireError;

    fn try_from(wire: v1::ToNode) -> Result<Self, WireError> {
        use v1::to_node::Message;
        Ok(match required("to_node.message", wire.message)? {
            Message::Propose(propose) => Self::Propose(propose.try_into()?),
            Message::Commit(commit) => Self::Commit(commit.try_into()?),
            Message::Prepare(prepare) => Self::Prepare(prepare.try_into()?),
            Message::ProposeChange(_) => {
                return Err(WireError::Baseless {
                    field: "to_node.propose_change",
                });
            }
        })
    }
}

impl TryFrom<v1::Report> for message::Report {
    type Error = WireError;

    fn try_from(wire: v1::Report) -> Result<Self, WireError> {
        check_rows("report.limits", wire.limits.iter().map(|row| row.limit))?;
        Ok(Self {
            node: node_id("report.node", &wire.node)?,
            token: token(required("report.token", wire.token)?),
            promised: Term(wire.promised),
            seen: position(required("report.seen", wire.seen)?),
            policy: PolicyVersion(wire.policy),
            prepared: PolicyVersion(wire.prepared),
            heavy: heavy_keys("report.heavy", wire.heavy)?,
            abstains: wire.abstains,
            limits: wire
                .limits
                .into_iter()
                .map(limit_report)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<v1::Ack> for message::Ack {
    type Error = WireError;

    fn try_from(wire: v1::Ack) -> Result<Self, WireError> {
        Ok(Self {
            node: node_id("ack.node", &wire.node)?,
            incarnation: Incarnation(wire.incarnation),
            position: position(required("ack.position", wire.position)?),
            holds: wire.holds,
            votes: wire.votes,
        })
    }
}

impl TryFrom<v1::Refuse> for message::Refuse {
    type Error = WireError;

    fn try_from(wire: v1::Refuse) -> Result<Self, WireError> {
        Ok(Self {
            node: node_id("refuse.node", &wire.node)?,
            promised: Term(wire.promised),
            leader: wire
                .leader
                .map(|leader| node_id("refuse.leader", &leader))
                .transpose()?,
            policy: PolicyVersion(wire.policy),
        })
    }
}

impl TryFrom<v1::Propose> for message::Propose {
    type Error = WireError;

    fn try_from(wire: v1::Propose) -> Result<Self, WireError> {
        check_rows("propose.rows", wire.rows.iter().map(|row| row.limit))?;
        Ok(Self {
            position: position(required("propose.position", wire.position)?),
            leader: node_id("propose.leader", &wire.leader)?,
            policy: PolicyVersion(wire.policy),
            anchor: token(required("propose.anchor", wire.anchor)?),
            lease: Duration::from_nanos(wire.lease_ns),
            rows: wire.rows.into_iter().map(row).collect::<Result<_, _>>()?,
            register: wire
                .register
                .map(|register| decoded_register(&register))
                .transpose()?
                .map(Arc::new),
            hot: wire.hot.map(hot_keys).transpose()?,
        })
    }
}

impl TryFrom<v1::Prepare> for message::Prepare {
    type Error = WireError;

    fn try_from(wire: v1::Prepare) -> Result<Self, WireError> {
        Ok(Self {
            term: Term(wire.term),
            leader: node_id("prepare.leader", &wire.leader)?,
        })
    }
}

impl TryFrom<v1::Promise> for message::Promise {
    type Error = WireError;

    fn try_from(wire: v1::Promise) -> Result<Self, WireError> {
        Ok(Self {
            node: node_id("promise.node", &wire.node)?,
            token: token(required("promise.token", wire.token)?),
            term: Term(wire.term),
            abstains: wire.abstains,
            register: wire.register.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<v1::Register> for register::EnvelopeRecord {
    type Error = WireError;

    fn try_from(wire: v1::Register) -> Result<Self, WireError> {
        let position = position(required("register.position", wire.position)?);
        Ok(Self {
            term: position.term,
            generation: position.generation,
            lease: Duration::from_nanos(wire.lease_ns),
            policy: PolicyVersion(wire.policy),
            nodes: from_columns(required("register.envelopes", wire.envelopes)?)?,
        })
    }
}

impl TryFrom<v1::RegisterUpdate> for register::RegisterUpdate {
    type Error = WireError;

    fn try_from(wire: v1::RegisterUpdate) -> Result<Self, WireError> {
        Ok(Self {
            base: wire.base.map(Generation),
            lease: Duration::from_nanos(wire.lease_ns),
            nodes: from_columns(required("propose.register.envelopes", wire.envelopes)?)?,
        })
    }
}

/// A register that travels with a proposal, from its bytes.
pub(super) fn decoded_register(wire: &[u8]) -> Result<register::RegisterUpdate, WireError> {
    let field = "propose.register";
    let wire = v1::RegisterUpdate::decode(wire).map_err(|_| WireError::Misfit { field })?;
    wire.try_into()
}

impl TryFrom<v1::Commit> for message::Commit {
    type Error = WireError;

    fn try_from(wire: v1::Commit) -> Result<Self, WireError> {
        Ok(Self {
            position: position(required("commit.position", wire.position)?),
        })
    }
}

fn limit_report(wire: v1::LimitReport) -> Result<message::LimitReport, WireError> {
    Ok(message::LimitReport {
        limit: LimitId(wire.limit),
        offered: wire.offered,
        admitted: wire.admitted,
        dropped: wire.dropped,
        held: amount(
            ["report.limits.held.rate", "report.limits.held.burst"],
            required("report.limits.held", wire.held)?,
        )?,
        expires: Nanos(wire.expires_ns),
    })
}

fn row(wire: v1::Row) -> Result<message::Row, WireError> {
    Ok(message::Row {
        limit: LimitId(wire.limit),
        amount: amount(
            ["propose.rows.amount.rate", "propose.rows.amount.burst"],
            required("propose.rows.amount", wire.amount)?,
        )?,
        floor: amount(
            ["propose.rows.floor.rate", "propose.rows.floor.burst"],
            required("propose.rows.floor", wire.floor)?,
        )?,
    })
}

fn position(wire: v1::Position) -> message::Position {
    message::Position {
        term: Term(wire.term),
        generation: Generation(wire.generation),
    }
}

fn token(wire: v1::Token) -> message::Token {
    message::Token {
        incarnation: Incarnation(wire.incarnation),
        at: Nanos(wire.at_ns),
    }
}

fn amount([rate, burst]: [&'static str; 2], wire: v1::Amount) -> Result<Amount, WireError> {
    Ok(Amount {
        rate: UnitsPerSecond(at_most(rate, wire.rate, UnitsPerSecond::MAX.0)?),
        burst: Units(at_most(burst, wire.burst, Units::MAX.0)?),
    })
}

/// Bounded length first, so that a hostile list costs no more than its decoding; then each limit once.
fn check_rows(
    field: &'static str,
    limits: impl ExactSizeIterator<Item = u64>,
) -> Result<(), WireError> {
    let found = limits.len();
    if found > MAX_ROWS {
        return Err(WireError::TooMany {
            field,
            found,
            most: MAX_ROWS,
        });
    }
    let mut seen = BTreeSet::new();
    for limit in limits {
        if !seen.insert(limit) {
            return Err(WireError::Repeated { field, limit });
        }
    }
    Ok(())
}
