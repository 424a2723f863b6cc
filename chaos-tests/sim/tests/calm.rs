//! How a fleet behaves when nothing goes wrong, or one thing at a time.

use std::time::Duration;

use weir_sim::{Pattern, Settings, Summary, World, play_all};

const THREADS: usize = 2;

fn steady(seed: u64, nodes: usize) -> World {
    World::new(Settings {
        pattern: Some(Pattern::Steady),
        ..Settings::calm(seed, nodes, 600)
    })
}

fn total(world: &World, limit: usize) -> f64 {
    (0..world.hosts.len())
        .map(|host| world.rate(limit, host))
        .sum()
}

#[test]
fn a_calm_fleet_uses_the_whole_budget() {
    let mut world = steady(1, 3);
    world.run_until_ms(8_000);
    world.assert_kept();
    assert!(
        total(&world, 0) >= 2_990.0,
        "{} of 3,000 in use",
        total(&world, 0)
    );
}

/// Promises 2 and 3, as far as they can be measured in seconds: skewed and moving traffic.
#[test]
fn nothing_is_wasted_and_shares_are_fair_and_follow_demand() {
    for (pattern, nodes) in [
        (Pattern::Skewed, 10),
        (Pattern::Skewed, 50),
        (Pattern::Moving, 20),
        (Pattern::Steady, 20),
    ] {
        let settings = Settings {
            pattern: Some(pattern),
            ..Settings::calm(1, nodes, 400)
        };
        let summary = Summary::of(&play_all(&settings, 6, THREADS, |_| ()));
        assert_eq!(summary.violations, 0, "{pattern:?}, {nodes} hosts");
        let used = summary.utilisation_p01.expect("there was traffic");
        assert!(used >= 0.98, "{pattern:?}, {nodes} hosts: {used}");
        if let Some(ticks) = summary.convergence_ticks_p99 {
            assert!(ticks <= 3, "{pattern:?}, {nodes} hosts: {ticks} ticks");
        }
        if let Some(jain) = summary.jain_p01 {
            assert!(jain >= 0.99, "{pattern:?}, {nodes} hosts: {jain}");
        }
    }
}

#[test]
fn a_silent_host_gives_back_its_share_but_not_its_floor() {
    let mut world = steady(3, 3);
    world.run_until_ms(8_000);
    let leader = world.leader().expect("there is one");
    let silent = (leader + 1) % 3;
    world.pause(silent, Duration::from_secs(60));
    world.run_until_ms(12_000);
    world.assert_kept();
    let limit = &world.policy.limits[0];
    let floor = limit.scale.tokens_per_second(limit.floor.rate);
    assert!(
        (world.rate(0, silent) - floor).abs() < 0.1,
        "{}",
        world.rate(0, silent)
    );
    let busy = total(&world, 0) - world.rate(0, silent);
    assert!((2_980.0..=3_000.0 - floor).contains(&busy), "{busy} in use");
}

#[test]
fn grants_are_renewed_where_a_round_trip_takes_longer_than_a_tick() {
    for latency_ms in [40, 60, 120, 200] {
        let mut world = steady(13, 3);
        world.network.latency = Some(Duration::from_millis(latency_ms));
        world.run_until_ms(10_000);
        let before = world.admitted(0);
        world.run_until_ms(20_000);
        world.assert_kept();
        let mean = (world.admitted(0) - before) / 10;
        assert!(
            mean >= 2_000,
            "{latency_ms} ms one way: {mean} of 3,000 a second"
        );
    }
}

/// A limit that is too small to be divided is with the host that sees the traffic.
#[test]
fn a_limit_that_moves_whole_is_on_one_host() {
    let mut world = steady(17, 3);
    world.run_until_ms(8_000);
    let rates: Vec<f64> = (0..3).map(|host| world.rate(2, host)).collect();
    assert!((rates.iter().sum::<f64>() - 50.0).abs() < 0.1, "{rates:?}");
    assert_eq!(
        rates.iter().filter(|rate| **rate > 0.0).count(),
        1,
        "{rates:?}"
    );
}

/// What is admitted of what could be, in the ten seconds that begin with the leader's death.
#[test]
fn a_leader_that_dies_costs_next_to_nothing() {
    let mut worst: f64 = 1.0;
    for seed in 1..=30 {
        let mut world = steady(seed, 10);
        world.run_until_ms(10_000 + 7 * seed);
        let leader = world.leader().expect("there is one");
        let before = world.admitted(0);
        world.kill(leader, false, Duration::from_secs(15));
        world.run_until_ms(20_000 + 7 * seed);
        world.assert_kept();
        let admitted = (world.admitted(0) - before) as f64;
        worst = worst.min(admitted / (10_000.0 * 10.0));
    }
    println!("utilisation {worst:.4} at worst");
    assert!(worst >= 0.97, "utilisation {worst}");
}

/// From the death of a leader to the next commit, and before leases end: nobody else's host falls
/// to its floor.
#[test]
fn a_take_over_ends_before_leases_do() {
    let mut gaps = Vec::new();
    for seed in 1..=100 {
        let mut world = steady(seed, 7);
        let killed_ms = 10_000 + 7 * seed;
        world.run_until_ms(killed_ms);
        let leader = world.leader().expect("there is one");
        world.kill(leader, false, Duration::from_secs(15));
        let limit = &world.policy.limits[0];
        let floor = limit.scale.tokens_per_second(limit.floor.rate);
        let mut committed_ms = None;
        for step in 1..=300 {
            let ms = killed_ms + 10 * step;
            world.run_until_ms(ms);
            for host in (0..7).filter(|host| *host != leader) {
                assert!(
                    world.rate(0, host) > 2.0 * floor,
                    "seed {seed}, step {step}, host {host}"
                );
            }
            if committed_ms.is_none() && world.judge.figures.last_commit > world.instant(killed_ms)
            {
                committed_ms = Some(ms - killed_ms);
            }
        }
        world.assert_kept();
        gaps.push(committed_ms.expect("there was a commit"));
    }
    gaps.sort_unstable();
    assert!(
        gaps[98] <= 1_200,
        "p99 {} ms, median {} ms",
        gaps[98],
        gaps[49]
    );
    println!("p99 {} ms, median {} ms", gaps[98], gaps[49]);
}

/// Ticks do not touch ZooKeeper.
#[test]
fn ticks_go_on_while_zookeeper_has_no_quorum() {
    let mut world = steady(5, 7);
    world.run_until_ms(10_000);
    world.zookeeper.down_until = world.instant(40_000);
    let before = world.admitted(0);
    world.run_until_ms(40_000);
    world.assert_kept();
    assert!(world.judge.figures.commit_gap_ms <= 300);
    let admitted = (world.admitted(0) - before) as f64;
    assert!(admitted >= 0.98 * 30.0 * 7_000.0, "{admitted}");
}
