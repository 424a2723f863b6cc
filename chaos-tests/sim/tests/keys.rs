//! Limits with keys, and an elastic one: single keys as their receivers see them.

use weir_coord_core::rules::Mutation;
use weir_model::hot::MAX_HOT_KEYS_PER_LIMIT;
use weir_sim::{
    Broken, Pattern, Settings, Summary, World,
    directed::{lent, scenario},
    keys::{Spread, source},
    mutations::hunt,
    play_all,
};

const THREADS: usize = 2;

fn with_keys(settings: Settings) -> Settings {
    Settings {
        keys: true,
        ..settings
    }
}

/// The source of this number of a policy's keyed limits, in tokens a second over some seconds.
fn rate(world: &mut World, source: usize, seconds: u64) -> f64 {
    let before = world.sources[source].admitted;
    world.run_until_ms(world.elapsed_ms() + 1_000 * seconds);
    (world.sources[source].admitted - before) as f64 / seconds as f64
}

#[test]
fn every_key_gets_its_rate_and_no_more() {
    let mut world = World::new(with_keys(Settings::calm(1, 5, 600)));
    world.run_until_ms(10_000);
    let strict = 500.0;
    let elastic = 1_000.0;
    for (source, least, most) in [
        // One host: the half that is for hot keys, and its own part of the other.
        (0, 0.59 * strict, 0.61 * strict),
        (1, 0.98 * strict, strict),
        // Below every host's share.
        (2, 0.39 * strict, 0.41 * strict),
        (5, 0.97 * elastic, 1.1 * elastic),
        (6, 0.97 * elastic, 1.1 * elastic),
        (7, 0.39 * elastic, 0.41 * elastic),
    ] {
        let rate = rate(&mut world, source, 5);
        world.assert_kept();
        assert!((least..=most).contains(&rate), "source {source}: {rate}");
    }
}

#[test]
fn no_key_is_above_its_limit_whatever_happens() {
    for (nodes, seeds) in [(3, 40), (5, 60), (12, 20)] {
        let settings = with_keys(Settings::rough(1, nodes, 600));
        let outcomes = play_all(&settings, seeds, THREADS, |outcome| {
            if let Some(violation) = &outcome.violation {
                eprintln!("{nodes} hosts, seed {}: {violation}", outcome.seed);
            }
        });
        assert_eq!(Summary::of(&outcomes).violations, 0, "{nodes} hosts");
    }
}

/// Hosts are removed, and others have their places: who is no member gives keys nothing. And policies that
/// have room for more come while some go by one that has not.
#[test]
fn no_key_is_above_its_limit_while_hosts_take_places_of_others() {
    let fleets = [(3, 1, 40), (5, 2, 40), (8, 4, 20)];
    let fleets = fleets
        .into_iter()
        .flat_map(|fleet| [(fleet, false), (fleet, true)]);
    for ((nodes, spares, seeds), has_room_later) in fleets {
        let settings = Settings {
            spares,
            has_room_later,
            ..with_keys(Settings::rough(1, nodes, 600))
        };
        let outcomes = play_all(&settings, seeds, THREADS, |outcome| {
            if let Some(violation) = &outcome.violation {
                eprintln!("{nodes} hosts, seed {}: {violation}", outcome.seed);
            }
        });
        let removals: u64 = outcomes.iter().map(|outcome| outcome.faults.removals).sum();
        assert!(removals > seeds / 2, "{removals} removals");
        assert_eq!(Summary::of(&outcomes).violations, 0, "{nodes} hosts");
    }
}

/// The figure: ten times the demand at once.
#[test]
fn ten_times_the_demand_is_lent_a_tenth_of_a_second_and_paid_back() {
    for (number, name) in [(3, "elastic"), (0, "strict")] {
        for everywhere in [true, false] {
            let mut world = World::new(Settings {
                pattern: Some(Pattern::Steady),
                ..with_keys(Settings::calm(1, 10, 600))
            });
            let lent = lent(&mut world, number, everywhere);
            world.assert_kept();
            println!(
                "{name}, {}: {:.4} s of budget above rate and burst, repaid after {:?} ms",
                if everywhere {
                    "at every host"
                } else {
                    "at one host"
                },
                lent.excess_s,
                lent.repaid_ms
            );
            if number == 0 {
                assert!(lent.excess_s <= 0.0, "strict: {lent:?}");
            } else {
                assert!(lent.excess_s <= 0.1, "{lent:?}");
                assert!(lent.repaid_ms.is_some_and(|ms| ms <= 1_000), "{lent:?}");
            }
        }
    }
}

/// A sprayed key that is elastic has its whole rate on every host until it is merged.
#[test]
fn a_sprayed_elastic_key_is_merged_within_a_second() {
    let mut worst_ms = 0;
    for seed in 1..=20 {
        let mut world = World::new(with_keys(Settings::calm(seed, 10, 600)));
        let sprayed = std::mem::take(&mut world.sources[6].demand);
        world.run_until_ms(9_000 + 17 * seed);
        assert!(!world.is_merged(6));
        world.sources[6].demand = sprayed;
        let begin = world.elapsed_ms();
        while !world.is_merged(6) {
            world.run_until_ms(world.elapsed_ms() + 10);
            assert!(world.elapsed_ms() < begin + 1_000, "seed {seed}");
        }
        worst_ms = worst_ms.max(world.elapsed_ms() - begin);
        let rate = rate(&mut world, 6, 3);
        world.assert_kept();
        assert!((970.0..=1_100.0).contains(&rate), "seed {seed}: {rate}");
    }
    println!("merged within {worst_ms} ms");
}

/// Beyond 64 hot keys of a limit the others stay as they are: a strict one is never above its limit.
#[test]
fn more_keys_than_can_be_hot_are_no_way_around_a_limit() {
    let mut world = World::new(with_keys(Settings::calm(3, 5, 600)));
    let limit = world.sources[0].limit.clone();
    world.sources = (1..=80)
        .map(|number| source(&limit, Spread::AllHosts, 3.0, number))
        .collect();
    world.run_until_ms(12_000);
    world.assert_kept();
    let merged = (0..80).filter(|source| world.is_merged(*source)).count();
    assert_eq!(merged, MAX_HOT_KEYS_PER_LIMIT);
}

/// What is special about keys and elastic limits is found if it is broken, and only then.
#[test]
fn broken_rules_of_keys_are_found() {
    for mutation in [
        Mutation::OwnPartKept,
        Mutation::PlacesForgotten,
        Mutation::HotPoolWhole,
        Mutation::HotPageForgotten,
        Mutation::HotKeysUnlearned,
        Mutation::DebtUnpaid,
        Mutation::LentTwice,
    ] {
        let broken = Broken::Rule(mutation);
        let scenario = scenario(broken).expect("it is written down");
        for seed in 1..=5 {
            scenario(seed, None).assert_kept();
        }
        println!("{mutation:?}: {}", hunt(mutation).expect("it is found"));
    }
}

/// A policy gives a limit other units while a host that holds some of a hot key is cut off, and
/// enforces the old one: there is no second budget for the key.
#[test]
fn a_limit_whose_units_change_has_one_budget_for_a_hot_key() {
    for seed in 1..=10 {
        let mut world = World::new(Settings {
            pattern: Some(Pattern::Steady),
            ..with_keys(Settings::calm(seed, 5, 600))
        });
        let limit = world.sources[0].limit.clone();
        world.sources = vec![source(&limit, Spread::AllHosts, 10.0, 1)];
        for _ in 0..2 {
            world.write_policy();
        }
        world.run_until_ms(9_000 + 10 * (seed % 10));
        assert!(world.is_merged(0));
        let leader = world.leader().expect("the fleet has formed");
        let until = world.instant(20_000);
        let cut_off = [(leader + 1) % 5, (leader + 2) % 5].into();
        world.network.cut(cut_off, true, true, until);
        let former = world.hosts[leader].policy;
        world.write_policy();
        world.run_until_ms(14_000);
        let changed = world.hosts[leader].policy;
        let revision = |version| {
            world
                .policies
                .of(version)
                .limit(limit.id)
                .map(|limit| limit.revision)
        };
        assert_ne!(revision(former), revision(changed), "seed {seed}");
        world.assert_kept();
    }
}
