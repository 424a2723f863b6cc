//! The daemon's state as Prometheus text. `docs/metrics.md` lists every name.

use std::{collections::HashMap, time::Duration};

use prometheus::{Histogram, HistogramOpts, TextEncoder, core::Collector as _};
use weir_abi::Tally;
use weir_coord_core::follower::Grant;
use weir_model::{
    Limit, LimitId, Nanos, Policy,
    policy::{Mode, OnExpiry, Promise},
};
use weir_proto::admin::v1;

use super::{
    continuity::Interruptions,
    coordination::LeaderView,
    exposition::{Exposition, Kind},
    view::View,
};
use crate::{
    attachment::Attachments,
    dataplane::{self, Counters, LimitCount},
};

/// How long ticks took.
pub(super) struct TickTimes(Histogram);

impl Default for TickTimes {
    fn default() -> Self {
        // 100 µs to 200 ms: a tick longer than its period is a missed one.
        let buckets = prometheus::exponential_buckets(100e-6, 2.0, 12)
            .expect("a positive start, a factor above 1");
        let options = HistogramOpts::new(
            "weir_tick_duration_seconds",
            "Time from a tick until its report and its proposals are handed over, in seconds.",
        )
        .buckets(buckets);
        Self(Histogram::with_opts(options).expect("a valid name and help"))
    }
}

impl TickTimes {
    /// One tick took this long.
    pub(super) fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

/// Everything that metrics are made of, at one instant. With tens of thousands of limits the text
/// takes longer to write than ticks may wait, so it is written elsewhere.
pub(super) struct Snapshot {
    policy: Policy,
    counters: Option<Counters>,
    /// What limits with a lease hold.
    held: HashMap<LimitId, Grant>,
    at: Nanos,
    key_slots: u32,
    key_load: f64,
    leader: Option<LeaderView>,
    status: v1::StatusReply,
    interfaces: Vec<(String, bool)>,
    mode: &'static str,
    ticks: Histogram,
    interruptions: Interruptions,
}

impl Snapshot {
    /// Reads what there is.
    pub(super) fn take(
        view: &View<'_>,
        attachments: &Attachments,
        (ticks, interruptions): (&TickTimes, Interruptions),
    ) -> Self {
        let enforcement = view.enforcement;
        let dataplane = enforcement.dataplane();
        let leader = view.leader();
        let leased = view
            .policy()
            .limits
            .iter()
            .filter(|limit| limit.is_leased());
        let interfaces = attachments.states();
        Self {
            policy: view.policy().clone(),
            counters: dataplane.counters().ok(),
            held: leased
                .map(|limit| (limit.id, enforcement.held_of(limit)))
                .collect(),
            at: dataplane::now(),
            key_slots: dataplane.key_slots(),
            key_load: dataplane.key_load(),
            status: view.status_with(leader.as_ref()),
            leader,
            interfaces: interfaces
                .map(|(interface, is_attached)| (interface.to_owned(), is_attached))
                .collect(),
            mode: attachments.mode(),
            ticks: ticks.0.clone(),
            interruptions,
        }
    }

    /// All metrics in Prometheus' text format.
    pub(super) fn text(self) -> String {
        let mut text = Exposition::default();
        if let Some(counters) = &self.counters {
            self.packets(counters, &mut text);
        }
        self.table(&mut text);
        self.grants(&mut text);
        self.fleet(&mut text);
        self.protocol(&mut text);
        let mut attached = text.family(
            "weir_xdp_attached",
            Kind::Gauge,
            "1 while the program is attached to the interface.",
        );
        for (interface, is_attached) in &self.interfaces {
            let labels = [("iface", interface.as_str()), ("mode", self.mode)];
            attached.sample(labels, u8::from(*is_attached));
        }
        let ticks = TextEncoder::new().encode_to_string(&self.ticks.collect());
        text.finish(&ticks.expect("writing to memory cannot fail"))
    }

    fn packets(&self, counters: &Counters, text: &mut Exposition) {
        type Number = fn(Tally) -> u64;
        let families: [(_, _, Number); 2] = [
            (
                "weir_packets_total",
                "Packets by limit, verdict and reason; limit is empty for those that no limit saw.",
                |tally| tally.packets,
            ),
            (
                "weir_bytes_total",
                "Bytes of frames by limit, verdict and reason, without check sequence.",
                |tally| tally.bytes,
            ),
        ];
        for (name, help, number) in families {
            let mut family = text.family(name, Kind::Counter, help);
            let mut row = |limit, verdict, reason, tally| {
                let labels = [("limit", limit), ("reason", reason), ("verdict", verdict)];
                family.sample(labels, number(tally));
            };
            for (limit, counted) in self.counted(counters) {
                for (verdict, reason, counted) in counted.by_verdict() {
                    let tally = Tally {
                        packets: counted.packets,
                        bytes: counted.bytes,
                    };
                    if tally.packets > 0 || can_have(limit, reason) {
                        row(&limit.name, verdict, reason, tally);
                    }
                }
            }
            for (verdict, reason, tally) in counters.unlimited() {
                row("", verdict, reason, tally);
            }
        }
        let mut pressure = text.family(
            "weir_table_pressure_total",
            Kind::Counter,
            "Packets whose key found no free slot of the table and shared one, by limit.",
        );
        for (limit, counted) in self.counted(counters) {
            if limit.per.is_some() {
                pressure.sample([("limit", &limit.name)], counted.counters.table_pressure);
            }
        }
        let mut lost = text.family(
            "weir_events_lost_total",
            Kind::Counter,
            "Samples of packets that were lost because the ring was full. No packet was.",
        );
        lost.sample([], counters.totals.events_lost);
    }

    fn counted<'s>(
        &'s self,
        counters: &'s Counters,
    ) -> impl Iterator<Item = (&'s Limit, &'s LimitCount)> {
        let counted = counters.limits.iter();
        counted.filter_map(|counted| Some((self.policy.limit(counted.limit)?, counted)))
    }

    fn table(&self, text: &mut Exposition) {
        text.gauge(
            "weir_table_slots",
            "Slots of the table of keys.",
            self.key_slots,
        );
        text.gauge(
            "weir_table_load_ratio",
            "Slots of the table of keys that hold a debt, of all: an estimate.",
            self.key_load,
        );
    }

    fn grants(&self, text: &mut Exposition) {
        let mut rate = text.family(
            "weir_grant_rate",
            Kind::Gauge,
            "What this node may admit of a limit now, in tokens per second.",
        );
        for limit in &self.policy.limits {
            let now = match self.held.get(&limit.id) {
                Some(held) => held.effective(self.at).rate,
                None if limit.promise == Promise::Local && limit.per.is_none() => limit.budget.rate,
                None => continue,
            };
            let now = limit.scale.tokens_per_second(now);
            rate.sample([("limit", &limit.name)], now);
        }
        let mut lease = text.family(
            "weir_lease_remaining_seconds",
            Kind::Gauge,
            "Time until this node falls to its floor of a limit; 0 if it has.",
        );
        for limit in &self.policy.limits {
            let Some(held) = self.held.get(&limit.id) else {
                continue;
            };
            let left = match held.expires {
                Nanos::NEVER => Duration::ZERO,
                expires => expires - self.at,
            };
            lease.sample([("limit", &limit.name)], left.as_secs_f64());
        }
    }

    fn fleet(&self, text: &mut Exposition) {
        let mut budget = text.family(
            "weir_fleet_budget",
            Kind::Gauge,
            "What the fleet may admit of a limit, in tokens per second.",
        );
        for limit in &self.policy.limits {
            let rate = limit.scale.tokens_per_second(limit.budget.rate);
            budget.sample([("limit", &limit.name)], rate);
        }
        let Some(leader) = &self.leader else { return };
        let limits = || self.policy.limits.iter().zip(&self.status.limits);
        let mut admitted = text.family(
            "weir_fleet_admitted_rate",
            Kind::Gauge,
            "What the fleet admitted of a limit in the last tick, in tokens per second. Leader only.",
        );
        for (limit, status) in limits() {
            admitted.sample([("limit", &limit.name)], status.admitted_rate);
        }
        let mut excess = text.family(
            "weir_promise_excess_ratio",
            Kind::Gauge,
            "By how much the envelopes of a limit exceed its budget, as a ratio. Leader only.",
        );
        let envelopes = envelope_rates(leader);
        for (limit, _) in limits() {
            excess.sample([("limit", &limit.name)], excess_ratio(limit, &envelopes));
        }
        let mut on_floor = text.family(
            "weir_nodes_on_floor",
            Kind::Gauge,
            "Members on their floor of a limit. Leader only.",
        );
        for (limit, status) in limits() {
            on_floor.sample([("limit", &limit.name)], status.nodes_on_floor);
        }
    }

    fn protocol(&self, text: &mut Exposition) {
        text.gauge(
            "weir_term",
            "The term in force, as far as this node knows.",
            self.status.term,
        );
        text.gauge(
            "weir_is_leader",
            "1 if this node leads.",
            u8::from(self.leader.is_some()),
        );
        text.gauge(
            "weir_voters",
            "Voters of the term in force, as far as this node knows.",
            self.status.voters.len(),
        );
        let counters = [
            (
                "weir_commit_gaps_total",
                "Times that more than three ticks lay between two commits that arrived here.",
                self.interruptions.commit_gaps,
            ),
            (
                "weir_floor_falls_total",
                "Times that this node fell from its grants to its floors.",
                self.interruptions.floor_falls,
            ),
        ];
        for (name, help, count) in counters {
            text.family(name, Kind::Counter, help).sample([], count);
        }
        if let Some(zookeeper) = &self.status.zookeeper {
            text.gauge(
                "weir_zookeeper_connected",
                "1 while a ZooKeeper server answers.",
                u8::from(zookeeper.connected),
            );
        }
    }
}

/// Whether packets of a limit, as it is now, can have a reason.
fn can_have(limit: &Limit, reason: &str) -> bool {
    match reason {
        "would_drop" => limit.mode == Mode::Shadow,
        "failed_open" => limit.on_expiry == OnExpiry::Open,
        "closed" => limit.on_expiry == OnExpiry::Closed,
        _ => true,
    }
}

/// The units per second that all members together may hold of each limit, at most.
fn envelope_rates(leader: &LeaderView) -> HashMap<LimitId, u64> {
    let mut rates = HashMap::new();
    for share in leader.members.iter().flat_map(|member| &member.limits) {
        *rates.entry(share.limit).or_default() += share.envelope.rate.0;
    }
    rates
}

fn excess_ratio(limit: &Limit, envelope_rates: &HashMap<LimitId, u64>) -> f64 {
    let total = envelope_rates.get(&limit.id).copied().unwrap_or_default();
    if !limit.is_leased() {
        return 0.0;
    }
    (total as f64 / limit.budget.rate.0 as f64 - 1.0).max(0.0)
}
