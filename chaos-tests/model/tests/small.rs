//! scratch
use weir_coord_core::rules::{Mutation, Rules};
use weir_model_check::{
    explore::{Bounds, explore},
    scope::Scope,
    store::Store,
    trace::readable,
    walk::walk,
};

const BOUNDS: Bounds = Bounds { states: 20_000_000, bytes: 1 << 30 };

fn run(scope: Scope) {
    let mut store = Store::new(scope);
    let begun = std::time::Instant::now();
    let explored = explore(&mut store, BOUNDS);
    println!(
        "{} states depth {} complete {} in {:?}; hosts {} leads {} wires {} zk {}",
        explored.states, explored.depth, explored.is_complete, begun.elapsed(),
        store.hosts.len(), store.leads.len(), store.wires.len(), store.zookeepers.len()
    );
    if let Some(violation) = explored.violation {
        println!("{}", readable(&mut store, &violation));
    }
}

#[test]
fn small() {
    run(Scope { steps: 2, ..Scope::SMALL });
}

fn medium() -> Scope {
    Scope {
        capacity: 2, steps: 6, restarts: 2, reboots: 1, sessions: 1, duplicates: 3, pauses: true, late_reports: true,
        shifts: 2, budget: 6, floor: 1, is_divisible: true, unknown_outcomes: true, leaders: 3, voters: &[&[0,1,2]],
        ..Scope::SMALL
    }
}

#[test]
fn walks() {
    for scope in [Scope { steps: 6, ..Scope::SMALL }, Scope { budget: 6, is_divisible: true, steps: 6, restarts: 2, ..Scope::SMALL }, medium()] {
        let begun = std::time::Instant::now();
        let walked = walk(&scope, 1_000_000, 1);
        println!("{} steps {} walks in {:?}", walked.steps, walked.walks, begun.elapsed());
        if let Some(violation) = walked.violation {
            println!("{}", readable(&mut Store::new(scope), &violation));
        }
    }
}

#[test]
fn mutations() {
    for mutation in Mutation::ALL {
        for scope in [Scope { steps: 6, ..Scope::SMALL }, medium()] {
            let scope = Scope { rules: Rules::without(mutation), ..scope };
            let begun = std::time::Instant::now();
            let walked = walk(&scope, 1_000_000, 1);
            println!("{mutation:?}: {} steps {} walks in {:?} {:?}", walked.steps, walked.walks, begun.elapsed(), walked.violation.map(|v| (v.actions.len(), v.broken)));
        }
    }
}
