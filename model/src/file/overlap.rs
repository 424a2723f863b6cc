//! How many rules apply to one destination address.
//!
//! A packet is matched against a bounded list, [`MAX_RULES_PER_SERVICE`] long. Every port range of
//! every limit whose `to` covers the address is a rule on it.

use std::{collections::BTreeMap, format, string::String, vec::Vec};

use super::{document::Value, problem::Complaint, syntax::LimitText};
use crate::{policy::MAX_RULES_PER_SERVICE, prefix::Prefix};

/// Most limits that a message names.
const MOST_NAMES: usize = 16;

/// Notes the first prefix of the file, if any, that is covered by too many rules.
pub(super) fn check(limits: &[LimitText<'_>]) {
    let everywhere: Vec<usize> = (0..limits.len())
        .filter(|limit| limits[*limit].matches.to.is_empty())
        .collect();
    if rules(limits, &everywhere) > MAX_RULES_PER_SERVICE {
        // The limit that is one too many says so.
        let place = (1..=everywhere.len())
            .find(|count| rules(limits, &everywhere[..*count]) > MAX_RULES_PER_SERVICE)
            .map_or(0, |count| count - 1);
        let value = &limits[everywhere[place]].name.value;
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
        .filter(|(_, covering)| rules(limits, covering) > MAX_RULES_PER_SERVICE);
    // The worst prefix says it for the others, which share its limits.
    let worst = crowded
        .max_by_key(|(prefix, covering)| (rules(limits, covering), core::cmp::Reverse(*prefix)));
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

fn rules(limits: &[LimitText<'_>], covering: &[usize]) -> usize {
    covering.iter().map(|limit| rules_of(&limits[*limit])).sum()
}

fn rules_of(limit: &LimitText<'_>) -> usize {
    limit.matches.ports.len().max(1)
}

/// Where a limit names a prefix that covers `prefix`.
fn place<'t, 'd>(limit: &'t LimitText<'d>, prefix: Prefix) -> Option<&'t Value<'d>> {
    let covers = |to: &Prefix| to.contains(prefix);
    let index = limit.matches.to.iter().position(covers)?;
    limit.to.get(index)
}

fn complaint(limits: &[LimitText<'_>], covering: &[usize], address: &str) -> Complaint {
    let names: Vec<String> = covering
        .iter()
        .take(MOST_NAMES)
        .map(|limit| {
            let limit = &limits[*limit];
            match rules_of(limit) {
                1 => limit.name.meaning.clone(),
                ranges => format!("{} ({ranges} port ranges)", limit.name.meaning),
            }
        })
        .collect();
    let more = if covering.len() > MOST_NAMES {
        ", …"
    } else {
        ""
    };
    Complaint::new(format!(
        "{} rules apply to {address}, expected at most {MAX_RULES_PER_SERVICE}: {}",
        rules(limits, covering),
        names.join(", ") + more
    ))
    .suggest("merge limits, or give them narrower prefixes")
}
