//! Limits with keys, and an elastic one: single keys as their receivers see them.

use weir_sim::{Settings, Summary, World, play_all};

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
