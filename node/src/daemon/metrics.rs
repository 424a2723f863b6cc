//! The daemon's state as Prometheus text. `docs/metrics.md` lists every name.

use std::time::Duration;

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};
use weir_model::{Limit, policy::Promise};
use weir_proto::admin::v1;

use super::{coordination::LeaderView, view::View};
use crate::{attachment::Attachments, dataplane};

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

/// All metrics in Prometheus' text format.
pub(super) fn text(view: &View<'_>, attachments: &Attachments, ticks: &TickTimes) -> String {
    let scrape = Scrape::default();
    scrape.packets(view);
    scrape.grants(view);
    let leader = view.leader();
    let status = view.status_with(leader.as_ref());
    scrape.fleet(view, leader.as_ref(), &status);
    scrape.protocol(leader.is_some(), &status);
    scrape.attachments(attachments);
    scrape.add(ticks.0.clone());
    scrape.encode()
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

    fn flag(&self, name: &str, help: &str, value: i64) {
        let gauge = IntGauge::new(name, help).expect("valid names");
        gauge.set(value);
        self.add(gauge);
    }

    fn packets(&self, view: &View<'_>) {
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
        let Ok(counters) = view.enforcement.dataplane().counters() else {
            return;
        };
        for limit in &view.policy().limits {
            let Some(counted) = counters
                .limits
                .iter()
                .find(|counted| counted.limit == limit.id)
            else {
                continue;
            };
            for (verdict, reason, tally) in counted.by_verdict() {
                packets
                    .with_label_values(&[&limit.name, verdict, reason])
                    .inc_by(tally.packets);
                bytes
                    .with_label_values(&[&limit.name, verdict, reason])
                    .inc_by(tally.bytes);
            }
        }
        for (verdict, reason, tally) in counters.unlimited() {
            packets
                .with_label_values(&["", verdict, reason])
                .inc_by(tally.packets);
            bytes
                .with_label_values(&["", verdict, reason])
                .inc_by(tally.bytes);
        }
    }

    fn grants(&self, view: &View<'_>) {
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
        let now = dataplane::now();
        for limit in &view.policy().limits {
            if limit.promise == Promise::Local {
                let budget = limit.scale.tokens_per_second(limit.budget.rate);
                rate.with_label_values(&[&limit.name]).set(budget);
                continue;
            }
            let effective = view.enforcement.held_of(limit).effective(now).rate;
            rate.with_label_values(&[&limit.name])
                .set(limit.scale.tokens_per_second(effective));
            let left = view.enforcement.lease_left(limit).unwrap_or_default();
            lease
                .with_label_values(&[&limit.name])
                .set(left.as_secs_f64());
        }
    }

    fn fleet(&self, view: &View<'_>, leader: Option<&LeaderView>, status: &v1::StatusReply) {
        let budget = self.gauges(
            "weir_fleet_budget",
            "What the fleet may admit of a limit, in tokens per second.",
            &["limit"],
        );
        for limit in &view.policy().limits {
            budget
                .with_label_values(&[&limit.name])
                .set(limit.scale.tokens_per_second(limit.budget.rate));
        }
        let Some(leader) = leader else { return };
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
        for (limit, status) in view.policy().limits.iter().zip(&status.limits) {
            admitted
                .with_label_values(&[&limit.name])
                .set(status.admitted_rate);
            excess
                .with_label_values(&[&limit.name])
                .set(excess_ratio(limit, leader));
            on_floor
                .with_label_values(&[&limit.name])
                .set(i64::from(status.nodes_on_floor));
        }
    }

    fn protocol(&self, leads: bool, status: &v1::StatusReply) {
        self.flag(
            "weir_term",
            "The term in force, as far as this node knows.",
            i64::try_from(status.term).unwrap_or(i64::MAX),
        );
        self.flag("weir_is_leader", "1 if this node leads.", i64::from(leads));
        if let Some(zookeeper) = &status.zookeeper {
            self.flag(
                "weir_zookeeper_connected",
                "1 while a ZooKeeper server answers.",
                i64::from(zookeeper.connected),
            );
        }
    }

    fn attachments(&self, attachments: &Attachments) {
        let family = self.gauges(
            "weir_xdp_attached",
            "1 while the program is attached to the interface.",
            &["iface", "mode"],
        );
        for (interface, is_attached) in attachments.states() {
            family
                .with_label_values(&[interface, attachments.mode()])
                .set(f64::from(u8::from(is_attached)));
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

fn excess_ratio(limit: &Limit, leader: &LeaderView) -> f64 {
    let total: u64 = leader
        .members
        .iter()
        .flat_map(|member| &member.limits)
        .filter(|share| share.limit == limit.id && limit.is_leased())
        .map(|share| share.envelope.rate.0)
        .sum();
    (total as f64 / limit.budget.rate.0 as f64 - 1.0).max(0.0)
}
