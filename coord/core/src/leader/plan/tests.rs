//! A leader that remembers what it planned does what one does that plans all of it every time.

use alloc::{format, vec, vec::Vec};

use proptest::prelude::*;
use weir_model::{
    Amount, Cost, HeavyKey, HotKey, Incarnation, Limit, LimitId, Nanos, NodeId, Policy,
    PolicyVersion, Revision, Scale, Term, Units, UnitsPerSecond,
    message::{Ack, FromNode, LimitReport},
    policy::{FleetSettings, Key, Match, Mode, OnExpiry, PartsPerMillion, Promise},
    prefix::Prefix,
};

use crate::{
    commit::{EmbeddedCommit, StoreOutcome},
    follower::{Birth, Command as NodeCommand, Follower},
    leader::{Command, Input, Leader, Mandate, electorate::Electorate, plan::Round},
    record::{MemberRecord, PolicyRecord, TermRecord},
    rules::Rules,
    slots::Derived,
    timing::Timing,
};

const NODES: usize = 5;

/// Something that happens.
#[derive(Clone, Debug)]
enum Event {
    /// Time passes, in milliseconds, and the leader's tick comes.
    Tick(u64),
    /// A node has counted so many tokens more of each limit.
    Report(usize, [u64; 3]),
    /// As many tokens a second of each of three keys.
    Heavy(usize, [u64; 3]),
    /// The leader hears nothing of a node's answers for a while, or hears them again.
    Deafen(usize),
    Drain(usize, bool),
    Remove(usize),
    Join(usize),
    /// The policy has these budgets, in tokens a second; no limit where it is 0.
    Policy([u64; 3]),
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0..NODES;
    let budget = prop_oneof![Just(0_u64), 100_u64..50_000];
    prop_oneof![
        8 => (1_u64..250).prop_map(Event::Tick),
        12 => (node.clone(), prop::array::uniform3(0_u64..3_000))
            .prop_map(|(node, counts)| Event::Report(node, counts)),
        4 => (node.clone(), prop::array::uniform3(0_u64..3_000))
            .prop_map(|(node, offered)| Event::Heavy(node, offered)),
        1 => node.clone().prop_map(Event::Deafen),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, is)| Event::Drain(node, is)),
        1 => node.clone().prop_map(Event::Remove),
        1 => node.prop_map(Event::Join),
        1 => prop::array::uniform3(budget).prop_map(Event::Policy),
    ]
}

/// Of these, number 1 is elastic, and a rate that is a multiple of 3 has finer units.
pub(in crate::leader) fn limit(number: usize, rate: u64) -> Limit {
    let name = format!("limit-{number}");
    let scale = Scale {
        fraction_bits: if rate.is_multiple_of(3) { 12 } else { 10 },
    };
    let amount = |rate: u64, burst: u64| Amount {
        rate: UnitsPerSecond(rate << scale.fraction_bits),
        burst: Units(burst << scale.fraction_bits),
    };
    let is_divisible = number != 2;
    Limit {
        id: LimitId::of(&name),
        name,
        revision: Revision(1),
        matches: Match::default(),
        per: None,
        cost: Cost::Packets,
        overhead_bytes: 0,
        quic: false,
        scale,
        budget: amount(rate, rate / 5 + 10),
        floor: if is_divisible {
            amount(rate / 100, 1)
        } else {
            Amount::ZERO
        },
        smallest_burst: amount(0, 1).burst,
        is_divisible,
        promise: if number == 1 {
            Promise::Elastic
        } else {
            Promise::Strict
        },
        excess: (number == 1).then_some(PartsPerMillion(100_000)),
        on_expiry: OnExpiry::Floor,
        mode: Mode::Enforce,
    }
}

/// A strict limit with keys, or an elastic one.
fn keyed(promise: Promise, rate: u64) -> Limit {
    let limit = limit(if promise == Promise::Strict { 3 } else { 4 }, rate);
    let part = |amount: Amount, parts: u64| Amount {
        rate: UnitsPerSecond(amount.rate.0 / parts),
        burst: Units(amount.burst.0 / parts),
    };
    let parts = if promise == Promise::Strict { 10 } else { 1 };
    Limit {
        per: Some(Key::default()),
        floor: part(limit.budget, parts),
        is_divisible: false,
        promise,
        excess: (promise == Promise::Elastic).then_some(PartsPerMillion(100_000)),
        ..limit
    }
}

fn keys() -> [HotKey; 3] {
    let key = |limit: &Limit, last: u8| {
        let key = Prefix::containing([198, 18, 0, last].into(), 32).unwrap();
        HotKey::new(limit, key)
    };
    let (strict, elastic) = (keyed(Promise::Strict, 900), keyed(Promise::Elastic, 900));
    [key(&strict, 1), key(&strict, 2), key(&elastic, 1)]
}

fn policy(budgets: [u64; 3]) -> Policy {
    let limits = (0..).zip(budgets).filter(|(_, rate)| *rate > 0);
    Policy {
        fleet: FleetSettings {
            max_members: 5,
            ..FleetSettings::default()
        },
        limits: limits
            .map(|(number, rate)| limit(number, rate))
            .chain([keyed(Promise::Strict, 900), keyed(Promise::Elastic, 900)])
            .collect(),
    }
}

fn member(node: usize) -> MemberRecord {
    MemberRecord {
        node: NodeId::from_u128(node as u128),
        name: format!("{node}"),
        weight: 1 + u32::try_from(node).unwrap(),
        floors: Vec::new(),
        is_drained: false,
        is_powered_off: false,
    }
}

/// Two leaders that hear the same; what one of them says is done.
struct Pair {
    leader: Leader<EmbeddedCommit>,
    forgetful: Leader<EmbeddedCommit>,
    followers: Vec<Follower>,
    counts: Vec<[u64; 3]>,
    is_deaf: Vec<bool>,
    version: PolicyVersion,
    now: Nanos,
    /// Or both remember.
    one_forgets: bool,
}

impl Pair {
    fn new() -> Self {
        let now = Nanos(1_000_000_000_000);
        let version = PolicyVersion(1);
        let mandate = Mandate {
            node: NodeId::from_u128(0),
            record: TermRecord {
                term: Term(1),
                ..TermRecord::VACANT
            },
            adopted: None,
            members: (0..NODES - 1).map(member).collect(),
            policy: (version, policy([10_000, 300, 3])),
            in_force: PolicyRecord::settled(version),
        };
        let leader = Leader::new(mandate, Timing::DEFAULT, EmbeddedCommit::default(), now);
        let follower = |node: usize| {
            let birth = Birth {
                node: NodeId::from_u128(node as u128),
                incarnation: Incarnation(1),
                term: Term(1),
                abstains_until: Nanos::ZERO,
            };
            Follower::new(birth, version, [], Rules::ALL)
        };
        Self {
            forgetful: leader.clone(),
            leader,
            followers: (0..NODES).map(follower).collect(),
            counts: vec![[0; 3]; NODES],
            is_deaf: vec![false; NODES],
            version,
            now,
            one_forgets: true,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(ms) => {
                self.now = Nanos(self.now.0 + ms * 1_000_000);
                self.tell(Input::Tick);
            }
            Event::Report(node, more) => {
                for (count, more) in self.counts[node].iter_mut().zip(more) {
                    *count += more;
                }
                let count = |(number, count): (usize, &u64)| LimitReport {
                    limit: limit(number, 1).id,
                    offered: *count,
                    admitted: *count / 2,
                    dropped: *count - *count / 2,
                    ..LimitReport::default()
                };
                let mut counts: Vec<_> = (0..).zip(&self.counts[node]).map(count).collect();
                for hot in self.followers[node].hot() {
                    counts.push(LimitReport {
                        limit: hot.id,
                        ..counts[0]
                    });
                }
                let report = self.followers[node].report(self.now, &counts);
                self.tell(Input::FromNode(FromNode::Report(report)));
            }
            Event::Heavy(node, offered) => {
                let mut report = self.followers[node].report(self.now, &[]);
                let heavy = keys()
                    .into_iter()
                    .zip(offered)
                    .map(|(hot, offered)| HeavyKey {
                        limit: hot.limit,
                        key: hot.key,
                        offered: UnitsPerSecond(offered << 10),
                    });
                report.heavy = heavy.filter(|heavy| heavy.offered.0 > 0).collect();
                self.tell(Input::FromNode(FromNode::Report(report)));
            }
            Event::Deafen(node) => self.is_deaf[node] ^= true,
            Event::Drain(node, is_drained) => {
                let node = member(node).node;
                self.tell(Input::Drain { node, is_drained });
            }
            Event::Remove(node) => self.tell(Input::Remove {
                node: member(node).node,
                is_powered_off: false,
            }),
            Event::Join(node) => self.tell(Input::Join(member(node))),
            Event::Policy(budgets) => {
                self.version = PolicyVersion(self.version.0 + 1);
                for follower in &mut self.followers {
                    follower.set_policy(self.version, []);
                }
                self.tell(Input::Policy(self.version, policy(budgets)));
            }
        }
    }

    fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            if self.one_forgets {
                self.forget();
            }
            self.leader.handle(input.clone(), self.now);
            self.forgetful.handle(input, self.now);
            loop {
                let command = self.leader.poll_command();
                assert_eq!(command, self.forgetful.poll_command());
                let Some(command) = command else { break };
                self.perform(command, &mut inputs);
            }
        }
    }

    fn forget(&mut self) {
        self.forgetful.round.0.is_other = true;
        self.forgetful.awaited = Derived(None);
        for member in self.forgetful.members.values_mut() {
            member.rows = Derived(None);
            member.has_floors = Derived(None);
            member.needs_review = Derived(true);
        }
    }

    fn perform(&mut self, command: Command, inputs: &mut Vec<Input>) {
        let outcome = StoreOutcome::Committed;
        match command {
            Command::Send { to, message } => {
                let node = (0..NODES).find(|node| member(*node).node == to).unwrap();
                let follower = &mut self.followers[node];
                follower.handle(message, self.now);
                while let Some(command) = follower.poll_command() {
                    match command {
                        NodeCommand::Install {
                            grants,
                            acknowledge,
                        } => follower.installed(&grants, acknowledge, self.now),
                        NodeCommand::Send(message) if !self.is_deaf[node] => {
                            inputs.insert(0, Input::FromNode(message));
                        }
                        _ => {}
                    }
                }
            }
            Command::Admit(record) => inputs.insert(
                0,
                Input::Admitted {
                    node: record.node,
                    outcome,
                },
            ),
            Command::Remove(node) => inputs.insert(0, Input::Removed { node, outcome }),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn what_is_not_planned_anew_would_be_the_same(
        events in prop::collection::vec(event(), 1..150),
    ) {
        let mut pair = Pair::new();
        for event in events {
            pair.happen(event);
        }
    }
}

/// A voter that is silent for ever does not make the leader remember each key that was ever hot.
#[test]
fn pages_of_keys_are_forgotten_although_a_voter_is_silent() {
    let mut pair = Pair::new();
    let pages = |pair: &Pair| pair.leader.book.keys().count();
    let silent = NODES - 2;
    for _ in 0..30 {
        for node in 0..NODES - 1 {
            pair.happen(Event::Report(node, [100; 3]));
            pair.happen(Event::Heavy(node, [3_000, 0, 0]));
        }
        pair.happen(Event::Tick(100));
    }
    assert_eq!(pages(&pair), 1, "it is hot");
    let report = pair.followers[silent].report(pair.now, &[]);
    for leader in [&mut pair.leader, &mut pair.forgetful] {
        leader.electorate = Electorate::new(vec![report.node]);
        leader.electorate.hear(&report, pair.now);
        assert!(leader.electorate.voted(&Ack {
            node: report.node,
            incarnation: report.token.incarnation,
            position: report.seen,
            holds: true,
            votes: true,
        }));
    }
    for _ in 0..60 {
        for node in (0..NODES - 1).filter(|node| *node != silent) {
            pair.happen(Event::Report(node, [0; 3]));
        }
        pair.happen(Event::Tick(100));
    }
    assert_eq!(pages(&pair), 0);
}

#[test]
fn what_is_too_much_at_once_is_planned_in_turn() {
    let mut round = Round {
        most_at_once: 11,
        ..Round::default()
    };
    let mut turn = |due: &[usize]| round.at_once(due.to_vec(), 5);
    let all = [0, 2, 3, 5, 8];
    assert_eq!(turn(&all), [0, 2]);
    assert_eq!(turn(&all), [3, 5]);
    assert_eq!(
        turn(&all),
        [0, 8],
        "in order, and the last is not forgotten"
    );
    assert_eq!(turn(&all), [2, 3]);
    assert_eq!(turn(&[1, 7]), [1, 7], "as many as are planned at once");
    assert_eq!(turn(&[6, 7, 9]), [6, 7]);
    round.most_at_once = 1;
    assert_eq!(round.at_once(all.to_vec(), 5), [8], "at least one");
}

#[test]
fn a_fleet_that_is_planned_in_parts_follows_its_traffic_in_each_limit() {
    let mut pair = Pair::new();
    pair.one_forgets = false;
    for leader in [&mut pair.leader, &mut pair.forgetful] {
        leader.round.0.most_at_once = NODES;
        assert!(leader.is_planned_in_parts());
    }
    for busy in [0, 2, 1] {
        for tick in 0..16 {
            for node in 0..NODES - 1 {
                // It is another one in each tick, so that each limit is always due.
                let more = 2_000 + 300 * (tick % 3);
                let counts = if node == busy { [more; 3] } else { [0; 3] };
                pair.happen(Event::Report(node, counts));
            }
            pair.happen(Event::Tick(100));
        }
        for (number, budget) in [(0, 10_000), (1, 300)] {
            let limit = limit(number, budget);
            let latest = pair.leader.book.latest(member(busy).node, limit.id);
            let (held, most) = (latest.amount.rate.0, limit.budget.rate.0);
            assert!(
                held > most / 10 * 8,
                "limit {number} at {busy}: {held} of {most}"
            );
        }
    }
}
