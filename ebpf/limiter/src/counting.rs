//! What is written down about a packet once it is decided: counters, and now and then an event.

use weir_abi::{Event, LimitCounters, Reason, TokenTally, maps::RULES_PER_SERVICE};

use crate::{
    decide::Environment,
    work::{Answer, Match, Work},
};

/// Counts the packet once for each limit that applied.
#[inline(always)]
pub(crate) fn count<E: Environment>(environment: &E, reason: Reason, work: &mut Work) {
    let bytes = work.packet.bytes;
    for index in 0..RULES_PER_SERVICE {
        let Some(one) = work.get(index) else {
            return;
        };
        environment.count_limit(one.slot, |counters| {
            count_one(counters, one, bytes, reason);
        });
        if one.is_hot {
            environment.count_limit(one.lease_slot, |counters| {
                count_one(counters, one, bytes, reason);
            });
        }
    }
}

#[inline(always)]
fn count_one(counters: &mut LimitCounters, one: &Match, bytes: u32, reason: Reason) {
    if one.pressure {
        counters.table_pressure += 1;
    }
    let tally = if reason.passes() {
        match one.answer {
            Answer::Admits => {}
            Answer::FailsOpen => add(&mut counters.failed_open, bytes, one.tokens),
            _ => add(&mut counters.would_drop, bytes, one.tokens),
        }
        &mut counters.passed
    } else {
        if one.charged {
            counters.charged_in_vain += 1;
        }
        match one.blocking() {
            Answer::Over => &mut counters.over_limit,
            Answer::Contended => &mut counters.contended,
            Answer::Closed => &mut counters.closed,
            Answer::Admits | Answer::FailsOpen | Answer::Missing => &mut counters.refused_elsewhere,
        }
    };
    add(tally, bytes, one.tokens);
}

#[inline(always)]
fn add(tally: &mut TokenTally, bytes: u32, tokens: u32) {
    tally.packets += 1;
    tally.bytes += u64::from(bytes);
    tally.tokens += u64::from(tokens);
}

/// Tells user space about one packet in so many.
///
/// The distance between two events varies by chance around what is asked for, or sources that
/// take turns could hide from it. Each event says for how many packets it stands, so that sums
/// over events are right whatever the distance.
#[inline(always)]
pub(crate) fn sample<E: Environment>(environment: &E, reason: Reason, work: &mut Work) {
    let one_in = environment.sampling();
    if one_in == 0 {
        // Whoever asks again later asks for what comes then.
        work.weight = 0;
        work.unsent = 0;
        return;
    }
    work.weight = work.weight.wrapping_add(1);
    // From half of it to one and a half; `one_in` is a power of two.
    let distance = (one_in >> 1).wrapping_add(work.jitter & one_in.wrapping_sub(1));
    if work.weight < distance {
        return;
    }
    // The lowest bits of a clock that just jittered by a packet are chance enough.
    work.jitter = (work.now as u32).wrapping_mul(0x9e37_79b1) >> 8;
    // The next event to find room stands for those that found none, too.
    work.unsent = work.unsent.saturating_add(work.weight);
    work.weight = 0;
    describe(work, reason);
    if environment.emit(&work.event) {
        work.unsent = 0;
    } else {
        environment.count_total(|totals| totals.events_lost += 1);
    }
}

/// The packet, and the limit that decided. A function of its own in the kernel too, since it is
/// rarely needed and the stack is small.
#[inline(never)]
fn describe(work: &mut Work, reason: Reason) {
    let packet = &work.packet;
    work.event = Event {
        at_ns: work.now,
        source: packet.source.words,
        destination: packet.destination.words,
        weight: work.unsent,
        bytes: packet.bytes,
        reason: reason as u8,
        family: packet.source.family as u8,
        protocol: packet.protocol,
        port: packet.destination_port,
        side: work.side,
        ..Event::default()
    };
    for index in 0..RULES_PER_SERVICE {
        let Some(one) = work.get(index) else {
            return;
        };
        let (slot, over) = (one.slot, one.over);
        let is_hot = one.is_hot && one.by_lease;
        let decided = !reason.passes() && one.blocking() != Answer::Admits;
        let event = &mut work.event;
        event.slots[index] = slot;
        event.count += 1;
        if index == 0 || decided {
            event.slot = slot;
        }
        if decided {
            event.over = over;
            event.hot = u16::from(is_hot);
        }
    }
}
