//! The oracle: it looks at what kernels hold and admit, in every step, and shares nothing with the
//! protocol but the names of what it looks at.

use std::{collections::BTreeMap, fmt};

use weir_coord_core::timing::DRIFT_PER_MILLE;
use weir_model::{
    Amount, Generation, Nanos, NodeId, Policy, PolicyVersion, Term, Units, UnitsPerSecond,
    message::Position,
};

use crate::{
    figures::Figures,
    limits::{FINEST, Policies, SCALE},
    world::{STEP, Settings, TIMING, World},
};

/// A promise that is broken, or an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub what: &'static str,
    /// When, since the run began, in milliseconds.
    pub at_ms: u64,
    /// What was found.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms: {}", self.what, self.at_ms, self.details)
    }
}

/// The receiver's bucket of one limit: `d = max(0, d − R(1+ρ)·Δt) + n`, and `d ≤ B` always.
///
/// While policies change it is the largest budget of any that is in use; a lower one is promised
/// once the leader says that it is, and from then on it is another bucket.
#[derive(Clone, Copy, Debug)]
struct Receiver {
    /// In the finest units.
    promised: Amount,
    /// The policy that said so.
    policy: PolicyVersion,
    /// The most that ever was.
    highest: Amount,
    /// What all kernels may spend, at most.
    held: Amount,
    level: f64,
    arrived: f64,
}

/// What the oracle knows.
#[derive(Debug)]
pub struct Judge {
    /// The first violation: a run ends with it.
    pub violation: Option<Violation>,
    /// Steps so far.
    pub steps: u64,
    /// What is to be reported.
    pub figures: Figures,
    receivers: Vec<Receiver>,
    leaders: BTreeMap<Term, (usize, u64)>,
    /// When a majority had promised each term.
    begun: BTreeMap<Term, Nanos>,
    committed: BTreeMap<Term, Generation>,
    /// No majority of voters has forgotten the register: then nobody leads by an older policy than
    /// one that was committed (rule 12).
    pub is_remembered: bool,
    committed_policy: PolicyVersion,
    /// What the newest leader's book adds up to, of limits that are above their budgets.
    excess: BTreeMap<usize, (Term, PolicyVersion, Amount)>,
    /// Lowered budgets that came to be promised.
    pub cuts: u64,
}

impl Judge {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(policy: &Policy, settings: &Settings) -> Self {
        let receivers = policy.limits.iter().map(|limit| Receiver {
            promised: limit.budget.rescaled_up(limit.scale, FINEST),
            policy: PolicyVersion(1),
            highest: limit.budget.rescaled_up(limit.scale, FINEST),
            held: Amount::ZERO,
            level: 0.0,
            arrived: 0.0,
        });
        Self {
            violation: None,
            steps: 0,
            figures: Figures::new(settings),
            receivers: receivers.collect(),
            leaders: BTreeMap::new(),
            begun: BTreeMap::new(),
            committed: BTreeMap::new(),
            is_remembered: false,
            committed_policy: PolicyVersion(1),
            excess: BTreeMap::new(),
            cuts: 0,
        }
    }

    /// A leader proposes under a policy: what it allows more than an older one is promised no more. That
    /// may be so again after a leader by the older one, if nobody has committed by the newer.
    pub fn uses(&mut self, policies: &Policies, version: PolicyVersion) {
        if self.is_remembered && version < self.committed_policy {
            let details = format!("policy {version} after {}", self.committed_policy);
            self.blame("rule 12", details);
        }
        for (number, receiver) in self.receivers.iter_mut().enumerate() {
            if version <= receiver.policy {
                continue;
            }
            receiver.policy = version;
            let budget = policies.budget(version, number);
            receiver.promised = receiver.promised.max(budget);
            receiver.highest = receiver.highest.max(budget);
        }
    }

    /// What is in the receiver's bucket of a limit, in tokens.
    #[must_use]
    pub fn level(&self, number: usize) -> f64 {
        self.receivers[number].level
    }

    /// A kernel's grant of a limit has changed.
    pub fn installed(&mut self, number: usize, before: Amount, after: Amount) {
        let receiver = &mut self.receivers[number];
        receiver.held = receiver.held.saturating_sub(before).saturating_add(after);
    }

    /// A leader says that a limit's budget is promised, by this policy.
    fn promises(&mut self, number: usize, budget: Amount, version: PolicyVersion) {
        let receiver = &mut self.receivers[number];
        if receiver.promised != budget && budget.fits(receiver.promised) {
            receiver.promised = budget;
            receiver.policy = version;
            receiver.level = 0.0;
            self.cuts += 1;
        }
    }

    /// What one limit of one host has had in this step.
    pub fn count(&mut self, limit: usize, host: usize, offered: u64, admitted: u64) {
        self.receivers[limit].arrived += admitted as f64;
        if limit == 0 {
            self.figures.count(host, offered, admitted);
        }
    }

    /// I0: one leader process a term.
    pub fn leads(&mut self, term: Term, host: usize, epoch: u64) {
        let known = *self.leaders.entry(term).or_insert((host, epoch));
        if known != (host, epoch) {
            let details = format!("term {term} is led by {known:?} and {:?}", (host, epoch));
            self.blame("I0", details);
        }
    }

    /// A majority has promised.
    pub fn begins(&mut self, term: Term, now: Nanos) {
        self.begun.entry(term).or_insert(now);
    }

    pub(crate) fn blame(&mut self, what: &'static str, details: String) {
        if self.violation.is_none() {
            let at_ms = self.steps * STEP.as_millis() as u64;
            self.violation = Some(Violation {
                what,
                at_ms,
                details,
            });
        }
    }
}

impl World {
    /// After a step: promise 1 as the receiver sees it, I1, I3, I4 and I6.
    pub fn judge_step(&mut self) {
        self.judge.steps += 1;
        let drain = STEP.as_secs_f64() * (1.0 + f64::from(DRIFT_PER_MILLE) / 1_000.0);
        let unit = f64::from(1_u32 << FINEST.fraction_bits);
        for (number, limit) in self.policy.limits.iter().enumerate() {
            let receiver = &mut self.judge.receivers[number];
            let rate = receiver.promised.rate.0 as f64 / unit;
            receiver.level = (receiver.level - rate * drain).max(0.0) + receiver.arrived;
            receiver.arrived = 0.0;
            let (level, burst) = (receiver.level, receiver.promised.burst.0 as f64 / unit);
            if level > burst + 1e-6 {
                let details = format!("{}: {level:.1} in the bucket of {burst}", limit.name);
                self.judge.blame("promise 1", details);
            }
        }
        self.judge_keys();
        self.judge_leaders();
        self.judge_effective();
        self.judge_figures();
    }

    /// I1: what all kernels may spend is at most the budget.
    pub(super) fn judge_effective(&mut self) {
        for (number, limit) in self.policy.limits.iter().enumerate() {
            let mut total = Amount::ZERO;
            for host in self.hosts.iter().filter(|host| host.is_powered) {
                let local = host.clock.at(self.now);
                if let Some(grant) = host.kernel.grant(limit.id) {
                    let effective = grant.effective(local);
                    let scale = self.policies.of(host.policy).limits[number].scale;
                    total = total.saturating_add(effective.rescaled_up(scale, FINEST));
                }
            }
            self.judge.receivers[number].held = total;
            let promised = self.judge.receivers[number].promised;
            if !total.fits(promised) {
                let details = format!("{}: kernels hold {total:?} of {promised:?}", limit.name);
                self.judge.blame("I1", details);
            }
        }
    }

    /// The same, after a grant was installed.
    pub(super) fn judge_installed(&mut self) {
        // Between two steps only installations can raise the sum, and their differences say by how
        // much at most. Only if that is too much it is worth the exact sum.
        self.judge.figures.installs += 1;
        let mut receivers = self.judge.receivers.iter();
        if receivers.any(|receiver| !receiver.held.fits(receiver.promised)) {
            self.judge_effective();
        }
    }

    /// I4: the book of the newest leader adds up. I3: it covers what kernels hold. I6: older leases
    /// have ended.
    fn judge_leaders(&mut self) {
        // A leader of an older term knows nothing of what was granted since.
        let newest = if self.settings.by_zookeeper {
            Some(self.zookeeper.term.term)
        } else {
            self.judge.begun.keys().next_back().copied()
        };
        let mut leaders = self
            .hosts
            .iter()
            .filter_map(|host| host.daemon.as_ref()?.leader.as_ref())
            .filter(|leader| !leader.is_preparing());
        let Some(leader) = leaders.find(|leader| Some(leader.term()) == newest) else {
            return;
        };
        let mut found = None;
        let mut promised = Vec::new();
        let term = leader.term();
        let version = leader.policy_version();
        let limits = self.policies.leased(version);
        let begun = self.judge.begun.get(&term).copied();
        let booked = |node: NodeId, number: usize| {
            let limit = &limits[number];
            leader
                .envelope(node, limit.id)
                .rescaled_up(limit.scale, FINEST)
        };
        for (number, limit) in limits.iter().enumerate() {
            if leader.is_promised(limit.id) {
                promised.push((number, self.policies.budget(version, number)));
            }
            // Above its budget, after a cut, a book may only shrink.
            let before = self.judge.excess.remove(&number);
            if leader.over_budget().any(|id| id == limit.id) {
                let total: Amount = self.hosts.iter().map(|host| booked(host.id, number)).sum();
                // Other units round up, by one for each host.
                let total = total.saturating_sub(self.rounding());
                let is_new = before.is_none_or(|before| (before.0, before.1) != (term, version));
                let budget = self.policies.budget(version, number);
                let has_grown =
                    before.is_some_and(|(_, _, before)| !total.fits(before.max(budget)));
                // Without any cut before, all that can be held fits. Beside floors of who has joined since,
                // a register from before may not: it is all that is left where voters forgot the later ones,
                // and counts until what it grants must have ended.
                let is_adopted = begun.is_some_and(|begun| self.now - begun <= TIMING.wait());
                let is_excused = self.settings.spares > 0 && is_adopted;
                let has_room = !is_excused && self.judge.receivers[number].highest.fits(budget);
                if !total.fits(budget) && (has_room || (!is_new && has_grown)) {
                    found = Some((
                        "I4",
                        format!("the book of {} has grown to {total:?}", limit.name),
                    ));
                }
                self.judge.excess.insert(number, (term, version, total));
            }
        }
        for host in &self.hosts {
            let local = host.clock.at(self.now);
            for (number, limit) in self.policies.leased(host.policy).iter().enumerate() {
                let Some(grant) = host.kernel.grant(limit.id) else {
                    continue;
                };
                let effective = grant.effective(local).rescaled_up(limit.scale, FINEST);
                let booked = booked(host.id, number);
                if !effective.fits(booked) {
                    let details = format!(
                        "{} on {}: {effective:?}, and the book of {term} has {booked:?}",
                        limit.name, host.id
                    );
                    found = Some(("I3", details));
                }
                let lease_term = host.lease_terms.get(&limit.id).copied().unwrap_or(term);
                let is_leased = local < grant.expires && grant.amount != grant.floor;
                let outlives = begun.is_some_and(|begun| self.now - begun > TIMING.wait());
                if is_leased && lease_term < term && outlives {
                    let details = format!("{} on {}: a lease of {lease_term}", limit.name, host.id);
                    found = Some(("I6", details));
                }
            }
        }
        for host in &self.hosts {
            let local = host.clock.at(self.now);
            for key in host.keys.hot.values() {
                let known = self.policies.of(host.policy).hot_limit(key);
                let scale = known.as_ref().map_or(SCALE, |limit| limit.scale);
                let grant = host.kernel.grant(key.id);
                let effective =
                    grant.map(|grant| grant.effective(local).rescaled_up(scale, FINEST));
                // Voters forget floors, and leaders reckon with them.
                let floor = known.map_or(Amount::ZERO, |limit| limit.floor);
                let booked = leader
                    .envelope(host.id, key.id)
                    .rescaled_up(leader.scale(key.id).unwrap_or(FINEST), FINEST)
                    .max(floor.rescaled_up(scale, FINEST));
                if let Some(effective) = effective.filter(|effective| !effective.fits(booked)) {
                    let details = format!(
                        "{} on {}: {effective:?}, and the book of {term} has {booked:?}",
                        key.key, host.id
                    );
                    found = Some(("I3", details));
                }
            }
        }
        for (number, budget) in promised {
            self.judge.promises(number, budget, version);
        }
        if let Some((what, details)) = found {
            self.judge.blame(what, details);
        }
    }

    /// One unit of the coarsest policy for each host, in the finest units.
    fn rounding(&self) -> Amount {
        let units = (self.hosts.len() as u64) << (FINEST.fraction_bits - SCALE.fraction_bits);
        Amount {
            rate: UnitsPerSecond(units),
            burst: Units(units),
        }
    }

    /// I2: committed means that a majority has seen it.
    pub(super) fn judge_commit(&mut self, host: usize, term: Term, committed: Generation) {
        if committed == Generation(0) {
            return;
        }
        let known = self.judge.committed.entry(term).or_default();
        if *known >= committed {
            return;
        }
        *known = committed;
        let daemon = self.hosts[host].daemon.as_ref();
        if let Some(leader) = daemon.and_then(|daemon| daemon.leader.as_ref()) {
            let version = leader.policy_version();
            self.judge.committed_policy = self.judge.committed_policy.max(version);
        }
        self.judge.figures.commit(self.now);
        if self.settings.by_zookeeper {
            return;
        }
        let record = self.hosts[host]
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.term.as_ref());
        let Some(voters) = record
            .filter(|record| record.term == term)
            .map(|record| record.voters.clone())
        else {
            return;
        };
        let position = Position {
            term,
            generation: committed,
        };
        let recorded = voters
            .iter()
            .filter(|voter| self.hosts[self.places[voter]].recorded >= position)
            .count();
        if recorded <= voters.len() / 2 {
            let details = format!("{position:?} is with {recorded} of {} voters", voters.len());
            self.judge.blame("I2", details);
        }
    }

    /// I5: promised and seen never go back within a life.
    pub(super) fn judge_follower(&mut self, host: usize) {
        let place = &mut self.hosts[host];
        let Some(follower) = place
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.follower.as_ref())
        else {
            return;
        };
        let now = (follower.incarnation(), follower.seen(), follower.promised());
        let before = std::mem::replace(&mut place.seen, now);
        if before.0 == now.0 && (before.1 > now.1 || before.2 > now.2) {
            let details = format!("host {host}: {before:?}, then {now:?}");
            self.judge.blame("I5", details);
        }
    }
}
