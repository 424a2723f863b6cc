//! The way of a packet.

use weir_abi::{LimitCounters, Reason, Rule, Service, TokenTally, Totals, maps};

use crate::{
    bucket::charge,
    clock::standing,
    essential::is_essential,
    matching::{applies, tokens, units},
    memory::{LimitRef, Memory},
    packet::{Address, Packet, Transport, protocol},
    parse::{Frame, Parsed, parse},
    work::{Answer, Work},
};

/// What the decision rests on: maps and the clock.
///
/// Lookups return `None` for an entry that does not exist. Counters are the running CPU's own.
pub trait Environment {
    /// How limits are shared.
    type Memory: Memory;

    /// `CLOCK_BOOTTIME`, in nanoseconds.
    fn now(&self) -> u64;

    /// The side of the policy in force: 0 or 1.
    fn side(&self) -> u32;

    /// The allow-list's entries that this port is in, by index into
    /// [`maps::MANAGEMENT_PORTS`].
    fn management_port(&self, index: u32) -> u32;

    /// The allow-list's entries that this source is in.
    fn management_source(&self, source: &Address) -> u32;

    /// The service of a destination: that of the longest prefix.
    fn service(&self, side: u32, destination: &Address) -> Option<&Service>;

    /// The source sets that this source is in.
    fn source_sets(&self, side: u32, source: &Address) -> u64;

    /// What a slot's limit matches and costs.
    fn rule(&self, side: u32, slot: u32) -> Option<&Rule>;

    /// A limit's grant and bucket.
    fn limit(&self, slot: u32) -> Option<LimitRef<'_, Self::Memory>>;

    /// Memory to work in, of the running CPU alone; what is in it does not matter. `None` if there
    /// is none.
    ///
    /// It is not on the stack because the verifier follows every value there: it would look at each
    /// combination of the matches' answers apart, and give up.
    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> Option<R>;

    /// Counts for one limit.
    fn count_limit(&self, slot: u32, count: impl FnOnce(&mut LimitCounters));

    /// Counts for all.
    fn count_total(&self, count: impl FnOnce(&mut Totals));
}

/// How often a packet tries to charge a bucket that other CPUs charge at the same time. Each
/// failure means that another packet was decided. When they run out it is dropped and counted
/// as [`Reason::Contended`].
const CHARGE_ATTEMPTS: u32 = 4;

/// Decides about a frame, charges what it costs, and counts it.
#[inline(always)]
pub fn decide<E: Environment>(environment: &E, frame: &impl Frame) -> Reason {
    let bytes = u64::from(frame.length());
    environment.count_total(|totals| {
        totals.received.packets += 1;
        totals.received.bytes += bytes;
    });
    let reason = match parse(frame) {
        Parsed::NotIp => Reason::NotIp,
        Parsed::Unparsed => Reason::Unparsed,
        Parsed::Ip(packet) => judge(environment, &packet, frame.length()),
    };
    environment.count_total(|totals| {
        let tally = &mut totals.by_reason[reason as usize];
        tally.packets += 1;
        tally.bytes += bytes;
    });
    reason
}

#[inline(always)]
fn judge<E: Environment>(environment: &E, packet: &Packet, bytes: u32) -> Reason {
    if is_essential(packet) || is_management(environment, packet) {
        return Reason::Management;
    }
    let side = environment.side();
    let Some(service) = environment.service(side, &packet.destination) else {
        return Reason::NoMatch;
    };
    let charging = |work: &mut Work| -> Reason {
        if let Err(reason) = find(environment, packet, side, service, work) {
            return reason;
        }
        if work.matches().is_empty() {
            return Reason::NoMatch;
        }
        // Read before any grant is: a grant is never looked at later than it was in force.
        let now = environment.now();
        let reason = charge_all(environment, side, bytes, now, work);
        count(environment, side, bytes, reason, work);
        reason
    };
    environment.work(charging).unwrap_or(Reason::Internal)
}

/// Management traffic: an entry lists ports and sources, and a packet is on the list if a port of
/// it *and* its source are in the same entry. Both ports are looked at, since answers to the
/// host's own connections come from the listed port.
#[inline(always)]
fn is_management<E: Environment>(environment: &E, packet: &Packet) -> bool {
    let Transport::Ports {
        source,
        destination,
    } = packet.transport
    else {
        return false;
    };
    let table = if packet.protocol == protocol::TCP {
        maps::PORTS as u32
    } else {
        0
    };
    let entries = environment.management_port(table + u32::from(destination))
        | environment.management_port(table + u32::from(source));
    entries != 0 && entries & environment.management_source(&packet.source) != 0
}

/// Collects the limits that apply.
#[inline(always)]
fn find<E: Environment>(
    environment: &E,
    packet: &Packet,
    side: u32,
    service: &Service,
    work: &mut Work,
) -> Result<(), Reason> {
    let sets = if service.asks_source == 0 {
        0
    } else {
        environment.source_sets(side, &packet.source)
    };
    work.clear();
    for (index, slot) in (0_u32..).zip(&service.slots) {
        if index >= service.count {
            break;
        }
        let rule = environment.rule(side, *slot).ok_or(Reason::Internal)?;
        if applies(rule, packet, sets) {
            work.push(*slot, rule.shadow != 0);
        }
    }
    Ok(())
}

/// Asks every bucket, then charges every bucket: what one refuses costs the others nothing. Only a
/// packet that loses a race in between has charged those before; that is not refunded, since
/// others may have been refused for it meanwhile.
#[inline(always)]
fn charge_all<E: Environment>(
    environment: &E,
    side: u32,
    bytes: u32,
    now: u64,
    work: &mut Work,
) -> Reason {
    let asks_first = work.matches().len() > 1;
    let mut worst = Answer::Admits;
    if asks_first {
        for one in work.matches() {
            one.answer = ask(environment, side, one.slot, bytes, now, false);
            worst = worst.max(one.blocking());
        }
    }
    if worst == Answer::Admits {
        for one in work.matches() {
            if asks_first && one.answer != Answer::Admits {
                continue;
            }
            one.answer = ask(environment, side, one.slot, bytes, now, true);
            worst = one.blocking();
            if worst != Answer::Admits {
                break;
            }
        }
    }
    match worst {
        Answer::Admits => Reason::Admitted,
        Answer::Contended => Reason::Contended,
        Answer::Over => Reason::OverLimit,
        Answer::Missing => Reason::Internal,
    }
}

/// Asks one bucket, or charges it.
#[inline(always)]
fn ask<E: Environment>(
    environment: &E,
    side: u32,
    slot: u32,
    bytes: u32,
    now: u64,
    commit: bool,
) -> Answer {
    let (Some(rule), Some(limit)) = (environment.rule(side, slot), environment.limit(slot)) else {
        return Answer::Missing;
    };
    let cost = units(rule, tokens(rule, bytes));
    let Some(grant) = limit.grant() else {
        return Answer::Contended;
    };
    let standing = standing(&grant, now);
    for _ in 0..CHARGE_ATTEMPTS {
        let level = limit.level();
        let Some(charged) = charge(level, standing, cost) else {
            return Answer::Over;
        };
        if !commit || limit.exchange_level(level, charged) == level {
            return Answer::Admits;
        }
    }
    Answer::Contended
}

/// Counts the packet once for each limit that applied.
#[inline(always)]
fn count<E: Environment>(environment: &E, side: u32, bytes: u32, reason: Reason, work: &mut Work) {
    for one in work.matches() {
        let Some(rule) = environment.rule(side, one.slot) else {
            return;
        };
        let tokens = tokens(rule, bytes);
        environment.count_limit(one.slot, |counters| {
            let tally = if reason.passes() {
                if one.answer != Answer::Admits {
                    add(&mut counters.would_drop, bytes, tokens);
                }
                &mut counters.passed
            } else {
                match one.blocking() {
                    Answer::Over => &mut counters.over_limit,
                    Answer::Contended => &mut counters.contended,
                    Answer::Admits | Answer::Missing => &mut counters.refused_elsewhere,
                }
            };
            add(tally, bytes, tokens);
        });
    }
}

#[inline(always)]
fn add(tally: &mut TokenTally, bytes: u32, tokens: u32) {
    tally.packets += 1;
    tally.bytes += u64::from(bytes);
    tally.tokens += u64::from(tokens);
}
