//! The checks can fail: broken rules are found, and the specification lists them all.

use weir_coord_core::rules::{Mutation, Rules};
use weir_model_check::{
    catalogue::{AT_RANDOM, COMPLETE},
    explore::{Bounds, explore},
    scope::Scope,
    store::Store,
    trace::readable,
    walk::walk,
};

const SPECIFICATION: &str = include_str!("../../../SPECIFICATION.md");
const BOUNDS: Bounds = Bounds {
    states: 1_000_000,
    bytes: 1 << 26,
};

fn scope(name: &str) -> Scope {
    let mut all = COMPLETE.into_iter().chain(AT_RANDOM);
    all.find(|scope| scope.name == name)
        .expect("it is in the catalogue")
}

#[test]
fn the_shortest_way_to_a_violation_is_told_step_by_step() {
    let mut store = Store::new(Scope {
        rules: Rules::without(Mutation::EnvelopeUnread),
        ..scope("take-over")
    });
    let explored = explore(&mut store, BOUNDS);
    let violation = explored.violation.expect("an unread register is missed");
    assert_eq!(violation.broken.invariant, "I3");
    let trace = readable(&mut store, &violation);
    assert!(trace.contains("B takes over"), "{trace}");
    assert!(trace.contains("✗ I3"), "{trace}");
    // A line for each step, one for the beginning and one for the end.
    assert_eq!(
        trace.lines().count(),
        violation.actions.len() + 2,
        "{trace}"
    );
}

#[test]
fn budgets_are_overspent_when_rules_are_broken() {
    for (mutation, name) in [
        (Mutation::TrustSession, "token"),
        (Mutation::ReuseBeforeWait, "token"),
        (Mutation::EnvelopeUnread, "token"),
        (Mutation::CutUnacknowledged, "cut"),
        (Mutation::CarriedAsNumbers, "units"),
    ] {
        let scope = Scope {
            rules: Rules::without(mutation),
            budget_only: true,
            ..scope(name)
        };
        let walked = walk(&scope, 2_000_000, 1);
        let violation = walked
            .violation
            .unwrap_or_else(|| panic!("{mutation:?} is not found"));
        assert_eq!(violation.broken.invariant, "I1", "{}", walked.trace);
    }
}

#[test]
fn the_specification_says_what_finds_each_broken_rule() {
    for mutation in Mutation::ALL {
        let row = format!("| `{mutation:?}` |");
        let found = SPECIFICATION.lines().find(|line| line.starts_with(&row));
        let line = found.unwrap_or_else(|| panic!("SPECIFICATION.md does not list {mutation:?}"));
        let says_how = line.contains("| model, ") || line.contains("| simulator, ");
        assert!(says_how, "{line}");
    }
}
