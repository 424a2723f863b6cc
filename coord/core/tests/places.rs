//! Rule 12, *policy*: what members give a key of a strict limit by themselves is a part of `max_members`,
//! has no end, and is in no book. So a leader knows of policies that had room for fewer members what
//! the one before it knew.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests need the rest")]
mod fleet;
mod limits;

use std::collections::{BTreeMap, BTreeSet};

use fleet::{BEGINNING, TIMING, born, id, member};
use limits::limit;
use weir_coord_core::{
    commit::{QuorumCommit, StoreOutcome},
    follower::{self, Birth, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{MemberRecord, PolicyRecord, TermRecord},
    rules::Rules,
};
use weir_model::{
    Incarnation, Limit, Nanos, Policy, PolicyVersion, Term,
    message::FromNode,
    policy::{FleetSettings, Key},
};

const SMALL: PolicyVersion = PolicyVersion(1);
const LARGE: PolicyVersion = PolicyVersion(2);
/// Leads, and is the only voter.
const FIRST: usize = 1;
/// A member that is cut off.
const DEAF: usize = 2;
const NEWCOMER: usize = 3;

/// A strict limit with keys, and room for two members, or for eight.
fn policy(version: PolicyVersion) -> (PolicyVersion, Policy) {
    let clients = Limit {
        per: Some(Key::default()),
        ..limit("clients", 1_000, 100, 100, true)
    };
    let policy = Policy {
        fleet: FleetSettings {
            max_members: if version == LARGE { 8 } else { 2 },
            ..FleetSettings::default()
        },
        limits: vec![limit("web", 1_000, 100, 10, false), clients].into(),
    };
    (version, policy)
}

/// A leader, three nodes, and what ZooKeeper has.
struct World {
    leader: Leader<QuorumCommit>,
    nodes: BTreeMap<usize, Follower>,
    roster: Vec<MemberRecord>,
    in_force: PolicyRecord,
    deaf: BTreeSet<usize>,
    /// Nothing is written that the leader asks to activate.
    is_unwritten: bool,
    term: u64,
    now: Nanos,
}

impl World {
    /// Two members that go by the policy with room for two.
    fn new() -> Self {
        let now = BEGINNING;
        let roster = vec![member(FIRST), member(DEAF)];
        let in_force = PolicyRecord {
            version: SMALL,
            places: Some(2),
        };
        let mut world = Self {
            leader: leader(1, &roster, SMALL, in_force, now),
            nodes: (1..=3).map(|number| (number, born(number))).collect(),
            roster,
            in_force,
            deaf: BTreeSet::new(),
            is_unwritten: false,
            term: 1,
            now,
        };
        world.ticks(20);
        assert_eq!(world.leader.pending().count(), 0);
        world
    }

    /// A leader that knows this policy takes over.
    fn take_over(&mut self, knows: PolicyVersion) {
        self.term += 1;
        self.leader = leader(self.term, &self.roster, knows, self.in_force, self.now);
        self.ticks(3);
        assert!(!self.leader.is_preparing());
    }

    /// All that hear of it have it ready, and the leader begins with it.
    fn prepare(&mut self, version: PolicyVersion) {
        for (number, node) in &mut self.nodes {
            if !self.deaf.contains(number) {
                node.prepare_policy(version);
            }
        }
        let (version, policy) = policy(version);
        self.tell(Input::Prepare(version, policy));
        self.ticks(60);
    }

    fn ticks(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now = self.now + TIMING.tick;
            for number in 1..=3 {
                let is_member = self.roster.iter().any(|member| member.node == id(number));
                if self.deaf.contains(&number) {
                    continue;
                }
                if !is_member {
                    self.tell(Input::Join(member(number)));
                }
                let report = self.nodes[&number].report(self.now, &[]);
                self.tell(Input::FromNode(FromNode::Report(report)));
            }
            self.tell(Input::Tick);
        }
    }

    fn tell(&mut self, input: Input) {
        self.leader.handle(input, self.now);
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Send { to, message } => {
                    let number = (1..=3).find(|number| id(*number) == to).unwrap();
                    if !self.deaf.contains(&number) {
                        self.nodes
                            .get_mut(&number)
                            .unwrap()
                            .handle(message, self.now);
                        self.answer(number);
                    }
                }
                Command::Admit(record) => {
                    let node = record.node;
                    self.roster.retain(|member| member.node != node);
                    self.roster.push(record);
                    let outcome = StoreOutcome::Committed;
                    let admitted = Input::Admitted { node, outcome };
                    self.leader.handle(admitted, self.now);
                }
                Command::Activate(version, places) => self.write(version, places),
                Command::StepDown(reason) => panic!("steps down: {reason:?}"),
                _ => {}
            }
        }
    }

    fn answer(&mut self, number: usize) {
        let node = self.nodes.get_mut(&number).unwrap();
        while let Some(command) = node.poll_command() {
            match command {
                follower::Command::Install {
                    grants,
                    acknowledge,
                } => node.installed(&grants, acknowledge, self.now),
                follower::Command::Send(message) => {
                    self.leader.handle(Input::FromNode(message), self.now);
                }
                follower::Command::Enforce(version) => node.enforced(version, [], self.now),
                follower::Command::Heat(_) | follower::Command::Give(_) => {}
            }
        }
    }

    fn write(&mut self, version: PolicyVersion, places: u32) {
        assert!(version >= self.in_force.version);
        if self.is_unwritten {
            return;
        }
        self.in_force = PolicyRecord {
            version,
            places: Some(places),
        };
        let (version, policy) = policy(version);
        self.leader.handle(Input::Policy(version, policy), self.now);
        self.leader.handle(Input::Recorded(self.in_force), self.now);
    }

    fn is_admitted(&self) -> bool {
        self.roster.iter().any(|member| member.node == id(NEWCOMER))
    }
}

fn leader(
    term: u64,
    roster: &[MemberRecord],
    knows: PolicyVersion,
    in_force: PolicyRecord,
    now: Nanos,
) -> Leader<QuorumCommit> {
    let voters = vec![id(FIRST)];
    let mandate = Mandate {
        node: id(FIRST),
        record: TermRecord {
            term: Term(term),
            leader: Some(id(FIRST)),
            voters: voters.clone(),
            lease: TIMING.lease,
            is_voted: true,
            ..TermRecord::VACANT
        },
        adopted: None,
        members: roster.to_vec(),
        policy: policy(knows),
        in_force,
    };
    Leader::new(mandate, TIMING, QuorumCommit::new(voters, Rules::ALL), now)
}

/// The policy with more room is in force, and a member that is cut off goes by the one before.
fn with_a_deaf_member(is_unwritten: bool) -> World {
    let mut world = World::new();
    assert!(!world.is_admitted());
    world.is_unwritten = is_unwritten;
    world.deaf.insert(DEAF);
    world.prepare(LARGE);
    assert_eq!(world.leader.policy_version(), LARGE);
    assert!(world.leader.pending().eq([id(DEAF)]));
    assert!(!world.is_admitted());
    world
}

/// Once it is heard of again, there is room for more, also to whoever leads then.
fn comes_back(mut world: World) {
    world.is_unwritten = false;
    world.deaf.clear();
    world.nodes.get_mut(&DEAF).unwrap().prepare_policy(LARGE);
    world.ticks(60);
    assert!(world.is_admitted());
    let settled = PolicyRecord {
        version: LARGE,
        places: Some(8),
    };
    assert_eq!(world.in_force, settled);
}

#[test]
fn a_leader_that_takes_over_admits_nobody_beyond_what_a_member_may_go_by() {
    let mut world = with_a_deaf_member(false);
    let written = PolicyRecord {
        version: LARGE,
        places: Some(2),
    };
    assert_eq!(world.in_force, written);
    world.take_over(LARGE);
    world.ticks(60);
    assert!(!world.is_admitted());
    comes_back(world);
}

/// It died before it was written that another policy is in force: voters know.
#[test]
fn neither_does_one_that_knows_only_the_policy_before() {
    let mut world = with_a_deaf_member(true);
    world.take_over(SMALL);
    assert_eq!(world.leader.policy_version(), SMALL);
    world.prepare(LARGE);
    assert_eq!(world.leader.policy_version(), LARGE);
    assert!(!world.is_admitted());
    comes_back(world);
}

/// As when ZooKeeper was restored from a backup.
#[test]
fn neither_does_one_that_knows_more_than_zookeeper() {
    for places in [Some(2), None] {
        let mut world = with_a_deaf_member(true);
        world.in_force.places = places;
        world.take_over(LARGE);
        world.ticks(60);
        assert!(!world.is_admitted());
        world.is_unwritten = false;
        world.ticks(60);
        assert_eq!(world.in_force.version, LARGE, "it is written");
        assert!(!world.is_admitted());
        comes_back(world);
    }
}

/// A leader does not propose by a policy that is over, as ZooKeeper says and voters have forgotten.
#[test]
fn a_leader_that_knows_less_than_zookeeper_waits_for_what_is_in_force() {
    let mut world = with_a_deaf_member(false);
    let voter = Birth {
        node: id(FIRST),
        incarnation: Incarnation(2),
        term: Term(1),
        abstains_until: Nanos::ZERO,
    };
    let forgetful = Follower::new(voter, LARGE, [], Rules::ALL);
    world.nodes.insert(FIRST, forgetful);
    world.take_over(SMALL);
    assert_eq!(world.leader.committed().0, 0, "nothing is proposed");
    let (version, policy) = policy(LARGE);
    world.tell(Input::Policy(version, policy));
    world.ticks(60);
    assert!(world.leader.committed().0 > 0);
    assert!(!world.is_admitted());
    comes_back(world);
}

/// What a policy had room for that is over is no room under the next one.
#[test]
fn who_waits_to_be_admitted_when_there_is_less_room_asks_again() {
    let mut world = with_a_deaf_member(false);
    world.deaf.clear();
    world.nodes.get_mut(&DEAF).unwrap().prepare_policy(LARGE);
    world.roster.retain(|member| member.node != id(NEWCOMER));
    // The one in force has room for two, and the leader has not heard of it yet.
    let small_again = PolicyVersion(3);
    world.in_force = PolicyRecord {
        version: small_again,
        places: Some(8),
    };
    for node in world.nodes.values_mut() {
        node.set_policy(small_again, []);
    }
    world.take_over(LARGE);
    let (version, policy) = policy(small_again);
    world.tell(Input::Policy(version, policy));
    world.ticks(60);
    assert!(world.leader.committed().0 > 0);
    assert!(!world.is_admitted());
}
