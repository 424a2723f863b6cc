//! The daemon's state as Prometheus text. `docs/metrics.md` lists every name.

use std::{collections::HashMap, time::Duration};

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};
use weir_coord_core::follower::Grant;
use weir_model::{
    Limit, LimitId, Nanos, Policy,
    policy::{Mode, OnExpiry, Promise},
};
use weir_proto::admin::v1;

use super::{coordination::LeaderView, view::View};
use crate::{
    attachment::Attachments,
    dataplane::{self, Counters},
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
}

impl Snapshot {
    /// Reads what there is.
    pub(super) fn take(view: &View<'_>, attachments: &Attachments, ticks: &TickTimes) -> Self {
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
        }
    }

    /// All metrics in Prometheus' text format.
    pub(super) fn text(self) -> String {
        let scrape = Scrape::default();
        scrape.packets(&self);
        scrape.table(&self);
        scrape.grants(&self);
        scrape.fleet(&self);
        scrape.protocol(&self);
        scrape.attachments(&self);
        scrape.add(self.ticks);
        scrape.encode()
    }
}

/// The families of one scrape. They are made anew each time from cumulative state, so nothing is
/// counted twice and a limit that is gone leaves no series behind.
#[derive(Default)]
struct Scrape(Registry);

impl Scrape {
    fn add(&self, collector: impl Collector + 'static) {
        self.0
            .register(Box::new(collector))
            .expect("each family has a name of its own");
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let family = IntCounterVec::new(Opts::new(name, help), labels).expect("valid names");
        self.add(family.clone());
        family
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let family = GaugeVec::new(Opts::new(name, help), labels).expect("valid names");
        self.add(family.clone());
        family
    }

    fn gauge(&self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::new(name, help).expect("valid names");
        gauge.set(value);
        self.add(gauge);
    }

    fn flag(&self, name: &str, help: &str, value: i64) {
        let gauge = IntGauge::new(name, help).expect("valid names");
        gauge.set(value);
        self.add(gauge);
    }

    fn packets(&self, at: &Snapshot) {
        let labels = ["limit", "verdict", "reason"];
        let packets = self.counters(
            "weir_packets_total",
            "Packets by limit, verdict and reason; limit is empty for those that no limit saw.",
            &labels,
        );
        let bytes = self.counters(
            "weir_bytes_total",
            "Bytes of frames by limit, verdict and reason, without check sequence.",
            &labels,
        );
        let pressure = self.counters(
            "weir_table_pressure_total",
            "Packets whose key found no free slot of the table and shared one, by limit.",
            &["limit"],
        );
        let Some(counters) = &at.counters else {
            return;
        };
        for counted in &counters.limits {
            let Some(limit) = at.policy.limit(counted.limit) else {
                continue;
            };
            for (verdict, reason, tally) in counted.by_verdict() {
                if tally.packets == 0 && !can_have(limit, reason) {
                    continue;
                }
                packets
                    .with_label_values(&[&limit.name, verdict, reason])
                    .inc_by(tally.packets);
                bytes
                    .with_label_values(&[&limit.name, verdict, reason])
                    .inc_by(tally.bytes);
            }
            if limit.per.is_some() {
                pressure
                    .with_label_values(&[&limit.name])
                    .inc_by(counted.counters.table_pressure);
            }
        }
        self.lost_events(counters.totals.events_lost);
        for (verdict, reason, tally) in counters.unlimited() {
            packets
                .with_label_values(&["", verdict, reason])
                .inc_by(tally.packets);
            bytes
                .with_label_values(&["", verdict, reason])
                .inc_by(tally.bytes);
        }
    }

    fn lost_events(&self, lost: u64) {
        let counter = IntCounter::new(
            "weir_events_lost_total",
            "Samples of packets that were lost because the ring was full. No packet was.",
        )
        .expect("a valid name and help");
        counter.inc_by(lost);
        self.add(counter);
    }

    fn table(&self, at: &Snapshot) {
        self.gauge(
            "weir_table_slots",
            "Slots of the table of keys.",
            f64::from(at.key_slots),
        );
        self.gauge(
            "weir_table_load_ratio",
            "Slots of the table of keys that hold a debt, of all: an estimate.",
            at.key_load,
        );
    }

    fn grants(&self, at: &Snapshot) {
        let rate = self.gauges(
            "weir_grant_rate",
            "What this node may admit of a limit now, in tokens per second.",
            &["limit"],
        );
        let lease = self.gauges(
            "weir_lease_remaining_seconds",
            "Time until this node falls to its floor of a limit; 0 if it has.",
            &["limit"],
        );
        for limit in &at.policy.limits {
            if limit.promise == Promise::Local && limit.per.is_none() {
                let budget = limit.scale.tokens_per_second(limit.budget.rate);
                rate.with_label_values(&[&limit.name]).set(budget);
                continue;
            }
            let Some(held) = at.held.get(&limit.id) else {
                continue;
            };
            rate.with_label_values(&[&limit.name])
                .set(limit.scale.tokens_per_second(held.effective(at.at).rate));
            let left = match held.expires {
                Nanos::NEVER => Duration::ZERO,
                expires => expires - at.at,
            };
            lease
                .with_label_values(&[&limit.name])
                .set(left.as_secs_f64());
        }
    }

    fn fleet(&self, at: &Snapshot) {
        let budget = self.gauges(
            "weir_fleet_budget",
            "What the fleet may admit of a limit, in tokens per second.",
            &["limit"],
        );
        for limit in &at.policy.limits {
            budget
                .with_label_values(&[&limit.name])
                .set(limit.scale.tokens_per_second(limit.budget.rate));
        }
        let Some(leader) = &at.leader else { return };
        let admitted = self.gauges(
            "weir_fleet_admitted_rate",
            "What the fleet admitted of a limit in the last tick, in tokens per second. Leader only.",
            &["limit"],
        );
        let excess = self.gauges(
            "weir_promise_excess_ratio",
            "By how much the envelopes of a limit exceed its budget, as a ratio. Leader only.",
            &["limit"],
        );
        let on_floor = IntGaugeVec::new(
            Opts::new(
                "weir_nodes_on_floor",
                "Members on their floor of a limit. Leader only.",
            ),
            &["limit"],
        )
        .expect("valid names");
        self.add(on_floor.clone());
        let envelopes = envelope_rates(leader);
        for (limit, status) in at.policy.limits.iter().zip(&at.status.limits) {
            admitted
                .with_label_values(&[&limit.name])
                .set(status.admitted_rate);
            excess
                .with_label_values(&[&limit.name])
                .set(excess_ratio(limit, &envelopes));
            on_floor
                .with_label_values(&[&limit.name])
                .set(i64::from(status.nodes_on_floor));
        }
    }

    fn protocol(&self, at: &Snapshot) {
        let status = &at.status;
        self.flag(
            "weir_term",
            "The term in force, as far as this node knows.",
            i64::try_from(status.term).unwrap_or(i64::MAX),
        );
        self.flag(
            "weir_is_leader",
            "1 if this node leads.",
            i64::from(at.leader.is_some()),
        );
        if let Some(zookeeper) = &status.zookeeper {
            self.flag(
                "weir_zookeeper_connected",
                "1 while a ZooKeeper server answers.",
                i64::from(zookeeper.connected),
            );
        }
    }

    fn attachments(&self, at: &Snapshot) {
        let family = self.gauges(
            "weir_xdp_attached",
            "1 while the program is attached to the interface.",
            &["iface", "mode"],
        );
        for (interface, is_attached) in &at.interfaces {
            family
                .with_label_values(&[interface.as_str(), at.mode])
                .set(f64::from(u8::from(*is_attached)));
        }
    }

    fn encode(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.0.gather(), &mut text)
            .expect("writing to memory cannot fail");
        String::from_utf8(text).expect("names and labels are text")
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
