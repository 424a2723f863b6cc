//! Proposals, by what has changed.

use weir_model::{
    Nanos,
    message::{Propose, ToNode},
};

use super::{
    super::v1,
    column::{check_lengths, gaps, pack_amount, rows, unpack_amount},
};
use crate::error::WireError;

const FIELD: &str = "to_node.propose_change";

/// The leader's end.
#[derive(Clone, Debug, Default)]
pub struct ProposeEncoder {
    /// The last one, without what is for voters.
    last: Option<Propose>,
}

/// A node's end.
#[derive(Clone, Debug, Default)]
pub struct ProposeDecoder {
    last: Option<Propose>,
}

impl ProposeEncoder {
    /// What to send.
    pub fn encode(&mut self, message: ToNode) -> v1::ToNode {
        let ToNode::Propose(mut propose) = message else {
            return message.into();
        };
        let change = self.last.as_ref().and_then(|last| change(last, &propose));
        let wire = match change {
            Some(mut change) => {
                change.register = propose.register.take().map(Into::into);
                v1::ToNode {
                    message: Some(v1::to_node::Message::ProposeChange(change)),
                }
            }
            None => ToNode::Propose(propose.clone()).into(),
        };
        propose.register = None;
        self.last = Some(propose);
        wire
    }
}

impl ProposeDecoder {
    /// What was sent.
    ///
    /// # Errors
    ///
    /// If no encoder makes such a message of what a correct leader says. The stream is at its end.
    pub fn decode(&mut self, wire: v1::ToNode) -> Result<ToNode, WireError> {
        let propose = match wire.message {
            Some(v1::to_node::Message::ProposeChange(change)) => {
                let last = self.last.as_ref();
                apply(last.ok_or(WireError::Baseless { field: FIELD })?, change)?
            }
            message => match ToNode::try_from(v1::ToNode { message })? {
                ToNode::Propose(propose) => propose,
                other => return Ok(other),
            },
        };
        self.last = Some(Propose {
            register: None,
            ..propose.clone()
        });
        Ok(ToNode::Propose(propose))
    }
}

/// `None` if the proposal has to be sent whole.
fn change(last: &Propose, propose: &Propose) -> Option<v1::ProposeChange> {
    let is_alike = propose.position.term == last.position.term
        && propose.leader == last.leader
        && propose.policy == last.policy
        && propose.anchor.incarnation == last.anchor.incarnation
        && propose.lease == last.lease
        && propose.hot == last.hot
        && propose.rows.len() == last.rows.len();
    if !is_alike {
        return None;
    }
    let mut change = v1::ProposeChange {
        generation: propose.position.generation.0,
        elapsed_ns: propose.anchor.at.0.checked_sub(last.anchor.at.0)?,
        ..v1::ProposeChange::default()
    };
    let mut changed = Vec::new();
    for (index, (row, before)) in propose.rows.iter().zip(&last.rows).enumerate() {
        if row.limit != before.limit || row.floor != before.floor {
            return None;
        }
        if row.amount != before.amount {
            changed.push(index);
            let (rate, burst) = pack_amount(row.amount)?;
            change.rates.push(rate);
            change.bursts.push(burst);
        }
    }
    change.rows = gaps(changed);
    Some(change)
}

fn apply(last: &Propose, change: v1::ProposeChange) -> Result<Propose, WireError> {
    check_lengths(change.rates.len(), &[change.bursts.len()], FIELD)?;
    let mut propose = last.clone();
    propose.position.generation.0 = change.generation;
    let at = propose.anchor.at.0.checked_add(change.elapsed_ns);
    propose.anchor.at = Nanos(at.ok_or(WireError::Misfit { field: FIELD })?);
    propose.register = change.register.map(TryInto::try_into).transpose()?;
    let amounts = change.rates.iter().zip(&change.bursts);
    let count = change.rates.len();
    for (index, (rate, burst)) in rows(&change.rows, count, last.rows.len(), FIELD)?
        .into_iter()
        .zip(amounts)
    {
        propose.rows[index].amount = unpack_amount(*rate, *burst, FIELD)?;
    }
    Ok(propose)
}
