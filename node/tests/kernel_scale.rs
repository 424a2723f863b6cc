//! The largest policy: 65,536 limits on 100,000 services.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{collections::BTreeMap, net::Ipv4Addr, process::Command, time::Instant};

use kernel_support::{TestHost, amount, frames, limit, policy};
use weir_abi::maps;
use weir_model::{
    Limit, LimitId, PolicyVersion,
    policy::{MAX_LIMITS, Promise},
    prefix::Prefix,
};
use weir_node::dataplane::Sizes;

/// Destinations with limits of their own.
const SERVICES: u32 = 100_000;
/// What all maps together may take.
const MOST_BYTES: u64 = 256 << 20;
const BURST: u64 = 2;

fn address(number: u32) -> Ipv4Addr {
    // In 10.0.0.0/8, with gaps.
    Ipv4Addr::from(0x0a00_0000 + number * 7)
}

/// Each limit is for one or two of the services.
fn largest() -> Vec<Limit> {
    let limits = MAX_LIMITS as u32;
    let mut largest: Vec<Limit> = (0..limits)
        .map(|number| {
            let mut limit = limit(&format!("limit-{number}"));
            limit.promise = Promise::Local;
            limit.budget = amount(1, BURST);
            limit
        })
        .collect();
    for service in 0..SERVICES {
        let to = Prefix::containing(address(service).into(), 32).unwrap();
        largest[(service % limits) as usize].matches.to.push(to);
    }
    largest
}

fn frame(service: u32) -> Vec<u8> {
    frames::udp(
        "198.18.0.1".parse().unwrap(),
        address(service).into(),
        (4_000, 53),
        60,
    )
}

#[test]
fn the_largest_policy_is_loaded_and_enforced() {
    TestHost::run(|host| {
        let mut options = host.options(&[]);
        options.clock = weir_node::dataplane::Clock::Test;
        options.sizes = Sizes {
            limit_slots: maps::MAX_SLOTS as u32,
            ..Sizes::default()
        };
        let largest = policy(largest());
        let begin = Instant::now();
        let mut dataplane = host.load(&options).unwrap();
        let loaded = begin.elapsed();
        // Above the second that fills a burst.
        dataplane
            .set_test_clock(weir_model::Nanos(1_000_000_000))
            .unwrap();
        dataplane.activate(&largest, PolicyVersion(1)).unwrap();
        let first = begin.elapsed();
        dataplane
            .set_test_clock(weir_model::Nanos(10_000_000_000))
            .unwrap();
        for service in [0, 1, 65_535, 65_536, 77_777, SERVICES - 1] {
            let passed = (0..5)
                .filter(|_| dataplane.run_frame(&frame(service)).unwrap())
                .count();
            // Two services of one limit share its bucket.
            let expected = if service == 65_536 { 0 } else { BURST as usize };
            assert_eq!(passed, expected, "service {service}");
        }
        // A neighbour without limits.
        assert!(dataplane.run_frame(&frame(SERVICES)).unwrap());

        // The next policy takes its place while this one is in force, and keeps the buckets.
        let begin = Instant::now();
        dataplane.activate(&largest, PolicyVersion(2)).unwrap();
        let again = begin.elapsed();
        assert!(!dataplane.run_frame(&frame(77_777)).unwrap());

        let bytes = pinned_bytes(&options.bpffs.join("weir/test"));
        println!(
            "loaded in {loaded:?}, enforced after {first:?}, replaced in {again:?}; {} MiB",
            bytes >> 20
        );
        assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    });
}

/// Counters are read together where slots are neighbours, which they are no more when most limits have left
/// the policy.
#[test]
fn limits_are_counted_together_wherever_their_slots_are() {
    const LIMITS: u32 = 300;
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        let named = |number: u32| {
            let mut limit = limit(&format!("limit-{number}"));
            limit.promise = Promise::Local;
            limit.budget = amount(1, 1_000);
            let to = Prefix::containing(address(number).into(), 32).unwrap();
            limit.matches.to.push(to);
            limit
        };
        let activate = |dataplane: &mut weir_node::dataplane::Dataplane, step: u32, version| {
            let limits = (0..LIMITS).filter(|number| number % step == 0).map(named);
            dataplane
                .activate(&policy(limits), PolicyVersion(version))
                .unwrap();
        };
        activate(&mut dataplane, 1, 1);
        for number in 0..LIMITS {
            for _ in 0..number % 7 {
                dataplane.run_frame(&frame(number)).unwrap();
            }
        }
        // Neighbours, neighbours with holes, and slots that are too far from each other for that.
        for (step, version) in [(1, 2), (3, 3), (8, 4), (9, 5), (100, 6)] {
            activate(&mut dataplane, step, version);
            let expected: BTreeMap<LimitId, u64> = (0..LIMITS)
                .filter(|number| number % step == 0)
                .map(|number| (named(number).id, u64::from(number % 7)))
                .collect();
            let counted = dataplane.counters().unwrap().limits.into_iter();
            let counted = counted.map(|count| (count.limit, count.offered_tokens()));
            assert_eq!(counted.collect::<BTreeMap<_, _>>(), expected);
            // In any order, some twice, and some that there are not.
            let asked: Vec<u32> = (0..2 * LIMITS)
                .map(|index| index * 77 % (LIMITS + 9))
                .collect();
            let ids: Vec<LimitId> = asked.iter().map(|number| named(*number).id).collect();
            let counted = dataplane.count_all(&ids).unwrap();
            assert_eq!(counted.len(), ids.len());
            for (id, counted) in ids.iter().zip(counted) {
                let counted = counted.map(|count| (count.limit, count.offered_tokens()));
                let expected = expected.get(id).map(|packets| (*id, *packets));
                assert_eq!(counted, expected);
            }
        }
    });
}

/// What the kernel takes for the maps that are pinned below a directory, in bytes.
fn pinned_bytes(directory: &std::path::Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sum += pinned_bytes(&path);
            continue;
        }
        let output = Command::new("bpftool")
            .args(["--json", "map", "show", "pinned", path.to_str().unwrap()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let bytes = text
            .split_once("\"bytes_memlock\":")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next());
        sum += bytes
            .and_then(|bytes| bytes.parse::<u64>().ok())
            .unwrap_or(0);
    }
    sum
}
