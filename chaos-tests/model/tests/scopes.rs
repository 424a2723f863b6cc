//! Every scope holds, as far as a test has time for; `cargo xtask model` goes further.

use weir_model_check::{
    action::Action,
    catalogue::{AT_RANDOM, COMPLETE},
    explore::{Bounds, explore},
    scope::{Begins, Scope},
    start::settled,
    store::{Outcome, Store, Wire},
    trace::readable,
    walk::walk,
    world::World,
};

const BOUNDS: Bounds = Bounds {
    states: 1_000_000,
    bytes: 1 << 26,
};

#[test]
fn a_take_over_by_all_its_ways_keeps_every_invariant() {
    let scope = COMPLETE[0].clone();
    let mut store = Store::new(scope);
    let explored = explore(&mut store, BOUNDS);
    if let Some(violation) = &explored.violation {
        panic!("{}", readable(&mut store, violation));
    }
    assert!(explored.is_complete);
    assert!(explored.states > 10_000, "{} states", explored.states);
}

#[test]
fn random_steps_break_nothing() {
    for scope in AT_RANDOM {
        let walked = walk(&scope, 50_000, 7);
        assert!(
            walked.violation.is_none(),
            "{}:\n{}",
            scope.name,
            walked.trace
        );
    }
}

fn perform(world: &mut World, action: Action, store: &mut Store) {
    let (next, broken) = world.after(action, store).expect("it can happen");
    assert_eq!(broken, None);
    *world = next;
}

/// The policy of a register is forgotten with the register, by a majority that starts anew. So a
/// lowered budget is not promised before ZooKeeper has it.
#[test]
fn a_cut_that_zookeeper_has_not_heard_of_is_not_promised() {
    let scope = AT_RANDOM
        .into_iter()
        .find(|scope| scope.begins == Begins::PolicyUnwritten)
        .expect("it is in the catalogue");
    let mut store = Store::new(Scope {
        promises_early: true,
        ..scope.clone()
    });
    let world = settled(&mut store);
    assert_eq!(world.promised, 1, "all have acknowledged it");

    let mut store = Store::new(scope);
    let mut world = settled(&mut store);
    assert_eq!(world.promised, 0);
    let writes = world.wires().to_vec();
    let write = writes
        .into_iter()
        .find(|wire| matches!(store.wires.at(*wire), Wire::Write { .. }))
        .expect("the policy is being written");
    perform(
        &mut world,
        Action::Write(write, Outcome::Applied),
        &mut store,
    );
    assert_eq!(world.promised, 0, "the leader does not know yet");
    perform(&mut world, Action::LeadReadsPolicy(0), &mut store);
    assert_eq!(world.promised, 1);
}
