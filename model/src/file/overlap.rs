//! How many limits can apply to one destination address.
//!
//! A packet is matched against a bounded list, [`MAX_RULES_PER_SERVICE`] long: every limit whose
//! `to` covers its destination is a rule on it, whatever else the limit asks for.

use std::{collections::BTreeMap, format, vec::Vec};

use super::{document::Value, problem::Complaint, syntax::LimitText};
use crate::{policy::MAX_RULES_PER_SERVICE, prefix::Prefix};

/// Most limits that a message names.
const MOST_NAMES: usize = 16;

/// Notes the most crowded prefix of the file, if it has too many rules.
pub(super) fn check(limits: &[LimitText<'_>]) {
    let everywhere: Vec<usize> = (0..limits.len())
        .filter(|limit| limits[*limit].matches.to.is_empty())
        .collect();
    if let Some(one_too_many) = everywhere.get(MAX_RULES_PER_SERVICE) {
        let value = &limits[*one_too_many].name.value;
        value.error(complaint(limits, &everywhere, "any destination"));
        return;
    }
    let crowded = covering_sets(limits)
        .into_iter()
        .map(|(prefix, mut covering)| {
            covering.extend(&everywhere);
            covering.sort_unstable();
            (prefix, covering)
        })
        .filter(|(_, covering)| covering.len() > MAX_RULES_PER_SERVICE);
    // The worst prefix says it for the others, which share its limits.
    let worst =
        crowded.max_by_key(|(prefix, covering)| (covering.len(), core::cmp::Reverse(*prefix)));
    if let Some((prefix, covering)) = worst {
        let last = covering
            .iter()
            .rev()
            .find_map(|limit| place(&limits[*limit], prefix));
        if let Some(value) = last {
            value.error(complaint(limits, &covering, &format!("{prefix}")));
        }
    }
}

/// Every `to` prefix, and the limits of which one covers it.
///
/// Sorted by address, then shortest first, prefixes nest like brackets, so one pass with a stack
/// of open ones finds all: O(n log n) for prefixes that nest to a bounded depth.
fn covering_sets(limits: &[LimitText<'_>]) -> Vec<(Prefix, Vec<usize>)> {
    let mut prefixes: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
    for (index, limit) in limits.iter().enumerate() {
        for prefix in &limit.matches.to {
            prefixes.entry(*prefix).or_default().push(index);
        }
    }
    let mut open: Vec<(Prefix, Vec<usize>)> = Vec::new();
    let mut sets = Vec::with_capacity(prefixes.len());
    for (prefix, limits) in prefixes {
        while open
            .last()
            .is_some_and(|(outer, _)| !outer.contains(prefix))
        {
            open.pop();
        }
        let mut covering = limits.clone();
        covering.extend(open.iter().flat_map(|(_, limits)| limits));
        covering.sort_unstable();
        covering.dedup();
        sets.push((prefix, covering));
        open.push((prefix, limits));
    }
    sets
}

/// Where a limit names a prefix that covers `prefix`.
fn place<'t, 'd>(limit: &'t LimitText<'d>, prefix: Prefix) -> Option<&'t Value<'d>> {
    let covers = |to: &Prefix| to.contains(prefix);
    let index = limit.matches.to.iter().position(covers)?;
    limit.to.get(index)
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
