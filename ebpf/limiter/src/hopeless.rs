//! Packets of keys that are so far over that no reading of the clock could let them pass.
//!
//! The clock is the dearest step of a decision: its instruction waits until every load before it
//! has come back, so packets that would otherwise overlap are decided one after the other. But time
//! only ever forgives. A key that would still be over some milliseconds from now is over, and
//! the CPU's last reading tells enough to know. Limits slower than one packet in that time profit;
//! a flood against them is dropped for about the price of finding the bucket.

use crate::{
    decide::Environment,
    keyed::owed,
    work::{Answer, Work},
};

/// What a packet has to be over by, at the last reading: 16.8 ms. The kernel's tick is at most 10 ms,
/// and may come late. If it comes later than this, a packet is dropped that would just have passed.
const CERTAIN_NS: u64 = 1 << 24;

/// Whether the packet is certain to be refused by its first limit, which then says so.
#[inline(always)]
pub(crate) fn is_hopeless<E: Environment>(environment: &E, work: &mut Work) -> bool {
    let is_slow = match work.get(0) {
        // A debt is never above the burst, so only what costs more than the margin can be certain;
        // and a leased bucket may admit at any moment.
        Some(one) => one.keyed && !one.is_hot && !one.shadow && one.cost > CERTAIN_NS,
        None => false,
    };
    if !is_slow || !work.knows_about_now(environment) {
        return false;
    }
    let now = work.now;
    let Some(one) = work.get(0) else {
        return false;
    };
    let owed = owed(environment.keys(), one.place, now).wrapping_add(one.cost);
    if owed <= one.burst_ns.wrapping_add(CERTAIN_NS) {
        return false;
    }
    one.answer = Answer::Over;
    one.over = owed - one.burst_ns;
    one.charged = false;
    one.pressure = false;
    true
}
