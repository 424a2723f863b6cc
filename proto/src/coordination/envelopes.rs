//! Envelopes, in columns: a register of a thousand nodes and a thousand limits is some megabytes.

use weir_model::{
    Amount, LimitId, NodeId, Scale,
    register::{LimitEnvelope, NodeEnvelope},
};

use super::{
    MAX_NODES, MAX_REGISTER_ROWS,
    stream::column::{
        at, check_lengths, gaps_by, pack_amount_bound, rows, unpack_amount_bound, without_end,
    },
    v1,
};
use crate::error::WireError;

const FIELD: &str = "register.envelopes";
/// Bytes of a node's identity.
const IDENTITY: usize = 16;

/// A limit in one of its units, and the floor that its first entry has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heading {
    limit: LimitId,
    scale: Scale,
    floor: Amount,
}

impl Heading {
    fn of(row: &LimitEnvelope) -> Self {
        Self {
            limit: row.limit,
            scale: row.scale,
            floor: row.floor,
        }
    }

    fn key(self) -> (LimitId, Scale) {
        (self.limit, self.scale)
    }
}

/// What stands over the columns: each limit once for each of its units, in order.
fn headings(nodes: &[NodeEnvelope]) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut new = Vec::new();
    for node in nodes {
        let mut number = 0;
        for row in &node.limits {
            match find(&headings, (row.limit, row.scale), &mut number) {
                Some(_) => {}
                None => new.push(Heading::of(row)),
            }
        }
        if !new.is_empty() {
            headings.append(&mut new);
            // Stable, so the first of several stays.
            headings.sort_by_key(|heading| heading.key());
            headings.dedup_by_key(|heading| heading.key());
        }
    }
    headings
}

/// Rows come in the order of the headings, so the next one is near `number`, which is moved on.
fn find(headings: &[Heading], key: (LimitId, Scale), number: &mut usize) -> Option<usize> {
    const NEARBY: usize = 16;
    let nearby = headings.iter().enumerate().skip(*number).take(NEARBY);
    let found = nearby
        .filter(|(_, heading)| heading.key() == key)
        .map(|(index, _)| index)
        .next()
        .or_else(|| {
            headings
                .binary_search_by_key(&key, |heading| heading.key())
                .ok()
        });
    *number = found.map_or(*number, |found| found + 1);
    found
}

/// To the wire. Amounts above 2^59 are rounded up to what a column has words for: they
/// are bounds.
pub(super) fn to_columns(nodes: &[NodeEnvelope]) -> v1::Envelopes {
    let headings = headings(nodes);
    let mut wire = v1::Envelopes::default();
    for heading in &headings {
        let (rate, burst) = pack_amount_bound(heading.floor);
        wire.limits.push(heading.limit.0);
        wire.fraction_bits.push(heading.scale.fraction_bits.into());
        wire.floor_rates.push(rate);
        wire.floor_bursts.push(burst);
    }
    let (mut others, mut numbers) = (Vec::new(), Vec::new());
    for node in nodes {
        wire.nodes.extend_from_slice(node.node.0.as_bytes());
        numbers.clear();
        let mut number = 0;
        for row in &node.limits {
            let found = find(&headings, (row.limit, row.scale), &mut number);
            numbers.push((found.expect("every row has a heading"), row));
        }
        numbers.sort_by_key(|(number, _)| *number);
        numbers.dedup_by_key(|(number, _)| *number);
        wire.counts
            .push(u32::try_from(numbers.len()).expect("no register has so many limits"));
        gaps_by(&mut wire.rows, numbers.iter().map(|(number, _)| *number));
        for (number, row) in &numbers {
            if row.floor != headings[*number].floor {
                others.push(wire.rates.len());
                let (rate, burst) = pack_amount_bound(row.floor);
                wire.other_floor_rates.push(rate);
                wire.other_floor_bursts.push(burst);
            }
            let (rate, burst) = pack_amount_bound(row.amount);
            wire.rates.push(rate);
            wire.bursts.push(burst);
        }
    }
    wire.rows = without_end(wire.rows);
    gaps_by(&mut wire.other_floors, others);
    wire.other_floors = without_end(wire.other_floors);
    wire
}

/// From the wire.
pub(super) fn from_columns(wire: v1::Envelopes) -> Result<Vec<NodeEnvelope>, WireError> {
    let misfit = || WireError::Misfit { field: FIELD };
    let found = wire.counts.len();
    if found > MAX_NODES {
        return Err(WireError::TooMany {
            field: FIELD,
            found,
            most: MAX_NODES,
        });
    }
    check_lengths(wire.nodes.len(), &[found * IDENTITY], FIELD)?;
    let headings = read_headings(&wire)?;
    let count = wire.rates.len();
    if count > MAX_REGISTER_ROWS {
        return Err(WireError::TooMany {
            field: FIELD,
            found: count,
            most: MAX_REGISTER_ROWS,
        });
    }
    check_lengths(count, &[wire.bursts.len()], FIELD)?;
    let mut nodes = Vec::with_capacity(found);
    let mut next = 0_usize;
    for (identity, rows) in wire.nodes.chunks_exact(IDENTITY).zip(&wire.counts) {
        let identity = identity.try_into().map_err(|_| misfit())?;
        let count_here = *rows as usize;
        let end = next.checked_add(count_here).filter(|end| *end <= count);
        let end = end.ok_or_else(misfit)?;
        let mut limits: Vec<LimitEnvelope> = Vec::with_capacity(count_here);
        let mut number = 0_usize;
        for index in next..end {
            number = number.saturating_add(at(&wire.rows, index) as usize);
            let heading = headings.get(number).ok_or_else(misfit)?;
            number += 1;
            if limits
                .last()
                .is_some_and(|last| last.limit == heading.limit)
            {
                return Err(WireError::Repeated {
                    field: FIELD,
                    limit: heading.limit.0,
                });
            }
            limits.push(LimitEnvelope {
                limit: heading.limit,
                scale: heading.scale,
                amount: unpack_amount_bound(wire.rates[index], wire.bursts[index], FIELD)?,
                floor: heading.floor,
            });
        }
        next = end;
        nodes.push(NodeEnvelope {
            node: NodeId(uuid::Uuid::from_bytes(identity)),
            limits,
        });
    }
    if next != count || wire.rows.len() > count {
        return Err(misfit());
    }
    set_other_floors(&mut nodes, &wire)?;
    Ok(nodes)
}

fn read_headings(wire: &v1::Envelopes) -> Result<Vec<Heading>, WireError> {
    let found = wire.limits.len();
    let columns = [
        wire.fraction_bits.len(),
        wire.floor_rates.len(),
        wire.floor_bursts.len(),
    ];
    check_lengths(found, &columns, FIELD)?;
    let mut headings: Vec<Heading> = Vec::with_capacity(found);
    for (index, limit) in wire.limits.iter().enumerate() {
        let bits = wire.fraction_bits[index];
        let fraction_bits = u8::try_from(bits)
            .ok()
            .filter(|bits| *bits <= Scale::MAX_FRACTION_BITS);
        let heading = Heading {
            limit: LimitId(*limit),
            scale: Scale {
                fraction_bits: fraction_bits.ok_or(WireError::TooLarge {
                    field: "register.envelopes.fraction_bits",
                    found: bits.into(),
                    most: Scale::MAX_FRACTION_BITS.into(),
                })?,
            },
            floor: unpack_amount_bound(wire.floor_rates[index], wire.floor_bursts[index], FIELD)?,
        };
        let is_in_order = headings
            .last()
            .is_none_or(|last| last.key() < heading.key());
        if !is_in_order {
            return Err(WireError::Misfit { field: FIELD });
        }
        headings.push(heading);
    }
    Ok(headings)
}

fn set_other_floors(nodes: &mut [NodeEnvelope], wire: &v1::Envelopes) -> Result<(), WireError> {
    let count = wire.other_floor_rates.len();
    check_lengths(count, &[wire.other_floor_bursts.len()], FIELD)?;
    let others = rows(&wire.other_floors, count, wire.rates.len(), FIELD)?;
    let floors = wire.other_floor_rates.iter().zip(&wire.other_floor_bursts);
    let mut others = others.into_iter().zip(floors).peekable();
    let limits = nodes.iter_mut().flat_map(|node| &mut node.limits);
    for (index, row) in limits.enumerate() {
        if let Some((_, (rate, burst))) = others.next_if(|(other, _)| *other == index) {
            row.floor = unpack_amount_bound(*rate, *burst, FIELD)?;
        }
    }
    Ok(())
}
