//! The host's side: the kernel's maps, the follower that decides what goes into them, and the
//! policy that they enforce.

use std::{collections::BTreeMap, time::Instant};

use tracing::{error, info, warn};
use weir_coord_core::follower::{Command, Follower, Grant};
use weir_model::{
    Amount, Incarnation, LimitId, Nanos, NodeId, Policy, PolicyVersion, Term, file,
    message::{FromNode, LimitReport, Position, ToNode},
    policy::Promise,
};

use super::memory::Memory;
use crate::dataplane::{self, Dataplane, GrantRequest, InstallOutcome};

/// What this host enforces.
pub struct Enforcement {
    node: NodeId,
    dataplane: Dataplane,
    memory: Memory,
    policy: Option<(PolicyVersion, Policy)>,
    is_member: bool,
    follower: Option<Follower>,
    since: Instant,
}

impl Enforcement {
    /// Takes up what the kernel enforces already, or what was in force when the host last ran.
    pub fn new(node: NodeId, dataplane: Dataplane, memory: Memory) -> Self {
        let mut enforcement = Self {
            node,
            dataplane,
            is_member: memory.is_member(),
            memory,
            policy: None,
            follower: None,
            since: Instant::now(),
        };
        if let Some((version, document)) = enforcement.memory.policy() {
            enforcement.adopt_policy(version, &document);
        }
        enforcement
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<&(PolicyVersion, Policy)> {
        self.policy.as_ref()
    }

    /// Its version; 0 for none.
    pub fn policy_version(&self) -> PolicyVersion {
        self.policy
            .as_ref()
            .map_or(PolicyVersion(0), |(version, _)| *version)
    }

    /// The text that the policy was compiled from.
    pub fn document(&self) -> Option<String> {
        self.memory.policy().map(|(_, document)| document)
    }

    /// The protocol's view of this life; `None` until the node has registered.
    pub fn follower(&self) -> Option<&Follower> {
        self.follower.as_ref()
    }

    /// The kernel's maps.
    pub fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// How long this daemon has run.
    pub fn uptime(&self) -> std::time::Duration {
        self.since.elapsed()
    }

    /// Rule 7, *restart*: a life begins with an incarnation, and with the term that was read after.
    pub fn begin_life(&mut self, incarnation: Incarnation, term: Term) {
        match &mut self.follower {
            Some(follower) => follower.begin_life(incarnation, term),
            None => {
                let held = self.held();
                let version = self.policy_version();
                self.follower = Some(Follower::new(self.node, incarnation, term, version, held));
                info!(%incarnation, %term, "registered");
            }
        }
    }

    /// Promises a term that ZooKeeper has.
    pub fn promise(&mut self, term: Term) {
        if let Some(follower) = &mut self.follower {
            follower.promise(term);
        }
    }

    /// Whether the roster has this node, and so reserves its floors.
    pub fn set_member(&mut self, is_member: bool) {
        if is_member != self.is_member {
            info!(is_member, "the roster has changed");
            self.is_member = is_member;
            self.memory.set_member(is_member);
        }
        if is_member {
            self.ensure_floors();
        }
    }

    /// Enforces another document. A document that this host cannot enforce leaves the one in force.
    pub fn set_policy(&mut self, version: PolicyVersion, document: &str) {
        if version == self.policy_version() {
            return;
        }
        if self.adopt_policy(version, document) {
            self.memory.set_policy(version, document);
        }
    }

    fn adopt_policy(&mut self, version: PolicyVersion, document: &str) -> bool {
        let policy = match file::parse(document) {
            Ok(policy) => policy,
            Err(problems) => {
                for problem in problems {
                    error!(%version, "the limits document has a problem: {problem}");
                }
                return false;
            }
        };
        if let Err(error) = self.dataplane.activate(&policy, version) {
            error!(%version, %error, "the policy cannot be enforced here; keeping the last one");
            return false;
        }
        info!(%version, limits = policy.limits.len(), "policy in force");
        self.policy = Some((version, policy));
        if self.is_member {
            self.ensure_floors();
        }
        let held = self.held();
        if let Some(follower) = &mut self.follower {
            follower.set_policy(version, held);
        }
        true
    }

    /// Gives a limit that holds nothing yet its floor, which the roster reserves for this member.
    fn ensure_floors(&mut self) {
        let grants: Vec<Grant> = self
            .strict_limits()
            .filter(|(id, floor)| {
                let bare =
                    |grant: &Grant| grant.floor == Amount::ZERO && grant.amount == Amount::ZERO;
                *floor != Amount::ZERO && self.held_of(*id).is_none_or(|grant| bare(&grant))
            })
            .map(|(id, floor)| Grant::floor(id, floor))
            .collect();
        if !grants.is_empty() {
            self.install(&grants, None);
            let version = self.policy_version();
            let held = self.held();
            if let Some(follower) = &mut self.follower {
                follower.set_policy(version, held);
            }
        }
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
                Command::Install {
                    grants,
                    acknowledge,
                } => self.install(&grants, acknowledge),
            }
        }
    }

    fn install(&mut self, grants: &[Grant], acknowledge: Option<Position>) {
        let requests: Vec<GrantRequest> = grants
            .iter()
            .map(|grant| GrantRequest {
                limit: grant.limit,
                amount: grant.amount,
                floor: grant.floor,
                expires: grant.expires,
            })
            .collect();
        let outcomes = match self.dataplane.install(&requests) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                error!(%error, "grants could not be installed; the kernel keeps what it has");
                return;
            }
        };
        let mut installed = Vec::with_capacity(grants.len());
        for (grant, outcome) in grants.iter().zip(&outcomes) {
            match outcome {
                InstallOutcome::Installed { .. } => installed.push(*grant),
                outcome => warn!(limit = %grant.limit, ?outcome, "the kernel refused a grant"),
            }
        }
        // Only what the kernel has is acknowledged; the rest comes again with the next proposal.
        let acknowledge = acknowledge.filter(|_| installed.len() == grants.len());
        if let Some(follower) = &mut self.follower {
            follower.installed(&installed, acknowledge);
        }
    }

    /// This tick's report; `None` before the node has registered.
    pub fn report(&self) -> Option<FromNode> {
        let follower = self.follower.as_ref()?;
        let now = dataplane::now();
        Some(FromNode::Report(follower.report(now, &self.counters())))
    }

    fn counters(&self) -> Vec<LimitReport> {
        let counters = match self.dataplane.counters() {
            Ok(counters) => counters,
            Err(error) => {
                error!(%error, "counters could not be read");
                return Vec::new();
            }
        };
        let strict: BTreeMap<LimitId, Amount> = self.strict_limits().collect();
        counters
            .limits
            .iter()
            .filter(|counted| strict.contains_key(&counted.limit))
            .map(|counted| LimitReport {
                limit: counted.limit,
                offered: counted.offered_tokens(),
                admitted: counted.admitted_tokens(),
                dropped: counted.dropped_tokens(),
                ..LimitReport::default()
            })
            .collect()
    }

    fn strict_limits(&self) -> impl Iterator<Item = (LimitId, Amount)> {
        self.policy
            .iter()
            .flat_map(|(_, policy)| &policy.limits)
            .filter(|limit| limit.promise == Promise::Strict)
            .map(|limit| (limit.id, limit.floor))
    }

    fn held(&self) -> Vec<Grant> {
        self.strict_limits()
            .filter_map(|(id, _)| self.held_of(id))
            .collect()
    }

    /// What the kernel holds of a limit; `None` if it does not have it.
    pub fn held_of(&self, limit: LimitId) -> Option<Grant> {
        let held = self.dataplane.held(limit).ok().flatten()?;
        Some(Grant {
            limit,
            amount: held.amount,
            floor: held.floor,
            expires: held.expires,
        })
    }

    /// How much is left of the lease on a limit; `None` if what is held has no end.
    pub fn lease_left(&self, limit: LimitId) -> Option<std::time::Duration> {
        let held = self.held_of(limit)?;
        (held.expires != Nanos::NEVER).then(|| held.expires - dataplane::now())
    }
}
