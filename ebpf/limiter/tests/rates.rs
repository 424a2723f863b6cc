//! Rates, from one packet an hour to the line's, judged by a receiver with an exact bucket.
//!
//! What is admitted is never above the rate in any window, and at most a thousandth below it; of a
//! key, at most a nanosecond a packet.

#![allow(clippy::unwrap_used)]

mod support;

use support::{
    Host, Random,
    frames::udp,
    keyed,
    limit::{Limit, Piece},
};
use weir_abi::{Cost, InstallStatus, KeyLine};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 24 * 3_600 * SECOND;

/// So many tokens in so many seconds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    tokens: u64,
    seconds: u64,
}

/// A bucket in exact fractions: `d = max(0, d − R·Δt) + n` at every packet. It is above the burst
/// if any window has more than the rate and the burst.
struct Receiver {
    rate: Rate,
    /// Tokens times 10^9 times the rate's seconds.
    level: u128,
    highest: u128,
    last: u64,
    tokens: u128,
}

impl Receiver {
    fn new(rate: Rate, now: u64) -> Self {
        Self {
            rate,
            level: 0,
            highest: 0,
            last: now,
            tokens: 0,
        }
    }

    fn scaled(&self, tokens: u64) -> u128 {
        u128::from(tokens) * u128::from(SECOND) * u128::from(self.rate.seconds)
    }

    fn receive(&mut self, tokens: u64, now: u64) {
        let drained = u128::from(self.rate.tokens) * u128::from(now - self.last);
        self.level = self.level.saturating_sub(drained) + self.scaled(tokens);
        self.highest = self.highest.max(self.level);
        self.last = now;
        self.tokens += u128::from(tokens);
    }

    /// What the rate comes to in a time, in tokens.
    fn due(&self, nanos: u64) -> f64 {
        self.rate.tokens as f64 / self.rate.seconds as f64 * nanos as f64 / 1e9
    }
}

/// What is offered, and what may come of it.
struct Offer {
    rate: Rate,
    /// Of a packet, in tokens.
    cost: u64,
    /// Tokens.
    burst: u64,
    packets: u64,
    begin: u64,
    /// The bits of a token that are kept: positions are rounded down, so a window may have one
    /// unit more. `None` where there is nothing to round.
    fraction_bits: Option<u32>,
}

/// Offers two and a half times the rate, with a pause now and then, until so many packets have
/// been admitted; then without pauses, to see that no more than a share of it is missing.
fn judge(offered: &Offer, missing: f64, mut offer: impl FnMut(u64) -> bool) {
    let Offer {
        rate,
        cost,
        burst,
        packets,
        begin,
        ..
    } = *offered;
    let mut receiver = Receiver::new(rate, begin);
    let mut random = Random(rate.tokens ^ cost);
    let distance = cost as f64 * rate.seconds as f64 * 1e9 / rate.tokens as f64;
    // Since the beginning, in fractions: a packet of the fastest takes a few nanoseconds only.
    let mut elapsed = 0.0;
    let mut saturated = (begin, 0_u128);
    let mut admitted = 0;
    while admitted < 2 * packets {
        elapsed += distance * 0.8 * random.below(1_000) as f64 / 1_000.0;
        let pauses = admitted < packets && random.below(50) == 0;
        if pauses {
            elapsed += distance * random.below(200) as f64;
        }
        let now = begin + elapsed as u64;
        if admitted < packets {
            saturated = (now, receiver.tokens);
        }
        if offer(now) {
            receiver.receive(cost, now);
            admitted += 1;
        }
    }
    let text = format!("{rate:?}, {cost} a packet");
    let unit = match offered.fraction_bits {
        Some(bits) => (receiver.scaled(1) >> bits) + 1,
        None => 0,
    };
    let most = receiver.scaled(burst) + unit;
    let found = receiver.highest;
    assert!(found <= most, "{text}: {found} in a window, {most} due");
    // What came in since the last pause, less what a packet at the end may still have had to wait.
    let (since, before) = saturated;
    let found = (receiver.tokens - before) as f64;
    let due = receiver.due(receiver.last - since);
    let least = (1.0 - missing) * due - 2.0 * cost as f64;
    assert!(found >= least, "{text}: {found} of {due}");
}

/// The finest scale at which a rate per second still fits, as `weir_model::Scale` chooses it.
fn finest(rate: Rate, burst: u64) -> u32 {
    let fits = |bits: u32| {
        (u128::from(rate.tokens) << bits) / u128::from(rate.seconds) <= 1 << 40
            && u128::from(burst) << bits <= 1 << 60
    };
    (0..=46).rev().find(|bits| fits(*bits)).unwrap()
}

/// Rates and what a packet costs.
fn aggregate_rates() -> Vec<(Rate, u64)> {
    let rate = |tokens, seconds| Rate { tokens, seconds };
    let mut rates = vec![
        (rate(1, 60), 1),
        (rate(7, 60), 1),
        (rate(1, 1), 1),
        (rate(3, 1), 1),
        (rate(1_000, 1), 1),
        (rate(30_000, 1), 1),
        (rate(999_983, 1), 1),
        (rate(148_809_523, 1), 1),
    ];
    // Bits, in frames of 64 to 9,018 bytes: from 1 kbit/s to 400 Gbit/s.
    let mut bits = 1_000;
    while bits <= 400_000_000_000 {
        for bytes in [64, 1_518, 9_018] {
            rates.push((rate(bits, 1), bytes * 8));
        }
        bits *= 20;
    }
    for bytes in [64, 1_518, 9_018] {
        rates.push((rate(400_000_000_000, 1), bytes * 8));
    }
    rates
}

#[test]
fn an_aggregate_rate_while_it_is_granted() {
    let begin = 3 << 50;
    for (rate, cost) in aggregate_rates() {
        let burst = 3 * cost;
        let bits = finest(rate, burst);
        let limit = Limit::new(begin);
        let piece = Piece {
            begins: begin,
            expires: u64::MAX,
            rate: units_per_second(rate, bits),
            burst: burst << bits,
            ..Piece::default()
        };
        assert_eq!(limit.grant(&piece, begin), InstallStatus::Installed);
        let offered = Offer {
            rate,
            cost,
            burst,
            packets: 4_000,
            begin,
            fraction_bits: Some(bits),
        };
        judge(&offered, 0.001, |now| limit.offer(cost << bits, now));
    }
}

#[test]
fn a_floor_a_second_and_thirty_days_after_the_end() {
    let begin = 3 << 50;
    for (rate, cost) in aggregate_rates() {
        for pause in [SECOND, 30 * DAY] {
            let burst = 3 * cost;
            let bits = finest(rate, burst);
            let limit = Limit::new(begin);
            let floor = units_per_second(rate, bits);
            let piece = Piece {
                begins: begin,
                expires: begin + 2 * SECOND,
                rate: 1 << 40,
                burst: 1 << 60,
                floor_rate: floor,
                floor_burst: burst << bits,
            };
            assert_eq!(limit.grant(&piece, begin), InstallStatus::Installed);
            let since = begin + 2 * SECOND + pause;
            let offered = Offer {
                rate,
                cost,
                burst,
                packets: 2_000,
                begin: since,
                fraction_bits: Some(bits),
            };
            judge(&offered, 0.001, |now| limit.offer(cost << bits, now));
        }
    }
}

fn units_per_second(rate: Rate, bits: u32) -> u64 {
    ((u128::from(rate.tokens) << bits) / u128::from(rate.seconds)) as u64
}

/// Interval and shift of a key's rate, as the daemon computes them: of 43 bits, rounded up.
fn pace(rate: Rate) -> (u64, u8) {
    let token = u128::from(SECOND) * u128::from(rate.seconds);
    let whole = token.div_ceil(u128::from(rate.tokens));
    let bits = u128::BITS - whole.leading_zeros();
    let shift = 43_u32.saturating_sub(bits).min(32);
    let interval = (token << shift).div_ceil(u128::from(rate.tokens));
    (interval as u64, shift as u8)
}

/// Rates of keys, the tokens that a packet costs, and its bytes.
fn keyed_rates() -> Vec<(Rate, u64, usize)> {
    let rate = |tokens, seconds| Rate { tokens, seconds };
    let mut rates = Vec::new();
    for (tokens, seconds) in [
        (1, 3_600),
        (7, 3_600),
        (1, 60),
        (1, 1),
        (3, 1),
        (1_000, 1),
        (30_011, 1),
        (999_983, 1),
        (1_000_000, 1),
    ] {
        rates.push((rate(tokens, seconds), 1, 60));
    }
    for bits in [10_000, 1_000_000, 33_333_333, 1_000_000_000, 10_000_000_000] {
        for bytes in [64, 1_518, 9_018] {
            rates.push((rate(bits, 1), 8 * bytes as u64, bytes));
        }
    }
    rates
}

#[test]
fn the_rate_of_a_key() {
    for (rate, cost, bytes) in keyed_rates() {
        let (interval, shift) = pace(rate);
        let burst = 3 * cost;
        let mut rule = keyed(1, 1);
        rule.key_interval = interval;
        rule.key_shift = shift;
        // What the three packets cost, each rounded up.
        let of_one = (u128::from(cost) * u128::from(interval)).div_ceil(1 << shift);
        rule.key_burst_ns = 3 * of_one as u64;
        assert!(rule.key_burst_ns <= KeyLine::MAX_DEBT_NS);
        if cost > 1 {
            rule.cost = Cost::Bits as u8;
        }
        let mut frame = udp(53);
        frame.resize(bytes, 0);
        let mut host = Host::new([(rule, 0)]);
        let begin = host.now;
        let mut admitted = 0;
        let mut last = begin;
        let offered = Offer {
            rate,
            cost,
            burst,
            packets: 4_000,
            begin,
            fraction_bits: None,
        };
        // A packet's cost is rounded up to whole nanoseconds.
        let exact = cost as f64 * rate.seconds as f64 * 1e9 / rate.tokens as f64;
        judge(&offered, 1.0 / (1.0 + exact) + 0.000_1, |now| {
            // The daemon's sweeping, at least once in two days.
            while now - last > DAY {
                last += DAY;
                host.keys.sweep(last);
            }
            host.now = now;
            let passes = host.decide(&frame).passes();
            admitted += u64::from(passes);
            passes
        });
        assert_eq!(host.counted(0).passed.tokens, admitted * cost);
    }
}

#[test]
fn a_packet_of_a_key_costs_less_than_a_nanosecond_too_much() {
    for (rate, cost, bytes) in keyed_rates() {
        let (interval, shift) = pace(rate);
        let mut rule = keyed(1, 1);
        rule.key_interval = interval;
        rule.key_shift = shift;
        rule.key_burst_ns = KeyLine::MAX_DEBT_NS;
        if cost > 1 {
            rule.cost = Cost::Bits as u8;
        }
        let mut frame = udp(53);
        frame.resize(bytes, 0);
        // With an empty burst the next packet passes exactly when the last one is paid.
        let mut host = Host::new([(rule, 0)]);
        let per_token = SECOND as f64 * rate.seconds as f64 / rate.tokens as f64;
        let exact = per_token * cost as f64;
        let paid = exact.ceil() as u64;
        host.rules[0].key_burst_ns = paid;
        assert!(host.decide(&frame).passes(), "{rate:?} {cost}");
        host.now += paid - 1;
        assert!(!host.decide(&frame).passes(), "{rate:?} {cost}");
        host.now += 1;
        assert!(host.decide(&frame).passes(), "{rate:?} {cost}");
    }
}
