//! How many limits can apply to one destination address.
//!
//! A packet is matched against a bounded list, [`MAX_RULES_PER_SERVICE`] long: every limit whose
//! `to` covers its destination is a rule on it, whatever else the limit asks for.

use std::{format, vec::Vec};

use super::{document::Value, problem::Complaint, syntax::LimitText};
use crate::{policy::MAX_RULES_PER_SERVICE, prefix::Prefix};

/// Most limits that a message names.
const MOST_NAMES: usize = 16;

/// Notes the most crowded prefix of the file, if it has too many rules.
pub(super) fn check(limits: &[LimitText<'_>]) {
    let everywhere: Vec<usize> = (0..limits.len())
        .filter(|limit| limits[*limit].matching.matches.to.is_empty())
        .collect();
    if let Some(one_too_many) = everywhere.get(MAX_RULES_PER_SERVICE) {
        let value = &limits[*one_too_many].name.value;
        value.error(complaint(limits, &everywhere, "any destination"));
        return;
    }
    let Some((prefix, count)) = most_crowded(limits) else {
        return;
    };
    if count + everywhere.len() <= MAX_RULES_PER_SERVICE {
        return;
    }
    // The worst prefix says it for the others, which share its limits.
    let covering: Vec<usize> = (0..limits.len())
        .filter(|limit| {
            let to = &limits[*limit].matching.matches.to;
            to.is_empty() || to.iter().any(|wider| wider.contains(prefix))
        })
        .collect();
    let last = covering
        .iter()
        .rev()
        .find_map(|limit| place(&limits[*limit], prefix));
    if let Some(value) = last {
        value.error(complaint(limits, &covering, &format!("{prefix}")));
    }
}

/// The `to` prefix that most limits' prefixes cover, the lowest of several, and how many.
///
/// Sorted by address, then shortest first, prefixes nest like brackets, so one pass with a stack
/// of open ones finds all, in O(n log n). No limit counts twice, as none has a prefix inside
/// another of its own.
fn most_crowded(limits: &[LimitText<'_>]) -> Option<(Prefix, usize)> {
    let all = limits.iter().flat_map(|limit| &limit.matching.matches.to);
    let mut prefixes: Vec<Prefix> = all.copied().collect();
    prefixes.sort_unstable();
    // Each open prefix, and how many limits cover it.
    let mut open: Vec<(Prefix, usize)> = Vec::new();
    let mut worst: Option<(Prefix, usize)> = None;
    for same in prefixes.chunk_by(|one, other| one == other) {
        let prefix = same[0];
        while open
            .last()
            .is_some_and(|(outer, _)| !outer.contains(prefix))
        {
            open.pop();
        }
        let count = same.len() + open.last().map_or(0, |(_, count)| *count);
        if worst.is_none_or(|(_, most)| count > most) {
            worst = Some((prefix, count));
        }
        open.push((prefix, count));
    }
    worst
}

/// Where a limit names a prefix that covers `prefix`.
fn place<'t, 'd>(limit: &'t LimitText<'d>, prefix: Prefix) -> Option<&'t Value<'d>> {
    let covers = |to: &Prefix| to.contains(prefix);
    let index = limit.matching.matches.to.iter().position(covers)?;
    limit.matching.to.get(index)
}

fn complaint(limits: &[LimitText<'_>], covering: &[usize], address: &str) -> Complaint {
    let names: Vec<&str> = covering
        .iter()
        .take(MOST_NAMES)
        .map(|limit| limits[*limit].name.meaning.as_str())
        .collect();
    let more = if covering.len() > MOST_NAMES {
        ", …"
    } else {
        ""
    };
    Complaint::new(format!(
        "{} limits apply to {address}, expected at most {MAX_RULES_PER_SERVICE}: {}{more}",
        covering.len(),
        names.join(", ")
    ))
    .suggest("merge limits, or give them narrower prefixes")
}
