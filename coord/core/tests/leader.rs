//! A leader and its nodes with nothing between them: what must come to an end, and what must not
//! happen at all.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests need the rest")]
mod limits;
mod node;

use std::{collections::BTreeMap, time::Duration};

use limits::limit;
use weir_coord_core::{
    commit::{EmbeddedCommit, StoreOutcome},
    follower::{Birth, Follower},
    leader::{Command, Input, Leader, Mandate},
    record::{EnvelopeRecord, LimitEnvelope, MemberRecord, NodeEnvelope, PolicyRecord, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Amount, Generation, HeavyKey, HotKey, Incarnation, Limit, Nanos, NodeId, Policy, PolicyVersion,
    Term, UnitsPerSecond,
    message::{FromNode, LimitReport, Report, ToNode},
    policy::{FleetSettings, Key},
    prefix::Prefix,
};

/// Messages of one tick, after which it has no end.
const MOST_MESSAGES: usize = 1_000;

struct Fleet {
    leader: Leader<EmbeddedCommit>,
    nodes: BTreeMap<NodeId, Follower>,
    /// Nodes that nothing gets to.
    cut_off: Vec<NodeId>,
    removed: Vec<NodeId>,
    /// Proposals have said which keys are hot.
    tells_hot: bool,
    /// Writes to the roster are under way, and not answered yet.
    holds_writes: bool,
    writing: Vec<NodeId>,
    /// What every node says of single keys.
    heavy: Vec<HeavyKey>,
    timing: Timing,
    now: Nanos,
}

fn member(number: u128) -> MemberRecord {
    MemberRecord {
        node: NodeId::from_u128(number),
        name: number.to_string(),
        weight: 1,
        floors: Vec::new(),
        is_drained: false,
        is_powered_off: false,
    }
}

fn policy(limits: Vec<Limit>) -> Policy {
    Policy {
        fleet: FleetSettings {
            max_members: 64,
            ..FleetSettings::default()
        },
        limits: limits.into(),
    }
}

impl Fleet {
    fn new(nodes: u128, timing: Timing, limits: Vec<Limit>) -> Self {
        Self::inheriting(nodes, timing, limits, None)
    }

    /// With what the leader before has stored.
    fn inheriting(
        nodes: u128,
        timing: Timing,
        limits: Vec<Limit>,
        adopted: Option<EnvelopeRecord>,
    ) -> Self {
        let now = Nanos(1_000_000_000_000);
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId::from_u128).collect();
        let mandate = Mandate {
            node: ids[0],
            record: TermRecord {
                term: Term(1),
                ..TermRecord::VACANT
            },
            adopted,
            members: (1..=nodes).map(member).collect(),
            policy: (PolicyVersion(1), policy(limits)),
            in_force: PolicyRecord::settled(PolicyVersion(1)),
        };
        let follower = |node: &NodeId| {
            let birth = Birth {
                node: *node,
                incarnation: Incarnation(1),
                term: Term(1),
                abstains_until: Nanos::ZERO,
            };
            (
                *node,
                Follower::new(birth, PolicyVersion(1), [], Rules::ALL),
            )
        };
        Self {
            leader: Leader::new(mandate, timing, EmbeddedCommit::default(), now),
            nodes: ids.iter().map(follower).collect(),
            cut_off: Vec::new(),
            removed: Vec::new(),
            tells_hot: false,
            holds_writes: false,
            writing: Vec::new(),
            heavy: Vec::new(),
            timing,
            now,
        }
    }

    fn reaches(&self, node: NodeId) -> bool {
        !self.cut_off.contains(&node)
    }

    fn set_policy(&mut self, version: PolicyVersion, limits: Vec<Limit>) {
        for (node, follower) in &mut self.nodes {
            if !self.cut_off.contains(node) {
                follower.set_policy(version, []);
            }
        }
        let input = Input::Policy(version, policy(limits));
        self.leader.handle(input, self.now);
    }

    /// Another leader begins, with what this one's book says of a hot key.
    fn take_over(&mut self, key: HotKey, version: PolicyVersion, limits: Vec<Limit>) {
        let envelope = |node: &NodeId| NodeEnvelope {
            node: *node,
            limits: vec![LimitEnvelope {
                limit: key.id,
                scale: self.leader.scale(key.id).unwrap(),
                amount: self.leader.envelope(*node, key.id),
                floor: Amount::ZERO,
            }],
        };
        let adopted = EnvelopeRecord {
            term: Term(1),
            generation: Generation(1_000),
            lease: self.timing.lease,
            policy: PolicyVersion(1),
            nodes: self.nodes.keys().map(envelope).collect(),
        };
        let members = self.nodes.keys().map(|node| member(node.0.as_u128()));
        let mandate = Mandate {
            node: NodeId::from_u128(1),
            record: TermRecord {
                term: Term(2),
                ..TermRecord::VACANT
            },
            adopted: Some(adopted),
            members: members.collect(),
            policy: (version, policy(limits)),
            in_force: PolicyRecord::settled(version),
        };
        self.leader = Leader::new(mandate, self.timing, EmbeddedCommit::default(), self.now);
    }

    /// One tick of everybody; how many messages the leader sent.
    fn tick(&mut self) -> usize {
        self.now = self.now + self.timing.tick;
        let reports: Vec<FromNode> = self
            .nodes
            .iter()
            .filter(|(node, _)| self.reaches(**node))
            .map(|(_, follower)| {
                FromNode::Report(Report {
                    heavy: self.heavy.clone(),
                    ..follower.report(self.now, &[LimitReport::default()])
                })
            })
            .collect();
        for report in reports {
            self.leader.handle(Input::FromNode(report), self.now);
        }
        self.leader.handle(Input::Tick, self.now);
        let mut sent = 0;
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Send { to, message } if self.reaches(to) => {
                    sent += 1;
                    if let ToNode::Propose(propose) = &message {
                        self.tells_hot |= propose.hot.is_some();
                    }
                    assert!(sent < MOST_MESSAGES, "a tick has no end");
                    self.nodes.get_mut(&to).unwrap().handle(message, self.now);
                    self.answers(to);
                }
                Command::Admit(record) if self.holds_writes => self.writing.push(record.node),
                Command::Admit(record) => {
                    let (node, outcome) = (record.node, StoreOutcome::Committed);
                    let input = Input::Admitted { node, outcome };
                    self.leader.handle(input, self.now);
                }
                Command::Remove(node) => self.removed.push(node),
                _ => {}
            }
        }
        sent
    }

    fn ticks(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    fn answers(&mut self, node: NodeId) {
        for message in node::answers(self.nodes.get_mut(&node).unwrap(), self.now) {
            self.leader.handle(Input::FromNode(message), self.now);
        }
    }
}

#[test]
fn a_short_lease_is_renewed_once_a_tick_and_no_more() {
    for lease in [400, 500, 900, 2_000] {
        let timing = Timing {
            lease: Duration::from_millis(lease),
            ..Timing::DEFAULT
        };
        let mut fleet = Fleet::new(1, timing, vec![limit("web", 1_000, 100, 10, false)]);
        let most = (0..30).map(|_| fleet.tick()).max().unwrap();
        assert!(most <= 12, "{most} messages in a tick, lease {lease} ms");
    }
}

#[test]
fn a_member_that_goes_by_another_policy_is_asked_before_it_is_removed() {
    let named = |name| vec![limit(name, 1_000, 100, 10, false)];
    let mut fleet = Fleet::new(2, Timing::DEFAULT, named("before"));
    let other = NodeId::from_u128(2);
    fleet.ticks(10);
    fleet.cut_off.push(other);
    // Its floor of the limit that is gone is still in its kernel, and of the new one it has none.
    fleet.set_policy(PolicyVersion(2), named("after"));
    let input = Input::Remove {
        node: other,
        is_powered_off: false,
    };
    fleet.leader.handle(input, fleet.now);
    fleet.ticks(100);
    assert_eq!(fleet.removed, []);
    // Back, with the policy, it answers and goes.
    fleet.cut_off.clear();
    let follower = fleet.nodes.get_mut(&other).unwrap();
    follower.set_policy(PolicyVersion(2), []);
    fleet.ticks(50);
    assert_eq!(fleet.removed.first(), Some(&other));
}

#[test]
fn what_a_removed_member_held_as_its_floor_is_given_to_others() {
    let limits = vec![limit("web", 1_000, 100, 10, false)];
    let web = limits[0].clone();
    // Removed from the roster by a leader that died before its register said so.
    let gone = NodeEnvelope {
        node: NodeId::from_u128(9),
        limits: vec![LimitEnvelope {
            limit: web.id,
            scale: web.scale,
            amount: web.floor,
            floor: web.floor,
        }],
    };
    let record = EnvelopeRecord {
        term: Term(0),
        generation: Generation(7),
        lease: Timing::DEFAULT.lease,
        policy: PolicyVersion(1),
        nodes: vec![gone],
    };
    let mut fleet = Fleet::inheriting(1, Timing::DEFAULT, limits, Some(record));
    fleet.ticks(50);
    let held: Vec<_> = fleet.nodes[&NodeId::from_u128(1)].held().collect();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].amount.rate, web.budget.rate);
}

#[test]
fn a_floor_that_is_being_lowered_in_the_roster_is_not_used_when_it_is_raised_again() {
    let of_floor = |floor| vec![limit("web", 1_000, 100, floor, false)];
    let mut fleet = Fleet::new(2, Timing::DEFAULT, of_floor(100));
    let floors = |fleet: &Fleet| -> Vec<u64> {
        let held = fleet.nodes.values().flat_map(Follower::held);
        held.map(|grant| grant.floor.rate.0 >> 10).collect()
    };
    fleet.ticks(20);
    assert_eq!(floors(&fleet), [100, 100]);
    fleet.holds_writes = true;
    fleet.set_policy(PolicyVersion(2), of_floor(10));
    fleet.ticks(20);
    assert_eq!(floors(&fleet), [10, 10]);
    assert_eq!(
        fleet.writing.len(),
        2,
        "the smaller floors are on their way"
    );
    fleet.set_policy(PolicyVersion(3), of_floor(100));
    for _ in 0..20 {
        fleet.tick();
        assert!(
            floors(&fleet).iter().all(|floor| *floor <= 10),
            "{:?}",
            floors(&fleet)
        );
    }
    // They have arrived: now the larger ones go the long way.
    fleet.holds_writes = false;
    for node in std::mem::take(&mut fleet.writing) {
        let outcome = StoreOutcome::Committed;
        fleet
            .leader
            .handle(Input::Admitted { node, outcome }, fleet.now);
    }
    fleet.ticks(30);
    assert_eq!(floors(&fleet), [100, 100]);
}

/// The member that holds all of a limit, as the interfaces page has it, makes room for another.
#[test]
fn a_newcomer_finds_room_however_little_its_floor_is() {
    for (rate, burst, floor, members) in [
        (100_000, 20_000, 15, 1),
        (100_000, 20_000, 15, 2),
        (100_000, 20_000, 62, 4),
        (1_000_000, 100_000, 156, 1),
    ] {
        let limits = vec![limit("web", rate, burst, floor, false)];
        let mut fleet = Fleet::new(members, Timing::DEFAULT, limits);
        fleet.ticks(30);
        fleet.holds_writes = true;
        let newcomer = member(9);
        for _ in 0..30 {
            fleet
                .leader
                .handle(Input::Join(newcomer.clone()), fleet.now);
            fleet.tick();
        }
        assert!(
            fleet.writing.contains(&newcomer.node),
            "{rate}/s, {members} members"
        );
    }
}

#[test]
fn a_limit_that_is_lowered_by_very_little_is_promised_all_the_same() {
    let of_rate = |rate| vec![limit("web", rate, 20_000, 15, false)];
    let mut fleet = Fleet::new(2, Timing::DEFAULT, of_rate(100_000));
    fleet.ticks(30);
    let lowered = of_rate(99_700);
    let web = lowered[0].id;
    let held: Vec<_> = fleet
        .nodes
        .values()
        .map(|node| node.held().copied().collect::<Vec<_>>())
        .collect();
    for (follower, held) in fleet.nodes.values_mut().zip(held) {
        follower.set_policy(PolicyVersion(2), held);
    }
    let input = Input::Policy(PolicyVersion(2), policy(lowered));
    fleet.leader.handle(input, fleet.now);
    fleet.ticks(30);
    assert!(fleet.leader.is_promised(web));
}

/// A strict limit with keys, and room for so many members.
fn with_places(max_members: u32) -> Policy {
    let clients = Limit {
        per: Some(Key::default()),
        ..limit("clients", 1_000, 100, 100, true)
    };
    let limits = vec![limit("web", 1_000, 100, 10, false), clients];
    Policy {
        fleet: FleetSettings {
            max_members,
            ..FleetSettings::default()
        },
        ..policy(limits)
    }
}

#[test]
fn a_policy_with_room_for_fewer_than_there_are_waits_until_they_have_left() {
    let mut fleet = Fleet::new(
        3,
        Timing::DEFAULT,
        vec![limit("web", 1_000, 100, 10, false)],
    );
    fleet.ticks(20);
    for follower in fleet.nodes.values_mut() {
        follower.prepare_policy(PolicyVersion(2));
    }
    let prepare = Input::Prepare(PolicyVersion(2), with_places(2));
    fleet.leader.handle(prepare, fleet.now);
    for _ in 0..100 {
        fleet.tick();
        assert_eq!(fleet.leader.policy_version(), PolicyVersion(1));
    }
    let node = NodeId::from_u128(3);
    let remove = Input::Remove {
        node,
        is_powered_off: true,
    };
    fleet.leader.handle(remove, fleet.now);
    fleet.tick();
    assert_eq!(fleet.removed, [node]);
    fleet.cut_off.push(node);
    let outcome = StoreOutcome::Committed;
    let removed = Input::Removed { node, outcome };
    fleet.leader.handle(removed, fleet.now);
    fleet.ticks(100);
    assert_eq!(fleet.leader.policy_version(), PolicyVersion(2));
}

#[test]
fn who_may_go_by_a_policy_with_room_for_fewer_keeps_newcomers_out() {
    let mut fleet = Fleet::new(2, Timing::DEFAULT, vec![]);
    let raise = |fleet: &mut Fleet, version, places| {
        let version = PolicyVersion(version);
        for (node, follower) in &mut fleet.nodes {
            if !fleet.cut_off.contains(node) {
                follower.set_policy(version, []);
            }
        }
        let input = Input::Policy(version, with_places(places));
        fleet.leader.handle(input, fleet.now);
        fleet.ticks(20);
    };
    raise(&mut fleet, 2, 2);
    let third = member(3);
    assert!(fleet.leader.turns_away(third.node));
    // The second host gives a key half of a half for ever.
    let cut_off = NodeId::from_u128(2);
    fleet.cut_off.push(cut_off);
    for version in [3, 4] {
        raise(&mut fleet, version, 2 + version as u32);
        assert!(fleet.leader.pending().eq([cut_off]));
        assert!(fleet.leader.turns_away(third.node), "policy {version}");
    }
    fleet.cut_off.clear();
    raise(&mut fleet, 5, 6);
    assert_eq!(fleet.leader.pending().count(), 0);
    assert!(!fleet.leader.turns_away(third.node));
}

/// Nodes may have keys of a leader before, whatever the policy was meanwhile.
#[test]
fn where_merging_begins_with_a_policy_nothing_is_said_of_hot_keys_at_first() {
    let mut fleet = Fleet::new(
        2,
        Timing::DEFAULT,
        vec![limit("web", 1_000, 100, 10, false)],
    );
    fleet.ticks(20);
    for follower in fleet.nodes.values_mut() {
        follower.set_policy(PolicyVersion(2), []);
    }
    let input = Input::Policy(PolicyVersion(2), with_places(4));
    fleet.leader.handle(input, fleet.now);
    for tick in 0..10 {
        fleet.tick();
        assert!(!fleet.tells_hot, "tick {tick}");
    }
    fleet.ticks(10);
    assert!(fleet.tells_hot);
}

/// A strict limit whose keys are prefixes of this length.
fn with_keys(source_v4: u8) -> Limit {
    Limit {
        per: Some(Key {
            source_v4,
            ..Key::default()
        }),
        ..limit("clients", 1_000, 100, 100, true)
    }
}

/// The key that a source belongs to by such a limit, which wants more than there is.
fn heavy(limit: &Limit) -> HeavyKey {
    let length = limit.per.unwrap().source_v4;
    HeavyKey {
        limit: limit.id,
        key: Prefix::containing([198, 18, 0, 7].into(), length).unwrap(),
        offered: UnitsPerSecond(limit.budget.rate.0 * 4),
    }
}

/// A policy makes the keys of a limit longer or shorter. A source belongs to one key where that is in
/// force already, and to another where it is not, and hot keys share half of the limit.
#[test]
fn a_source_has_one_pool_while_a_policy_gives_its_limit_other_keys() {
    for (before, after) in [(32, 24), (24, 32)] {
        for takes_over in [false, true] {
            let (before, after) = (with_keys(before), with_keys(after));
            let mut fleet = Fleet::new(3, Timing::DEFAULT, vec![before.clone()]);
            fleet.heavy = vec![heavy(&before)];
            fleet.ticks(60);
            let pool = |fleet: &Fleet| -> Amount {
                let keys = [&before, &after].map(|limit| HotKey::new(limit, heavy(limit).key).id);
                let nodes = fleet.nodes.values();
                let held = nodes.flat_map(Follower::held);
                let held = held.filter(|grant| keys.contains(&grant.limit));
                held.map(|grant| grant.effective(fleet.now)).sum()
            };
            assert!(pool(&fleet).rate.0 > before.budget.rate.0 / 2 - 1_000);
            // Two go by the old policy, with most of the pool, until their leases end.
            fleet.cut_off = [2, 3].map(NodeId::from_u128).into();
            fleet.set_policy(PolicyVersion(2), vec![after.clone()]);
            fleet.heavy = vec![heavy(&after)];
            if takes_over {
                let key = HotKey::new(&before, heavy(&before).key);
                fleet.take_over(key, PolicyVersion(2), vec![after.clone()]);
            }
            let mut most = 0;
            for _ in 0..60 {
                fleet.tick();
                most = most.max(pool(&fleet).rate.0);
            }
            assert!(most <= before.budget.rate.0 / 2, "{most} of the pool");
            assert!(
                fleet
                    .leader
                    .hot_keys()
                    .eq([&HotKey::new(&after, heavy(&after).key)])
            );
            assert!(pool(&fleet).rate.0 > before.budget.rate.0 / 4, "in the end");
        }
    }
}
