//! A host: the real follower, a kernel that holds grants, and a shell that may be stopped between
//! deciding and installing. Others go on meanwhile and leases end; but one task of a daemon does all of
//! it, so it reads nothing else before it has done what was decided.

use std::collections::{BTreeMap, VecDeque};

use weir_coord_core::{
    carry::carried,
    follower::{Birth, Command, Follower, Grant},
};
use weir_model::{
    Amount, Generation, Incarnation, Nanos, PolicyVersion, Scale, Term,
    message::{FromNode, LimitReport, Position, ToNode},
};

use crate::scope::{FINEST, LIMIT, Pace, Scope, node, version};

/// One host.
#[derive(Clone, Debug, Hash)]
pub struct Host {
    /// Which.
    pub index: u8,
    /// The protocol's view of it.
    pub follower: Follower,
    /// How its clock goes.
    pace: Pace,
    /// Which policy the kernel enforces.
    pub policy: PolicyVersion,
    /// The units of what the kernel holds: those of the policy.
    scale: Scale,
    /// It was switched off for good.
    pub is_off: bool,
    /// What the kernel holds: it survives the daemon.
    pub kernel: Grant,
    /// What was decided and is not done yet, and which leader is answered.
    stalled: VecDeque<(Command, u8)>,
    /// At which step it was switched on, if not long ago. Its clock began anew then.
    booted: Option<u8>,
    /// For the invariants: the term of the last lease in the kernel.
    pub lease_term: Term,
    /// For the invariants: the latest register of each term that any life of it held.
    pub recorded: BTreeMap<Term, Generation>,
}

/// What happens to a host.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A leader's message arrives.
    Arrives(&'a ToNode, u8),
    /// It goes on after a pause.
    GoesOn,
    /// Its daemon crashes and starts again.
    Restarts(Life),
    /// It loses power, and starts again.
    Reboots(Life),
    /// Its daemon goes on in a new life.
    BeginsLife(Life),
    /// It reads `term`.
    Reads(Term),
    /// It compiles a policy, and has it ready.
    Prepares(PolicyVersion),
    /// It reads which policy is in force.
    ReadsPolicy(PolicyVersion),
    /// It is switched off, and never on again.
    EndsForGood,
}

/// What a new life begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    /// Which life.
    pub incarnation: Incarnation,
    /// The term in force.
    pub term: Term,
    /// What the roster reserves for the host, in the [`FINEST`] units.
    pub reserved: Amount,
}

impl Host {
    /// A host that has never heard of a leader.
    #[must_use]
    pub fn new(index: u8, scope: &Scope) -> Self {
        let birth = Birth {
            node: node(index),
            incarnation: Incarnation(u64::from(index) + 1),
            term: Term(0),
            abstains_until: Nanos::ZERO,
        };
        let kernel = Grant::floor(LIMIT, Amount::ZERO);
        Self {
            index,
            follower: Follower::new(birth, version(0), [kernel], scope.rules),
            pace: scope.pace,
            policy: version(0),
            scale: scope.limit_of(version(0)).scale,
            is_off: false,
            kernel,
            stalled: VecDeque::new(),
            booted: None,
            lease_term: Term(0),
            recorded: BTreeMap::new(),
        }
    }

    /// What its boot clock shows.
    #[must_use]
    pub fn clock(&self, step: u8) -> Nanos {
        self.booted.map_or_else(
            || self.pace.host_clock(step),
            |booted| self.pace.boot_clock(step.saturating_sub(booted)),
        )
    }

    /// What its kernel lets it spend, in the [`FINEST`] units.
    #[must_use]
    pub fn effective(&self, step: u8) -> Amount {
        let effective = self.kernel.effective(self.clock(step));
        effective.rescaled_up(self.scale, FINEST)
    }

    /// Whether that is a lease.
    #[must_use]
    pub fn is_leased(&self, step: u8) -> bool {
        let now = self.clock(step);
        now < self.kernel.expires && self.kernel.effective(now) != self.kernel.floor
    }

    /// Whether it is stopped between deciding and installing.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// Something happens. What is returned is sent to the leaders named.
    pub fn step(&mut self, event: &Event<'_>, step: u8, scope: &Scope) -> Vec<(u8, FromNode)> {
        let now = self.clock(step);
        let mut sent = Vec::new();
        match event {
            Event::Arrives(message, from) => {
                self.follower.handle((*message).clone(), now);
                self.remember();
                self.queue(*from);
                self.go_on(!scope.pauses, now, scope, &mut sent);
            }
            Event::GoesOn => {
                self.perform_first(now, scope, &mut sent);
                self.go_on(!scope.pauses, now, scope, &mut sent);
            }
            Event::Restarts(life) => self.restart(*life, step, scope),
            Event::Reboots(life) => {
                let reserved = life.reserved.rescaled_down(FINEST, self.scale);
                let floor = self.kernel.floor.min(reserved);
                self.kernel = Grant::floor(LIMIT, floor);
                self.lease_term = Term(0);
                self.booted = Some(step);
                self.restart(*life, step, scope);
            }
            Event::BeginsLife(life) => self.follower.begin_life(life.incarnation, life.term),
            Event::Reads(term) => self.follower.promise(*term),
            Event::Prepares(policy) => self.follower.prepare_policy(*policy),
            Event::ReadsPolicy(policy) => {
                if *policy > self.policy {
                    self.switch(*policy, now, scope);
                    self.follower.set_policy(*policy, [self.kernel]);
                }
            }
            Event::EndsForGood => {
                self.is_off = true;
                self.stalled.clear();
                self.kernel = Grant::floor(LIMIT, Amount::ZERO);
            }
        }
        sent
    }

    fn restart(&mut self, life: Life, step: u8, scope: &Scope) {
        self.stalled.clear();
        let birth = Birth {
            node: node(self.index),
            incarnation: life.incarnation,
            term: life.term,
            abstains_until: self.clock(step + self.pace.steps_per_lease),
        };
        self.follower = Follower::new(birth, self.policy, [self.kernel], scope.rules);
    }

    fn remember(&mut self) {
        if let Some(Position { term, generation }) = self.follower.recorded() {
            let latest = self.recorded.entry(term).or_default();
            *latest = generation.max(*latest);
        }
    }

    fn queue(&mut self, reply_to: u8) {
        while let Some(command) = self.follower.poll_command() {
            self.stalled.push_back((command, reply_to));
        }
    }

    /// The kernel enforces another policy. If units are others the bucket is a new one, with the floor that
    /// the host had, if the document's is not less, and with what is left of its lease.
    fn switch(&mut self, policy: PolicyVersion, now: Nanos, scope: &Scope) {
        let (before, after) = (scope.limit_of(self.policy), scope.limit_of(policy));
        self.policy = policy;
        self.scale = after.scale;
        if before.scale == after.scale {
            return;
        }
        let floor = self.kernel.floor.rescaled_down(before.scale, after.scale);
        let floor = Grant::floor(LIMIT, floor.min(after.floor));
        let left = carried(&self.kernel, &before, &after, now, scope.rules);
        self.kernel = left.unwrap_or(floor);
    }

    fn go_on(&mut self, installs: bool, now: Nanos, scope: &Scope, sent: &mut Vec<(u8, FromNode)>) {
        while let Some((command, _)) = self.stalled.front() {
            let is_slow = !matches!(command, Command::Send(_));
            if is_slow && !installs {
                break;
            }
            self.perform_first(now, scope, sent);
        }
    }

    fn perform_first(&mut self, now: Nanos, scope: &Scope, sent: &mut Vec<(u8, FromNode)>) {
        match self.stalled.pop_front() {
            Some((Command::Send(message), reply_to)) => sent.push((reply_to, message)),
            Some((
                Command::Install {
                    grants,
                    acknowledge,
                },
                reply_to,
            )) => {
                self.install(&grants, acknowledge, now);
                let later = std::mem::take(&mut self.stalled);
                self.queue(reply_to);
                self.stalled.extend(later);
            }
            // Its scopes have one limit, and no keys.
            Some((Command::Heat(_) | Command::Give(_), _)) | None => {}
            Some((Command::Enforce(policy), reply_to)) => {
                self.switch(policy, now, scope);
                self.follower.enforced(policy, [self.kernel], now);
                let later = std::mem::take(&mut self.stalled);
                self.queue(reply_to);
                self.stalled.extend(later);
            }
        }
    }

    /// The kernel refuses what has expired.
    fn install(&mut self, grants: &[Grant], acknowledge: Option<Position>, now: Nanos) {
        let is_alive = |grant: &&Grant| now < grant.expires || grant.amount == grant.floor;
        let installed: Vec<Grant> = grants.iter().filter(is_alive).copied().collect();
        for grant in &installed {
            self.kernel = *grant;
            if acknowledge.is_none() {
                self.lease_term = self.follower.seen().term;
            }
        }
        let acknowledge = acknowledge.filter(|_| installed.len() == grants.len());
        self.follower.installed(&installed, acknowledge, now);
    }

    /// What it tells a leader of itself. A hungry host is offered far more than any budget, another
    /// one nothing: its counters start again, as after a reboot. What leaders only show to people
    /// is left out: it would make states different that are not.
    #[must_use]
    pub fn report(&self, is_hungry: bool, step: u8, scope: &Scope) -> FromNode {
        let mut report = self.follower.report(self.clock(step), &[]);
        report.seen = Position::default();
        if scope.shifts > 0 {
            let offered = if is_hungry {
                1_000 * u64::from(step)
            } else {
                0
            };
            report.limits = vec![LimitReport {
                limit: LIMIT,
                offered,
                admitted: offered,
                ..LimitReport::default()
            }];
        }
        FromNode::Report(report)
    }
}
