//! A state of the whole fleet, and what can happen in it.

use std::fmt;

use weir_coord_core::{record::TermRecord, rules::Mutation};
use weir_model::{Incarnation, Term, message::ToNode};

use crate::{
    host::{Host, Life},
    invariant::Broken,
    lead::{Write, record},
    scope::{HOSTS_MAX, LEADERS_MAX, Scope, node},
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
    /// How many terms there were.
    pub leaders: u8,
    zookeeper: Part,
    hosts: [Part; HOSTS_MAX],
    leads: [Part; LEADERS_MAX],
    wires: Vec<Part>,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A third of a lease passes.
    Time,
    /// Another host takes over, with this choice of voters.
    TakeOver(u8),
    /// A message arrives.
    Deliver(Part),
    /// It arrives, and the answer is lost.
    Unanswered(Part),
    /// It arrives, and will once more.
    Duplicate(Part),
    /// A stopped daemon goes on.
    GoOn(u8),
    /// A host reports to a leader.
    Report(u8, u8),
    /// A leader's tick.
    Tick(u8),
    /// A write of a leader ends so.
    Write(Part, Outcome),
    /// A daemon crashes and starts.
    Restart(u8),
    /// A host loses power and starts.
    Reboot(u8),
    /// A daemon's session ends, and it makes another one.
    NewSession(u8),
    /// A host reads `term`.
    ReadTerm(u8),
    /// A leader reads the roster.
    ReadRoster(u8),
    /// Traffic moves to this host.
    Hunger(u8),
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
            next: 10,
        };
        Self {
            step: 0,
            hungry: 0,
            used: Used::default(),
            leaders: 0,
            zookeeper: store.zookeeper(zookeeper),
            hosts,
            leads: [0; LEADERS_MAX],
            wires: Vec::new(),
        }
    }

    /// The leaders of all terms.
    pub fn leads(&self) -> impl Iterator<Item = Part> + '_ {
        self.leads[..usize::from(self.leaders)].iter().copied()
    }

    /// The hosts.
    pub fn hosts(&self, scope: &Scope) -> impl Iterator<Item = Part> + '_ {
        self.hosts[..usize::from(scope.hosts)].iter().copied()
    }

    /// What is under way.
    #[must_use]
    pub fn wires(&self) -> &[Part] {
        &self.wires
    }

    /// Everything that can happen.
    pub fn actions(&self, store: &Store, out: &mut Vec<Action>) {
        let scope = &store.scope;
        out.clear();
        if self.step < SETTLING + scope.steps {
            out.push(Action::Time);
        }
        if self.leaders < scope.leaders {
            let choices = 0..scope.voters.len() as u8;
            out.extend(choices.map(Action::TakeOver));
        }
        for wire in &self.wires {
            match store.wires.at(*wire) {
                Wire::Down(_, host, _) => {
                    let host = self.hosts[usize::from(*host)];
                    if store.hosts.at(host).is_stalled() {
                        continue;
                    }
                }
                Wire::Up(..) => {}
                Wire::Write { is_abandoned, .. } => {
                    out.push(Action::Write(*wire, Outcome::Applied));
                    if scope.unknown_outcomes && !is_abandoned {
                        out.push(Action::Write(*wire, Outcome::AppliedUnknown));
                        out.push(Action::Write(*wire, Outcome::LostUnknown));
                        out.push(Action::Write(*wire, Outcome::LateUnknown));
                    }
                    continue;
                }
            }
            out.push(Action::Deliver(*wire));
            if !scope.late_answers {
                out.push(Action::Unanswered(*wire));
            }
            if self.used.duplicates < scope.duplicates {
                out.push(Action::Duplicate(*wire));
            }
        }
        for host in 0..scope.hosts {
            let is_stalled = store.hosts.at(self.hosts[usize::from(host)]).is_stalled();
            if is_stalled {
                out.push(Action::GoOn(host));
            } else {
                out.extend((0..self.leaders).map(|lead| Action::Report(host, lead)));
                if scope.reads_term {
                    out.push(Action::ReadTerm(host));
                }
            }
            if self.used.restarts < scope.restarts {
                out.push(Action::Restart(host));
            }
            if self.used.reboots < scope.reboots {
                out.push(Action::Reboot(host));
            }
            if self.used.sessions < scope.sessions && !is_stalled {
                out.push(Action::NewSession(host));
            }
            if self.used.shifts < scope.shifts && host != self.hungry {
                out.push(Action::Hunger(host));
            }
        }
        for lead in 0..self.leaders {
            out.push(Action::Tick(lead));
            if scope.joins {
                out.push(Action::ReadRoster(lead));
            }
        }
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
                if self.step >= SETTLING + store.scope.steps {
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
                let life = self.new_life(store);
                return self.host_step(host, HostKey::Restarts(life), true, store);
            }
            Action::Reboot(host) => {
                self.used.reboots += 1;
                let life = self.new_life(store);
                return self.host_step(host, HostKey::Reboots(life), true, store);
            }
            Action::NewSession(host) => {
                self.used.sessions += 1;
                let life = self.new_life(store);
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
        let leader = node(index % scope.hosts);
        zookeeper.term =
            zookeeper
                .term
                .successor(leader, String::new(), Term(0), voters, 0);
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
                let stalled = store.hosts.at(self.hosts[usize::from(host)]).is_stalled();
                if stalled {
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
        if lead >= self.leaders || store.hosts.at(part).is_stalled() {
            return None;
        }
        let is_hungry = self.hungry == host;
        if store.scope.late_reports {
            let message = store.hosts.at(part).report(is_hungry, self.step, &store.scope);
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
        let term = store.facts(next.part).term;
        for write in &next.writes {
            let version = match write {
                Write::Admit(record) => {
                    store.zookeepers.at(self.zookeeper).version(record.node)
                }
                Write::DropFormer => 0,
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

    fn new_life(&mut self, store: &mut Store) -> Life {
        let mut zookeeper = store.zookeepers.at(self.zookeeper).clone();
        let life = Life {
            incarnation: Incarnation(zookeeper.next),
            term: zookeeper.term.term,
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
                // Another write came between: nobody knows whether it was this one.
                Write::Admit(_) => known = Outcome::LostUnknown,
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
        if let Write::Admit(record) = write
            && !is_abandoned
        {
            let host = crate::scope::index_of(record.node);
            // It leads for ever, so the leader is there.
            let _ = self.lead_step(lead, LeadKey::Admitted(host, known), store);
        }
    }

    /// What a message is, for people.
    #[must_use]
    pub fn is_down(store: &Store, wire: Part) -> bool {
        matches!(store.wires.at(wire), Wire::Down(_, _, ToNode::Propose(_)))
    }
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} restarts, {} reboots, {} sessions, {} duplicates, {} shifts",
            self.restarts, self.reboots, self.sessions, self.duplicates, self.shifts
        )
    }
}
