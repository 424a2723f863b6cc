//! Random faults, and how a calm fleet behaves.
//!
//! Messages are lost, repeated, delayed and reordered; leaders are replaced while the old ones go
//! on; stores have unknown outcomes; daemons restart with their kernels' state; hosts go silent.
#![allow(clippy::unwrap_used)]

mod harness;

use std::time::Duration;

use harness::{Dice, Fleet, TIMING};
use proptest::prelude::*;
use weir_model::Nanos;

#[test]
fn a_calm_fleet_uses_the_whole_budget_and_follows_demand() {
    let mut fleet = Fleet::new(7, 3, false);
    fleet.dice = Dice(u64::MAX / 3);
    fleet.take_over();
    fleet.run(Duration::from_secs(2));
    let total: u64 = (0..3).map(|host| fleet.rate("wide", host)).sum();
    assert!(total >= 29_900, "{total} of 30,000 in use");
    for (host, demand) in [(0, 90_000), (1, 0), (2, 0)] {
        fleet.hosts[host].demand = demand;
    }
    let shift = fleet.now;
    while fleet.rate("wide", 0) < 28_500 {
        fleet.tick();
        assert!(
            fleet.now - shift < Duration::from_millis(500),
            "budget did not follow demand"
        );
        for (host, demand) in [(0, 90_000), (1, 0), (2, 0)] {
            fleet.hosts[host].demand = demand;
        }
    }
    let narrow: Vec<u64> = (0..3).map(|host| fleet.rate("narrow", host)).collect();
    assert_eq!(
        narrow.iter().sum::<u64>(),
        5,
        "an indivisible limit is on one host: {narrow:?}"
    );
    assert!(
        narrow.contains(&5),
        "an indivisible limit is on one host: {narrow:?}"
    );
}

/// How long each shift of traffic takes until every share is within 5 % of R of its optimum. Hosts
/// and leader tick out of step.
fn convergence(seed: u64) -> Vec<Duration> {
    const SPLITS: [([u64; 3], [u64; 3]); 4] = [
        ([0, 90_000, 0], [0, 29_840, 0]),
        ([63_000, 18_000, 9_000], [10_500, 10_500, 9_000]),
        ([0, 0, 90_000], [0, 0, 29_840]),
        ([18_000, 9_000, 63_000], [10_500, 9_000, 10_500]),
    ];
    let mut fleet = Fleet::new(seed, 3, false);
    fleet.phases = [13, 7, 3].map(|step| seed * step % 20).to_vec();
    fleet.demands_stay = true;
    fleet.take_over();
    fleet.run(Duration::from_secs(3));
    let shift = |(demands, optimum): ([u64; 3], [u64; 3])| {
        for (host, demand) in fleet.hosts.iter_mut().zip(demands) {
            host.demand = demand;
        }
        let start = fleet.now;
        while (0..3).any(|host| fleet.rate("wide", host).abs_diff(optimum[host]) > 1_500) {
            fleet.tick();
            assert!(
                fleet.now - start < Duration::from_secs(3),
                "seed {seed}: never"
            );
        }
        let taken = fleet.now - start;
        fleet.run(Duration::from_millis(1_000 + 5 * (seed % 17)));
        taken
    };
    SPLITS.map(shift).to_vec()
}

#[test]
fn shares_follow_demand_within_three_ticks_and_the_slowest_within_four() {
    let mut taken: Vec<Duration> = (1..100).flat_map(convergence).collect();
    taken.sort_unstable();
    let (median, slowest) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    assert!(median <= TIMING.tick * 3, "median {median:?}");
    assert!(slowest <= TIMING.tick * 4, "slowest {slowest:?}");
}

#[test]
fn a_silent_host_gives_back_its_share_but_not_its_floor() {
    let mut fleet = Fleet::new(3, 3, false);
    fleet.take_over();
    fleet.run(Duration::from_secs(2));
    for host in &mut fleet.hosts {
        host.demand = 90_000;
    }
    fleet.hosts[2].paused_until = Nanos::NEVER;
    fleet.run(Duration::from_secs(4));
    let busy = fleet.rate("wide", 0) + fleet.rate("wide", 1);
    assert!(
        (29_800..=29_960).contains(&busy),
        "all but a floor of 40: {busy}"
    );
    assert_eq!(fleet.rate("wide", 2), 40);
}

#[test]
fn a_late_joiner_is_admitted_to_a_fleet_that_uses_its_whole_budget() {
    let mut fleet = Fleet::new(11, 3, false);
    fleet.demands_stay = true;
    fleet.hosts[2].is_up = false;
    fleet.take_over();
    fleet.run(Duration::from_secs(5));
    assert_eq!(fleet.roster.len(), 2);
    fleet.hosts[2].is_up = true;
    fleet.run(Duration::from_secs(2));
    assert_eq!(fleet.roster.len(), 3);
    let shares: Vec<u64> = (0..3).map(|host| fleet.rate("wide", host)).collect();
    assert!(
        shares.iter().all(|share| share.abs_diff(10_000) <= 150),
        "{shares:?}"
    );
}

#[test]
fn grants_are_renewed_where_a_round_trip_takes_longer_than_a_tick() {
    for latency_ms in [40, 60, 120, 200] {
        let mut fleet = Fleet::new(13, 3, false);
        fleet.latency_ms = latency_ms;
        fleet.take_over();
        fleet.run(Duration::from_secs(5));
        let mut granted = 0;
        for _ in 0..200 {
            fleet.run(Duration::from_millis(50));
            granted += (0..3).map(|host| fleet.rate("wide", host)).sum::<u64>();
        }
        let mean = granted / 200;
        assert!(
            mean >= 20_000,
            "{latency_ms} ms one way: {mean} of 30,000 in use"
        );
    }
}

#[test]
fn a_limit_that_moves_whole_follows_the_traffic() {
    let mut fleet = Fleet::new(17, 2, false);
    fleet.demands_stay = true;
    fleet.take_over();
    for (busy, idle) in [(0, 1), (1, 0)] {
        fleet.hosts[busy].demand = 1_000;
        fleet.hosts[idle].demand = 0;
        fleet.run(Duration::from_secs(30));
        assert_eq!(
            (fleet.rate("narrow", busy), fleet.rate("narrow", idle)),
            (5, 0)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn never_above_budget_whatever_happens(seed: u64, hosts in 1_u64..6) {
        let mut fleet = Fleet::new(seed, hosts, true);
        fleet.take_over();
        fleet.run(Duration::from_secs(20));

    }
}
