//! Limits with keys: sources, what hosts do with them, and the oracle of single keys.
//!
//! A run has them if it is asked for them. Policies change their units, and with them what a bucket
//! means, but not what they promise; they come after the leased ones. What a host gives a key by itself is a bucket of its own here, not
//! a slot of the table that the kernel has.

use std::collections::BTreeMap;

use weir_coord_core::{carry::lowered, follower::Grant, timing::DRIFT_PER_MILLE};
use weir_model::{
    Amount, HeavyKey, HotKey, Limit, LimitId, Nanos, Policy, PolicyVersion, Revision, Scale, Term,
    Units, UnitsPerSecond,
    message::{LimitReport, Report},
    policy::{Key, PartsPerMillion, Promise},
    prefix::Prefix,
};

use crate::{
    dice::Dice,
    host::{Counters, Host},
    kernel::Kernel,
    limits::{Policies, SCALE, amount, limit},
    world::{STEP, World},
};

/// Ticks between two words of a host about heavy keys.
const WORD_TICKS: u64 = 5;
/// A tenth more, for keys that are judged by their grants alone.
const EXCESS: PartsPerMillion = PartsPerMillion(100_000);

/// How the traffic of one source is spread over hosts and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// All of it at one host.
    OneHost,
    /// The same at every host.
    AllHosts,
    /// All of it at one host, and every three seconds at another.
    Moving,
    /// The same at every host for four seconds, and nothing for six.
    Pulsing,
}

/// One source, of one limit.
#[derive(Clone, Debug)]
pub struct Source {
    /// The keyed limit, as it is at first.
    pub limit: Limit,
    /// The key, and its identity if it is hot, at first.
    pub key: HotKey,
    /// Tokens a second that it sends to all hosts together.
    pub demand: f64,
    spread: Spread,
    place: usize,
    /// The receiver's bucket, in tokens.
    level: f64,
    arrived: f64,
    /// What all hosts have admitted, in tokens.
    pub admitted: u64,
}

/// What a host has of keys.
#[derive(Debug, Default)]
pub struct HostKeys {
    /// What it gives keys by itself, by the identity that they have if they are hot.
    cold: Kernel,
    /// The hot ones, whose buckets are in the kernel beside those of limits.
    pub hot: BTreeMap<LimitId, HotKey>,
    /// What their buckets have counted.
    counters: BTreeMap<LimitId, Counters>,
    /// What has arrived of each key since the last word about it, and what part of a token.
    offered: BTreeMap<LimitId, (u64, f64)>,
    said_at: (u64, Term),
}

/// The limits with keys of a fleet of so many hosts, with room for so many, in these units.
#[must_use]
pub fn keyed_limits(hosts: usize, places: usize, scale: Scale) -> Vec<Limit> {
    let members = hosts as u64;
    let keyed = |name: &str, rate: u64, burst: u64, promise: Promise| {
        let budget = amount(rate, burst).rescaled_up(SCALE, scale);
        let parts = if promise == Promise::Strict {
            2 * places as u64
        } else {
            1
        };
        let cold = Amount {
            rate: UnitsPerSecond(budget.rate.0 / parts),
            burst: Units(budget.burst.0 / parts),
        };
        Limit {
            per: Some(Key::default()),
            promise,
            excess: (promise == Promise::Elastic).then_some(EXCESS),
            scale,
            revision: Revision(u32::from(scale.fraction_bits)),
            budget,
            smallest_burst: Units(1 << scale.fraction_bits),
            ..limit(name, rate, burst, cold, false)
        }
    };
    vec![
        keyed("sources", 100 * members, 8 * members, Promise::Strict),
        keyed("clients", 1_000, 50, Promise::Elastic),
    ]
}

/// A source for every spread and limit: what it sends is in parts of the limit's rate.
#[must_use]
pub fn sources(limits: &[Limit]) -> Vec<Source> {
    let spreads = [
        (Spread::OneHost, 2.0),
        (Spread::AllHosts, 3.0),
        // Below the share that a host gives a strict key.
        (Spread::AllHosts, 0.4),
        (Spread::Moving, 1.5),
        (Spread::Pulsing, 2.5),
    ];
    let limits = limits.iter().filter(|limit| limit.per.is_some());
    let all = limits.flat_map(|limit| spreads.map(|spread| (limit, spread)));
    all.zip(1..)
        .map(|((limit, (spread, parts)), number)| source(limit, spread, parts, number))
        .collect()
}

/// One source that sends so many times the limit's rate.
#[must_use]
pub fn source(limit: &Limit, spread: Spread, parts: f64, number: u16) -> Source {
    let [high, low] = number.to_be_bytes();
    let key = Prefix::containing([198, 18, high, low].into(), 32).expect("32 bits are no more");
    Source {
        key: HotKey::new(limit, key),
        demand: parts * limit.scale.tokens_per_second(limit.budget.rate),
        limit: limit.clone(),
        spread,
        place: usize::from(number),
        level: 0.0,
        arrived: 0.0,
        admitted: 0,
    }
}

impl Source {
    /// The keyed limit, as it is under a policy.
    fn limit_of<'a>(&self, policies: &'a Policies, version: PolicyVersion) -> &'a Limit {
        let limit = policies.of(version).limit(self.limit.id);
        limit.expect("every policy of a run with keys has the same keyed limits")
    }

    /// What the receiver promises itself: the rate and the burst, with what is declared above it, in
    /// tokens.
    fn promised(&self, hosts: usize) -> (f64, f64) {
        let rate = SCALE.tokens_per_second(self.limit.budget.rate);
        let burst = SCALE.tokens(self.limit.budget.burst);
        match self.limit.excess {
            Some(excess) => {
                let more = f64::from(excess.0) / 1e6;
                (rate * (1.0 + more), burst + hosts as f64)
            }
            None => (rate, burst),
        }
    }

    /// Tokens a second that it sends to a host.
    fn demand_at(&self, host: usize, hosts: usize, tick: u64) -> f64 {
        let is_here = host == self.place % hosts;
        match self.spread {
            Spread::OneHost | Spread::Moving if is_here => self.demand,
            Spread::OneHost | Spread::Moving => 0.0,
            Spread::AllHosts => self.demand / hosts as f64,
            Spread::Pulsing if tick % 100 < 40 => self.demand / hosts as f64,
            Spread::Pulsing => 0.0,
        }
    }

    pub(crate) fn advance(&mut self, tick: u64, hosts: usize, dice: &mut Dice) {
        if self.spread == Spread::Moving && tick.is_multiple_of(30) {
            self.place = dice.index(hosts);
        }
    }
}

impl Host {
    /// These keys are hot, and no others. A new one has an empty bucket, and nothing granted.
    pub fn heat(&mut self, hot: &[HotKey], local: Nanos) {
        let hot: BTreeMap<LimitId, HotKey> = hot.iter().map(|key| (key.id, *key)).collect();
        let before = std::mem::replace(&mut self.keys.hot, hot);
        for id in before.keys() {
            if !self.keys.hot.contains_key(id) {
                self.kernel.remove(*id);
                self.keys.counters.remove(id);
            }
        }
        for id in self.keys.hot.keys() {
            if !before.contains_key(id) {
                self.kernel.renew(*id, local);
                self.keys.counters.insert(*id, Counters::default());
            }
        }
    }

    /// Whether packets of a key are judged by a grant of its own. An elastic one is from its first
    /// grant on.
    #[must_use]
    pub fn is_hot(&self, policies: &Policies, source: &Source) -> bool {
        let limit = source.limit_of(policies, self.policy);
        let id = HotKey::new(limit, source.key.key).id;
        let grant = self.kernel.grant(id);
        let is_granted = grant.is_some_and(|grant| grant.floor != Amount::ZERO);
        let is_judged = is_granted || limit.promise == Promise::Strict;
        self.keys.hot.contains_key(&id) && is_judged
    }

    /// Buckets of keys whose units are others are new ones, and empty; a hot key is hot again with its
    /// next grant.
    pub fn renew_keys(&mut self, former: &Policy, policy: &Policy, local: Nanos) {
        let is_same = |limit: LimitId| {
            let revision = |policy: &Policy| policy.limit(limit).map(|limit| limit.revision);
            revision(former) == revision(policy)
        };
        let hot = self.keys.hot.values().copied();
        let hot: Vec<HotKey> = hot.filter(|key| is_same(key.limit)).collect();
        self.heat(&hot, local);
        for limit in hot.iter().filter_map(|key| policy.hot_limit(key)) {
            let held = self.kernel.grant(limit.id);
            if let Some(less) = held.and_then(|held| lowered(&held, &limit, local)) {
                self.kernel.install(less, local);
            }
        }
        if !former.limits.iter().all(|limit| is_same(limit.id)) {
            self.keys.cold = Kernel::default();
        }
    }

    /// What it admits of a key: by the hot bucket, and if that is not enough by the cold one of a
    /// strict key.
    fn admit_key(
        &mut self,
        policies: &Policies,
        source: &Source,
        offered: u64,
        local: Nanos,
    ) -> u64 {
        let limit = source.limit_of(policies, self.policy);
        let id = HotKey::new(limit, source.key.key).id;
        let bits = limit.scale.fraction_bits;
        let mut admitted = 0;
        if self.is_hot(policies, source) {
            admitted = self.kernel.admit(id, offered, bits, local);
            let counters = self.keys.counters.entry(id).or_default();
            counters.offered += offered;
            counters.admitted += admitted;
            if limit.promise == Promise::Elastic {
                return admitted;
            }
        }
        // Else its place among the members may be another's.
        if limit.promise == Promise::Strict && !self.gives() {
            return admitted;
        }
        let cold = limit.key_amount().expect("it has keys");
        let grant = Grant::floor(id, cold);
        let held = self.keys.cold.grant(id);
        if held != Some(grant) {
            self.keys.cold.install(grant, local);
        }
        if held.is_none() {
            self.keys.cold.fill(id, local);
        }
        admitted + self.keys.cold.admit(id, offered - admitted, bits, local)
    }

    /// Adds what it knows of keys to a report.
    pub fn report_keys(
        &mut self,
        report: &mut Report,
        policies: &Policies,
        sources: &[Source],
        tick: u64,
        members: u64,
    ) {
        for (id, counters) in &self.keys.counters {
            let grant = self.kernel.grant(*id);
            report.limits.push(LimitReport {
                limit: *id,
                offered: counters.offered,
                admitted: counters.admitted,
                dropped: counters.offered - counters.admitted,
                held: grant.map_or(Amount::ZERO, |grant| grant.effective(report.token.at)),
                expires: grant.map_or(Nanos::ZERO, |grant| grant.expires),
            });
        }
        let (last, term) = self.keys.said_at;
        let elapsed = tick.saturating_sub(last).max(1);
        if elapsed < WORD_TICKS && term == report.seen.term {
            return;
        }
        self.keys.said_at = (tick, report.seen.term);
        for source in sources {
            let limit = source.limit_of(policies, self.policy);
            let id = HotKey::new(limit, source.key.key).id;
            let (offered, _) = self.keys.offered.entry(source.key.id).or_default();
            let per_second = std::mem::take(offered) * 10 / elapsed;
            let rate = UnitsPerSecond(per_second << limit.scale.fraction_bits);
            let is_heavy = rate.0 > limit.budget.rate.0 / (4 * members);
            if is_heavy || self.keys.hot.contains_key(&id) {
                report.heavy.push(HeavyKey {
                    limit: limit.id,
                    key: source.key.key,
                    offered: rate,
                });
            }
        }
    }

    /// It has lost all that is not on disk.
    pub fn lose_keys(&mut self) {
        self.keys = HostKeys::default();
    }
}

impl World {
    /// Sources send to every host that has power.
    pub(super) fn offer_keys(&mut self, tick: u64) {
        let hosts = self.hosts.len();
        for source in &mut self.sources {
            for (index, host) in self.hosts.iter_mut().enumerate() {
                if !host.is_powered {
                    continue;
                }
                let local = host.clock.at(self.now);
                let demand = source.demand_at(index, hosts, tick) * STEP.as_secs_f64();
                let (counted, owed) = host.keys.offered.entry(source.key.id).or_default();
                *owed += demand;
                let offered = *owed as u64;
                *owed -= offered as f64;
                *counted += offered;
                let admitted = host.admit_key(&self.policies, source, offered, local);
                source.arrived += admitted as f64;
                source.admitted += admitted;
            }
        }
    }

    /// The promise of each key, as its receiver sees it. That of an elastic one begins when every host
    /// judges it by its grant.
    pub(super) fn judge_keys(&mut self) {
        let drain = STEP.as_secs_f64() * (1.0 + f64::from(DRIFT_PER_MILLE) / 1_000.0);
        let hosts = self.hosts.len();
        let mut found = None;
        for source in &mut self.sources {
            let mut powered = self.hosts.iter().filter(|host| host.is_powered);
            let is_promised = source.limit.promise == Promise::Strict
                || powered.all(|host| host.is_hot(&self.policies, source));
            let (rate, burst) = source.promised(hosts);
            let arrived = std::mem::take(&mut source.arrived);
            source.level = if is_promised {
                (source.level - rate * drain).max(0.0) + arrived
            } else {
                0.0
            };
            if source.level > burst + 1e-6 {
                let (limit, key, level) = (&source.limit.name, source.key.key, source.level);
                found = Some(format!(
                    "{limit} {key}: {level:.1} in the bucket of {burst}"
                ));
            }
        }
        if let Some(details) = found {
            self.judge.blame("promise 1, of a key", details);
        }
    }

    /// Whether all hosts that have power judge a source by its grant.
    #[must_use]
    pub fn is_merged(&self, source: usize) -> bool {
        let mut powered = self.hosts.iter().filter(|host| host.is_powered);
        powered.all(|host| host.is_hot(&self.policies, &self.sources[source]))
    }
}

/// A policy with limits for keys of so many hosts behind the leased ones, in the same units, and room for
/// so many.
#[must_use]
pub fn with_keys(policy: Policy, hosts: usize, places: usize) -> Policy {
    let scale = policy.limits.first().map_or(SCALE, |limit| limit.scale);
    let limits = policy
        .limits
        .into_iter()
        .chain(keyed_limits(hosts, places, scale));
    let mut fleet = policy.fleet;
    // With room for no more than there are, hosts give a key all of the half that is theirs.
    fleet.max_members = u32::try_from(places).unwrap_or(u32::MAX);
    Policy {
        fleet,
        limits: limits.collect(),
    }
}
