//! scratch
use weir_coord_core::rules::{Mutation, Rules};
use weir_model_check::{
    explore::{Bounds, explore},
    scope::Scope,
    store::Store,
    trace::readable,
    walk::walk,
};

const BOUNDS: Bounds = Bounds { states: 20_000_000, bytes: 1 << 29 };

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
    println!("promises");
    run(Scope { capacity: 2, duplicates: 1, restarts: 1, reads_term: true, late_answers: true, steps: 0, ..Scope::SMALL });
    println!("minority");
    run(Scope { members: 2, steps: 1, ..Scope::SMALL });
}

const NAMES: [&str; 5] = ["token", "shares", "all", "joins", "voters"];
fn scopes() -> Vec<Scope> {
    let all = Scope {
        capacity: 2, steps: 7, restarts: 2, reboots: 1, sessions: 1, duplicates: 3, pauses: true, late_reports: true, late_answers: true, reads_term: true,
        shifts: 2, budget: 6, floor: 1, is_divisible: true, unknown_outcomes: true, leaders: 3,
        ..Scope::SMALL
    };
    vec![
        Scope { steps: 7, ..Scope::SMALL },
        Scope { steps: 7, budget: 6, is_divisible: true, restarts: 1, pauses: true, late_answers: true, capacity: 2, duplicates: 2, ..Scope::SMALL },
        all.clone(),
        Scope { hosts: 4, members: 3, budget: 4, joins: true, voters: &[&[0, 1, 2]], shifts: 0, ..all.clone() },
        Scope { leaders: 4, voters: &[&[0, 1, 2], &[2], &[1]], sessions: 0, reboots: 0, ..all },
    ]
}

#[test]
fn walks() {
    for (name, scope) in NAMES.iter().zip(scopes()) {
        let begun = std::time::Instant::now();
        let walked = walk(&scope, 2_000_000, 1);
        println!("{name}: {} steps {} walks in {:?}", walked.steps, walked.walks, begun.elapsed());
        if walked.violation.is_some() {
            println!("{}", walked.trace);
        }
    }
}

#[test]
fn mutations() {
    for mutation in Mutation::ALL {
        for (name, scope) in NAMES.iter().zip(scopes()) {
            for budget_only in [true, false] {
            let scope = Scope { rules: Rules::without(mutation), budget_only, ..scope };
            let walked = walk(&scope, 1_000_000, 1);
            println!("{mutation:?} {name} {budget_only}: {} steps {:?}", walked.steps, walked.violation.map(|v| (v.actions.len(), v.broken)));
            }
        }
    }
}
