//! The host's side: the kernel's maps, the follower that decides what goes into them, and the
//! policy that they enforce.

mod own;
mod policy;
#[cfg(test)]
mod tests;
mod trace;

use std::{collections::BTreeMap, time::Duration};

use tracing::{error, info, warn};
use weir_coord::broken;
use weir_coord_core::{
    demand::Rates,
    follower::{Birth, Command, Follower, Grant},
    record::MemberRecord,
};
use weir_model::{
    Amount, HotKey, Incarnation, Limit, LimitId, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, Position, ToNode},
};

use super::{
    memory::{Floor, Memory},
    observation::Observation,
    rates::OwnRates,
};
use crate::dataplane::{self, Dataplane, GrantRequest, InstallOutcome};
use policy::{Ready, Wanted};

/// What this host enforces.
pub struct Enforcement {
    node: NodeId,
    dataplane: Dataplane,
    memory: Memory,
    policy: Option<(PolicyVersion, Policy)>,
    is_member: bool,
    /// What the roster reserves for this node; `None` until it was read, and for a host alone.
    reserved: Option<MemberRecord>,
    ready: Option<Ready>,
    /// A document that is to be ready, and for which there is no room where the host remembers it.
    unready: Option<(PolicyVersion, String)>,
    follower: Option<Follower>,
    wanted: Option<Wanted>,
    rates: OwnRates,
    observation: Observation,
    /// The hot keys as they are to be, if the kernel does not have them so yet.
    hot_wanted: Option<Vec<HotKey>>,
    /// Whether none of them has a larger floor than the policy in force gives it.
    is_lowered: bool,
    /// Whether keys of strict limits may have this host's own part, as far as the roster is concerned.
    may_give: bool,
    /// What a leader has said of it, if it is not remembered yet.
    gives_wanted: Option<bool>,
}

/// When the kernel is told that a lease ends: when it does, in all but a build that breaks that.
fn kernel_expiry(expires: Nanos) -> Nanos {
    const LONG_AFTER: Duration = Duration::from_secs(3_600);
    if broken::leases_are_endless() {
        expires + LONG_AFTER
    } else {
        expires
    }
}

impl Enforcement {
    /// Takes up what the kernel enforces already, or what was in force when the host last ran.
    pub fn new(node: NodeId, dataplane: Dataplane, memory: Memory) -> Self {
        // A daemon that starts goes on. A host that boots may have been taken out of the roster while
        // it had no power, and others have its place.
        let may_give = memory.is_member() && dataplane.active_policy() != PolicyVersion(0);
        let mut enforcement = Self {
            node,
            may_give,
            gives_wanted: None,
            dataplane,
            // What it remembers may be long over: the roster has to say so first. What the kernel
            // holds it goes on holding.
            is_member: false,
            reserved: None,
            ready: None,
            unready: None,
            memory,
            policy: None,
            follower: None,
            wanted: None,
            rates: OwnRates::new(),
            observation: Observation::new(dataplane::now()),
            hot_wanted: None,
            is_lowered: true,
        };
        enforcement.settle_gives();
        if let Some((version, document)) = enforcement.memory.policy() {
            enforcement.adopt_policy(version, &document);
        }
        enforcement
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&(PolicyVersion, Policy)> {
        self.policy.as_ref()
    }

    /// What this host would go by if it were started again, as a document.
    pub fn remembered_policy(&self) -> Option<(PolicyVersion, String)> {
        self.memory.policy()
    }

    /// Its version; 0 for none.
    pub fn policy_version(&self) -> PolicyVersion {
        self.policy
            .as_ref()
            .map_or(PolicyVersion(0), |(version, _)| *version)
    }

    /// The protocol's view of this life; `None` until the node has registered.
    pub fn follower(&self) -> Option<&Follower> {
        self.follower.as_ref()
    }

    /// The kernel's maps.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// Rule 7, *restart*: a life begins with an incarnation, and with the term that was read after.
    /// A daemon that starts abstains as a voter for a while; one that goes on has forgotten nothing.
    pub fn begin_life(&mut self, incarnation: Incarnation, term: Term, abstention: Duration) {
        match &mut self.follower {
            Some(follower) => follower.begin_life(incarnation, term),
            None => {
                let held = self.held();
                let version = self.policy_version();
                let birth = Birth {
                    node: self.node,
                    incarnation,
                    term,
                    abstains_until: dataplane::now() + abstention,
                };
                let mut follower = Follower::new(birth, version, held, broken::rules());
                follower.set_hot(self.dataplane.hot_keys());
                self.follower = Some(follower);
                info!(%incarnation, %term, "registered");
            }
        }
    }

    /// ZooKeeper has said this term. The newest one that it ever said to this node, which is what a life
    /// begins with: ZooKeeper may have been restored from an old backup.
    pub fn know_term(&mut self, term: Term) -> Term {
        self.memory.set_term(term);
        self.memory.term()
    }

    /// Promises a term that ZooKeeper has.
    pub fn promise(&mut self, term: Term) {
        if let Some(follower) = &mut self.follower {
            follower.promise(term);
        }
    }

    /// What the roster reserves for this node; nothing if it is no member.
    pub fn set_member(&mut self, member: Option<&MemberRecord>) {
        self.reserved = member.cloned();
        self.change_membership(member.is_some());
    }

    /// A host alone reserves its floors for itself.
    pub fn set_alone(&mut self) {
        self.change_membership(true);
    }

    fn change_membership(&mut self, is_member: bool) {
        if is_member != self.memory.is_member() {
            info!(is_member, "the roster has changed");
            self.memory.set_member(is_member);
        }
        self.is_member = is_member;
        self.may_give = is_member;
        self.settle_gives();
        if is_member {
            self.ensure_floors();
        } else {
            // An elastic key's page without a grant would drop everything, as no leader sends more.
            self.hot_wanted = Some(Vec::new());
            self.set_hot_keys();
            if let Some(follower) = &mut self.follower {
                follower.set_hot([]);
            }
            self.take_back_floors();
        }
    }

    /// Gives a limit that holds nothing the floor that it had, if the document's is not less: the
    /// roster reserves it for this member. A floor that is new, or that a policy raises, comes with
    /// a commit, when there is room for it and the roster has it.
    fn ensure_floors(&mut self) {
        let grants: Vec<Grant> = self
            .strict_limits()
            .filter(|limit| {
                let held = self.held_of(limit);
                held.amount == Amount::ZERO && held.floor == Amount::ZERO
            })
            .map(|limit| Grant::floor(limit.id, self.reserved_floor(limit)))
            .filter(|grant| grant.floor != Amount::ZERO)
            .collect();
        self.install_outside_protocol(&grants);
        self.remember_floors();
    }

    /// At most what the roster reserves: what this node remembers may have been given up since.
    fn reserved_floor(&self, limit: &Limit) -> Amount {
        let remembered = self.remembered_floor(limit);
        match &self.reserved {
            Some(member) => remembered.min(member.floor(limit)),
            None => remembered,
        }
    }

    fn remembered_floor(&self, limit: &Limit) -> Amount {
        match self.memory.floors().get(&limit.id) {
            // One that is new, or larger, comes with a commit: the roster has to reserve it first.
            None => Amount::ZERO,
            Some(floor) if floor.cost == limit.cost => floor
                .amount
                .rescaled_down(floor.scale, limit.scale)
                .min(limit.floor),
            Some(_) => Amount::ZERO,
        }
    }

    /// Nothing is reserved for a node that is no member.
    fn take_back_floors(&mut self) {
        let grants: Vec<Grant> = self
            .held()
            .into_iter()
            .filter(|held| held.amount != Amount::ZERO || held.floor != Amount::ZERO)
            .map(|held| Grant {
                amount: Amount::ZERO,
                floor: Amount::ZERO,
                expires: Nanos::ZERO,
                ..held
            })
            .collect();
        self.install_outside_protocol(&grants);
        self.memory.set_floors(BTreeMap::new());
    }

    fn install_outside_protocol(&mut self, grants: &[Grant]) {
        if !grants.is_empty() {
            self.install(grants, None);
            self.read_back();
        }
    }

    /// Has the protocol begin anew from what the kernel holds.
    fn read_back(&mut self) {
        let version = self.policy_version();
        let held = self.held();
        if let Some(follower) = &mut self.follower {
            follower.set_policy(version, held);
        }
    }

    fn remember_floors(&mut self) {
        let floors = self
            .strict_limits()
            .map(|limit| {
                let amount = self.held_of(limit).floor;
                (
                    limit.id,
                    Floor {
                        cost: limit.cost,
                        scale: limit.scale,
                        amount,
                    },
                )
            })
            .collect();
        self.memory.set_floors(floors);
    }

    /// A message of whoever leads. What is to be said in return is handed to `reply`.
    pub fn receive(&mut self, message: ToNode, mut reply: impl FnMut(FromNode)) {
        let Some(follower) = &mut self.follower else {
            return;
        };
        follower.handle(message, dataplane::now());
        while let Some(command) = self.follower.as_mut().and_then(Follower::poll_command) {
            match command {
                Command::Send(message) => reply(message),
                Command::Enforce(version) => self.enforce(version),
                Command::Heat(hot) => {
                    self.hot_wanted = Some(hot);
                    self.set_hot_keys();
                }
                Command::Give(gives) => {
                    self.gives_wanted = Some(gives);
                    self.settle_gives();
                }
                Command::Install {
                    grants,
                    acknowledge,
                } => self.install(&grants, acknowledge),
            }
        }
    }

    /// Tells the kernel which keys are hot, if it does not know.
    fn set_hot_keys(&mut self) {
        let Some(hot) = &self.hot_wanted else {
            return;
        };
        match self.dataplane.set_hot_keys(hot) {
            Ok(()) => self.hot_wanted = None,
            Err(error) => error!(%error, "hot keys could not be set; it is tried again"),
        }
    }

    /// Has the kernel take these, and returns those that it took; `None` if that is not known.
    fn put(&mut self, grants: &[Grant]) -> Option<Vec<Grant>> {
        let requests: Vec<GrantRequest> = grants
            .iter()
            .map(|grant| GrantRequest {
                limit: grant.limit,
                amount: grant.amount,
                floor: grant.floor,
                expires: kernel_expiry(grant.expires),
            })
            .collect();
        let outcomes = match self.dataplane.install(&requests) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                error!(%error, "grants could not be installed; some may have been");
                return None;
            }
        };
        let mut installed = Vec::with_capacity(grants.len());
        for (grant, outcome) in grants.iter().zip(&outcomes) {
            match outcome {
                InstallOutcome::Installed { .. } => installed.push(*grant),
                outcome => warn!(limit = %grant.limit, ?outcome, "the kernel refused a grant"),
            }
        }
        Some(installed)
    }

    fn install(&mut self, grants: &[Grant], acknowledge: Option<Position>) {
        self.set_hot_keys();
        let has_settled = self.settle_gives();
        let has_lowered = self.lower_keys();
        let Some(installed) = self.put(grants) else {
            self.read_back();
            return;
        };
        // Only what the kernel has is acknowledged; the rest comes again with the next proposal.
        let has_keys = self.hot_wanted.is_none() && has_lowered;
        let is_all = installed.len() == grants.len() && has_keys && has_settled;
        let acknowledge = acknowledge.filter(|_| is_all);
        if let Some(follower) = &mut self.follower {
            follower.installed(&installed, acknowledge, dataplane::now());
        }
        let remembered = self.memory.floors();
        let policy = self.policy.as_ref().map(|(_, policy)| policy);
        // What a hot key holds only the kernel remembers.
        let is_named = |limit| policy.is_some_and(|policy| policy.limit(limit).is_some());
        let is_known = |grant: &Grant| {
            let floor = remembered.get(&grant.limit);
            floor.is_some_and(|floor| floor.amount == grant.floor) || !is_named(grant.limit)
        };
        if self.is_member && !installed.iter().all(is_known) {
            self.remember_floors();
        }
    }

    /// Looks at what was sampled since the last tick, and does what has to be done now and then.
    pub fn look_around(&mut self) {
        // What could not be saved waits for the next proposal: ten times a second is too often.
        if self.gives_wanted.is_none() {
            self.settle_gives();
        }
        let policy = self.policy.as_ref().map(|(_, policy)| policy);
        self.observation
            .tick(&mut self.dataplane, policy, dataplane::now());
    }

    /// Nobody will look any more: no packet needs to be sampled.
    pub fn stop_looking(&mut self) {
        self.observation.stop(&mut self.dataplane);
    }

    /// What is known from sampled packets.
    pub(super) const fn observation(&self) -> &Observation {
        &self.observation
    }

    /// This tick's report; `None` before the node has registered.
    pub fn report(&mut self) -> Option<FromNode> {
        let now = dataplane::now();
        let hot: Vec<HotKey> = self.dataplane.hot_keys().collect();
        let mut counters = Vec::new();
        if let Some((_, policy)) = &self.policy {
            let count = |limits: &[LimitId]| self.dataplane.count_all(limits);
            counters = self.rates.read(policy, &hot, now, count);
        }
        let mut report = self.follower.as_ref()?.report(now, &counters);
        if let Some((_, policy)) = &self.policy {
            let offered = |id| self.rates.of(id).offered;
            let (seen, leader) = (&mut self.observation, report.seen.term);
            report.heavy = seen.heavy_keys(leader, policy, &hot, offered, now);
        }
        Some(FromNode::Report(report))
    }

    /// What this host counts of a limit, between the two latest readings: the last two ticks for a
    /// limit with a lease, some seconds at most for others.
    pub fn rates(&self, limit: LimitId) -> Rates {
        self.rates.of(limit)
    }

    /// Whether all limits that are shared have a grant that lasts; `None` if none is shared.
    pub fn has_grants(&self, now: Nanos) -> Option<bool> {
        let mut held = self.follower.as_ref()?.held().peekable();
        held.peek()?;
        Some(held.all(|grant| now < grant.expires && grant.expires != Nanos::NEVER))
    }

    fn strict_limits(&self) -> impl Iterator<Item = &Limit> {
        self.policy
            .iter()
            .flat_map(|(_, policy)| &policy.limits)
            .filter(|limit| limit.is_leased())
    }

    /// Of all leased limits, and of hot keys.
    fn held(&self) -> Vec<Grant> {
        let hot = self.policy.iter().flat_map(|(_, policy)| {
            let keys = self.dataplane.hot_keys();
            keys.filter_map(|key| policy.hot_limit(&key))
        });
        let limits = self.strict_limits().map(|limit| self.held_of(limit));
        limits
            .chain(hot.map(|limit| self.held_of(&limit)))
            .collect()
    }

    /// What the kernel holds of a limit of the policy in force. If that cannot be read it counts
    /// as everything, so that whatever is asked of it is installed anew.
    pub fn held_of(&self, limit: &Limit) -> Grant {
        match self.dataplane.held(limit.id) {
            Ok(Some(held)) => Grant {
                limit: limit.id,
                amount: held.amount,
                floor: held.floor,
                expires: held.expires,
            },
            Ok(None) => Grant::floor(limit.id, Amount::ZERO),
            Err(error) => {
                error!(%error, limit = limit.name, "what the kernel holds could not be read");
                Grant::floor(limit.id, limit.budget)
            }
        }
    }
}
