//! Keyed limits and jumbo frames in the kernel.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{net::IpAddr, thread};

use kernel_support::{TestHost, Wire, amount, frames, ip, limit, policy, wait_for};
use weir_abi::Reason;
use weir_model::{
    Cost, Limit, LimitId, Nanos, PolicyVersion, Scale, Units,
    policy::{Key, Promise},
};
use weir_node::dataplane::{self, Dataplane};

/// A limit of this rate and burst for each source, on this host alone.
fn per_source(rate: u64, burst: u64) -> Limit {
    let mut limit = limit("per-source");
    limit.promise = Promise::Local;
    limit.per = Some(Key::default());
    limit.budget = amount(rate, burst);
    limit.floor = limit.budget;
    limit
}

fn from(source: &str) -> Vec<u8> {
    let source: IpAddr = source.parse().unwrap();
    let destination = if source.is_ipv4() {
        "198.18.0.2"
    } else {
        "2001:db8::2"
    };
    frames::udp(source, destination.parse().unwrap(), (4_000, 53), 60)
}

fn passed(dataplane: &Dataplane, source: &str, packets: u32) -> usize {
    (0..packets)
        .filter(|_| dataplane.run_frame(&from(source)).unwrap())
        .count()
}

#[test]
fn each_source_has_a_bucket_of_its_own() {
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        dataplane.set_test_clock(Nanos(5_000_000_000)).unwrap();
        dataplane
            .activate(&policy([per_source(10, 4)]), PolicyVersion(1))
            .unwrap();
        for source in ["198.18.0.1", "198.18.0.9", "2001:db8:0:1::1"] {
            assert_eq!(passed(&dataplane, source, 10), 4, "{source}");
        }
        // Another address of the same /64, and one of another.
        assert_eq!(passed(&dataplane, "2001:db8:0:1::ffff", 10), 0);
        assert_eq!(passed(&dataplane, "2001:db8:0:2::1", 10), 4);
        // A tenth of a second is a token.
        dataplane.set_test_clock(Nanos(5_100_000_000)).unwrap();
        assert_eq!(passed(&dataplane, "198.18.0.1", 10), 1);
        // The same limit in another policy goes on with the same buckets.
        dataplane
            .activate(
                &policy([per_source(10, 4), limit("another")]),
                PolicyVersion(2),
            )
            .unwrap();
        assert_eq!(passed(&dataplane, "198.18.0.1", 10), 0);
    });
}

/// Half the rate has other units, as do twice the rate and another burst: what a key owes is a time.
#[test]
fn a_policy_that_gives_a_limit_other_units_refills_no_bucket_of_a_key() {
    let document = |rate: u32, burst: u32| {
        let text = format!(
            "version = 1\n[[limit]]\nname = \"per-source\"\npromise = \"local\"\n\
             per = {{ source_v4 = 32, source_v6 = 64 }}\nrate = \"{rate} packets/s\"\n\
             burst = \"{burst} packets\"\n"
        );
        weir_model::file::parse(&text).unwrap()
    };
    let policies =
        [(1_000, 64), (250, 16), (16_000, 1_024)].map(|(rate, burst)| document(rate, burst));
    let revisions = policies.each_ref().map(|policy| policy.limits[0].revision);
    assert_ne!(revisions[0], revisions[1]);
    assert_ne!(revisions[1], revisions[2]);
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        dataplane.set_test_clock(Nanos(5_000_000_000)).unwrap();
        for (policy, version) in policies.iter().zip(1..) {
            dataplane.activate(policy, PolicyVersion(version)).unwrap();
            let expected = if version == 1 { 64 } else { 0 };
            assert_eq!(passed(&dataplane, "198.18.0.1", 100), expected, "{version}");
        }
        // A key that owes nothing has all of the burst.
        assert_eq!(passed(&dataplane, "198.18.0.2", 2_000), 1_024);
    });
}

/// Two CPUs charge the same key: what passes is what one would have let pass.
#[test]
fn one_key_from_two_cpus_is_admitted_exactly() {
    const RATE: u64 = 20_000;
    const BURST: u64 = 200;
    const MILLIS: u64 = 500;
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        dataplane
            .activate(&policy([per_source(RATE, BURST)]), PolicyVersion(1))
            .unwrap();
        let near = Wire::open("near");
        let begin = dataplane::now();
        let end = Nanos(begin.0 + MILLIS * 1_000_000);
        let send = || {
            let far = Wire::open_in("far", host.namespace());
            let frame = from("198.18.0.1");
            let mut sent = 0_u64;
            while dataplane::now() < end {
                far.send(&frame);
                sent += 1;
            }
            sent
        };
        let sent: u64 = thread::scope(|scope| {
            let senders = [scope.spawn(send), scope.spawn(send)];
            senders.map(|sender| sender.join().unwrap()).iter().sum()
        });
        let received = || dataplane.counters().unwrap().totals.received.packets;
        wait_for("all packets", || received() == sent);
        let seconds = (dataplane::now() - begin).as_secs_f64();
        let counted = dataplane.counters().unwrap().limits[0].counters;
        let passed = near.drain() as f64;
        assert_eq!(passed, counted.passed.packets as f64);
        let allowed = RATE as f64 * seconds + BURST as f64;
        assert!(passed <= allowed, "{passed} of {allowed} at most");
        let lost = counted.contended.packets as f64;
        println!("{sent} offered, {passed} of {allowed} admitted, {lost} lost to races");
        assert!(
            lost <= 0.001 * sent as f64,
            "{lost} of {sent} lost to races"
        );
    });
}

#[test]
fn jumbo_frames_are_counted_to_the_byte() {
    const BYTES: usize = 9_014;
    TestHost::run(|host| {
        host.wire("near", "far");
        for name in ["near", "far"] {
            ip(&["link", "set", name, "mtu", "9000"]);
        }
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        let mut bits = limit("bits");
        bits.promise = Promise::Local;
        bits.cost = Cost::Bits;
        bits.overhead_bytes = 24;
        bits.scale = Scale { fraction_bits: 0 };
        bits.smallest_burst = Units(12_144);
        let cost = (BYTES as u64 + 24) * 8;
        bits.budget = amount(cost * 1_000, cost * 3);
        dataplane
            .activate(&policy([bits]), PolicyVersion(1))
            .unwrap();
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        let (source, destination) = ("198.18.0.1".parse().unwrap(), "198.18.0.2".parse().unwrap());
        far.send(&frames::udp(source, destination, (4_000, 53), BYTES));
        let counted = || {
            dataplane
                .count(LimitId::of("bits"))
                .unwrap()
                .unwrap()
                .counters
        };
        let offered = || counted().passed.packets + counted().over_limit.packets;
        wait_for("the frame", || offered() == 1);
        wait_for("a full bucket", || {
            far.send(&frames::udp(source, destination, (4_000, 53), BYTES));
            counted().passed.packets >= 1
        });
        let counted = counted();
        assert_eq!(counted.passed.bytes, counted.passed.packets * BYTES as u64);
        assert_eq!(counted.passed.tokens, counted.passed.packets * cost);
        let received = near.receive().unwrap();
        assert_eq!(received.len(), BYTES);
        let reason = Reason::Unparsed as usize;
        let totals = dataplane.counters().unwrap().totals;
        assert_eq!(totals.by_reason[reason].packets, 0);
    });
}
