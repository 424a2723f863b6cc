//! Whom a leader counts as a member, and whom it admits: what its shell tells it of the roster, and when.

mod support;

use support::{
    id,
    leading::{BEGIN, TIMING, leading, policy, report},
    member,
};
use weir_coord::{
    fleet::Fleet,
    trial::Trial,
    zookeeper::{Event, Events, Roster},
};
use weir_model::{Nanos, NodeId, PolicyVersion};

/// A policy with more room than the one before, [`PolicyVersion`] 1.
const CHANGE: PolicyVersion = PolicyVersion(2);

fn roster(version: i32, numbers: &[u128]) -> Roster {
    Roster {
        version,
        members: numbers.iter().map(|number| member(*number)).collect(),
    }
}

/// What is watched is read host by host, while a take-over reads the same: the older listing may be told
/// last. Its members would have their floors reserved, and granted, once more.
#[tokio::test]
async fn a_listing_that_is_older_than_the_take_over_brings_nobody_back() {
    let (mut fleet, _events) = leading(roster(6, &[1, 2]), policy(8));
    let members = |fleet: &Fleet| -> Vec<NodeId> {
        let leader = fleet.leader().expect("it leads");
        let view = leader.view(BEGIN);
        view.into_iter().map(|member| member.record.node).collect()
    };
    assert_eq!(members(&fleet), [id(1), id(2)]);
    fleet.observe(Event::Members(roster(5, &[1, 2, 3])), BEGIN);
    assert_eq!(members(&fleet), [id(1), id(2)], "3 was removed since");
    fleet.observe(Event::Members(roster(7, &[1, 2, 4])), BEGIN);
    assert_eq!(members(&fleet), [id(1), id(2), id(4)]);
}

/// Host 2 asks to be let in for two seconds. Whether it is: with room for two there is none for host 3 then.
fn is_let_in(fleet: &mut Fleet, begin: Nanos) -> bool {
    for tick in 0..20 {
        let now = begin + TIMING.tick * tick;
        fleet.hear(report(2, now), now);
    }
    fleet.leader().expect("it leads").turns_away(id(3))
}

/// A leader that has begun with a change which may be rolled back, and makes room for host 2.
fn on_trial() -> (Fleet, Events) {
    let (mut fleet, events) = leading(roster(1, &[1]), policy(1));
    fleet.prepare_policy(CHANGE, policy(2), BEGIN);
    let leader = fleet.leader().expect("it leads");
    assert_eq!(leader.policy_version(), CHANGE, "it has begun with it");
    assert!(!is_let_in(&mut fleet, BEGIN), "it is not written yet");
    let trial = Trial {
        version: CHANGE,
        fallback: PolicyVersion(1),
        left_ms: 60_000,
    };
    fleet.set_policy(CHANGE, policy(2), at(20));
    assert!(!is_let_in_at_once(&mut fleet, at(21)), "it is news");
    fleet.observe(Event::Trial(Some(trial)), at(22));
    assert!(!is_let_in(&mut fleet, at(22)), "it may be rolled back");
    (fleet, events)
}

fn is_let_in_at_once(fleet: &mut Fleet, now: Nanos) -> bool {
    fleet.hear(report(2, now), now);
    fleet.leader().expect("it leads").turns_away(id(3))
}

fn at(tick: u32) -> Nanos {
    BEGIN + TIMING.tick * tick
}

/// What a change is rolled back to may have room for fewer members than the change: it would wait until
/// some have left, for ever.
#[tokio::test]
async fn nobody_is_admitted_while_a_change_waits_to_be_confirmed() {
    let (mut fleet, _events) = on_trial();
    fleet.observe(Event::Trial(None), at(50));
    assert!(is_let_in(&mut fleet, at(50)), "it is confirmed");
}

#[tokio::test]
async fn nobody_is_admitted_while_a_change_is_rolled_back() {
    let (mut fleet, _events) = on_trial();
    // Each is told by itself, and in any order.
    fleet.observe(Event::Trial(None), at(50));
    assert!(!is_let_in_at_once(&mut fleet, at(51)));
    let restored = PolicyVersion(3);
    fleet.prepare_policy(restored, policy(1), at(52));
    let leader = fleet.leader().expect("it leads");
    assert_eq!(leader.policy_version(), restored, "it has begun");
}
