//! Runs written down for broken rules that random faults seldom meet: each needs several things to
//! go wrong in a certain order. The same run without the broken rule keeps every promise.

mod keys;

pub use keys::lent;

use std::{collections::BTreeSet, time::Duration};

use weir_coord_core::rules::Mutation;

use crate::{
    load::Pattern,
    mutation::{Broken, KernelFault},
    world::{Settings, World},
};

/// How one goes: from a seed, with or without what is broken.
pub type Scenario = fn(u64, Option<Broken>) -> World;

/// The run that is written down for this, if there is one.
#[must_use]
pub fn scenario(broken: Broken) -> Option<Scenario> {
    match broken {
        Broken::Kernel(KernelFault::BurstOutlivesLease) => Some(burst_spent_twice),
        Broken::Rule(Mutation::EarlierIncarnation) => Some(commit_to_an_earlier_life),
        Broken::Rule(Mutation::FloorBeforeRoster) => Some(registers_lost),
        Broken::Rule(Mutation::FloorGivenAwayEarly) => Some(roster_behind),
        Broken::Rule(Mutation::PolicyForgotten) => Some(policy_unwritten),
        Broken::Rule(Mutation::OwnPartKept) => Some(keys::place_is_another_s),
        Broken::Rule(Mutation::PlacesForgotten) => Some(keys::room_for_more),
        Broken::Rule(Mutation::HotPoolWhole) => Some(keys::many_hosts_one_key),
        Broken::Rule(Mutation::HotPageForgotten) => Some(keys::hot_again),
        Broken::Rule(Mutation::HotKeysUnlearned) => Some(keys::leader_dies),
        Broken::Rule(Mutation::DebtUnpaid | Mutation::LentTwice) => Some(keys::ten_times_as_much),
        _ => None,
    }
}

fn world(seed: u64, nodes: usize, broken: Option<Broken>) -> World {
    World::new(Settings {
        pattern: Some(Pattern::Steady),
        policies: true,
        broken,
        ..Settings::calm(seed, nodes, 600)
    })
}

fn isolate(world: &mut World, places: &[usize], until_ms: u64) {
    let until = world.instant(until_ms);
    let places: BTreeSet<usize> = places.iter().copied().collect();
    world.network.cut(places, true, true, until);
}

/// Two hosts that are idle are cut off. When their leases have ended and others have their bursts,
/// everybody wants a lot.
fn burst_spent_twice(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, 10, broken);
    world.run_until_ms(5_500);
    (0..10).for_each(|host| world.loads[0].set_demand(host, 0.0));
    world.run_until_ms(6_000);
    let leader = world.leader().unwrap_or(0);
    isolate(&mut world, &[(leader + 1) % 10, (leader + 2) % 10], 20_000);
    world.run_until_ms(10_000);
    (0..10).for_each(|host| world.loads[0].set_demand(host, 1_500.0));
    world.run_until_ms(14_000);
    world
}

/// The leader hears late that a host has acknowledged. Meanwhile that host reboots, and has the same
/// proposal again when the commit comes; then it is cut off.
fn commit_to_an_earlier_life(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(1 + seed / 10, 5, broken);
    let begin = 9_000 + 10 * (seed % 10);
    world.run_until_ms(begin);
    let leader = world.leader().unwrap_or(0);
    let host = (leader + 1) % 5;
    let until = world.instant(begin + 300);
    world.network.hold(leader, until);
    world.run_until_ms(begin + 130);
    world.kill(host, true, Duration::from_millis(5));
    world.run_until_ms(begin + 301);
    isolate(&mut world, &[host], 40_000);
    world.run_until_ms(begin + 8_000);
    world
}

/// Larger floors are in force, and the leader does not reach ZooKeeper. One host is cut off, floors
/// get smaller again, and the daemons of all others restart: nobody remembers the register.
fn registers_lost(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, 5, broken);
    world.is_sudden = true;
    world.run_until_ms(8_000);
    world.write_policy();
    world.run_until_ms(8_001 + seed % 8);
    let leader = world.leader().unwrap_or(0);
    let zookeeper = world.zookeeper_place();
    let until = world.instant(11_000);
    world.network.cut_pair(leader, zookeeper, until);
    world.run_until_ms(9_500);
    let cut_off = (leader + 1) % 5;
    isolate(&mut world, &[cut_off], 40_000);
    world.run_until_ms(9_800);
    world.write_policy();
    world.run_until_ms(10_000);
    for host in (0..5).filter(|host| *host != cut_off) {
        world.kill(host, false, Duration::from_millis(50));
    }
    world.run_until_ms(20_000);
    world
}

/// Floors are given up, and the leader dies before the roster says so. One host wants nothing.
fn roster_behind(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, 5, broken);
    world.is_sudden = true;
    world.run_until_ms(7_000);
    world.write_policy();
    world.run_until_ms(8_500);
    world.write_policy();
    world.run_until_ms(11_000);
    let leader = world.leader().unwrap_or(0);
    (0..5).for_each(|host| world.loads[0].set_demand(host, 5_000.0));
    world.loads[0].set_demand((leader + 1) % 5, 0.0);
    world.run_until_ms(13_000);
    world.write_policy();
    world.run_until_ms(13_002 + seed % 8);
    let zookeeper = world.zookeeper_place();
    let until = world.instant(30_000);
    world.network.cut_pair(leader, zookeeper, until);
    world.run_until_ms(14_000);
    world.kill(leader, false, Duration::from_secs(10));
    world.run_until_ms(20_000);
    world
}

/// A lowered budget is in force and acknowledged, and the leader dies before ZooKeeper says so.
fn policy_unwritten(seed: u64, broken: Option<Broken>) -> World {
    let mut world = world(seed, 5, broken);
    world.is_sudden = false;
    world.judge.is_remembered = true;
    world.run_until_ms(7_000);
    world.write_policy();
    world.run_until_ms(10_000);
    world.write_policy();
    world.run_until_ms(10_008 + seed % 8);
    let leader = world.leader().unwrap_or(0);
    let zookeeper = world.zookeeper_place();
    let until = world.instant(30_000);
    world.network.cut_pair(leader, zookeeper, until);
    world.run_until_ms(13_000);
    world.kill(leader, false, Duration::from_secs(10));
    world.run_until_ms(20_000);
    world
}
