//! A host: its kernel, which outlives its daemon, and the daemon around the protocol's core.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use weir_coord_core::{
    campaign::Campaign,
    carry::carried,
    commit::FleetCommit,
    follower::{Command, Follower, Grant},
    leader::Leader,
    news::Omission,
    record::{MemberRecord, TermRecord},
    rules::Rules,
};
use weir_model::{
    Amount, Incarnation, LimitId, Nanos, NodeId, PolicyVersion, Term,
    message::{LimitReport, Position, Report},
};

use crate::{
    kernel::{Clock, Kernel},
    keys::HostKeys,
    limits::Policies,
};

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its identity.
    pub id: NodeId,
    /// Its weight in a division.
    pub weight: u32,
    /// Its boot clock.
    pub clock: Clock,
    /// Its buckets.
    pub kernel: Kernel,
    /// What its disk says: whether the roster had it when it last looked.
    pub is_member: bool,
    /// What its disk says: a leader told it that nothing is its own, and none has granted it anything since.
    pub has_given_up: bool,
    /// What its disk remembers of its floors.
    pub floors: BTreeMap<LimitId, Amount>,
    /// What it enforces.
    pub policy: PolicyVersion,
    /// What it has ready beside it; the same if there is nothing.
    pub prepared: PolicyVersion,
    /// The operator has given their word that it stays off until the roster has lost it.
    pub is_condemned: bool,
    /// What is sent to it, and what it admits, in tokens since it was made, by limit.
    pub counters: Vec<Counters>,
    /// What it has of keys.
    pub keys: HostKeys,
    /// Its daemon, while it runs.
    pub daemon: Option<Daemon>,
    /// Whether the host has power.
    pub is_powered: bool,
    /// How many daemons it has had: what was meant for an earlier one is not for this one.
    pub epoch: u64,
    /// The daemon does nothing until then.
    pub paused_until: Nanos,
    /// The term that the lease in the kernel is of, by limit.
    pub lease_terms: BTreeMap<LimitId, Term>,
    /// The furthest register that any of its daemons took.
    pub recorded: Position,
    /// The latest proposal that this life took and the highest term it promised, with its number.
    pub seen: (Incarnation, Position, Term),
}

/// What one limit counts on one host, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// What arrived.
    pub offered: u64,
    /// What passed.
    pub admitted: u64,
    /// What arrived, exactly.
    pub owed: f64,
    /// What was admitted and offered before this tick.
    pub before: (u64, u64),
}

/// A daemon.
#[derive(Debug)]
pub struct Daemon {
    /// When it started, by the host's clock.
    pub started: Nanos,
    /// Its session, if it has one.
    pub session: Option<u64>,
    /// Which life the session is.
    pub incarnation: Option<Incarnation>,
    /// The protocol's view of this host.
    pub follower: Option<Follower>,
    /// The leader, if it is here.
    pub leader: Option<Leader<FleetCommit>>,
    /// Whether and when to lead.
    pub campaign: Campaign,
    /// What `term` holds, as far as it is known here.
    pub term: Option<TermRecord>,
    /// The members, as far as they are known here.
    pub roster: Arc<Vec<MemberRecord>>,
    /// The policy that ZooKeeper was last heard to have in force, or that it remembers, and the next one.
    pub policies: (PolicyVersion, PolicyVersion),
    /// What it wants `term` to be, from the decision to take over to its end.
    pub bid: Option<Bid>,
    /// No other bid before this.
    pub retry_at: Nanos,
    /// The highest term that anybody refused with.
    pub at_least: Term,
    /// What it was about to do when it was paused, to whom it answers.
    pub stalled: VecDeque<(Command, usize)>,
    /// A watch has fired and is on its way.
    pub is_watching: bool,
    /// What reports to the leader of this term leave out.
    pub omission: (Term, Omission),
}

/// A take-over under way.
#[derive(Clone, Debug)]
pub struct Bid {
    /// Whose candidacy goes with it.
    pub instead_of: Option<NodeId>,
    /// The voters, if they are to be others.
    pub voters: Option<Vec<NodeId>>,
    /// What was written, if it is not known whether it was.
    pub written: Option<TermRecord>,
}

impl Host {
    /// A host that has never run a daemon.
    #[must_use]
    pub fn new(id: NodeId, clock: Clock, limits: usize) -> Self {
        Self {
            id,
            weight: 1,
            clock,
            kernel: Kernel::default(),
            is_member: false,
            has_given_up: false,
            floors: BTreeMap::new(),
            policy: PolicyVersion(1),
            prepared: PolicyVersion(1),
            is_condemned: false,
            counters: vec![Counters::default(); limits],
            keys: HostKeys::default(),
            daemon: None,
            is_powered: true,
            epoch: 0,
            paused_until: Nanos::ZERO,
            lease_terms: BTreeMap::new(),
            recorded: Position::default(),
            seen: (Incarnation(0), Position::default(), Term(0)),
        }
    }

    /// Loses what is not on disk.
    pub fn lose_power(&mut self, policies: &Policies, now: Nanos) {
        self.kernel = Kernel::new(self.kernel.fault);
        self.lose_keys();
        // Somebody who knew it to be off may have removed it meanwhile: no floor before the roster
        // has been read again.
        self.is_member = false;
        self.lease_terms.clear();
        for counters in &mut self.counters {
            *counters = Counters::default();
        }
        let local = self.clock.at(now);
        self.prepare_kernel(policies, local);
    }

    /// Whether it gives strict keys its own part of their budget.
    #[must_use]
    pub const fn gives(&self) -> bool {
        self.is_member && !self.has_given_up
    }

    /// Makes the buckets that are not there yet.
    pub fn prepare_kernel(&mut self, policies: &Policies, local: Nanos) {
        for limit in policies.leased(self.policy) {
            if self.kernel.grant(limit.id).is_none() {
                self.kernel
                    .install(Grant::floor(limit.id, Amount::ZERO), local);
            }
        }
        if self.is_member {
            self.ensure_floors(policies, local);
        }
    }

    /// Writes down which floors the kernel has.
    pub fn remember_floors(&mut self) {
        if self.is_member {
            let grants = self.kernel.grants();
            let grants = grants.filter(|grant| !self.keys.hot.contains_key(&grant.limit));
            self.floors = grants.map(|grant| (grant.limit, grant.floor)).collect();
        }
    }

    /// Gives a limit that holds nothing the floor that it had. A floor that is new, or larger,
    /// comes with a commit.
    pub fn ensure_floors(&mut self, policies: &Policies, local: Nanos) {
        for limit in policies.leased(self.policy) {
            let holds_nothing = self
                .kernel
                .grant(limit.id)
                .is_none_or(|grant| grant.amount == Amount::ZERO && grant.floor == Amount::ZERO);
            let floor = self.floors.get(&limit.id).copied().unwrap_or(Amount::ZERO);
            let floor = floor.min(limit.floor);
            if holds_nothing && floor != Amount::ZERO {
                self.kernel.install(Grant::floor(limit.id, floor), local);
            }
        }
        self.remember_floors();
        let held: Vec<Grant> = self.kernel.grants().collect();
        let follower = self
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.follower.as_mut());
        if let Some(follower) = follower {
            follower.set_policy(self.policy, held);
        }
    }

    /// The roster has it: what it remembers of its floors is good, as far as it is reserved.
    pub fn ensure_reserved_floors(
        &mut self,
        policies: &Policies,
        record: &MemberRecord,
        local: Nanos,
    ) {
        for limit in policies.leased(self.policy) {
            let reserved = record.floor(limit);
            if let Some(floor) = self.floors.get_mut(&limit.id) {
                *floor = floor.min(reserved);
            }
        }
        self.ensure_floors(policies, local);
    }

    /// It is no member any more: nothing is left to it.
    pub fn leave(&mut self, local: Nanos) {
        self.is_member = false;
        self.floors.clear();
        self.heat(&[], local);
        let limits: Vec<LimitId> = self.kernel.grants().map(|grant| grant.limit).collect();
        for limit in limits {
            self.kernel
                .install(Grant::floor(limit, Amount::ZERO), local);
        }
        let held: Vec<Grant> = self.kernel.grants().collect();
        let policy = self.policy;
        let daemon = self.daemon.as_mut();
        if let Some(follower) = daemon.and_then(|daemon| daemon.follower.as_mut()) {
            follower.set_policy(policy, held);
        }
    }

    /// Enforces another policy. The bucket of a limit whose units are others is a new one, and empty; what
    /// is left of its lease is carried over.
    pub fn switch_policy(
        &mut self,
        policies: &Policies,
        version: PolicyVersion,
        local: Nanos,
        rules: Rules,
    ) {
        if version == self.policy {
            return;
        }
        let former = std::mem::replace(&mut self.policy, version);
        self.prepared = former;
        for (before, after) in policies.leased(former).iter().zip(policies.leased(version)) {
            if before.revision != after.revision {
                let held = self.kernel.grant(after.id);
                let left = held.and_then(|held| carried(&held, before, after, local, rules));
                self.kernel.renew(after.id, local);
                self.floors.remove(&after.id);
                match left {
                    Some(left) => {
                        self.kernel.install(left, local);
                    }
                    None => {
                        self.lease_terms.remove(&after.id);
                    }
                }
            }
        }
        self.renew_keys(policies.of(former), policies.of(version), local);
        self.remember_floors();
    }

    /// The report of this tick.
    #[must_use]
    pub fn report(&self, policies: &Policies, local: Nanos) -> Option<Report> {
        let follower = self.daemon.as_ref()?.follower.as_ref()?;
        let counted = policies.leased(self.policy).iter().zip(&self.counters);
        let counted: Vec<LimitReport> = counted
            .map(|(limit, counters)| LimitReport {
                limit: limit.id,
                offered: counters.offered,
                admitted: counters.admitted,
                dropped: counters.offered - counters.admitted,
                ..LimitReport::default()
            })
            .collect();
        Some(follower.report(local, &counted))
    }
}
