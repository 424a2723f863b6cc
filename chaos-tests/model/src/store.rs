//! Parts of states, kept once, and what became of them.
//!
//! Two states mostly differ in one host, one leader and a few messages. So a state holds numbers of
//! parts, parts are kept once, and what a part does at an event is worked out once. A part is known
//! by its [fingerprint](crate::fingerprint).

use std::{collections::HashMap, rc::Rc};

use weir_coord_core::{
    commit::StoreOutcome,
    record::{MemberRecord, TermRecord},
};
use weir_model::{
    Amount, Generation, Limit, NodeId, PolicyVersion, Term,
    message::{FromNode, ToNode},
};

use crate::{
    fingerprint::{ByFingerprint, fingerprint},
    host::{self, Host, Life},
    invariant::{self, Broken},
    lead::{self, Asked, Lead, Write},
    scope::{FINEST, LIMIT, Scope, node},
};

/// The number of a part.
pub type Part = u32;

/// Things of one kind.
#[derive(Debug)]
pub struct Arena<T> {
    items: Vec<T>,
    numbers: HashMap<u64, Part, ByFingerprint>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            numbers: HashMap::default(),
        }
    }
}

impl<T> Arena<T> {
    /// The number of what has this fingerprint; it is made if it is new.
    fn number(&mut self, print: u64, make: impl FnOnce() -> T) -> Part {
        let next = Part::try_from(self.items.len()).expect("memory ends before numbers do");
        let number = *self.numbers.entry(print).or_insert(next);
        if number == next {
            self.items.push(make());
        }
        number
    }

    /// What has this number.
    #[must_use]
    pub fn at(&self, part: Part) -> &T {
        &self.items[part as usize]
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// What is under way.
#[derive(Clone, Debug, Hash)]
pub enum Wire {
    /// From a leader to a host.
    Down(u8, u8, ToNode),
    /// From a host to a leader.
    Up(u8, u8, FromNode),
    /// From a leader to ZooKeeper; for a member, with the version of its znode that was read.
    Write {
        /// Which leader asks.
        lead: u8,
        /// In which term.
        term: Term,
        /// For what.
        write: Write,
        /// On which version of the znode.
        version: u64,
        /// Whether the leader has given up waiting for the answer.
        is_abandoned: bool,
    },
}

/// Messages of one class, between the same two, share the bound of what is under way.
pub type Channel = (u8, u8, u8);

impl Wire {
    /// Its class, and between whom it is.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        match self {
            Self::Down(lead, host, _) => (0, *lead, *host),
            Self::Up(host, lead, FromNode::Report(_)) => (2, *lead, *host),
            Self::Up(host, lead, _) => (1, *lead, *host),
            Self::Write { lead, .. } => (3, *lead, 0),
        }
    }
}

/// What ZooKeeper holds.
#[derive(Clone, Debug, Hash)]
pub struct ZooKeeper {
    /// `term`.
    pub term: TermRecord,
    /// `roster`, with the version of each znode, by host.
    pub roster: Vec<(u64, MemberRecord)>,
    /// `policy/current`.
    pub policy: PolicyVersion,
    /// The newest `policy/v_`.
    pub published: PolicyVersion,
    /// The number of the next transaction.
    pub next: u64,
}

impl ZooKeeper {
    /// The version of a member's znode; 0 if there is none.
    #[must_use]
    pub fn version(&self, node: NodeId) -> u64 {
        let found = self.roster.iter().find(|(_, record)| record.node == node);
        found.map_or(0, |(version, _)| *version)
    }

    /// What is reserved for a host, in the [`FINEST`] units.
    #[must_use]
    pub fn reserved(&self, node: NodeId, scope: &Scope) -> Amount {
        let found = self.roster.iter().find(|(_, record)| record.node == node);
        let limit = Limit {
            scale: FINEST,
            ..scope.limit(scope.policies[0])
        };
        found.map_or(Amount::ZERO, |(_, record)| record.floor(&limit))
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> Vec<MemberRecord> {
        self.roster
            .iter()
            .map(|(_, record)| record.clone())
            .collect()
    }
}

/// What the invariants have to know of a leader.
#[derive(Clone, Debug)]
pub struct LeadFacts {
    /// Its term.
    pub term: Term,
    /// Since when it is active.
    pub active_since: Option<u8>,
    /// The latest generation that is committed.
    pub committed: Generation,
    /// Who votes.
    pub voters: Vec<u8>,
    /// The policy that it leads by.
    pub policy: PolicyVersion,
    /// Whether it promises the budget of that.
    pub is_promised: bool,
    /// Whether its book promises too much.
    pub is_over_budget: bool,
    /// Whether it has yet to hear of a policy that the one before led by, and proposes nothing: its book
    /// has what nodes hold by that one, against its own budget and rounded up in its own units.
    pub is_behind: bool,
    /// The most that each host may hold, by its book, in the [`FINEST`] units.
    pub envelopes: Vec<Amount>,
}

/// An event of a host, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// This message arrives.
    Arrives(Part),
    /// It goes on.
    GoesOn,
    /// Its daemon starts again.
    Restarts(Life),
    /// The host does.
    Reboots(Life),
    /// A new life.
    BeginsLife(Life),
    /// It reads `term`.
    Reads(Term),
    /// It has this policy ready.
    Prepares(PolicyVersion),
    /// It reads that this policy is in force.
    ReadsPolicy(PolicyVersion),
    /// It is switched off.
    EndsForGood,
}

/// An event of a leader, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeadKey {
    /// This message arrives.
    Hears(Part),
    /// This host reports now, being hungry or not.
    HearsNow(Part, bool),
    /// A tick.
    Ticks,
    /// It reads this ZooKeeper's roster.
    Reads(Part),
    /// What became of an admission.
    Admitted(u8, Outcome),
    /// What became of a removal.
    Removed(u8, Outcome),
    /// This host is to leave, powered off or not.
    Remove(u8, bool),
    /// This policy is to come into force.
    Prepare(PolicyVersion),
    /// It reads that this policy is in force.
    ReadsPolicy(PolicyVersion),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was applied, and the leader knows.
    Applied,
    /// It was applied, and the leader does not know.
    AppliedUnknown,
    /// It was not applied, and the leader does not know.
    LostUnknown,
    /// The leader does not know, and it is still under way.
    LateUnknown,
}

/// What becomes of a part.
#[derive(Debug)]
pub struct Next {
    /// The part afterwards.
    pub part: Part,
    /// What it sends.
    pub wires: Vec<Part>,
    /// What it writes.
    pub writes: Vec<Write>,
    /// What it broke.
    pub broken: Option<Broken>,
}

/// All parts of one scope.
#[derive(Debug)]
pub struct Store {
    /// The bounds.
    pub scope: Scope,
    /// Hosts.
    pub hosts: Arena<Host>,
    /// Leaders.
    pub leads: Arena<Lead>,
    lead_facts: Vec<LeadFacts>,
    /// What is under way.
    pub wires: Arena<Wire>,
    channels: Vec<Channel>,
    /// ZooKeepers.
    pub zookeepers: Arena<ZooKeeper>,
    host_steps: HashMap<(Part, HostKey, u8), Rc<Next>, ByFingerprint>,
    lead_steps: HashMap<(Part, LeadKey, u8), Rc<Next>, ByFingerprint>,
    births: HashMap<(Part, u8, u8), Rc<Next>, ByFingerprint>,
}

impl Store {
    /// Without any part.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            hosts: Arena::default(),
            leads: Arena::default(),
            lead_facts: Vec::new(),
            wires: Arena::default(),
            channels: Vec::new(),
            zookeepers: Arena::default(),
            host_steps: HashMap::default(),
            lead_steps: HashMap::default(),
            births: HashMap::default(),
        }
    }

    /// How many parts there are.
    #[must_use]
    pub const fn parts(&self) -> usize {
        self.hosts.len() + self.leads.len() + self.wires.len() + self.zookeepers.len()
    }

    /// The number of a host.
    pub fn host(&mut self, host: Host) -> Part {
        self.hosts.number(fingerprint(&host), || host)
    }

    /// The number of a message.
    pub fn wire(&mut self, wire: Wire) -> Part {
        let channel = wire.channel();
        let part = self.wires.number(fingerprint(&wire), || wire);
        if part as usize == self.channels.len() {
            self.channels.push(channel);
        }
        part
    }

    /// The channel of a message.
    #[must_use]
    pub fn channel(&self, wire: Part) -> Channel {
        self.channels[wire as usize]
    }

    /// The number of a ZooKeeper.
    pub fn zookeeper(&mut self, zookeeper: ZooKeeper) -> Part {
        let print = fingerprint(&zookeeper);
        self.zookeepers.number(print, || zookeeper)
    }

    /// What the invariants have to know of a leader.
    #[must_use]
    pub fn facts(&self, lead: Part) -> &LeadFacts {
        &self.lead_facts[lead as usize]
    }

    fn lead(&mut self, lead: Lead) -> Part {
        let print = fingerprint(&lead);
        let facts = LeadFacts {
            term: lead.leader.term(),
            active_since: lead.active_since,
            committed: lead.leader.committed(),
            voters: lead
                .voters
                .iter()
                .copied()
                .map(crate::scope::index_of)
                .collect(),
            policy: lead.leader.policy_version(),
            is_promised: if self.scope.promises_early {
                lead.leader.is_acknowledged(LIMIT)
            } else {
                lead.leader.is_promised(LIMIT)
            },
            is_over_budget: lead.leader.over_budget().next().is_some(),
            is_behind: lead.leader.is_behind(),
            envelopes: (0..self.scope.hosts)
                .map(|host| {
                    let envelope = lead.leader.envelope(node(host), LIMIT);
                    let scale = lead.leader.scale(LIMIT).unwrap_or_default();
                    envelope.rescaled_up(scale, FINEST)
                })
                .collect(),
        };
        let part = self.leads.number(print, || lead);
        if part as usize == self.lead_facts.len() {
            self.lead_facts.push(facts);
        }
        part
    }

    /// What a host does at an event.
    pub fn host_step(&mut self, part: Part, key: HostKey, step: u8) -> Rc<Next> {
        if let Some(known) = self.host_steps.get(&(part, key, step)) {
            return Rc::clone(known);
        }
        let before = self.hosts.at(part);
        let mut host = before.clone();
        let event = match key {
            HostKey::Arrives(wire) => {
                let Wire::Down(lead, _, message) = self.wires.at(wire) else {
                    unreachable!("only what goes down arrives at a host");
                };
                host::Event::Arrives(message, *lead)
            }
            HostKey::GoesOn => host::Event::GoesOn,
            HostKey::Restarts(life) => host::Event::Restarts(life),
            HostKey::Reboots(life) => host::Event::Reboots(life),
            HostKey::BeginsLife(life) => host::Event::BeginsLife(life),
            HostKey::Reads(term) => host::Event::Reads(term),
            HostKey::Prepares(policy) => host::Event::Prepares(policy),
            HostKey::ReadsPolicy(policy) => host::Event::ReadsPolicy(policy),
            HostKey::EndsForGood => host::Event::EndsForGood,
        };
        let sent = host.step(&event, step, &self.scope);
        let broken = invariant::of_a_step(before, &host, &self.scope);
        let index = host.index;
        let part_after = self.host(host);
        let wires = sent
            .into_iter()
            .map(|(lead, message)| self.wire(Wire::Up(index, lead, message)))
            .collect();
        let next = Rc::new(Next {
            part: part_after,
            wires,
            writes: Vec::new(),
            broken,
        });
        self.host_steps.insert((part, key, step), Rc::clone(&next));
        next
    }

    /// What a leader does at an event.
    pub fn lead_step(&mut self, part: Part, key: LeadKey, step: u8) -> Rc<Next> {
        if let Some(known) = self.lead_steps.get(&(part, key, step)) {
            return Rc::clone(known);
        }
        let mut lead = self.leads.at(part).clone();
        let report;
        let event = match key {
            LeadKey::Hears(wire) => {
                let Wire::Up(_, _, message) = self.wires.at(wire) else {
                    unreachable!("only what goes up arrives at a leader");
                };
                lead::Event::Hears(message)
            }
            LeadKey::HearsNow(host, is_hungry) => {
                report = self.hosts.at(host).report(is_hungry, step, &self.scope);
                lead::Event::Hears(&report)
            }
            LeadKey::Ticks => lead::Event::Ticks,
            LeadKey::Reads(zookeeper) => {
                lead::Event::Reads(self.zookeepers.at(zookeeper).members())
            }
            LeadKey::Admitted(host, outcome) => lead::Event::Admitted(node(host), known(outcome)),
            LeadKey::Removed(host, outcome) => lead::Event::Removed(node(host), known(outcome)),
            LeadKey::Remove(host, is_off) => lead::Event::Remove(node(host), is_off),
            LeadKey::Prepare(version) => lead::Event::Prepare(version),
            LeadKey::ReadsPolicy(version) => lead::Event::ReadsPolicy(version),
        };
        let asked = lead.step(&event, step, &self.scope);
        let next = Rc::new(self.led(lead, asked));
        self.lead_steps.insert((part, key, step), Rc::clone(&next));
        next
    }

    /// The leader of the term that this ZooKeeper holds.
    pub fn lead_birth(&mut self, zookeeper: Part, index: u8, step: u8) -> Rc<Next> {
        if let Some(known) = self.births.get(&(zookeeper, index, step)) {
            return Rc::clone(known);
        }
        let held = self.zookeepers.at(zookeeper);
        let (lead, asked) = Lead::new(
            index,
            &held.term,
            held.members(),
            held.policy,
            step,
            &self.scope,
        );
        let next = Rc::new(self.led(lead, asked));
        self.births
            .insert((zookeeper, index, step), Rc::clone(&next));
        next
    }

    fn led(&mut self, lead: Lead, asked: Vec<Asked>) -> Next {
        let index = lead.index;
        let part = self.lead(lead);
        let mut next = Next {
            part,
            wires: Vec::new(),
            writes: Vec::new(),
            broken: None,
        };
        for asked in asked {
            match asked {
                Asked::Send(host, message) => {
                    next.wires.push(self.wire(Wire::Down(index, host, message)));
                }
                Asked::Write(write) => next.writes.push(write),
            }
        }
        next
    }
}

/// What a leader gets to know.
const fn known(outcome: Outcome) -> StoreOutcome {
    match outcome {
        Outcome::Applied => StoreOutcome::Committed,
        _ => StoreOutcome::Unknown,
    }
}
