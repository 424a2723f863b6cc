//! Rule 10, *members*: a change of voters that came to nothing is asked for again. ZooKeeper may have had no
//! quorum at that moment, or the leader no candidacy; without it the fleet goes on with voters of which
//! one is gone, until the next one goes.

#![allow(clippy::unwrap_used)]

mod fleet;
mod limits;
mod node;

use fleet::{BEGINNING, TIMING, born, id, leader, member};
use limits::limit;
use weir_coord_core::{
    follower::Follower,
    leader::{Command, Input},
};
use weir_model::message::FromNode;

#[test]
fn a_change_of_voters_that_came_to_nothing_is_asked_for_again() {
    let mut now = BEGINNING;
    let limit = limit("web", 100_000, 10_000, 0, false);
    let members = (1..=4).map(member).collect();
    let mut leader = leader((1, 1), 1..=3, members, limit, now);
    let mut nodes: Vec<Follower> = (1..=4).map(born).collect();
    let mut asked = Vec::new();
    for tick in 0..600 {
        now = now + TIMING.tick;
        // The third one, a voter, has no power any more.
        let is_up = |number: usize| number != 3 || tick < 30;
        for number in (1..=4).filter(|number| is_up(*number)) {
            let report = FromNode::Report(nodes[number - 1].report(now, &[]));
            leader.handle(Input::FromNode(report), now);
        }
        leader.handle(Input::Tick, now);
        while let Some(command) = leader.poll_command() {
            match command {
                // Nothing comes of it: the shell could not write it.
                Command::ChangeVoters(voters) => asked.push((tick, voters)),
                Command::Send { to, message } => {
                    let number = (1..=4).find(|number| id(*number) == to).unwrap();
                    if is_up(number) {
                        let node = &mut nodes[number - 1];
                        node.handle(message, now);
                        for answer in node::answers(node, now) {
                            leader.handle(Input::FromNode(answer), now);
                        }
                    }
                }
                Command::StepDown(reason) => panic!("{reason:?}"),
                _ => {}
            }
        }
    }
    let voters = vec![id(1), id(2), id(4)];
    assert!(asked.iter().all(|(_, asked)| *asked == voters), "{asked:?}");
    assert!(asked.len() > 1, "asked once in a minute: {asked:?}");
}
