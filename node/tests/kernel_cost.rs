//! What a packet costs, policy by policy. Prints; asserts nothing, since time is the machine's.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use kernel_support::{TestHost, amount, frames, limit, policy, udp_limit};
use weir_model::{
    Amount, HotKey, Limit, LimitId, Nanos, PolicyVersion,
    policy::{Key, Mode, Promise},
};
use weir_node::dataplane::{Dataplane, GrantRequest};

/// The least of so many measurements: what the machine does besides only adds.
const ROUNDS: usize = 60;
const RUNS: u32 = 50_000;

fn aggregate(name: &str, burst: u64) -> Limit {
    let mut limit = limit(name);
    limit.promise = Promise::Local;
    limit.budget = amount(burst, burst);
    limit
}

fn keyed(name: &str, burst: u64) -> Limit {
    let mut limit = aggregate(name, burst);
    limit.per = Some(Key::default());
    limit.floor = limit.budget;
    limit
}

/// Of the one limit whose name says so: whose frames are measured, or another's.
fn heat(dataplane: &mut Dataplane, name: &str, limits: &[Limit]) {
    let source = match name {
        _ if name.starts_with("hot key") => "198.18.0.1/32",
        _ if name.starts_with("key beside a hot one") => "198.18.9.9/32",
        _ => return dataplane.set_hot_keys(&[]).unwrap(),
    };
    let hot = HotKey::new(&limits[0], source.parse().unwrap());
    dataplane.set_hot_keys(&[hot]).unwrap();
    let plenty = if name.contains("passed") { 1 << 30 } else { 0 };
    let grant = GrantRequest {
        limit: hot.id,
        amount: amount(plenty, plenty),
        floor: Amount::ZERO,
        expires: Nanos::NEVER,
    };
    dataplane.install(&[grant]).unwrap();
    assert!(dataplane.count(LimitId::of("k")).unwrap().is_some());
}

fn elastic(mut limit: Limit) -> Limit {
    limit.promise = Promise::Elastic;
    limit
}

fn shadow(mut limit: Limit) -> Limit {
    limit.mode = Mode::Shadow;
    limit
}

#[test]
#[ignore = "a measurement, for a quiet machine"]
fn cost_of_a_packet() {
    const PLENTY: u64 = 1_000_000;
    let prefixes: Vec<String> = (0..200).map(|n| format!("198.18.{n}.0/24")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let rows = [
        ("no limits", vec![]),
        ("aggregate, dropped", vec![aggregate("a", 1)]),
        ("aggregate, passed", vec![aggregate("a", 1_000_000_000)]),
        ("keyed, dropped", vec![keyed("k", 1)]),
        ("keyed, passed", vec![keyed("k", PLENTY)]),
        ("key beside a hot one, dropped", vec![keyed("k", 1)]),
        ("key beside a hot one, passed", vec![keyed("k", PLENTY)]),
        ("hot key, passed", vec![elastic(keyed("k", 1))]),
        ("hot key, dropped", vec![elastic(keyed("k", 1))]),
        (
            "keyed and aggregate, dropped",
            vec![keyed("k", 1), aggregate("a", PLENTY)],
        ),
        (
            "keyed and aggregate, passed",
            vec![keyed("k", PLENTY), aggregate("a", 1_000_000_000)],
        ),
        ("shadow, would drop", vec![shadow(aggregate("a", 1))]),
        (
            "a service among 200, no match",
            vec![udp_limit("s", &prefixes, &[(99, 99)])],
        ),
        (
            "eight aggregates, passed",
            (0..8)
                .map(|n| aggregate(&format!("a{n}"), 1_000_000_000))
                .collect(),
        ),
    ];
    TestHost::run(|host| {
        let mut dataplane = host.load(&host.options(&[])).unwrap();
        let frame = frames::udp(
            "198.18.0.1".parse().unwrap(),
            "198.18.0.2".parse().unwrap(),
            (4_000, 53),
            60,
        );
        for (version, (name, limits)) in (1..).zip(rows) {
            dataplane
                .activate(&policy(limits.clone()), PolicyVersion(version))
                .unwrap();
            heat(&mut dataplane, name, &limits);
            for one_in in [0, 64] {
                dataplane.set_sampling(one_in).unwrap();
                let least = (0..ROUNDS)
                    .map(|_| {
                        let _ = dataplane.samples(100_000);
                        dataplane.frame_cost_ns(&frame, RUNS).unwrap()
                    })
                    .min()
                    .unwrap();
                println!("{least:>4} ns  {name}, sampling 1 in {one_in}");
            }
        }
    });
}
