//! Proof that the checks can fail: each rule broken in turn, until something is found.

use std::fmt;

use weir_coord_core::rules::{Mutation, Rules};

use crate::{
    catalogue::AT_RANDOM,
    directed::{Led, way},
    explore::Violation,
    scope::Scope,
    walk::walk,
};

/// Random steps in each scope, first few in all of them, then more.
const STEPS: [u64; 3] = [20_000, 200_000, 2_000_000];
/// Random steps in the scope that found something, until the budget is overspent.
const STEPS_TO_THE_BUDGET: u64 = 1_000_000;

/// How a broken rule was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// In which scope.
    pub scope: &'static str,
    /// Whether the way is written down, and not found at random.
    pub is_directed: bool,
    /// A short way to a violation.
    pub violation: Violation,
    /// That way, for people.
    pub trace: String,
    /// How many steps it takes until more than the budget may be spent (I1), if that was found too.
    pub steps_to_the_budget: Option<usize>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_directed { ", directed" } else { "" };
        write!(
            f,
            "model{kind}, scope {}, {} after {} steps",
            self.scope,
            self.violation.broken.invariant,
            self.violation.actions.len()
        )?;
        match self.steps_to_the_budget {
            Some(steps) if self.violation.broken.invariant != "I1" => {
                write!(f, ", I1 after {steps}")
            }
            _ => Ok(()),
        }
    }
}

/// Breaks a rule, and looks for what notices. Scopes have one strict limit, and no keys.
#[must_use]
pub fn hunt(mutation: Mutation) -> Option<Found> {
    if mutation.is_about_keys() {
        return None;
    }
    let rules = Rules::without(mutation);
    if let Some(way) = way(mutation) {
        let Led {
            scope,
            violation,
            trace,
        } = way(rules)?;
        return Some(Found {
            scope,
            is_directed: true,
            violation,
            trace,
            steps_to_the_budget: None,
        });
    }
    STEPS.into_iter().find_map(|steps| {
        AT_RANDOM.into_iter().find_map(|scope| {
            let scope = Scope { rules, ..scope };
            let walked = walk(&scope, steps, 1);
            let violation = walked.violation?;
            let budget = Scope {
                budget_only: true,
                ..scope.clone()
            };
            let overspent = walk(&budget, STEPS_TO_THE_BUDGET, 1).violation;
            Some(Found {
                scope: scope.name,
                is_directed: false,
                violation,
                trace: walked.trace,
                steps_to_the_budget: overspent.map(|violation| violation.actions.len()),
            })
        })
    })
}
