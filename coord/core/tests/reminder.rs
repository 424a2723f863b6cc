//! Rule 5, *anchor*: what reminds a node of a proposal renews nothing. There are votes for the proposal
//! by then, and whoever gave them may have promised to obey another leader, which waits for what was
//! granted until its promises, and no longer.

#![allow(clippy::unwrap_used)]

mod fleet;
mod limits;
mod node;
#[allow(dead_code, reason = "other tests need the rest")]
mod rivals;

use rivals::{FIRST, NO_VOTER, SECOND, TIMING, World, the_limit};

#[test]
fn a_reminder_does_not_renew_what_a_successor_counts_as_ended() {
    let mut world = World::new();
    world.begin();
    // A proposal is made and voted for; one answer, of no voter, is lost.
    world.unheard = Some(NO_VOTER);
    let before = world.nodes[&3].seen();
    while world.nodes[&3].seen() == before {
        world.next_tick(FIRST);
    }
    // Those who voted promise to obey another leader, which learns what they voted for.
    world.cut = vec![FIRST, NO_VOTER];
    world.take_over();
    world.tick(SECOND);
    assert!(!world.leaders[&SECOND].is_preparing());
    // The first one goes on for as long as it may, and hears the answer to a reminder.
    for tick in 1..=30 {
        world.unheard = (tick < 3).then_some(NO_VOTER);
        world.now = world.now + TIMING.tick;
        if tick < 9 {
            world.tick(FIRST);
        }
        world.tick(SECOND);
        world.expect_no_more_than_the_budget();
    }
    let budget = the_limit().budget.rate.0;
    assert!(world.in_use() > budget / 100 * 70, "it is used again");
}
