//! scratch
use weir_coord_core::rules::{Mutation, Rules};
use weir_model_check::{catalogue::{AT_RANDOM, COMPLETE}, explore::{explore, Bounds}, scope::Scope, store::Store, walk::walk};

#[test]
fn complete() {
    for scope in COMPLETE {
    let mut store = Store::new(scope);
    let begun = std::time::Instant::now();
    let explored = explore(&mut store, Bounds { states: 3_000_000, bytes: 1 << 28 });
    println!("{} {} states depth {} complete {} in {:?} {:?}", store.scope.name, explored.states, explored.depth, explored.is_complete, begun.elapsed(), explored.violation);
    }
}

#[test]
fn walks() {
    for scope in AT_RANDOM {
        let begun = std::time::Instant::now();
        let walked = walk(&scope, 2_000_000, 1);
        println!("{}: {} steps {} walks in {:?}", scope.name, walked.steps, walked.walks, begun.elapsed());
        if walked.violation.is_some() {
            println!("{}", walked.trace);
        }
    }
}

#[test]
fn mutations() {
    let left = [Mutation::WaitFromTerm, Mutation::FloorsUnrecorded, Mutation::FloorBeforeRoster, Mutation::FloorGivenAwayEarly, Mutation::AdmitBeforeCommitted, Mutation::AdmitWithoutRoom, Mutation::RemoveUnacknowledged, Mutation::CutUnacknowledged, Mutation::PolicyUnchecked, Mutation::PolicyForgotten];
    for mutation in left {
        for scope in AT_RANDOM {
            let scope = Scope { rules: Rules::without(mutation), ..scope };
            let walked = walk(&scope, 500_000, 1);
            if let Some(v) = walked.violation {
            println!("{mutation:?} {}: {} steps {:?}", scope.name, walked.steps, (v.actions.len(), v.broken));
            }
        }
    }
}
