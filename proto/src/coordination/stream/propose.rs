//! Proposals, by what has changed.

use std::sync::{Arc, Mutex, PoisonError};

use weir_model::{
    Nanos,
    message::{Propose, ToNode},
    prefetch::{AT_ONCE, fetch},
    register::RegisterUpdate,
};

use super::{
    super::{from_wire::decoded_register, to_wire::encoded_register, v1},
    column::{check_lengths, gaps, pack_amount, rows, unpack_amount},
};
use crate::error::WireError;

const FIELD: &str = "to_node.propose_change";

/// Registers that are kept encoded: voters that are told at the same time are told the same, but for
/// those that are behind.
const REGISTERS_KEPT: usize = 3;

/// The registers of one leader, encoded once for all the streams that share this.
#[derive(Clone, Debug, Default)]
pub struct EncodedRegisters {
    latest: Arc<Mutex<Vec<Encoded>>>,
}

/// A register, and what it is on the wire.
type Encoded = (Arc<RegisterUpdate>, Vec<u8>);

impl EncodedRegisters {
    fn encode(&self, register: &Arc<RegisterUpdate>) -> Vec<u8> {
        // A panic in between leaves the list as it was, or with one more.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |(known, _): &&Encoded| Arc::ptr_eq(known, register);
        if let Some((_, encoded)) = latest.iter().find(is_same) {
            return encoded.clone();
        }
        let encoded = encoded_register(register);
        if latest.len() >= REGISTERS_KEPT {
            latest.remove(0);
        }
        latest.push((register.clone(), encoded.clone()));
        encoded
    }
}

/// The leader's end.
#[derive(Clone, Debug, Default)]
pub struct ProposeEncoder {
    registers: EncodedRegisters,
    /// The last one, without what is for voters.
    last: Option<Propose>,
}

/// A node's end.
#[derive(Clone, Debug, Default)]
pub struct ProposeDecoder {
    last: Option<Propose>,
}

impl ProposeEncoder {
    /// One of several that share what they encode.
    #[must_use]
    pub fn sharing(registers: EncodedRegisters) -> Self {
        Self {
            registers,
            last: None,
        }
    }

    /// What to send.
    pub fn encode(&mut self, message: ToNode) -> v1::ToNode {
        let ToNode::Propose(mut propose) = message else {
            return message.into();
        };
        let register = propose.register.take();
        let register = register.map(|register| self.registers.encode(&register));
        let change = self.last.as_ref().and_then(|last| change(last, &propose));
        let message = if let Some(change) = change {
            v1::to_node::Message::ProposeChange(v1::ProposeChange { register, ..change })
        } else {
            v1::to_node::Message::Propose(v1::Propose {
                register,
                ..propose.clone().into()
            })
        };
        let wire = v1::ToNode {
            message: Some(message),
        };
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
    let mut compare = |index: usize| {
        let (row, before) = (&propose.rows[index], &last.rows[index]);
        if row.limit != before.limit || row.floor != before.floor {
            return None;
        }
        if row.amount != before.amount {
            changed.push(index);
            let (rate, burst) = pack_amount(row.amount)?;
            change.rates.push(rate);
            change.bursts.push(burst);
        }
        Some(())
    };
    match propose.rows.changed(&last.rows) {
        Some(known) => known.chunks(AT_ONCE).try_for_each(|some| {
            let mut places = some.iter().map(|row| *row as usize);
            let word = |row: usize| propose.rows[row].amount.rate.0 ^ last.rows[row].amount.rate.0;
            fetch(places.clone().map(word));
            places.try_for_each(&mut compare)
        }),
        None => (0..propose.rows.len()).try_for_each(compare),
    }?;
    change.rows = gaps(changed);
    Some(change)
}

fn apply(last: &Propose, change: v1::ProposeChange) -> Result<Propose, WireError> {
    check_lengths(change.rates.len(), &[change.bursts.len()], FIELD)?;
    let mut propose = last.clone();
    propose.position.generation.0 = change.generation;
    let at = propose.anchor.at.0.checked_add(change.elapsed_ns);
    propose.anchor.at = Nanos(at.ok_or(WireError::Misfit { field: FIELD })?);
    let register = change.register.as_deref().map(decoded_register);
    propose.register = register.transpose()?.map(Arc::new);
    let amounts = change.rates.iter().zip(&change.bursts);
    let count = change.rates.len();
    let all = propose.rows.to_mut();
    for (index, (rate, burst)) in rows(&change.rows, count, last.rows.len(), FIELD)?
        .into_iter()
        .zip(amounts)
    {
        all[index].amount = unpack_amount(*rate, *burst, FIELD)?;
    }
    Ok(propose)
}
