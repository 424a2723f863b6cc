//! Where a scope begins: with a fleet that has settled under its first leader.

use crate::{
    store::{Outcome, Store, Wire},
    world::{Action, World},
};

/// How many steps of the clock it takes to settle: demand is known after two reports.
pub const SETTLING: u8 = 3;
/// Messages that settling takes at most.
const MESSAGES_MAX: usize = 10_000;

/// The fleet when the first leader has divided the budget, and nothing is under way.
///
/// # Panics
///
/// If it never settles.
#[must_use]
pub fn settled(store: &mut Store) -> World {
    let members = store.scope.members;
    let mut world = World::vacant(store);
    let bounds = store.scope.clone();
    store.scope.steps = 0;
    store.scope.capacity = u8::MAX;
    store.scope.pauses = false;
    store.scope.late_reports = false;
    perform(&mut world, Action::TakeOver(0), store);
    for step in 0..=SETTLING {
        if step > 0 {
            perform(&mut world, Action::Time, store);
        }
        for _ in 0..3 {
            for host in 0..members {
                perform(&mut world, Action::Report(host, 0), store);
                deliver(&mut world, store);
            }
            perform(&mut world, Action::Tick(0), store);
            deliver(&mut world, store);
        }
    }
    store.scope = bounds;
    world
}

fn perform(world: &mut World, action: Action, store: &mut Store) {
    let (next, _) = world
        .after(action, store)
        .expect("nothing is out of bounds while it settles");
    *world = next;
}

fn deliver(world: &mut World, store: &mut Store) {
    for _ in 0..MESSAGES_MAX {
        let Some(wire) = world.wires().first().copied() else {
            return;
        };
        let action = match store.wires.at(wire) {
            Wire::Write { .. } => Action::Write(wire, Outcome::Applied),
            _ => Action::Deliver(wire),
        };
        perform(world, action, store);
    }
    panic!("a fleet that nothing happens to settles");
}
