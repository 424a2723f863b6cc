//! Runs for what is special about keys and elastic limits.

use std::time::Duration;

use super::{Broken, Pattern, Settings, World, isolate};
use crate::{
    keys::{Source, Spread, source},
    limits::SCALE,
};

/// The number of the elastic limit.
pub(super) const ELASTIC: usize = 3;
/// Numbers of the keyed limits, behind the leased ones.
const STRICT_KEYS: usize = 4;
const ELASTIC_KEYS: usize = 5;

/// A fifth of a tick, in seconds: counters that come once a tick do not tell debts apart that are
/// smaller.
const UNNOTICED_S: f64 = 0.02;

/// A calm fleet with these sources alone.
fn world(seed: u64, broken: Option<Broken>, sources: impl FnOnce(&World) -> Vec<Source>) -> World {
    let mut world = World::new(Settings {
        pattern: Some(Pattern::Steady),
        keys: true,
        broken,
        ..Settings::calm(seed, 5, 600)
    });
    world.sources = sources(&world);
    world
}

fn spread(world: &World, limit: usize, spread: Spread, parts: f64) -> Vec<Source> {
    let limits = &world.policies.of(world.zookeeper.in_force.version).limits;
    vec![source(&limits[limit], spread, parts, 1)]
}

/// One key that wants ten times its rate everywhere.
pub(super) fn many_hosts_one_key(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, broken, |world| {
        spread(world, STRICT_KEYS, Spread::AllHosts, 10.0)
    });
    world.run_until_ms(12_000);
    world
}

/// Every place is taken. A member that does not reach ZooKeeper is removed, and another host has its place.
pub(super) fn place_is_another_s(seed: u64, broken: Option<Broken>) -> World {
    let mut world = World::new(Settings {
        pattern: Some(Pattern::Steady),
        keys: true,
        spares: 1,
        broken,
        ..Settings::calm(seed, 4, 600)
    });
    world.sources = spread(&world, STRICT_KEYS, Spread::AllHosts, 10.0);
    world.run_until_ms(8_000 + 10 * (seed % 10));
    let leader = world.leader();
    let mut hosts = 0..world.hosts.len();
    let Some(leaving) = hosts.find(|host| world.hosts[*host].is_member && Some(*host) != leader)
    else {
        return world;
    };
    let zookeeper = world.zookeeper_place();
    let until = world.instant(40_000);
    world.network.cut_pair(leaving, zookeeper, until);
    world.removals.insert(leaving, false);
    world.run_until_ms(20_000);
    world
}

/// Every place is taken. A member is cut off, and the next policy has room for twice as many: the one that
/// is cut off gives keys a larger part of their budget than others will.
pub(super) fn room_for_more(seed: u64, broken: Option<Broken>) -> World {
    let mut world = World::new(Settings {
        pattern: Some(Pattern::Steady),
        keys: true,
        spares: 4,
        has_room_later: true,
        broken,
        ..Settings::calm(seed, 8, 600)
    });
    world.is_sudden = false;
    world.sources = spread(&world, STRICT_KEYS, Spread::AllHosts, 10.0);
    world.run_until_ms(8_000 + 10 * (seed % 10));
    let leader = world.leader();
    let mut hosts = 0..world.hosts.len();
    let Some(cut_off) = hosts.find(|host| world.hosts[*host].is_member && Some(*host) != leader)
    else {
        return world;
    };
    isolate(&mut world, &[cut_off], 40_000);
    world.write_policy();
    world.run_until_ms(25_000);
    world
}

/// A key is quiet until it is hot no more. At that instant two hosts are cut off, with what they hold
/// of it, and all want it again.
pub(super) fn hot_again(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, broken, |world| {
        spread(world, STRICT_KEYS, Spread::AllHosts, 10.0)
    });
    world.run_until_ms(8_000 + 10 * (seed % 10));
    let demand = std::mem::take(&mut world.sources[0].demand);
    let is_hot = |world: &World| {
        let leader = world
            .leader()
            .and_then(|host| world.hosts[host].daemon.as_ref());
        let leader = leader.and_then(|daemon| daemon.leader.as_ref());
        leader.is_some_and(|leader| leader.hot_keys().next().is_some())
    };
    while is_hot(&world) && world.elapsed_ms() < 30_000 && world.judge.violation.is_none() {
        world.run_until_ms(world.elapsed_ms() + 1);
    }
    let leader = world.leader().unwrap_or(0);
    let until = world.elapsed_ms() + 10_000;
    isolate(&mut world, &[(leader + 1) % 5, (leader + 2) % 5], until);
    world.sources[0].demand = demand;
    world.run_until_ms(world.elapsed_ms() + 4_000);
    world
}

/// A source sprays all hosts, each below what it gives a key; then the leader dies. The next one says
/// nothing about keys until it knows them, so none is back at its whole rate on every host.
pub(super) fn leader_dies(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, broken, |world| {
        spread(world, ELASTIC_KEYS, Spread::AllHosts, 4.0)
    });
    world.run_until_ms(9_000 + 13 * seed);
    if !world.is_merged(0) {
        world
            .judge
            .blame("merge", "the key is not hot everywhere".into());
        return world;
    }
    let leader = world.leader().unwrap_or(0);
    world.kill(leader, false, Duration::from_secs(30));
    let rate = SCALE.tokens_per_second(world.sources[0].limit.budget.rate);
    let mut before = world.sources[0].admitted;
    for _ in 0..30 {
        world.run_until_ms(world.elapsed_ms() + 200);
        let admitted = (world.sources[0].admitted - before) as f64 * 5.0;
        before = world.sources[0].admitted;
        // Within so short a time all of the burst may come too.
        if admitted > 1.1 * rate + 5.0 * 55.0 {
            let details = format!("{admitted} a second of {rate} after the leader's death");
            world.judge.blame("promise 1, of a key", details);
        }
    }
    world
}

/// What a limit owes when demand is ten times as much at once.
#[derive(Clone, Copy, Debug)]
pub struct Lent {
    /// The most that was admitted above rate and burst, in seconds of budget.
    pub excess_s: f64,
    /// From then until no more is owed than goes unnoticed, 0.02 seconds of budget, in milliseconds;
    /// `None` if it did not end.
    pub repaid_ms: Option<u64>,
}

/// Demand for the elastic limit goes from a tenth and a half of its rate to ten times that.
pub(super) fn ten_times_as_much(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, broken, |_| Vec::new());
    // First the fleet forms, under load.
    world.run_until_ms(9_000);
    let lent = lent(&mut world, ELASTIC, true);
    match lent.repaid_ms {
        Some(ms) if ms <= 1_000 => {}
        other => {
            let details = format!(
                "{:.4} s of budget, repaid after {other:?} ms",
                lent.excess_s
            );
            world.judge.blame("elastic", details);
        }
    }
    world
}

/// Plays a ten-fold step of demand for one limit, at every host or at one, and looks at the bucket of a
/// receiver that was promised its rate and burst and no excess.
pub fn lent(world: &mut World, number: usize, everywhere: bool) -> Lent {
    let limit = world.policy.limits[number].clone();
    let rate = SCALE.tokens_per_second(limit.budget.rate);
    let burst = SCALE.tokens(limit.budget.burst) - SCALE.tokens(limit.lent_burst());
    let hosts = world.hosts.len();
    for host in 0..hosts {
        world.loads[number].set_demand(host, 0.15 * rate / hosts as f64);
    }
    world.run_until_ms(world.elapsed_ms() + 12_000);
    for host in 0..hosts {
        let demand = if everywhere {
            1.5 * rate / hosts as f64
        } else {
            0.0
        };
        let demand = if host == 0 && !everywhere {
            1.5 * rate
        } else {
            demand
        };
        world.loads[number].set_demand(host, demand);
    }
    let (mut level, mut most, mut repaid_ms, mut peak_ms) = (0.0_f64, 0.0_f64, None, 0);
    let mut before = world.admitted(number);
    for _ in 0..400 {
        world.run_until_ms(world.elapsed_ms() + 10);
        let admitted = world.admitted(number);
        level = (level - rate * 0.01).max(0.0) + (admitted - before) as f64;
        before = admitted;
        let owed = level - burst;
        let now_ms = world.elapsed_ms();
        if owed > most {
            (most, peak_ms, repaid_ms) = (owed, now_ms, None);
        }
        if owed <= rate * UNNOTICED_S && repaid_ms.is_none() {
            repaid_ms = Some(now_ms - peak_ms);
        }
    }
    Lent {
        excess_s: most / rate,
        repaid_ms: if most > 0.0 { repaid_ms } else { Some(0) },
    }
}
