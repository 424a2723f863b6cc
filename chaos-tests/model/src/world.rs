//! A state of the whole fleet, and what can happen in it.

use weir_coord_core::{
    record::{Candidate, MemberRecord, TermRecord},
    rules::Mutation,
};
use weir_model::{Incarnation, Term};

use crate::{
    action::Action,
    host::{Host, Life},
    invariant::Broken,
    lead::{Write, record},
    scope::{HOSTS_MAX, LEADERS_MAX, Scope, TIMING, index_of, node, place_of, version},
    start::SETTLING,
    store::{HostKey, LeadKey, Outcome, Part, Store, Wire, ZooKeeper},
};

/// What has been used up of what may go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Used {
    /// See [`Scope::restarts`].
    pub restarts: u8,
    /// See [`Scope::reboots`].
    pub reboots: u8,
    /// See [`Scope::sessions`].
    pub sessions: u8,
    /// See [`Scope::duplicates`].
    pub duplicates: u8,
    /// See [`Scope::shifts`].
    pub shifts: u8,
    /// See [`Scope::removals`].
    pub removals: u8,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// What the true clock shows.
    pub step: u8,
    /// Who would use all it got.
    pub hungry: u8,
    /// What has gone wrong so far.
    pub used: Used,
    /// For the invariants: the policy whose budget is promised.
    pub promised: u8,
    /// How many terms there were.
    pub leaders: u8,
    pub(crate) zookeeper: Part,
    pub(crate) hosts: [Part; HOSTS_MAX],
    leads: [Part; LEADERS_MAX],
    pub(crate) wires: Vec<Part>,
}

impl World {
    /// A fleet in which nothing has happened.
    #[must_use]
    pub fn vacant(store: &mut Store) -> Self {
        let scope = store.scope.clone();
        let mut hosts = [0; HOSTS_MAX];
        for index in 0..scope.hosts {
            hosts[usize::from(index)] = store.host(Host::new(index, &scope));
        }
        let zookeeper = ZooKeeper {
            term: TermRecord::VACANT,
            roster: (0..scope.members)
                .map(|host| (1, record(node(host))))
                .collect(),
            policy: version(0),
            published: version(0),
            next: 10,
        };
        Self {
            step: 0,
            hungry: 0,
            used: Used::default(),
            promised: 0,
            leaders: 0,
            zookeeper: store.zookeeper(zookeeper),
            hosts,
            leads: [0; LEADERS_MAX],
            wires: Vec::new(),
        }
    }

    /// Whether the clock advances no more.
    #[must_use]
    pub const fn is_last_step(&self, scope: &Scope) -> bool {
        self.step >= SETTLING + scope.steps
    }

    /// The leaders of all terms.
    pub fn leads(&self) -> impl Iterator<Item = Part> + '_ {
        self.leads[..usize::from(self.leaders)].iter().copied()
    }

    /// The hosts.
    pub fn hosts(&self, scope: &Scope) -> impl Iterator<Item = Part> + '_ {
        self.hosts[..usize::from(scope.hosts)].iter().copied()
    }

    /// What ZooKeeper holds.
    #[must_use]
    pub fn zookeeper<'a>(&self, store: &'a Store) -> &'a ZooKeeper {
        store.zookeepers.at(self.zookeeper)
    }

    /// What is under way.
    #[must_use]
    pub fn wires(&self) -> &[Part] {
        &self.wires
    }

    /// The state after an action; `None` if it cannot happen here. An invariant of the action
    /// itself may be broken; those of the state are looked at elsewhere.
    pub fn after(&self, action: Action, store: &mut Store) -> Option<(Self, Option<Broken>)> {
        let mut next = self.clone();
        let broken = next.perform(action, store)?;
        Some((next, broken))
    }

    fn perform(&mut self, action: Action, store: &mut Store) -> Option<Option<Broken>> {
        match action {
            Action::Time => {
                if self.is_last_step(&store.scope) {
                    return None;
                }
                self.step += 1;
            }
            Action::TakeOver(choice) => {
                if self.leaders >= store.scope.leaders {
                    return None;
                }
                self.take_over(choice, store);
            }
            Action::Deliver(wire) => {
                self.remove(wire)?;
                return self.deliver(wire, true, store);
            }
            Action::Unanswered(wire) => {
                self.remove(wire)?;
                return self.deliver(wire, false, store);
            }
            Action::Duplicate(wire) => {
                self.wires.iter().find(|known| **known == wire)?;
                self.used.duplicates += 1;
                return self.deliver(wire, true, store);
            }
            Action::GoOn(host) => return self.host_step(host, HostKey::GoesOn, true, store),
            Action::Report(host, lead) => self.report(host, lead, store)?,
            Action::Tick(lead) => self.lead_step(lead, LeadKey::Ticks, store)?,
            Action::Write(wire, outcome) => {
                self.remove(wire)?;
                self.write(wire, outcome, store);
            }
            Action::Restart(host) => {
                self.used.restarts += 1;
                let life = self.new_life(host, store);
                return self.host_step(host, HostKey::Restarts(life), true, store);
            }
            Action::Reboot(host) => {
                self.used.reboots += 1;
                let life = self.new_life(host, store);
                return self.host_step(host, HostKey::Reboots(life), true, store);
            }
            Action::NewSession(host) => {
                self.used.sessions += 1;
                let life = self.new_life(host, store);
                return self.host_step(host, HostKey::BeginsLife(life), true, store);
            }
            Action::ReadTerm(host) => {
                let term = store.zookeepers.at(self.zookeeper).term.term;
                return self.host_step(host, HostKey::Reads(term), true, store);
            }
            Action::ReadRoster(lead) => {
                let key = LeadKey::Reads(self.zookeeper);
                self.lead_step(lead, key, store)?;
            }
            Action::Hunger(host) => {
                self.used.shifts += 1;
                self.hungry = host;
            }
            Action::Publish => {
                let mut zookeeper = store.zookeepers.at(self.zookeeper).clone();
                let next = place_of(zookeeper.published) + 1;
                if usize::from(next) >= store.scope.policies.len() {
                    return None;
                }
                zookeeper.published = version(next);
                self.zookeeper = store.zookeeper(zookeeper);
            }
            Action::PrepareHost(host) => {
                let policy = store.zookeepers.at(self.zookeeper).published;
                return self.host_step(host, HostKey::Prepares(policy), true, store);
            }
            Action::HostReadsPolicy(host) => {
                let policy = store.zookeepers.at(self.zookeeper).policy;
                return self.host_step(host, HostKey::ReadsPolicy(policy), true, store);
            }
            Action::PrepareLead(lead) => {
                let policy = store.zookeepers.at(self.zookeeper).published;
                self.lead_step(lead, LeadKey::Prepare(policy), store)?;
            }
            Action::LeadReadsPolicy(lead) => {
                let policy = store.zookeepers.at(self.zookeeper).policy;
                self.lead_step(lead, LeadKey::ReadsPolicy(policy), store)?;
            }
            Action::Remove(lead, host) => {
                let is_off = store.hosts.at(self.hosts[usize::from(host)]).is_off;
                if !is_off {
                    self.used.removals += 1;
                }
                self.lead_step(lead, LeadKey::Remove(host, is_off), store)?;
            }
            Action::SwitchOff(host) => {
                self.used.removals += 1;
                return self.host_step(host, HostKey::EndsForGood, true, store);
            }
        }
        Some(None)
    }

    fn remove(&mut self, wire: Part) -> Option<()> {
        let place = self.wires.iter().position(|known| *known == wire)?;
        self.wires.remove(place);
        Some(())
    }

    /// Rule 6: the conditional write of `term`, and the roster read after it.
    fn take_over(&mut self, choice: u8, store: &mut Store) {
        let scope = &store.scope;
        let index = self.leaders;
        let mut zookeeper = store.zookeepers.at(self.zookeeper).clone();
        let voters = scope.voter_set(choice);
        let before = zookeeper.term.term;
        let candidate = Candidate {
            node: node(index % scope.hosts),
            address: String::new(),
            lease: TIMING.lease,
            is_voted: true,
        };
        zookeeper.term = zookeeper.term.successor(candidate, Term(0), voters, 0);
        if scope.rules.breaks(Mutation::TermReused) && before > Term(0) {
            zookeeper.term.term = before;
        }
        self.zookeeper = store.zookeeper(zookeeper);
        let next = store.lead_birth(self.zookeeper, index, self.step);
        self.leads[usize::from(index)] = next.part;
        self.leaders += 1;
        self.send(&next.wires, store);
    }

    fn deliver(&mut self, wire: Part, is_heard: bool, store: &mut Store) -> Option<Option<Broken>> {
        match *store.wires.at(wire) {
            Wire::Down(_, host, _) => {
                let place = store.hosts.at(self.hosts[usize::from(host)]);
                if place.is_stalled() || place.is_off {
                    return None;
                }
                self.host_step(host, HostKey::Arrives(wire), is_heard, store)
            }
            Wire::Up(_, lead, _) => {
                self.lead_step(lead, LeadKey::Hears(wire), store)?;
                Some(None)
            }
            Wire::Write { .. } => None,
        }
    }

    fn report(&mut self, host: u8, lead: u8, store: &mut Store) -> Option<()> {
        let part = self.hosts[usize::from(host)];
        let place = store.hosts.at(part);
        if lead >= self.leaders || place.is_stalled() || place.is_off {
            return None;
        }
        let is_hungry = self.hungry == host;
        if store.scope.late_reports {
            let message = store
                .hosts
                .at(part)
                .report(is_hungry, self.step, &store.scope);
            let wire = store.wire(Wire::Up(host, lead, message));
            self.send(&[wire], store);
            return Some(());
        }
        self.lead_step(lead, LeadKey::HearsNow(part, is_hungry), store)
    }

    fn host_step(
        &mut self,
        host: u8,
        key: HostKey,
        is_heard: bool,
        store: &mut Store,
    ) -> Option<Option<Broken>> {
        let place = &mut self.hosts[usize::from(host)];
        let next = store.host_step(*place, key, self.step);
        *place = next.part;
        if store.scope.late_answers {
            self.send(&next.wires, store);
        } else if is_heard {
            for answer in &next.wires {
                let lead = store.channel(*answer).1;
                self.lead_step(lead, LeadKey::Hears(*answer), store)?;
            }
        }
        Some(next.broken.clone())
    }

    fn lead_step(&mut self, lead: u8, key: LeadKey, store: &mut Store) -> Option<()> {
        if lead >= self.leaders {
            return None;
        }
        let place = &mut self.leads[usize::from(lead)];
        let next = store.lead_step(*place, key, self.step);
        *place = next.part;
        self.send(&next.wires, store);
        let facts = store.facts(next.part);
        if facts.is_promised {
            self.promised = self.promised.max(place_of(facts.policy));
        }
        let term = facts.term;
        for write in &next.writes {
            let version = match write {
                Write::Admit(MemberRecord { node, .. }) | Write::Remove(node) => {
                    store.zookeepers.at(self.zookeeper).version(*node)
                }
                Write::DropFormer | Write::Activate(_) => 0,
            };
            let wire = store.wire(Wire::Write {
                lead,
                term,
                write: write.clone(),
                version,
                is_abandoned: false,
            });
            self.send(&[wire], store);
        }
        Some(())
    }

    /// Puts messages under way. A full channel loses its oldest.
    fn send(&mut self, sent: &[Part], store: &Store) {
        for wire in sent {
            if self.wires.contains(wire) {
                continue;
            }
            let channel = store.channel(*wire);
            let capacity = match channel.0 {
                2 => 1,
                3 => usize::from(store.scope.hosts) + 1,
                _ => usize::from(store.scope.capacity),
            };
            let place = self
                .wires
                .partition_point(|known| store.channel(*known) <= channel);
            self.wires.insert(place, *wire);
            let first = self
                .wires
                .partition_point(|known| store.channel(*known) < channel);
            if place + 1 - first > capacity {
                self.wires.remove(first);
            }
        }
    }

    fn new_life(&mut self, host: u8, store: &mut Store) -> Life {
        let mut zookeeper = store.zookeepers.at(self.zookeeper).clone();
        let life = Life {
            incarnation: Incarnation(zookeeper.next),
            term: zookeeper.term.term,
            reserved: zookeeper.reserved(node(host), &store.scope),
        };
        zookeeper.next += 1;
        self.zookeeper = store.zookeeper(zookeeper);
        life
    }

    fn write(&mut self, wire: Part, outcome: Outcome, store: &mut Store) {
        let Wire::Write {
            lead,
            term,
            write,
            version,
            is_abandoned,
        } = store.wires.at(wire).clone()
        else {
            return;
        };
        let mut zookeeper = store.zookeepers.at(self.zookeeper).clone();
        let is_applied = matches!(outcome, Outcome::Applied | Outcome::AppliedUnknown);
        let mut known = outcome;
        if is_applied && zookeeper.term.term == term {
            match &write {
                Write::DropFormer => zookeeper.term.former.clear(),
                Write::Admit(record) if zookeeper.version(record.node) == version => {
                    let version = zookeeper.next;
                    zookeeper.next += 1;
                    let roster = &mut zookeeper.roster;
                    roster.retain(|(_, member)| member.node != record.node);
                    roster.push((version, record.clone()));
                    roster.sort_by_key(|(_, member)| member.node);
                }
                Write::Remove(node) if [0, version].contains(&zookeeper.version(*node)) => {
                    zookeeper.roster.retain(|(_, member)| member.node != *node);
                }
                Write::Activate(policy) => zookeeper.policy = zookeeper.policy.max(*policy),
                // Another write came between: nobody knows whether it was this one.
                Write::Admit(_) | Write::Remove(_) => known = Outcome::LostUnknown,
            }
        } else if is_applied {
            // The fence refuses it, and a leader that is told so stops. This one does not.
            return;
        }
        self.zookeeper = store.zookeeper(zookeeper);
        if outcome == Outcome::LateUnknown {
            let late = store.wire(Wire::Write {
                lead,
                term,
                write: write.clone(),
                version,
                is_abandoned: true,
            });
            self.send(&[late], store);
        }
        let key = match write {
            _ if is_abandoned => return,
            Write::Admit(record) => LeadKey::Admitted(index_of(record.node), known),
            Write::Remove(node) => LeadKey::Removed(index_of(node), known),
            Write::Activate(_) | Write::DropFormer => return,
        };
        // It leads for ever, so the leader is there.
        let _ = self.lead_step(lead, key, store);
    }
}
