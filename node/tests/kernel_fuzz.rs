//! Frames that nobody would send, under policies that nobody would write: the kernel and the host's
//! code come to the same verdict, the same counters and the same events, after every packet.
//!
//! `WEIR_FUZZ_STEPS` has it go on for longer, `WEIR_FUZZ_SEED` begin elsewhere. A failure prints the
//! seed of its policy, with which `WEIR_FUZZ_SEED=… WEIR_FUZZ_STEPS=1` repeats it.

#![allow(clippy::unwrap_used)]

mod kernel_support;

#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../ebpf/limiter/tests/support/corpus.rs"]
mod corpus;
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../ebpf/limiter/tests/support/random.rs"]
mod random;

use std::{env, net::IpAddr, path::Path};

use kernel_support::{TestHost, amount, host::HostKernel, limit, policy};
use random::Random;
use weir_abi::{Event, Reason, Totals};
use weir_model::{
    Amount, Cost, HotKey, Limit, LimitId, Nanos, Policy, PolicyVersion, Scale, Units,
    policy::{Fragments, Key, Mode, OnExpiry, PortRange, Promise, Protocol, TcpFlags, Unparsed},
    prefix::Prefix,
};
use weir_node::dataplane::{Clock, Dataplane, GrantRequest, LoadOptions, Sample, Sizes};

/// Frames by default, and of each policy.
const STEPS: u64 = 20_000;
const STEPS_OF_A_POLICY: u64 = 400;
/// What a test-run takes: an Ethernet header at least, and at most what is read directly.
const LENGTHS: std::ops::RangeInclusive<usize> = 14..=3_000;

const HOUR: u64 = 3_600_000_000_000;
/// Few enough to be swept for each policy, and more than its sources need.
const KEY_SLOTS: u32 = 1 << 12;
/// At least: four lines of eight.
const SLOTS_SWEPT_AT_ONCE: u32 = 4 * 8;

fn setting(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().expect(name),
        Err(_) => default,
    }
}

/// Sources and destinations that policies and frames have in common.
const SOURCES4: [[u8; 4]; 6] = [
    [198, 18, 7, 9],
    [198, 18, 7, 10],
    [198, 18, 9, 1],
    [198, 19, 0, 1],
    [203, 0, 113, 5],
    [0, 0, 0, 0],
];
const DESTINATIONS4: [[u8; 4]; 3] = [[192, 0, 2, 53], [192, 0, 2, 80], [203, 0, 113, 80]];
/// The last bytes of addresses in 2001:db8::/32, from the fourth word on.
const SOURCES6: [[u8; 12]; 4] = [
    [0, 0x18, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9],
    [0, 0x18, 0, 7, 0, 0, 0, 0, 0, 0, 0, 10],
    [0, 0x18, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9],
    [0, 0x19, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9],
];
const PORTS: [u16; 7] = [53, 80, 443, 8_000, 8_050, 8_099, 8_100];
const PREFIXES: [&str; 6] = [
    "192.0.2.0/24",
    "192.0.2.53/32",
    "0.0.0.0/0",
    "2001:db8::/64",
    "2001:db8::53/128",
    "::/0",
];
const SOURCE_PREFIXES: [&str; 6] = [
    "198.18.0.0/16",
    "198.18.7.0/24",
    "198.18.7.9/32",
    "2001:db8:18::/48",
    "2001:db8:18:7::9/128",
    "::/0",
];

fn some_of<'a>(random: &mut Random, from: &[&'a str], most: u64) -> Vec<&'a str> {
    let count = random.below(most + 1);
    (0..count).map(|_| *random.pick(from)).collect()
}

fn a_limit(random: &mut Random, name: &str) -> Limit {
    let mut limit = limit(name);
    let prefix = |text: &&str| text.parse().unwrap();
    limit.matches.to = some_of(random, &PREFIXES, 2).iter().map(prefix).collect();
    if random.below(3) == 0 {
        limit.matches.from = some_of(random, &SOURCE_PREFIXES, 3)
            .iter()
            .map(prefix)
            .collect();
    }
    limit.matches.protocol = *random.pick(&[
        Protocol::Any,
        Protocol::Any,
        Protocol::Udp,
        Protocol::Udp,
        Protocol::Tcp,
        Protocol::Icmp,
    ]);
    if random.below(3) == 0 {
        limit.matches.ports = (0..1 + random.below(3))
            .map(|_| {
                let first = *random.pick(&PORTS);
                let last = first.saturating_add(random.below(100) as u16);
                PortRange { first, last }
            })
            .collect();
    }
    if limit.matches.protocol == Protocol::Tcp && random.below(2) == 0 {
        let mask = random.word() as u8;
        let value = random.word() as u8 & mask;
        limit.matches.tcp_flags = *random.pick(&[
            TcpFlags { mask, value },
            TcpFlags {
                mask: 0x12,
                value: 0x02,
            },
        ]);
    }
    if random.below(8) == 0 {
        limit.matches.fragments = Fragments::Only;
    }
    limit.cost = *random.pick(&[Cost::Packets, Cost::Packets, Cost::Bits, Cost::Connections]);
    limit.quic = limit.cost == Cost::Connections && random.below(2) == 0;
    if limit.cost == Cost::Bits && random.below(2) == 0 {
        limit.overhead_bytes = random.below(257) as u32;
    }
    // A rate has 40 bits.
    let finest = if limit.cost == Cost::Bits { 10 } else { 20 };
    limit.scale = Scale {
        fraction_bits: *random.pick(&[0, 5, finest]),
    };
    if random.below(4) == 0 {
        limit.mode = Mode::Shadow;
    }
    limit.on_expiry = *random.pick(&[
        OnExpiry::Floor,
        OnExpiry::Floor,
        OnExpiry::Closed,
        OnExpiry::Open,
    ]);
    if random.below(2) == 0 {
        by_source(random, &mut limit);
    }
    limit
}

fn by_source(random: &mut Random, limit: &mut Limit) {
    let token = if limit.cost == Cost::Bits { 4_000 } else { 1 };
    let units = |tokens: u64| (tokens * token) << limit.scale.fraction_bits;
    limit.promise = *random.pick(&[Promise::Local, Promise::Strict, Promise::Elastic]);
    limit.on_expiry = OnExpiry::Floor;
    limit.per = Some(Key {
        source_v4: *random.pick(&[32, 32, 24, 1]),
        source_v6: *random.pick(&[64, 64, 128, 48, 1]),
    });
    limit.smallest_burst = Units(units(1));
    limit.floor = amount(units(1 + random.below(2_000)), units(1 + random.below(20)));
    limit.budget = limit.floor;
}

fn a_policy(random: &mut Random, seed: u64) -> Policy {
    let limits: Vec<Limit> = (0..1 + random.below(8))
        .map(|number| a_limit(random, &format!("limit-{number}-of-{seed:x}")))
        .collect();
    let mut policy = policy(limits);
    if random.below(2) == 0 {
        policy.fleet.unparsed = Unparsed::Pass;
    }
    policy
}

/// Some keys of limits by source, of sources that frames have.
fn some_hot_keys(random: &mut Random, policy: &Policy) -> Vec<HotKey> {
    let keyed: Vec<&Limit> = policy
        .limits
        .iter()
        .filter(|one| one.per.is_some())
        .collect();
    if keyed.is_empty() {
        return Vec::new();
    }
    let mut keys: Vec<HotKey> = (0..random.below(6))
        .map(|_| {
            let limit = *random.pick(&keyed);
            let lengths = limit.per.unwrap();
            let key = if random.below(2) == 0 {
                let source = IpAddr::from(*random.pick(&SOURCES4));
                Prefix::containing(source, lengths.source_v4)
            } else {
                let mut source = [0; 16];
                source[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
                source[4..].copy_from_slice(random.pick(&SOURCES6).as_slice());
                Prefix::containing(IpAddr::from(source), lengths.source_v6)
            };
            HotKey::new(limit, key.unwrap())
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn a_grant(
    random: &mut Random,
    limits: &[&Limit],
    hot: &[HotKey],
    policy: &Policy,
    now: u64,
) -> GrantRequest {
    let number = random.below((limits.len() + hot.len()) as u64) as usize;
    let (id, limit) = match limits.get(number) {
        Some(limit) => (limit.id, *limit),
        None => {
            let hot = &hot[number - limits.len()];
            (hot.id, policy.limit(hot.limit).unwrap())
        }
    };
    let token = if limit.cost == Cost::Bits { 4_000 } else { 1 };
    let mut any = |most: u64| {
        amount(
            random.below(most * token) << limit.scale.fraction_bits,
            random.below(20 * token) << limit.scale.fraction_bits,
        )
    };
    let (granted, floor) = (any(2_000), any(200));
    let expires = match random.below(6) {
        0 => now.saturating_sub(random.below(1_000_000)),
        1 => u64::MAX,
        _ => now + random.below(200_000_000),
    };
    GrantRequest {
        limit: id,
        amount: if random.below(8) == 0 {
            Amount::ZERO
        } else {
            granted
        },
        floor,
        expires: Nanos(expires),
    }
}

/// Where the network header begins, by the tags in front of it.
fn network(frame: &[u8]) -> usize {
    let mut offset = 12;
    while matches!(
        frame.get(offset..offset + 2),
        Some([0x81, 0x00] | [0x88, 0xa8])
    ) {
        offset += 4;
    }
    offset + 2
}

/// A frame of the corpus, from and to hosts that policies speak of, changed a little or a lot.
fn a_frame(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = random.pick(corpus).clone();
    frame.truncate(*LENGTHS.end());
    place(random, &mut frame);
    let changes = *random.pick(&[0, 0, 0, 1, 1, 2, 5]);
    for _ in 0..changes {
        change(random, &mut frame);
    }
    if frame.len() < *LENGTHS.start() {
        frame.resize(*LENGTHS.start(), 0);
    }
    frame.truncate(*LENGTHS.end());
    frame
}

fn put(frame: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Gives it addresses, and often a port, out of those that policies name.
fn place(random: &mut Random, frame: &mut [u8]) {
    let at = network(frame);
    let port = *random.pick(&PORTS);
    match frame.get(at).map(|byte| byte >> 4) {
        Some(4) => {
            put(frame, at + 12, random.pick(&SOURCES4).as_slice());
            put(frame, at + 16, random.pick(&DESTINATIONS4).as_slice());
            if random.below(2) == 0 {
                put(frame, at + 22, &port.to_be_bytes());
            }
        }
        Some(6) => {
            put(frame, at + 12, random.pick(&SOURCES6).as_slice());
            if random.below(2) == 0 {
                put(frame, at + 42, &port.to_be_bytes());
            }
        }
        _ => {}
    }
}

fn change(random: &mut Random, frame: &mut Vec<u8>) {
    // What is in front matters most.
    let bound = *random.pick(&[24, 80, frame.len() as u64]);
    let at = random.below(bound.clamp(1, frame.len().max(1) as u64)) as usize;
    if frame.is_empty() {
        return;
    }
    match random.below(8) {
        0 => frame[at] ^= 1 << random.below(8),
        1 => frame[at] = random.word() as u8,
        2 => frame[at] = *random.pick(&[0, 1, 4, 6, 17, 43, 44, 50, 51, 58, 59, 60, 135, 0xff]),
        3 => frame.truncate(at),
        4 => frame.resize(
            frame.len() + random.below(200) as usize,
            random.word() as u8,
        ),
        5 => frame.insert(at, random.word() as u8),
        6 => drop(frame.remove(at)),
        _ if frame.len() >= 12 => {
            let kind = *random.pick(&[[0x81, 0x00], [0x88, 0xa8]]);
            frame.splice(12..12, [kind[0], kind[1], 0, 7]);
        }
        _ => {}
    }
}

fn in_order(hot: &[HotKey]) -> impl Iterator<Item = HotKey> {
    let mut hot = hot.to_vec();
    hot.sort_unstable_by_key(|one| one.id);
    hot.into_iter()
}

/// What both sides say of an event; the kernel's weight depends on what was not told before.
fn same_event(kernel: &Sample, host: &Event, limits: &[Limit]) -> bool {
    let id = |slot: u32| limits[slot as usize].id;
    let slots = host.slots[..usize::from(host.count)].iter();
    kernel.at == Nanos(host.at_ns)
        && kernel.protocol == host.protocol
        && kernel.port == host.port
        && kernel.is_hot == (host.hot != 0)
        && kernel.bytes == host.bytes
        && kernel.reason as u8 == host.reason
        && kernel.limit == id(host.slot)
        && kernel.over == host.over
        && kernel.limits == slots.map(|slot| id(*slot)).collect::<Vec<LimitId>>()
}

struct Comparison {
    on_host: HostKernel,
    hot: Vec<HotKey>,
    policy: Policy,
    before: Totals,
}

impl Comparison {
    fn check(&self, dataplane: &mut Dataplane, at: &str) {
        let counted = dataplane.counters().unwrap();
        let (totals, limits) = self.on_host.counters();
        for reason in Reason::ALL {
            let index = reason as usize;
            let (now, then) = (
                &counted.totals.by_reason[index],
                &self.before.by_reason[index],
            );
            let since = (now.packets - then.packets, now.bytes - then.bytes);
            let on_host = &totals.by_reason[index];
            assert_eq!(since, (on_host.packets, on_host.bytes), "{at}: {reason:?}");
        }
        for (limit, on_host) in self.policy.limits.iter().zip(limits) {
            let in_kernel = counted.limits.iter().find(|one| one.limit == limit.id);
            assert_eq!(in_kernel.unwrap().counters, on_host, "{at}: {limit:?}");
        }
        for hot in &self.hot {
            let in_kernel = dataplane.count(hot.id).unwrap().unwrap();
            assert_eq!(
                in_kernel.counters,
                self.on_host.counted(hot.id),
                "{at}: {hot:?}"
            );
        }
        let told = dataplane.samples(16);
        let on_host = self.on_host.events.take();
        assert_eq!(told.len(), on_host.len(), "{at}");
        for (kernel, host) in told.iter().zip(&on_host) {
            let same = same_event(kernel, host, &self.policy.limits);
            assert!(same, "{at}: {kernel:?}, {host:?}");
        }
    }
}

/// One policy; says which reasons there were.
fn compare(dataplane: &mut Dataplane, corpus: &[Vec<u8>], seed: u64, version: u64) -> Vec<Reason> {
    let mut random = Random(seed);
    // Later than all before it, and the table is swept in between, as it must be.
    let mut now = (1 << 40) + seed % (1 << 20) * HOUR + random.below(HOUR / 2);
    dataplane.set_test_clock(Nanos(now)).unwrap();
    for _ in 0..KEY_SLOTS / SLOTS_SWEPT_AT_ONCE {
        dataplane.tidy().unwrap();
    }
    let policy = a_policy(&mut random, seed);
    dataplane.activate(&policy, PolicyVersion(version)).unwrap();
    dataplane.samples(usize::MAX);
    // What was not told of so far is no event here.
    let sampling = random.below(2) as u32;
    dataplane.set_sampling(sampling).unwrap();
    let mut comparison = Comparison {
        on_host: HostKernel::new(policy.clone(), now),
        hot: Vec::new(),
        before: dataplane.counters().unwrap().totals,
        policy,
    };
    comparison.on_host.sampling = sampling;
    let policy = &comparison.policy.clone();
    let leased: Vec<&Limit> = policy
        .limits
        .iter()
        .filter(|one| one.per.is_none())
        .collect();
    let mut reasons = Vec::new();
    for step in 0..STEPS_OF_A_POLICY {
        let mut at = format!("WEIR_FUZZ_SEED={seed} step {step}");
        match random.below(12) {
            // Seldom, for each waits for packets.
            0 if random.below(12) == 0 => {
                let hot = some_hot_keys(&mut random, policy);
                dataplane.set_hot_keys(&hot).unwrap();
                assert!(dataplane.hot_keys().eq(in_order(&hot)), "{at}");
                comparison.on_host.set_hot_keys(&hot);
                comparison.hot = hot;
            }
            0 if leased.len() + comparison.hot.len() > 0 => {
                let request = a_grant(&mut random, &leased, &comparison.hot, policy, now);
                let outcome = dataplane.install(&[request]).unwrap();
                assert_eq!(outcome, [comparison.on_host.install(&request)], "{at}");
            }
            1 => {
                now = match random.below(10) {
                    // Another CPU's clock may be a little behind.
                    0 => now - random.below(1_000),
                    1 => now + random.below(100_000_000_000),
                    _ => now + random.below(5_000_000),
                };
                dataplane.set_test_clock(Nanos(now)).unwrap();
                comparison.on_host.now = now;
            }
            _ => {
                let frame = a_frame(&mut random, corpus);
                at = format!("{at}: {frame:02x?}");
                let passes = dataplane.run_frame(&frame).unwrap();
                let reason = comparison.on_host.reason(&frame);
                assert_eq!(passes, reason.passes(), "{at}: {reason:?}");
                reasons.push(reason);
            }
        }
        comparison.check(dataplane, &at);
    }
    reasons
}

#[test]
fn kernel_and_host_come_to_the_same_whatever_comes() {
    let steps = setting("WEIR_FUZZ_STEPS", STEPS);
    let first = setting("WEIR_FUZZ_SEED", 1);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ebpf/limiter/tests/corpus");
    let corpus: Vec<Vec<u8>> = corpus::read_all(&corpus)
        .into_iter()
        .map(|fixture| fixture.bytes)
        .collect();
    TestHost::run(|host| {
        let options = LoadOptions {
            clock: Clock::Test,
            sizes: Sizes {
                key_slots: KEY_SLOTS,
                ..Sizes::default()
            },
            ..host.options(&[])
        };
        let mut dataplane = host.load(&options).unwrap();
        let mut reasons = Vec::new();
        let policies = steps.div_ceil(STEPS_OF_A_POLICY);
        for (version, seed) in (1..).zip(first..first + policies) {
            reasons.extend(compare(&mut dataplane, &corpus, seed, version));
        }
        if policies < 20 {
            return;
        }
        // The mixture must come to every part of the decision, but what takes a second CPU.
        for reason in Reason::ALL {
            let never = [Reason::Contended, Reason::Internal].contains(&reason);
            assert_eq!(reasons.contains(&reason), !never, "{reason:?}");
        }
    });
}
