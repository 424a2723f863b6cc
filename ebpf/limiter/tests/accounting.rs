//! Every packet is accounted for, exactly, whatever the limits and whatever comes.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::{
    Host, Random, any,
    frames::{QUIC_INITIALS, options, ports, tcp_header, udp_with},
    from4, ipv4, ipv6, keyed, tcp, udp,
};
use weir_abi::{
    Cost, InstallRequest, LimitCounters, OnExpiry, Operation, PortRange, Protocol, Reason, Rule,
    TokenTally, Totals,
};
use weir_limiter::multiplier;

const MILLISECOND: u64 = 1_000_000;

fn a_rule(random: &mut Random) -> Rule {
    let mut rule = if random.below(2) == 0 {
        keyed(1 + random.below(20 * MILLISECOND), 1 + random.below(8))
    } else {
        any()
    };
    rule.key_seed = random.below(4);
    rule.cost = *random.pick(&[Cost::Packets, Cost::Packets, Cost::Bits, Cost::Connections]) as u8;
    if rule.cost == Cost::Bits as u8 {
        rule.key_burst_ns = rule.key_burst_ns.saturating_mul(400);
        rule.overhead_bytes = 24 * random.below(2) as u32;
    }
    rule.protocol = *random.pick(&[
        Protocol::Any,
        Protocol::Any,
        Protocol::Udp,
        Protocol::Tcp,
        Protocol::Icmp,
    ]) as u8;
    if random.below(3) == 0 {
        rule.port_ranges = 1;
        rule.ports[0] = PortRange {
            first: 53,
            last: 80,
        };
    }
    rule.quic = random.below(2) as u8;
    rule.fragments_only = u8::from(random.below(8) == 0);
    rule.tcp_flags = *random.pick(&[[0, 0], [0, 0], [0, 0], [0x12, 0x02], [0x04, 0x04]]);
    rule.shadow = u8::from(random.below(4) == 0);
    rule.on_expiry = *random.pick(&[OnExpiry::Floor, OnExpiry::Closed, OnExpiry::Open]) as u8;
    rule.source_set = random.below(3) as u16;
    rule.hot_alone = random.below(2) as u32;
    rule
}

const SOURCES: u64 = 4;

fn source(number: u8) -> [u8; 4] {
    [198, 18, 0, number]
}

fn a_frame(random: &mut Random) -> Vec<u8> {
    let port = *random.pick(&[53, 80, 443, 9_999]);
    let flags = *random.pick(&[0x02, 0x12, 0x10, 0x04]);
    let (first, chain) = options(random.below(11) as usize, 17, &ports(port));
    let mut frame = match random.below(12) {
        0 => tcp(port, flags),
        1 => ipv6(6, &tcp_header(port, flags)),
        2 => ipv4(1, 0, 5, &[*random.pick(&[8, 3]), 0, 0, 0]),
        3 => ipv4(17, 0x00b9, 5, &[0; 8]),
        4 => ipv4(6, 0x2000, 5, &tcp_header(port, flags)),
        5 => ipv4(
            17,
            0,
            5,
            &udp_with(&QUIC_INITIALS[random.below(2) as usize]),
        ),
        6 => ipv6(first, &chain),
        7 => vec![2; 60],
        _ => udp(port),
    };
    frame.resize(frame.len() + random.below(600) as usize, 0);
    if random.below(20) == 0 {
        frame.truncate(random.below(40) as usize);
    }
    let is_v4 = frame.get(12..14) == Some(&[8, 0]) && frame.len() >= 30;
    if is_v4 {
        frame = from4(frame, source(random.below(SOURCES) as u8));
    }
    frame
}

fn a_grant(random: &mut Random, now: u64) -> InstallRequest {
    let mut amount = |most| {
        (
            multiplier(random.below(most)),
            random.below(most).next_multiple_of(5_000),
        )
    };
    let (rate_multiplier, burst) = amount(200_000);
    let (floor_multiplier, floor_burst) = amount(20_000);
    InstallRequest {
        operation: Operation::Grant as u16,
        rate_multiplier,
        burst,
        floor_multiplier,
        floor_burst,
        expires_ns: now + 1 + random.below(200 * MILLISECOND),
        ..InstallRequest::default()
    }
}

/// Whether a rule applies to a frame, on a host of its own.
fn applies(rule: &Rule, frame: &[u8], source_sets: u64) -> bool {
    let alone = Rule {
        keyed: 0,
        shadow: 0,
        on_expiry: OnExpiry::Floor as u8,
        ..*rule
    };
    let mut host = Host::new([(alone, 0)]);
    host.source_sets = source_sets;
    host.decide(frame) == Reason::OverLimit
}

/// What a packet costs a rule.
fn tokens(rule: &Rule, bytes: u64) -> u64 {
    if rule.cost == Cost::Bits as u8 {
        8 * (bytes + u64::from(rule.overhead_bytes))
    } else {
        1
    }
}

fn offered(counted: &LimitCounters) -> [&TokenTally; 5] {
    [
        &counted.passed,
        &counted.over_limit,
        &counted.closed,
        &counted.contended,
        &counted.refused_elsewhere,
    ]
}

fn since(now: &TokenTally, before: &TokenTally) -> (u64, u64, u64) {
    (
        now.packets - before.packets,
        now.bytes - before.bytes,
        now.tokens - before.tokens,
    )
}

/// What one packet changed of a limit's counters must be what became of it.
fn check_limit(
    rule: &Rule,
    frame: &[u8],
    applied: bool,
    reason: Reason,
    counted: &LimitCounters,
    before: &LimitCounters,
) -> bool {
    let bytes = frame.len() as u64;
    let once = (1, bytes, tokens(rule, bytes));
    let changes = offered(counted)
        .into_iter()
        .zip(offered(before))
        .map(|(now, before)| since(now, before));
    let changes: Vec<_> = changes.collect();
    let changed: Vec<usize> = (0..5).filter(|index| changes[*index].0 != 0).collect();
    let shadowed = since(&counted.would_drop, &before.would_drop);
    let opened = since(&counted.failed_open, &before.failed_open);
    if !applied || !reason.is_of_limits() {
        assert_eq!(counted, before, "{rule:?}");
        return false;
    }
    assert_eq!(changed.len(), 1, "{changes:?} {rule:?}");
    assert_eq!(changes[changed[0]], once);
    for also in [shadowed, opened] {
        assert!(also == (0, 0, 0) || also == once && changed[0] == 0);
    }
    assert!(shadowed.0 == 0 || rule.shadow != 0);
    assert!(opened.0 == 0 || rule.on_expiry == OnExpiry::Open as u8 && rule.keyed == 0);
    assert_eq!(changed[0] == 0, reason.passes());
    // Whether this limit is the one that refused.
    let expected = match reason {
        Reason::OverLimit => 1,
        Reason::Closed => 2,
        Reason::Contended => 3,
        _ => return false,
    };
    let decided = changed[0] != 4;
    if decided {
        assert_eq!(changed[0], expected);
        assert_eq!(rule.shadow, 0);
    }
    decided
}

/// A key of a limit that has a leased bucket.
struct Hot {
    slot: usize,
    source: [u8; 4],
    hot_slot: usize,
}

/// Gives some keys of some limits leased buckets.
fn heat(random: &mut Random, host: &mut Host) -> Vec<Hot> {
    let mut hot = Vec::new();
    for slot in 0..host.rules.len() {
        if host.rules[slot].keyed == 0 || hot.len() > 4 || random.below(2) == 0 {
            continue;
        }
        for number in 0..random.below(3) {
            let source = source(number as u8);
            let hot_slot = host.heat(slot as u32, source, random.below(20)) as usize;
            hot.push(Hot {
                slot,
                source,
                hot_slot,
            });
        }
    }
    hot
}

/// What a packet changes of its key's counters is what it changes of its limit's.
fn check_hot(hot: &Hot, frame: &[u8], host: &Host, before: &[LimitCounters]) {
    let is_its = frame.get(12..14) == Some(&[8, 0]) && frame.get(26..30) == Some(&hot.source);
    let counted = [hot.slot, hot.hot_slot].map(|slot| {
        let (now, before) = (host.counted(slot), &before[slot]);
        let mut changes: Vec<_> = offered(&now)
            .into_iter()
            .chain([&now.would_drop])
            .zip(offered(before).into_iter().chain([&before.would_drop]))
            .map(|(now, before)| since(now, before))
            .collect();
        let rest = [
            now.charged_in_vain - before.charged_in_vain,
            now.table_pressure - before.table_pressure,
        ];
        changes.push((rest[0], rest[1], 0));
        changes
    });
    let [of_limit, of_key] = counted;
    if is_its {
        assert_eq!(of_key, of_limit);
    } else {
        assert!(of_key.iter().all(|one| *one == (0, 0, 0)), "{of_key:?}");
    }
}

fn check_totals(totals: &Totals) {
    let packets: u64 = totals.by_reason.iter().map(|tally| tally.packets).sum();
    let bytes: u64 = totals.by_reason.iter().map(|tally| tally.bytes).sum();
    let received = totals.received;
    assert_eq!((received.packets, received.bytes), (packets, bytes));
    assert_eq!(totals.by_reason[Reason::Internal as usize].packets, 0);
}

/// A host, and packets; says which reasons there were.
fn account(seed: u64, steps: u32) -> Vec<Reason> {
    let mut random = Random(seed);
    let limits = 1 + random.below(8) as usize;
    // Those of keys first, as a service has them.
    let mut rules: Vec<Rule> = (0..limits).map(|_| a_rule(&mut random)).collect();
    rules.sort_by_key(|rule| rule.keyed == 0);
    let mut host = Host::new(rules.iter().map(|rule| (*rule, 30)));
    host.source_sets = random.below(4);
    host.policy.unparsed_passes = random.below(2) as u32;
    // A small table, so that it overflows.
    host.keys = support::host::Table::new(2, host.now);
    let hot = heat(&mut random, &mut host);
    let slots = limits + hot.len();
    let mut reasons = Vec::new();
    for _ in 0..steps {
        match random.below(10) {
            0 => {
                let grant = a_grant(&mut random, host.now);
                host.install(random.below(slots as u64) as u32, grant);
            }
            1 => host.now += random.below(60 * MILLISECOND),
            _ => {
                let frame = a_frame(&mut random);
                let before: Vec<_> = (0..slots).map(|slot| host.counted(slot)).collect();
                let totals = host.totals();
                let reason = host.decide(&frame);
                let mut deciding = 0;
                let mut applied = 0;
                for (slot, rule) in rules.iter().enumerate() {
                    let counted = host.counted(slot);
                    let applies = applies(rule, &frame, host.source_sets);
                    applied += u32::from(applies);
                    let decided =
                        check_limit(rule, &frame, applies, reason, &counted, &before[slot]);
                    deciding += u32::from(decided);
                }
                for hot in &hot {
                    check_hot(hot, &frame, &host, &before);
                }
                let refused = reason.is_of_limits() && !reason.passes();
                assert_eq!(deciding, u32::from(refused), "{reason:?}");
                assert_eq!(applied > 0, reason.is_of_limits(), "{reason:?}");
                let counted = host.totals();
                check_totals(&counted);
                assert_eq!(counted.received.packets, totals.received.packets + 1);
                reasons.push(reason);
            }
        }
    }
    reasons
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_packet_is_in_exactly_one_place(seed: u64) {
        account(seed, 200);
    }
}

#[test]
fn the_mixture_comes_to_everything() {
    let reasons: Vec<Reason> = (0..200).flat_map(|seed| account(seed, 200)).collect();
    for reason in Reason::ALL {
        let occurs = reasons.contains(&reason);
        // Nothing else happens meanwhile, and nothing is missing.
        let never = matches!(reason, Reason::Contended | Reason::Internal);
        assert_eq!(occurs, !never, "{reason:?}");
    }
}
