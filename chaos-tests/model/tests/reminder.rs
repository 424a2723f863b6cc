//! Rule 5, *anchor*: the way to a reminder that renews, action by action.

use weir_coord_core::rules::{Mutation, Rules};
use weir_model::message::ToNode;
use weir_model_check::{
    action::Action,
    catalogue::AT_RANDOM,
    explore::Violation,
    invariant::{self, Broken},
    scope::Scope,
    start::settled,
    store::{Part, Store, Wire},
    trace::readable,
    world::World,
};

/// The host that has not answered, and the leader that is deposed.
const HOST: u8 = 2;
const FORMER: u8 = 0;

/// Goes the way, and says what is broken at its end.
fn remind(rules: Rules) -> Option<Broken> {
    let scope = AT_RANDOM.into_iter().find(|scope| scope.name == "deposed");
    let mut store = Store::new(Scope {
        rules,
        ..scope.expect("it is in the catalogue")
    });
    let mut world = settled(&mut store);
    let mut done = Vec::new();
    let mut go = |world: &mut World, store: &mut Store, action| {
        let (next, broken) = world.after(action, store).expect("it can happen");
        assert_eq!(broken, None);
        done.push(action);
        *world = next;
        invariant::of_a_state(store, world)
    };
    let under_way = |world: &World, store: &Store, is_it: &dyn Fn(&Wire) -> bool| -> Part {
        // The newest of a kind is the last.
        let mut wires = world.wires().iter().rev().copied();
        let found = wires.find(|wire| is_it(store.wires.at(*wire)));
        found.expect("it is under way")
    };
    let mut broken = None;
    for action in [
        Action::Time,
        Action::Report(HOST, FORMER),
        Action::Tick(FORMER),
    ] {
        broken = broken.or(go(&mut world, &mut store, action));
    }
    let is_reminder = |wire: &Wire| matches!(wire, Wire::Down(FORMER, HOST, ToNode::Propose(_)));
    let is_answer = |wire: &Wire| matches!(wire, Wire::Up(HOST, FORMER, _));
    let is_commit = |wire: &Wire| matches!(wire, Wire::Down(FORMER, HOST, ToNode::Commit(_)));
    for is_it in [
        &is_reminder as &dyn Fn(&Wire) -> bool,
        &is_answer,
        &is_commit,
    ] {
        let wire = under_way(&world, &store, is_it);
        broken = broken.or(go(&mut world, &mut store, Action::Deliver(wire)));
    }
    while broken.is_none() && !world.is_last_step(&store.scope) {
        broken = go(&mut world, &mut store, Action::Time);
    }
    let violation = Violation {
        broken: broken.clone()?,
        actions: done,
    };
    println!("{}", readable(&mut store, &violation));
    broken
}

#[test]
fn a_reminder_that_renews_outlives_what_the_next_leader_waits_for() {
    assert_eq!(remind(Rules::ALL), None);
    let broken = remind(Rules::without(Mutation::AnchorAtReminder));
    assert!(broken.is_some());
}
