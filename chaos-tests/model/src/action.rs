//! What can happen in a state.

use crate::{
    scope::{place_of, version},
    store::{Outcome, Part, Store, Wire},
    world::World,
};

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
    /// The operator publishes the next policy.
    Publish,
    /// A host has the newest policy ready.
    PrepareHost(u8),
    /// A leader hears of the newest policy.
    PrepareLead(u8),
    /// A host reads which policy is in force.
    HostReadsPolicy(u8),
    /// A leader does.
    LeadReadsPolicy(u8),
    /// The operator asks a leader to remove a host, which goes on or is off.
    Remove(u8, u8),
    /// A host is switched off for good.
    SwitchOff(u8),
}

impl World {
    /// Everything that can happen.
    pub fn actions(&self, store: &Store, out: &mut Vec<Action>) {
        let scope = &store.scope;
        out.clear();
        self.operations(store, out);
        if !self.is_last_step(scope) {
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
                    let host = store.hosts.at(host);
                    if host.is_stalled() || host.is_off {
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
            let place = store.hosts.at(self.hosts[usize::from(host)]);
            if place.is_off {
                continue;
            }
            let is_stalled = place.is_stalled();
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

    /// What operators do, and what comes of it.
    fn operations(&self, store: &Store, out: &mut Vec<Action>) {
        let scope = &store.scope;
        let zookeeper = store.zookeepers.at(self.zookeeper);
        if scope.policies.len() > 1 {
            if usize::from(place_of(zookeeper.published)) + 1 < scope.policies.len() {
                out.push(Action::Publish);
            }
            for host in 0..scope.hosts {
                let place = store.hosts.at(self.hosts[usize::from(host)]);
                if place.follower.prepared() < zookeeper.published
                    && place.policy < zookeeper.published
                {
                    out.push(Action::PrepareHost(host));
                }
                // What was decided is done before anything else is looked at.
                if place.policy < zookeeper.policy && !place.is_stalled() {
                    out.push(Action::HostReadsPolicy(host));
                }
            }
            for lead in 0..self.leaders {
                if zookeeper.published > version(0) {
                    out.push(Action::PrepareLead(lead));
                    out.push(Action::LeadReadsPolicy(lead));
                }
            }
        }
        if self.used.removals < scope.removals {
            for host in 0..scope.hosts {
                out.extend((0..self.leaders).map(|lead| Action::Remove(lead, host)));
                out.push(Action::SwitchOff(host));
            }
        } else if scope.removals > 0 {
            for host in 0..scope.hosts {
                if store.hosts.at(self.hosts[usize::from(host)]).is_off {
                    out.extend((0..self.leaders).map(|lead| Action::Remove(lead, host)));
                }
            }
        }
    }
}
