//! Asking the buckets of all limits that apply to a packet, and charging them.

use weir_abi::{OnExpiry, Reason, maps::RULES_PER_SERVICE};

use crate::{
    bucket::{charge, shortfall},
    clock::standing,
    decide::Environment,
    keyed::{self, Charge},
    work::{Answer, Match, Progress, Work},
};

/// How often a packet tries again, at all its buckets together, because another CPU changed one
/// between the reading and the charging: another packet was decided then. When they run out it is
/// dropped and counted as [`Reason::Contended`].
const MAX_RETRIES: u32 = 8;
/// Two rounds, less the last limit's first, and the retries.
const MAX_STEPS: usize = 2 * RULES_PER_SERVICE + MAX_RETRIES as usize;

/// Asks every bucket, then charges every bucket: what one refuses costs the others nothing.
///
/// The last one is asked and charged at once, since nothing can go wrong in between; it is the
/// one that CPUs share most, for keyed limits come first. Only a packet that then loses a race
/// for another bucket has charged this one in vain. That is counted and not refunded, since others
/// may have been refused for it meanwhile.
#[inline(always)]
pub(crate) fn charge_all<E: Environment>(environment: &E, work: &mut Work) -> Reason {
    work.progress.set(Progress::default());
    // The first round asks, the second charges all but the last. Where it stands is kept in
    // memory: the verifier then finds each turn of the loop like the one before.
    for _ in 0..MAX_STEPS {
        let Progress { step, retries } = work.progress.get();
        let count = work.count() as u32;
        if step + 1 >= 2 * count {
            return Reason::Admitted;
        }
        let is_second_round = step >= count;
        let index = if is_second_round { step - count } else { step };
        let commit = step + 1 >= count;
        let now = work.now;
        let Some(one) = work.get(index as usize) else {
            return Reason::Internal;
        };
        // What was not charged because it is in shadow mode, or fails open, is left alone.
        if !is_second_round || one.answer == Answer::Admits {
            let last_try = !commit || retries >= MAX_RETRIES;
            ask(environment, now, commit, one);
            if one.answer == Answer::Contended && !last_try {
                // Still to be charged: what another CPU did is no reason to leave it out.
                one.answer = Answer::Admits;
                let retries = retries + 1;
                work.progress.set(Progress { step, retries });
                continue;
            }
            one.charged = commit && one.answer == Answer::Admits;
            match one.blocking() {
                Answer::Admits | Answer::FailsOpen => {}
                Answer::Contended => return Reason::Contended,
                Answer::Over => return Reason::OverLimit,
                Answer::Closed => return Reason::Closed,
                Answer::Missing => return Reason::Internal,
            }
        }
        let step = step + 1;
        work.progress.set(Progress { step, retries });
    }
    Reason::Internal
}

/// Asks the bucket that there is. A hot key's leased one is asked first, and its other one only if
/// that is spent: then the two shares are what it may have at most, one after the other.
///
/// Which of them pays is found out anew each time, so what another CPU does between the rounds is
/// as good a reason to turn to the other one as what it did before.
#[inline(always)]
fn ask<E: Environment>(environment: &E, now: u64, commit: bool, one: &mut Match) {
    one.pressure = false;
    one.by_lease = !one.keyed || one.is_hot;
    if one.by_lease {
        ask_limit(environment, now, commit, one);
    }
    if one.keyed && !(one.is_hot && (one.hot_alone || one.answer != Answer::Over)) {
        one.by_lease = false;
        ask_key(environment, now, commit, one);
    }
}

#[inline(always)]
fn ask_key<E: Environment>(environment: &E, now: u64, commit: bool, one: &mut Match) {
    let charge = Charge {
        cost_ns: one.cost,
        burst_ns: one.burst_ns,
        now,
    };
    let verdict = keyed::ask(environment.keys(), one.place, charge, commit);
    one.answer = verdict.answer;
    one.over = verdict.over_ns;
    one.pressure = verdict.pressure;
}

#[inline(always)]
fn ask_limit<E: Environment>(environment: &E, now: u64, commit: bool, one: &mut Match) {
    let (slot, cost) = if one.is_hot {
        (one.hot_slot, one.hot_cost)
    } else {
        (one.slot, one.cost)
    };
    let Some(limit) = environment.limit(slot) else {
        one.answer = Answer::Missing;
        return;
    };
    let Some(grant) = limit.grant() else {
        one.answer = Answer::Contended;
        return;
    };
    if one.on_expiry != OnExpiry::Floor as u8 && now >= grant.expires_ns {
        one.answer = if one.on_expiry == OnExpiry::Open as u8 {
            Answer::FailsOpen
        } else {
            Answer::Closed
        };
        return;
    }
    let standing = standing(&grant, now);
    let level = limit.level();
    one.answer = match charge(level, standing, cost) {
        None => {
            one.over = shortfall(level, standing, cost);
            Answer::Over
        }
        Some(charged) if commit && limit.exchange_level(level, charged) != level => {
            Answer::Contended
        }
        Some(_) => Answer::Admits,
    };
}
