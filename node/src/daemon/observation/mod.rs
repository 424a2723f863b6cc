//! What the host sees of packets: some are sampled by the kernel, and from these are told the
//! heaviest sources of each limit and the last drops.
//!
//! Nothing here decides about a packet. Samples that are lost are counted, and lost only for people.

mod drops;
mod heaviest;
mod heavy;
mod sampling;
mod space_saving;

use std::{fmt::Display, net::IpAddr, time::Duration};

use tracing::error;
use weir_abi::{Reason, Totals};
use weir_model::{
    HeavyKey, HotKey, Limit, LimitId, Nanos, Policy, Term, UnitsPerSecond, policy::Key,
    prefix::Prefix,
};

pub(super) use self::drops::DroppedPacket;
use self::{
    drops::Drops,
    heaviest::{Heaviest, Observed, Traffic},
    heavy::Heavy,
    sampling::{SAMPLES_TAKEN, Sampling},
};
use crate::dataplane::{Dataplane, DataplaneError, Sample};

/// What is known from samples.
#[derive(Debug)]
pub(super) struct Observation {
    began: Nanos,
    sampling: Sampling,
    heaviest: Heaviest,
    heavy: Heavy,
    drops: Drops,
    sampling_fails: Recurring,
    tidying_fails: Recurring,
}

/// Sources and tokens per second: what [`Traffic`] comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) source: Prefix,
    pub(super) offered: f64,
    pub(super) dropped: f64,
    pub(super) error: f64,
}

/// The prefix of a source that a limit's traffic is told apart by: its keys, or single hosts.
pub(super) fn prefix_of(limit: &Limit, source: IpAddr) -> Prefix {
    let Key {
        source_v4,
        source_v6,
    } = limit.per.unwrap_or_default();
    let length = if source.is_ipv4() {
        source_v4
    } else {
        source_v6
    };
    Prefix::containing(source, length).expect("a key is no longer than an address")
}

impl Observation {
    /// Begins at `now`, on the kernel's clock.
    pub(super) fn new(now: Nanos) -> Self {
        Self {
            began: now,
            sampling: Sampling::default(),
            heaviest: Heaviest::new(now),
            heavy: Heavy::new(now),
            drops: Drops::default(),
            sampling_fails: Recurring::new("packets cannot be sampled"),
            tidying_fails: Recurring::new("old buckets are not tidied up; it is tried again"),
        }
    }

    /// Takes what was sampled since the last tick, and has the kernel sample more or less.
    pub(super) fn tick(&mut self, dataplane: &mut Dataplane, policy: Option<&Policy>, now: Nanos) {
        let tidied = dataplane.tidy();
        self.tidying_fails.note(tidied);
        self.heaviest.turn(now);
        self.heavy.turn(now);
        for sample in dataplane.samples(SAMPLES_TAKEN) {
            self.observe(&sample, policy);
        }
        let adapted = self.adapt(dataplane);
        self.sampling_fails.note(adapted);
    }

    fn adapt(&mut self, dataplane: &mut Dataplane) -> Result<(), DataplaneError> {
        let next = self.sampling.next(packets_of_limits(&dataplane.totals()?));
        if next.one_in() != self.sampling.one_in() {
            dataplane.set_sampling(next.one_in())?;
        }
        self.sampling = next;
        Ok(())
    }

    /// Nobody will take samples any more: they would fill the ring and be counted as lost.
    pub(super) fn stop(&mut self, dataplane: &mut Dataplane) {
        let stopped = dataplane.set_sampling(0);
        self.sampling_fails.note(stopped);
        self.sampling = Sampling::default();
    }

    /// Another policy is in force.
    pub(super) fn set_policy(&mut self, policy: &Policy) {
        self.heaviest.retain(|id, revision| {
            let limit = policy.limit(id);
            limit.is_some_and(|limit| limit.revision == revision)
        });
        self.heavy.set_policy(policy);
    }

    /// The keys that the leader of this term is to hear of, if it is to hear of any in this tick:
    /// [`Heavy::list`].
    pub(super) fn heavy_keys(
        &mut self,
        leader: Term,
        policy: &Policy,
        hot: &[HotKey],
        offered: impl Fn(LimitId) -> UnitsPerSecond,
        now: Nanos,
    ) -> Vec<HeavyKey> {
        if self.heavy.is_due(leader) {
            self.heavy.list(policy, hot, offered, now)
        } else {
            Vec::new()
        }
    }

    fn observe(&mut self, sample: &Sample, policy: Option<&Policy>) {
        let Some(policy) = policy else {
            return;
        };
        let limit = |id| policy.limit(id);
        let is_dropped = !sample.reason.passes();
        if is_dropped && let Some(limit) = limit(sample.limit) {
            self.drops.observe(sample, limit);
        }
        for limit in sample.limits.iter().filter_map(|id| limit(*id)) {
            let bytes = u64::from(sample.bytes);
            let tokens = limit.cost.of_frame(bytes, limit.overhead_bytes);
            let offered = tokens * u64::from(sample.weight);
            let packet = Observed {
                at: sample.at,
                limit: limit.id,
                revision: limit.revision,
                source: prefix_of(limit, sample.source),
                offered,
                dropped: if is_dropped && sample.limit == limit.id {
                    offered
                } else {
                    0
                },
            };
            self.heaviest.observe(packet);
            self.heavy.observe(packet, limit, policy);
        }
    }

    /// About one packet in so many is sampled; 0 if none is.
    pub(super) const fn one_in(&self) -> u32 {
        self.sampling.one_in()
    }

    /// The heaviest sources of a limit, at most so many.
    pub(super) fn top(&self, limit: LimitId, most: usize, now: Nanos) -> Vec<Rates> {
        let span = self.span(limit, now);
        let top = self.heaviest.top(limit, most);
        top.into_iter().map(|one| rates(one, span)).collect()
    }

    /// What is known of one source; `None` if the limit's sources are not followed.
    pub(super) fn of(&self, limit: &Limit, source: IpAddr, now: Nanos) -> Option<Rates> {
        let span = self.span(limit.id, now);
        let known = self.heaviest.of(limit.id, prefix_of(limit, source));
        known.map(|known| rates(known, span))
    }

    /// For how long the packets behind rates were sampled.
    pub(super) fn span(&self, limit: LimitId, now: Nanos) -> Duration {
        self.heaviest.span(limit, now)
    }

    /// Whether the limit has traffic, and [`heaviest::LIMITS_FOLLOWED`] others have more.
    pub(super) fn is_left_out(&self, limit: LimitId) -> bool {
        self.heaviest.is_left_out(limit)
    }

    /// The last drops, latest first.
    pub(super) fn drops(&self) -> impl Iterator<Item = &DroppedPacket> {
        self.drops.latest()
    }

    /// Since when all sampled drops are remembered.
    pub(super) fn drops_since(&self) -> Nanos {
        self.drops.since().unwrap_or(self.began)
    }
}

fn rates(traffic: Traffic, span: Duration) -> Rates {
    let per_second = |tokens: u64| tokens as f64 / span.as_secs_f64();
    Rates {
        source: traffic.source,
        offered: per_second(traffic.offered),
        dropped: per_second(traffic.dropped),
        error: per_second(traffic.error),
    }
}

/// Packets that a limit applied to, so far: those that are sampled.
fn packets_of_limits(totals: &Totals) -> u64 {
    let reasons = Reason::ALL
        .into_iter()
        .filter(|reason| reason.is_of_limits());
    reasons
        .map(|reason| totals.by_reason[reason as usize].packets)
        .sum()
}

/// Something that is done each tick, and if it fails may fail each tick: it is logged when that
/// begins.
#[derive(Debug)]
pub(super) struct Recurring {
    what: &'static str,
    fails: bool,
}

impl Recurring {
    /// `what` says what it means that it fails.
    pub(super) const fn new(what: &'static str) -> Self {
        Self { what, fails: false }
    }

    /// Takes note of how it went this time.
    pub(super) fn note<T, E: Display>(&mut self, outcome: Result<T, E>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.fails = false;
                Some(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.fails, true) {
                    error!(%error, "{}", self.what);
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"
        version = 1
        [[limit]]
        name = "clients"
        per = { source_v4 = 24, source_v6 = 48 }
        promise = "local"
        rate = "10 packets/s"
        [[limit]]
        name = "all"
        promise = "local"
        overhead = 24
        rate = "1 Gbit/s"
    "#;

    fn sample(policy: &Policy, source: &str, reason: Reason, weight: u32) -> Sample {
        Sample {
            at: Nanos(5),
            source: source.parse().unwrap(),
            destination: "192.0.2.53".parse().unwrap(),
            protocol: 17,
            port: 53,
            bytes: 76,
            weight,
            reason,
            limit: LimitId::of("clients"),
            over: 2_000_000,
            is_hot: false,
            limits: policy.limits.iter().map(|limit| limit.id).collect(),
        }
    }

    #[test]
    fn a_sample_counts_for_every_limit_and_as_dropped_by_the_one_that_did() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let mut seen = Observation::new(Nanos::ZERO);
        seen.observe(
            &sample(&policy, "198.18.7.1", Reason::OverLimit, 8),
            Some(&policy),
        );
        seen.observe(
            &sample(&policy, "198.18.7.2", Reason::Admitted, 2),
            Some(&policy),
        );
        let now = Nanos(1_000_000_005);
        let clients = seen.top(LimitId::of("clients"), 5, now);
        assert_eq!(clients.len(), 1, "one key");
        assert_eq!(clients[0].source.to_string(), "198.18.7.0/24");
        assert_eq!((clients[0].offered, clients[0].dropped), (10.0, 8.0));
        let all = seen.top(LimitId::of("all"), 5, now);
        let found: Vec<_> = all
            .iter()
            .map(|one| (one.source.to_string(), one.offered, one.dropped))
            .collect();
        assert_eq!(
            found,
            [
                ("198.18.7.1/32".to_owned(), 6_400.0, 0.0),
                ("198.18.7.2/32".to_owned(), 1_600.0, 0.0),
            ],
            "bits on the wire; another limit dropped them"
        );
    }

    #[test]
    fn drops_are_remembered_latest_first_and_no_more_than_so_many() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let mut seen = Observation::new(Nanos::ZERO);
        for number in 0..=drops::DROPS_REMEMBERED as u32 {
            let since = if number < 4_096 {
                Nanos::ZERO
            } else {
                Nanos(5)
            };
            assert_eq!(seen.drops_since(), since);
            let dropped = sample(&policy, "198.18.7.1", Reason::OverLimit, number);
            seen.observe(&dropped, Some(&policy));
        }
        seen.observe(
            &sample(&policy, "198.18.7.2", Reason::Admitted, 1),
            Some(&policy),
        );
        assert_eq!(seen.drops().count(), drops::DROPS_REMEMBERED);
        let latest = seen.drops().next().unwrap();
        assert_eq!(latest.weight, drops::DROPS_REMEMBERED as u32);
        let limit = policy.limit(latest.limit).unwrap();
        assert_eq!(latest.over.wait_ms(0), Some(2.0));
        assert!((latest.over.tokens(limit) - 0.02).abs() < 1e-9);
    }

    #[test]
    fn samples_without_a_policy_are_nobodys() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let mut seen = Observation::new(Nanos::ZERO);
        seen.observe(&sample(&policy, "198.18.7.1", Reason::OverLimit, 1), None);
        assert_eq!(seen.drops().count(), 0);
    }
}
