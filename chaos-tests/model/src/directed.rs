//! Ways that are written down, for broken rules that random steps seldom meet.

use weir_coord_core::rules::{Mutation, Rules};
use weir_model::message::ToNode;

use crate::{
    action::Action,
    catalogue::AT_RANDOM,
    explore::Violation,
    invariant,
    scope::Scope,
    start::settled,
    store::{Part, Store, Wire},
    trace::readable,
    world::World,
};

/// Where a way has led.
#[derive(Clone, Debug)]
pub struct Led {
    /// In which scope.
    pub scope: &'static str,
    /// To which violation.
    pub violation: Violation,
    /// That way, for people.
    pub trace: String,
}

/// A way, under these rules: `None` if nothing is broken at its end.
pub type Way = fn(Rules) -> Option<Led>;

/// The way that is written down for this, if there is one.
#[must_use]
pub fn way(mutation: Mutation) -> Option<Way> {
    match mutation {
        Mutation::AnchorAtReminder => Some(reminded),
        _ => None,
    }
}

/// The host that has not answered, and the leader that is deposed.
const HOST: u8 = 2;
const FORMER: u8 = 0;

/// Rule 5, *anchor*: a leader reminds a host of a proposal, and is deposed. The reminder renews, beyond what
/// the next leader waits for.
fn reminded(rules: Rules) -> Option<Led> {
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
        broken: broken?,
        actions: done,
    };
    Some(Led {
        scope: store.scope.name,
        trace: readable(&mut store, &violation),
        violation,
    })
}
