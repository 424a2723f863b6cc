//! Reports, by what has changed.

use std::collections::BTreeMap;

use weir_model::{
    LimitId, Nanos,
    message::{FromNode, LimitReport, Report},
};

use super::{
    super::{keys::heavy_keys, v1},
    column::{check_lengths, gaps, pack_amount, rows, unpack_amount},
};
use crate::{MAX_ROWS, error::WireError};

const FIELD: &str = "from_node.report_change";

/// What both ends know: the last report without its rows, and the last row of every limit.
#[derive(Clone, Debug)]
struct Known {
    report: Report,
    rows: Vec<LimitReport>,
    number_of: BTreeMap<LimitId, usize>,
}

/// A node's end.
#[derive(Clone, Debug, Default)]
pub struct ReportEncoder {
    known: Option<Known>,
}

/// The leader's end.
#[derive(Clone, Debug, Default)]
pub struct ReportDecoder {
    known: Option<Known>,
}

impl ReportEncoder {
    /// What to send.
    pub fn encode(&mut self, message: FromNode) -> v1::FromNode {
        let FromNode::Report(report) = message else {
            return message.into();
        };
        let change = self.known.as_ref().and_then(|known| known.change(&report));
        learn(&mut self.known, &report);
        match change {
            Some(change) => v1::FromNode {
                message: Some(v1::from_node::Message::ReportChange(change)),
            },
            None => FromNode::Report(report).into(),
        }
    }
}

impl ReportDecoder {
    /// What was sent.
    ///
    /// # Errors
    ///
    /// If no encoder makes such a message of what a correct node says. The stream is at its end.
    pub fn decode(&mut self, wire: v1::FromNode) -> Result<FromNode, WireError> {
        let report = match wire.message {
            Some(v1::from_node::Message::ReportChange(change)) => {
                let known = self.known.as_ref();
                let known = known.ok_or(WireError::Baseless { field: FIELD })?;
                known.apply(&change)?
            }
            message => match FromNode::try_from(v1::FromNode { message })? {
                FromNode::Report(report) => report,
                other => return Ok(other),
            },
        };
        learn(&mut self.known, &report);
        Ok(FromNode::Report(report))
    }
}

/// Takes a report for the last one of the stream. Both ends do the same.
fn learn(known: &mut Option<Known>, report: &Report) {
    let head = Report {
        limits: Vec::new(),
        heavy: Vec::new(),
        ..report.clone()
    };
    // A policy has no more limits than one report: who goes on to name new ones starts over.
    let has_room = |known: &Known| known.rows.len() + report.limits.len() <= 2 * MAX_ROWS;
    let known = match known {
        Some(known) if known.report.policy == report.policy && has_room(known) => known,
        known => known.insert(Known {
            report: head.clone(),
            rows: Vec::new(),
            number_of: BTreeMap::new(),
        }),
    };
    known.report = head;
    for row in &report.limits {
        let next = known.rows.len();
        match *known.number_of.entry(row.limit).or_insert(next) {
            number if number < next => known.rows[number] = *row,
            _ => known.rows.push(*row),
        }
    }
}

impl Known {
    /// `None` if the report has to be sent whole.
    fn change(&self, report: &Report) -> Option<v1::ReportChange> {
        let before = &self.report;
        let is_alike = report.node == before.node
            && report.token.incarnation == before.token.incarnation
            && report.promised == before.promised
            && report.seen.term == before.seen.term
            && report.policy == before.policy
            && report.prepared == before.prepared
            && report.abstains == before.abstains;
        if !is_alike {
            return None;
        }
        let mut change = v1::ReportChange {
            elapsed_ns: report.token.at.0.checked_sub(before.token.at.0)?,
            seen_generation: report.seen.generation.0,
            heavy: report.heavy.iter().copied().map(Into::into).collect(),
            ..v1::ReportChange::default()
        };
        let mut numbers = Vec::with_capacity(report.limits.len());
        let mut renewed = Vec::with_capacity(report.limits.len());
        let mut held = Vec::new();
        for (index, row) in report.limits.iter().enumerate() {
            let number = *self.number_of.get(&row.limit)?;
            // Gaps go one way only.
            if numbers.last().is_some_and(|last| *last >= number) {
                return None;
            }
            numbers.push(number);
            let before = self.rows[number];
            let offered = row.offered.checked_sub(before.offered)?;
            let admitted = row.admitted.checked_sub(before.admitted)?;
            let dropped = row.dropped.checked_sub(before.dropped)?;
            change.offered.push(offered);
            change.admitted.push(admitted);
            change.dropped.push(
                i64::try_from(i128::from(dropped) - (i128::from(offered) - i128::from(admitted)))
                    .ok()?,
            );
            renewed.push(
                i64::try_from(i128::from(row.expires.0) - i128::from(before.expires.0)).ok()?,
            );
            if row.held != before.held {
                held.push(index);
                let (rate, burst) = pack_amount(row.held)?;
                change.held_rates.push(rate);
                change.held_bursts.push(burst);
            }
        }
        change.rows = gaps(numbers);
        change.held = gaps(held);
        change.renewed_ns = most_frequent(&renewed);
        let others = renewed.iter().enumerate();
        let others: Vec<_> = others.filter(|(_, by)| **by != change.renewed_ns).collect();
        change.other_renewed = gaps(others.iter().map(|(index, _)| *index));
        change.other_renewed_ns = others.iter().map(|(_, by)| **by).collect();
        Some(change)
    }

    fn apply(&self, change: &v1::ReportChange) -> Result<Report, WireError> {
        let misfit = || WireError::Misfit { field: FIELD };
        let count = change.rows.len();
        if count > MAX_ROWS {
            return Err(WireError::TooMany {
                field: FIELD,
                found: count,
                most: MAX_ROWS,
            });
        }
        let columns = [
            change.offered.len(),
            change.admitted.len(),
            change.dropped.len(),
        ];
        check_lengths(count, &columns, FIELD)?;
        check_lengths(
            change.other_renewed.len(),
            &[change.other_renewed_ns.len()],
            FIELD,
        )?;
        check_lengths(
            change.held.len(),
            &[change.held_rates.len(), change.held_bursts.len()],
            FIELD,
        )?;
        let mut report = self.report.clone();
        let at = report.token.at.0.checked_add(change.elapsed_ns);
        report.token.at = Nanos(at.ok_or_else(misfit)?);
        report.seen.generation.0 = change.seen_generation;
        report.heavy = heavy_keys(FIELD, change.heavy.clone())?;
        let mut renewed = vec![change.renewed_ns; count];
        let others = rows(&change.other_renewed, count, FIELD)?;
        for (index, by) in others.into_iter().zip(&change.other_renewed_ns) {
            renewed[index] = *by;
        }
        for (index, number) in rows(&change.rows, self.rows.len(), FIELD)?
            .into_iter()
            .enumerate()
        {
            let before = self.rows[number];
            let (offered, admitted) = (change.offered[index], change.admitted[index]);
            let dropped =
                i128::from(change.dropped[index]) + i128::from(offered) - i128::from(admitted);
            let expires = before.expires.0.checked_add_signed(renewed[index]);
            report.limits.push(LimitReport {
                limit: before.limit,
                offered: before.offered.checked_add(offered).ok_or_else(misfit)?,
                admitted: before.admitted.checked_add(admitted).ok_or_else(misfit)?,
                dropped: u64::try_from(i128::from(before.dropped) + dropped)
                    .map_err(|_| misfit())?,
                held: before.held,
                expires: Nanos(expires.ok_or_else(misfit)?),
            });
        }
        let amounts = change.held_rates.iter().zip(&change.held_bursts);
        for (index, (rate, burst)) in rows(&change.held, count, FIELD)?.into_iter().zip(amounts) {
            report.limits[index].held = unpack_amount(*rate, *burst, FIELD)?;
        }
        Ok(report)
    }
}

/// 0 of none; the least of several.
fn most_frequent(numbers: &[i64]) -> i64 {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for number in numbers {
        *counts.entry(*number).or_default() += 1;
    }
    let most = counts
        .into_iter()
        .max_by_key(|(number, count)| (*count, core::cmp::Reverse(*number)));
    most.map_or(0, |(number, _)| number)
}
