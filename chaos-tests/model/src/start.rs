//! Where a scope begins: with a fleet that has settled under its first leader.

use crate::{
    action::Action,
    scope::Begins,
    store::{Outcome, Part, Store, Wire},
    world::World,
};

/// How many steps of the clock it takes to settle: demand is known after two reports.
pub const SETTLING: u8 = 3;
/// Messages that settling takes at most.
const MESSAGES_MAX: usize = 10_000;

/// The fleet as the scope begins.
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
        rounds(&mut world, store);
        deliver(&mut world, true, store);
    }
    if matches!(bounds.begins, Begins::PolicyReady | Begins::PolicyUnwritten) {
        perform(&mut world, Action::Publish, store);
        for host in 0..members {
            perform(&mut world, Action::PrepareHost(host), store);
            perform(&mut world, Action::Report(host, 0), store);
        }
    }
    if bounds.begins == Begins::PolicyUnwritten {
        perform(&mut world, Action::PrepareLead(0), store);
        rounds(&mut world, store);
    }
    store.scope = bounds.clone();
    if bounds.begins == Begins::Deposed {
        store.scope.late_answers = true;
        depose(&mut world, store);
        store.scope = bounds;
    }
    world
}

/// What the first leader renews is voted for, and one host has not answered, when the second one begins.
fn depose(world: &mut World, store: &mut Store) {
    let last = store.scope.hosts - 1;
    perform(world, Action::Time, store);
    for host in 0..=last {
        perform(world, Action::Report(host, 0), store);
    }
    perform(world, Action::Tick(0), store);
    deliver_but_to(world, last, store);
    perform(world, Action::TakeOver(0), store);
    deliver_but_to(world, last, store);
}

/// All that is under way, but for what goes to one host.
fn deliver_but_to(world: &mut World, last: u8, store: &mut Store) {
    for _ in 0..MESSAGES_MAX {
        let arrives = |wire: &&Part| match store.wires.at(**wire) {
            Wire::Down(_, host, _) => *host != last,
            Wire::Up(..) => true,
            Wire::Write { .. } => false,
        };
        let Some(wire) = world.wires().iter().find(arrives).copied() else {
            return;
        };
        perform(world, Action::Deliver(wire), store);
    }
    panic!("what is under way has an end");
}

/// All members report, and all answer.
fn rounds(world: &mut World, store: &mut Store) {
    for _ in 0..3 {
        for host in 0..store.scope.members {
            perform(world, Action::Report(host, 0), store);
            deliver(world, false, store);
        }
        perform(world, Action::Tick(0), store);
        deliver(world, false, store);
    }
}

fn perform(world: &mut World, action: Action, store: &mut Store) {
    let (next, _) = world
        .after(action, store)
        .expect("nothing is out of bounds while it settles");
    *world = next;
}

fn deliver(world: &mut World, writes: bool, store: &mut Store) {
    for _ in 0..MESSAGES_MAX {
        let is_due = |wire: &&Part| writes || !matches!(store.wires.at(**wire), Wire::Write { .. });
        let Some(wire) = world.wires().iter().find(is_due).copied() else {
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
