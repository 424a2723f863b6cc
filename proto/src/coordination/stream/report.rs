//! Reports, by what has changed.

use std::collections::BTreeMap;

use weir_model::{
    LimitId, Nanos,
    message::{FromNode, LimitReport, Report},
    prefetch::{AT_ONCE, fetch},
};

use super::{
    super::{keys::heavy_keys, v1},
    column::{at as at_row, check_lengths, gaps, pack_amount, rows, unpack_amount, without_end},
};
use crate::{MAX_ROWS, error::WireError};

const FIELD: &str = "from_node.report_change";

/// What both ends know: the last report without its rows, and the last row of every limit.
#[derive(Clone, Debug)]
struct Known {
    report: Report,
    rows: Vec<LimitReport>,
    number_of: BTreeMap<LimitId, usize>,
    /// When most grants ended at the last report that had rows.
    ends: Nanos,
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
        let change = self.known.as_mut().and_then(|known| known.change(&report));
        if let Some(change) = change {
            return v1::FromNode {
                message: Some(v1::from_node::Message::ReportChange(change)),
            };
        }
        learn(&mut self.known, &report);
        FromNode::Report(report).into()
    }
}

impl ReportDecoder {
    /// What was sent.
    ///
    /// # Errors
    ///
    /// If no encoder makes such a message of what a correct node says. The stream is at its end.
    pub fn decode(&mut self, wire: v1::FromNode) -> Result<FromNode, WireError> {
        match wire.message {
            Some(v1::from_node::Message::ReportChange(change)) => {
                let known = self.known.as_mut();
                let known = known.ok_or(WireError::Baseless { field: FIELD })?;
                known.apply(&change).map(FromNode::Report)
            }
            message => {
                let message = FromNode::try_from(v1::FromNode { message })?;
                if let FromNode::Report(report) = &message {
                    learn(&mut self.known, report);
                }
                Ok(message)
            }
        }
    }
}

/// Takes a whole report for the last one of the stream. Both ends do the same.
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
            ends: Nanos::ZERO,
        }),
    };
    known.report = head;
    known.ends = common_end(&report.limits).unwrap_or(known.ends);
    for row in &report.limits {
        let next = known.rows.len();
        match *known.number_of.entry(row.limit).or_insert(next) {
            number if number < next => known.rows[number] = *row,
            _ => known.rows.push(*row),
        }
    }
}

impl Known {
    /// Both what to send, and what is known from then on; `None`, and nothing, if the report has to
    /// be sent whole.
    fn change(&mut self, report: &Report) -> Option<v1::ReportChange> {
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
        let ends = common_end(&report.limits).unwrap_or(self.ends);
        let mut change = v1::ReportChange {
            elapsed_ns: report.token.at.0.checked_sub(before.token.at.0)?,
            seen_generation: report.seen.generation.0,
            renewed_ns: distance(self.ends.0, ends.0)?,
            heavy: report.heavy.iter().copied().map(Into::into).collect(),
            ..v1::ReportChange::default()
        };
        let mut numbers = Vec::with_capacity(report.limits.len());
        let (mut held, mut others) = (Vec::new(), Vec::new());
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
            let withheld = distance(admitted, offered)?;
            change.offered.push(offered);
            change.withheld.push(withheld);
            change
                .dropped
                .push(i64::try_from(dropped).ok()?.checked_sub(withheld)?);
            if row.expires != ends {
                others.push(index);
                change.other_ends_ns.push(distance(ends.0, row.expires.0)?);
            }
            if row.held != before.held {
                held.push(index);
                let (rate, burst) = pack_amount(row.held)?;
                change.held_rates.push(rate);
                change.held_bursts.push(burst);
            }
        }
        for (number, row) in numbers.iter().zip(&report.limits) {
            self.rows[*number] = *row;
        }
        self.report.token = report.token;
        self.report.seen = report.seen;
        self.ends = ends;
        change.rows = gaps(numbers);
        change.held = gaps(held);
        change.other_ends = gaps(others);
        change.withheld = without_end(change.withheld);
        change.dropped = without_end(change.dropped);
        Some(change)
    }

    fn apply(&mut self, change: &v1::ReportChange) -> Result<Report, WireError> {
        let misfit = || WireError::Misfit { field: FIELD };
        let count = change.offered.len();
        if count > MAX_ROWS {
            return Err(WireError::TooMany {
                field: FIELD,
                found: count,
                most: MAX_ROWS,
            });
        }
        if change.withheld.len() > count || change.dropped.len() > count {
            return Err(misfit());
        }
        let held = change.held_rates.len();
        check_lengths(held, &[change.held_bursts.len()], FIELD)?;
        let at = self.report.token.at.0.checked_add(change.elapsed_ns);
        let ends = self.ends.0.checked_add_signed(change.renewed_ns);
        let ends = Nanos(ends.ok_or_else(misfit)?);
        let mut report = self.report.clone();
        report.token.at = Nanos(at.ok_or_else(misfit)?);
        report.seen.generation.0 = change.seen_generation;
        report.heavy = heavy_keys(FIELD, change.heavy.clone())?;
        report.limits.reserve_exact(count);
        let numbers = rows(&change.rows, count, self.rows.len(), FIELD)?;
        for (index, number) in numbers.iter().enumerate() {
            if index % AT_ONCE == 0 {
                let next = numbers[index..].iter().take(AT_ONCE);
                fetch(next.map(|number| self.rows[*number].offered));
            }
            let before = self.rows[*number];
            let (offered, withheld) = (change.offered[index], at_row(&change.withheld, index));
            let admitted = offered.checked_add_signed(withheld.checked_neg().ok_or_else(misfit)?);
            let dropped = at_row(&change.dropped, index).checked_add(withheld);
            let dropped = dropped.and_then(|dropped| u64::try_from(dropped).ok());
            let sum = |counted: u64, more: Option<u64>| {
                let more = more.ok_or_else(misfit)?;
                counted.checked_add(more).ok_or_else(misfit)
            };
            report.limits.push(LimitReport {
                offered: sum(before.offered, Some(offered))?,
                admitted: sum(before.admitted, admitted)?,
                dropped: sum(before.dropped, dropped)?,
                expires: ends,
                ..before
            });
        }
        let others = change.other_ends_ns.len();
        let others = rows(&change.other_ends, others, count, FIELD)?;
        for (index, later) in others.into_iter().zip(&change.other_ends_ns) {
            let expires = ends.0.checked_add_signed(*later);
            report.limits[index].expires = Nanos(expires.ok_or_else(misfit)?);
        }
        let amounts = change.held_rates.iter().zip(&change.held_bursts);
        for (index, (rate, burst)) in rows(&change.held, held, count, FIELD)?
            .into_iter()
            .zip(amounts)
        {
            report.limits[index].held = unpack_amount(*rate, *burst, FIELD)?;
        }
        for (number, row) in numbers.iter().zip(&report.limits) {
            self.rows[*number] = *row;
        }
        self.report.token = report.token;
        self.report.seen = report.seen;
        self.ends = ends;
        Ok(report)
    }
}

/// How far it is from one to the other; `None` if that is too far for a column.
fn distance(from: u64, to: u64) -> Option<i64> {
    let distance = i128::from(to) - i128::from(from);
    i64::try_from(distance).ok()
}

/// When most grants end: the earliest of several such instants; `None` without any.
fn common_end(rows: &[LimitReport]) -> Option<Nanos> {
    let mut ends: Vec<Nanos> = rows.iter().map(|row| row.expires).collect();
    ends.sort_unstable();
    let alike = ends.chunk_by(|one, other| one == other);
    let most = alike.max_by_key(|alike| (alike.len(), core::cmp::Reverse(alike[0])))?;
    most.first().copied()
}
