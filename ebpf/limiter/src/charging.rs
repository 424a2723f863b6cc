//! Asking the buckets of all limits that apply to a packet, and charging them.

use weir_abi::{OnExpiry, Reason, maps::RULES_PER_SERVICE};

use crate::{
    bucket::{charge, shortfall},
    clock::standing,
    decide::Environment,
    keyed::{self, Charge},
    work::{Answer, Match, Progress, Work},
};

/// How often a packet asks another time, at all its limits together. Because another CPU changed a
/// bucket between the reading and the charging: another packet was decided then. When they run out
/// it is dropped and counted as [`Reason::Contended`]. Or because the leased bucket of a hot key
/// refused: when they run out that is the last word. The verifier follows each turn apart, so
/// there are no more of them than that.
const MAX_MORE: u32 = 8;
/// Two rounds, less the last limit's first, and those.
const MAX_TURNS: usize = 2 * RULES_PER_SERVICE + MAX_MORE as usize;

/// Asks every bucket, then charges every bucket: what one refuses costs the others nothing.
///
/// The last one is asked and charged at once, since nothing can go wrong in between; it is the
/// one that CPUs share most, for keyed limits come first. Only a packet that then loses a race
/// for another bucket has charged this one in vain. That is counted and not refunded, since others
/// may have been refused for it meanwhile.
///
/// A hot key's leased bucket is asked first, and its other one if that is spent: the packet then
/// turns to it, in both rounds anew, so what another CPU does between them is as good a reason as
/// what it did before.
#[inline(always)]
pub(crate) fn charge_all<E: Environment>(environment: &E, work: &mut Work) -> Reason {
    work.progress.set(Progress::default());
    // The first round asks, the second charges all but the last. Each turn looks at one bucket, and
    // where it stands is kept in memory: the verifier then finds each turn like the one before.
    for _ in 0..MAX_TURNS {
        let Progress { step, more } = work.progress.get();
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
            let last_try = more >= MAX_MORE;
            if one.is_hot {
                one.by_lease = !one.refused_by_lease;
            }
            if one.keyed && !one.by_lease {
                ask_key(environment, now, commit, one);
            } else {
                ask_lease(environment, now, commit, one);
            }
            let turns = one.turns_to_share();
            if !last_try && (turns || commit && one.answer == Answer::Contended) {
                // Still to be charged: what another CPU did is no reason to leave it out.
                one.answer = Answer::Admits;
                one.refused_by_lease = turns;
                let more = more + 1;
                work.progress.set(Progress { step, more });
                continue;
            }
            if one.is_hot {
                one.refused_by_lease = false;
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
        work.progress.set(Progress { step, more });
    }
    Reason::Internal
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

/// Rule 8, *expiry*: each packet asks whether the lease lasts, and from its end on there is the floor,
/// whatever has become of everything in user space. Without that, a node whose daemon is gone spends
/// for ever what its leader has given to others.
#[inline(always)]
fn ask_lease<E: Environment>(environment: &E, now: u64, commit: bool, one: &mut Match) {
    one.pressure = false;
    let cost = one.lease_cost;
    let Some(limit) = environment.limit(one.lease_slot) else {
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
