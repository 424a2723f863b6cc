//! The same packets through the kernel and through the host's code come to the same.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::net::IpAddr;

use kernel_support::{
    TestHost, amount, frames,
    host::{HostKernel, check_totals},
    limit, policy, udp_limit,
};
use weir_abi::Reason;
use weir_model::{
    Amount, Cost, LimitId, Nanos, Policy, PolicyVersion, Scale,
    policy::{Mode, Promise, Protocol},
};
use weir_node::dataplane::{Dataplane, GrantRequest, InstallOutcome};

/// SplitMix64, so that a seed is all that a failure needs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Limits that overlap in every way: nested destinations, ports, sources, costs, shadow.
fn overlapping() -> Policy {
    let mut sourced = udp_limit("sourced", &["192.0.2.0/24"], &[]);
    sourced.matches.from = vec![
        "198.18.0.0/16".parse().unwrap(),
        "198.19.7.0/24".parse().unwrap(),
    ];
    let mut narrow = udp_limit(
        "narrow",
        &["192.0.2.53/32", "2001:db8::53/128"],
        &[(53, 53)],
    );
    narrow.matches.from = vec![
        "198.18.3.0/24".parse().unwrap(),
        "2001:db8:1::/48".parse().unwrap(),
    ];
    let mut bits = limit("bits");
    bits.cost = Cost::Bits;
    bits.scale = Scale { fraction_bits: 10 };
    bits.matches.to = vec![
        "192.0.2.0/24".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    let mut shadow = limit("shadow");
    shadow.mode = Mode::Shadow;
    shadow.scale = Scale { fraction_bits: 20 };
    let mut tcp = limit("tcp");
    tcp.matches.protocol = Protocol::Tcp;
    tcp.matches.to = vec!["0.0.0.0/0".parse().unwrap()];
    let mut icmp = limit("icmp");
    icmp.matches.protocol = Protocol::Icmp;
    let dns = udp_limit(
        "dns",
        &["192.0.2.53/32", "2001:db8::53/128"],
        &[(53, 53), (8000, 8099)],
    );
    policy([dns, sourced, narrow, bits, shadow, tcp, icmp])
}

fn frame(random: &mut Random) -> Vec<u8> {
    let sources = ["198.18.3.9", "198.18.200.1", "198.19.7.7", "203.0.113.5"].map(address);
    let sources6 = ["2001:db8:1::1", "2001:db8:2::1"].map(address);
    let destinations = ["192.0.2.53", "192.0.2.54", "203.0.113.80"].map(address);
    let destinations6 = ["2001:db8::53", "2001:db8::54", "2001:db9::1"].map(address);
    let ports = [53, 54, 8000, 8050, 8099, 8100];
    let (source, destination) = if random.below(3) == 0 {
        (*random.pick(&sources6), *random.pick(&destinations6))
    } else {
        (*random.pick(&sources), *random.pick(&destinations))
    };
    let ports = (4_000, *random.pick(&ports));
    let bytes = *random.pick(&[60, 64, 590, 1514]);
    let mut frame = match random.below(8) {
        0 => frames::tcp(source, destination, ports),
        1 => {
            let protocol = if source.is_ipv4() { 1 } else { 58 };
            // Echo requests, and errors, which always pass.
            let kind = *random.pick(&[8, 3, 128]);
            frames::ip(
                source,
                destination,
                protocol,
                &[kind, 0, 0, 0, 0, 0, 0, 0],
                60,
            )
        }
        2 => match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frames::later_fragment(source, destination)
            }
            _ => frames::ip(
                source,
                destination,
                44,
                &[17, 0, 0, 8, 0, 0, 0, 1, 0, 9, 9, 9],
                70,
            ),
        },
        // Destination options, then UDP.
        3 if source.is_ipv6() => {
            let mut payload = vec![17, 0, 1, 4, 0, 0, 0, 0];
            payload.extend(ports.0.to_be_bytes());
            payload.extend(ports.1.to_be_bytes());
            frames::ip(source, destination, 60, &payload, bytes)
        }
        4 => frames::arp(),
        _ => frames::udp(source, destination, ports, bytes),
    };
    if random.below(6) == 0 {
        frame = frames::tagged(&frame, 0x8100);
        if random.below(2) == 0 {
            frame = frames::tagged(&frame, 0x88a8);
        }
    }
    // Cut short, now and then; the kernel takes no less than an Ethernet header.
    if random.below(10) == 0 {
        frame.truncate(14 + random.below(50) as usize);
    }
    frame
}

fn grant(random: &mut Random, policy: &Policy, now: u64) -> GrantRequest {
    let limit = random.pick(&policy.limits);
    let scale = limit.scale.fraction_bits;
    let token = match limit.cost {
        Cost::Packets | Cost::Connections => 1,
        Cost::Bits => 5_000,
    };
    let mut any = |most: u64| {
        amount(
            random.below(most * token) << scale,
            random.below(20 * token) << scale,
        )
    };
    let (granted, floor) = (any(3_000), any(300));
    let expires = match random.below(5) {
        0 => now.saturating_sub(random.below(1_000_000)),
        1 => u64::MAX,
        _ => now + random.below(200_000_000),
    };
    GrantRequest {
        limit: limit.id,
        amount: if random.below(6) == 0 {
            Amount::ZERO
        } else {
            granted
        },
        floor,
        expires: Nanos(expires),
    }
}

#[test]
fn kernel_and_host_come_to_the_same() {
    const SEEDS: u64 = 4;
    const STEPS: u64 = 4_000;
    const START: u64 = 1 << 40;
    TestHost::run(|host| {
        let policy = overlapping();
        let mut dataplane = host.load_detached();
        for seed in 0..SEEDS {
            let mut random = Random(seed);
            let mut now = START + seed;
            dataplane.set_test_clock(Nanos(now)).unwrap();
            // Other names each time, so that all buckets are new.
            let mut policy = policy.clone();
            let renamed = policy.limits.into_iter().map(|mut limit| {
                limit.name.push_str(&format!("-{seed}"));
                limit.id = LimitId::of(&limit.name);
                limit
            });
            policy.limits = renamed.collect();
            dataplane
                .activate(&policy, PolicyVersion(seed + 1))
                .unwrap();
            let before = dataplane.counters().unwrap().totals;
            let mut on_host = HostKernel::new(policy.clone(), now);
            let mut last = None;
            for step in 0..STEPS {
                let place = format!("seed {seed}, step {step}");
                match random.below(12) {
                    0 => {
                        let request = match last {
                            // The same again, as a renewal is.
                            Some(last) if random.below(3) == 0 => GrantRequest {
                                expires: Nanos(now + 100_000_000),
                                ..last
                            },
                            _ => grant(&mut random, &policy, now),
                        };
                        last = Some(request);
                        let outcome = dataplane.install(&[request]).unwrap();
                        assert_eq!(outcome, [on_host.install(&request)], "{place}");
                    }
                    1 => {
                        now = match random.below(10) {
                            // Another CPU's clock may be a little behind.
                            0 => now - random.below(1_000),
                            1 => now + random.below(100_000_000_000),
                            _ => now + random.below(5_000_000),
                        };
                        dataplane.set_test_clock(Nanos(now)).unwrap();
                        on_host.now = now;
                    }
                    _ => {
                        let frame = frame(&mut random);
                        let passes = dataplane.run_frame(&frame).unwrap();
                        assert_eq!(passes, on_host.decide(&frame), "{place}: {frame:02x?}");
                    }
                }
            }
            same_counts(&dataplane, &on_host, &policy, &before);
        }
    });
}

fn same_counts(
    dataplane: &Dataplane,
    on_host: &HostKernel,
    policy: &Policy,
    before: &weir_abi::Totals,
) {
    let counted = dataplane.counters().unwrap();
    let (totals, limits) = on_host.counters();
    check_totals(&counted.totals);
    check_totals(&totals);
    for reason in Reason::ALL {
        let since = counted.of(reason).packets - before.by_reason[reason as usize].packets;
        assert_eq!(
            since, totals.by_reason[reason as usize].packets,
            "{reason:?}"
        );
    }
    // The mixture must have come to every part of the decision.
    for reason in [
        Reason::Admitted,
        Reason::OverLimit,
        Reason::NotIp,
        Reason::Unparsed,
    ] {
        assert!(
            totals.by_reason[reason as usize].packets > 0,
            "{reason:?} never happened"
        );
    }
    for (limit, on_host) in policy.limits.iter().zip(limits) {
        let in_kernel = counted
            .limits
            .iter()
            .find(|one| one.limit == limit.id)
            .unwrap();
        assert_eq!(in_kernel.counters, on_host, "{}", limit.name);
        assert!(
            on_host.passed.packets > 0,
            "{} admitted nothing",
            limit.name
        );
    }
}

#[test]
fn a_grant_falls_to_its_floor_when_it_ends() {
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        let second = 1_000_000_000;
        dataplane.set_test_clock(Nanos(second)).unwrap();
        dataplane
            .activate(&policy([limit("all")]), PolicyVersion(1))
            .unwrap();
        let request = GrantRequest {
            limit: LimitId::of("all"),
            amount: amount(1_000, 50),
            floor: amount(10, 2),
            expires: Nanos(2 * second),
        };
        let outcomes = dataplane.install(&[request]).unwrap();
        assert!(matches!(
            outcomes[..],
            [InstallOutcome::Installed { renewed: false, .. }]
        ));

        // 20 packets each 10 ms, twice what is granted; then for two seconds after the end.
        let frame = frames::udp(address("198.18.0.1"), address("192.0.2.1"), (1, 2), 60);
        let mut passed = [0, 0];
        for tick in 0..300 {
            let now = second + tick * 10_000_000;
            dataplane.set_test_clock(Nanos(now)).unwrap();
            for _ in 0..20 {
                if dataplane.run_frame(&frame).unwrap() {
                    passed[usize::from(now >= 2 * second)] += 1;
                }
            }
        }
        // A bucket starts empty, and what is gained is rounded down. The last 10 ms of the grant
        // are first asked for after its end, when no more than the floor's burst is left of them.
        assert!((989..=990).contains(&passed[0]), "{}", passed[0]);
        assert!((20..=22).contains(&passed[1]), "{}", passed[1]);
    });
}

#[test]
fn refused_grants_change_nothing_and_floors_can_be_set_alone() {
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        dataplane.set_test_clock(Nanos(1_000)).unwrap();
        dataplane
            .activate(&policy([limit("all")]), PolicyVersion(1))
            .unwrap();
        let all = LimitId::of("all");
        let request = GrantRequest {
            limit: all,
            amount: amount(10, 10),
            floor: amount(1, 1),
            expires: Nanos(1_000),
        };
        let stranger = GrantRequest {
            limit: LimitId::of("stranger"),
            ..request
        };
        let outcomes = dataplane.install(&[stranger, request]).unwrap();
        let expired = InstallOutcome::Expired { at: Nanos(1_000) };
        assert_eq!(outcomes, [InstallOutcome::UnknownLimit, expired]);
        assert_eq!(dataplane.held(all).unwrap().unwrap().floor, Amount::ZERO);

        let floor_alone = GrantRequest {
            amount: Amount::ZERO,
            ..request
        };
        let outcomes = dataplane.install(&[floor_alone]).unwrap();
        assert!(
            matches!(outcomes[..], [InstallOutcome::Installed { .. }]),
            "{outcomes:?}"
        );
        let held = dataplane.held(all).unwrap().unwrap();
        assert_eq!((held.amount, held.floor), (Amount::ZERO, amount(1, 1)));
        assert_eq!(dataplane.held(LimitId::of("stranger")).unwrap(), None);
    });
}

#[test]
fn a_new_policy_refills_no_bucket() {
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        dataplane.set_test_clock(Nanos(1_000)).unwrap();
        let mut local = limit("here");
        local.promise = Promise::Local;
        local.budget = amount(100, 50);
        let dns = udp_limit("dns", &["192.0.2.53/32"], &[(53, 53)]);
        dataplane
            .activate(&policy([local.clone()]), PolicyVersion(1))
            .unwrap();
        let second = 1_000_000_000;
        dataplane.set_test_clock(Nanos(10 * second)).unwrap();
        let frame = frames::udp(address("198.18.0.1"), address("192.0.2.1"), (1, 2), 60);
        let burst = |dataplane: &Dataplane| {
            (0..200)
                .filter(|_| dataplane.run_frame(&frame).unwrap())
                .count()
        };
        assert_eq!(burst(&dataplane), 50);
        for version in 2..6 {
            let limits = [dns.clone(), local.clone()];
            let policy = policy(limits.into_iter().skip(version as usize % 2));
            dataplane.activate(&policy, PolicyVersion(version)).unwrap();
            assert_eq!(dataplane.active_policy(), PolicyVersion(version));
            assert_eq!(burst(&dataplane), 0);
        }
        // One that left and came back finds its bucket as it was.
        dataplane
            .activate(&policy([dns]), PolicyVersion(7))
            .unwrap();
        assert_eq!(burst(&dataplane), 200);
        dataplane
            .activate(&policy([local.clone()]), PolicyVersion(8))
            .unwrap();
        assert_eq!(burst(&dataplane), 0);
        // Another revision is another bucket.
        local.revision = weir_model::Revision(2);
        dataplane
            .activate(&policy([local]), PolicyVersion(9))
            .unwrap();
        assert_eq!(burst(&dataplane), 0);
        dataplane.set_test_clock(Nanos(11 * second)).unwrap();
        assert_eq!(burst(&dataplane), 50);
    });
}
