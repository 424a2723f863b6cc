//! Rule 10, *members*: who is taken out, and when.
//!
//! Whoever is the only one left is not. It votes, and there is nobody to vote instead, so it would give back
//! everything and never be gone: a fleet of members that hold nothing.

#![allow(clippy::unwrap_used)]

mod fleet;
mod limits;
mod node;

use std::collections::BTreeMap;

use fleet::{BEGINNING, TIMING, born, id, member};
use limits::limit;
use weir_coord_core::{
    commit::{QuorumCommit, StoreOutcome},
    follower::Follower,
    leader::{Command, Input, Leader},
    record::MemberRecord,
};
use weir_model::{
    Limit, Nanos, NodeId,
    message::{FromNode, LimitReport},
};

const ONLY: usize = 1;
/// Leads, and votes alone.
const OTHER: usize = 2;

/// Without floors.
fn the_limit() -> Limit {
    limit("web", 100_000, 10_000, 0, true)
}

/// A fleet of these members, of which one leads and votes. All that have power are heard.
struct World {
    leader: Leader<QuorumCommit>,
    nodes: BTreeMap<NodeId, Follower>,
    /// Who hears nothing.
    deaf: Option<NodeId>,
    now: Nanos,
    /// What the leader asked for about members and voters.
    asked: Vec<Command>,
}

impl World {
    fn new(number: usize, members: Vec<MemberRecord>) -> Self {
        let with_power = [ONLY, OTHER].into_iter().filter(|number| {
            let mut members = members.iter();
            members.any(|member| member.node == id(*number) && !member.is_powered_off)
        });
        let nodes = with_power
            .map(|number| (id(number), born(number)))
            .collect();
        let now = BEGINNING;
        Self {
            leader: fleet::leader((number, 1), [number], members, the_limit(), now),
            nodes,
            deaf: None,
            now,
            asked: Vec::new(),
        }
    }

    fn ticks(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now = self.now + TIMING.tick;
            let row = LimitReport {
                limit: the_limit().id,
                ..LimitReport::default()
            };
            for node in self.nodes.values() {
                let report = FromNode::Report(node.report(self.now, &[row]));
                self.leader.handle(Input::FromNode(report), self.now);
            }
            self.leader.handle(Input::Tick, self.now);
            while let Some(command) = self.leader.poll_command() {
                match command {
                    Command::Remove(_) | Command::ChangeVoters(_) => self.asked.push(command),
                    Command::Admit(record) => {
                        let admitted = Input::Admitted {
                            node: record.node,
                            outcome: StoreOutcome::Committed,
                        };
                        self.leader.handle(admitted, self.now);
                    }
                    Command::Send { to, message } if self.deaf != Some(to) => {
                        let node = self.nodes.get_mut(&to).unwrap();
                        node.handle(message, self.now);
                        for answer in node::answers(node, self.now) {
                            self.leader.handle(Input::FromNode(answer), self.now);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn the_only_member_is_removed_or_keeps_its_share() {
    let mut world = World::new(ONLY, vec![member(ONLY)]);
    world.ticks(30);
    let remove = Input::Remove {
        node: id(ONLY),
        is_powered_off: false,
    };
    world.leader.handle(remove, world.now);
    world.ticks(570);
    let grants = world.nodes[&id(ONLY)].held();
    let held: u64 = grants.map(|grant| grant.effective(world.now).rate.0).sum();
    assert!(
        !world.asked.is_empty() || held > 0,
        "a member still, and it holds {held}"
    );
}

/// Whoever the roster names first, too: it is not the last because the others were not read yet.
#[test]
fn who_has_no_power_is_removed() {
    let without_power = MemberRecord {
        is_powered_off: true,
        ..member(ONLY)
    };
    let mut world = World::new(OTHER, vec![without_power, member(OTHER)]);
    world.ticks(30);
    assert_eq!(world.asked.first(), Some(&Command::Remove(id(ONLY))));
}

/// Its floors are nothing, so there is nothing of the book to give back; but what it gives keys by itself has to
/// have ended before somebody else has its place.
#[test]
fn who_leaves_is_removed_when_it_has_answered_that_nothing_is_its_own() {
    let mut world = World::new(OTHER, vec![member(ONLY), member(OTHER)]);
    world.ticks(30);
    world.deaf = Some(id(ONLY));
    let remove = Input::Remove {
        node: id(ONLY),
        is_powered_off: false,
    };
    world.leader.handle(remove, world.now);
    world.ticks(100);
    assert_eq!(world.asked, [], "it has not heard of it");
    world.deaf = None;
    world.ticks(100);
    assert_eq!(world.asked.first(), Some(&Command::Remove(id(ONLY))));
}
