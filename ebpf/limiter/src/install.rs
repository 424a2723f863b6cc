//! Installing a grant.

use weir_abi::{Grant, InstallRequest, InstallStatus, Operation};

use crate::{
    bucket::level_at,
    clock::{Standing, standing},
    memory::{LimitRef, Memory},
};

/// How often the installer tries to settle a bucket that packets are charging meanwhile.
const SETTLE_ATTEMPTS: u32 = 8;

/// Decides one request at `now` and carries it out. Run by one installer at a time, in the kernel,
/// so that no pause can come between the reading of the clock and the grant's beginning.
///
/// - A grant that has expired is refused, unless it grants nothing: then only the floor is set.
/// - The bucket is settled with the burst that is in force now, so a burst that grows starts empty.
/// - The new piece of the clock begins where the old one stands now. If nothing but the end
///   changes *and the grant is still alive*, the piece goes on, with another end; one that is dead
///   has had the floor's slope since, so it has to begin anew. A floor that stays the same is left
///   alone, or setting it again each tick would take away what it has gathered.
#[inline(always)]
pub fn install<M: Memory>(
    slot: LimitRef<'_, M>,
    request: &InstallRequest,
    now: u64,
) -> InstallStatus {
    if request.operation == Operation::Create as u16 {
        create(slot, request, now);
        return InstallStatus::Installed;
    }
    if slot.identity() != (request.limit, request.revision) {
        return InstallStatus::WrongLimit;
    }
    let grants = request.rate_multiplier | request.burst != 0;
    let is_grant = request.operation == Operation::Grant as u16;
    if is_grant && grants && request.expires_ns <= now {
        return InstallStatus::Expired;
    }
    // Nobody else installs, so a copy that does not stand still cannot happen.
    let Some(old) = slot.grant() else {
        return InstallStatus::Contended;
    };
    let before = standing(&old, now);
    if !settle(slot, before) {
        return InstallStatus::Contended;
    }
    if !is_grant {
        return InstallStatus::Settled;
    }
    replace(slot, request, &old, before, now)
}

/// An empty bucket without entitlement: both stand at 0.
#[inline(always)]
fn create<M: Memory>(slot: LimitRef<'_, M>, request: &InstallRequest, now: u64) {
    slot.claim(request.limit, request.revision);
    let nothing = Grant {
        t0_ns: now,
        ..Grant::default()
    };
    slot.publish(&nothing);
    // No packet gets here yet, so once is enough.
    let level = slot.level();
    let _ = slot.exchange_level(level, 0);
}

#[inline(always)]
fn settle<M: Memory>(slot: LimitRef<'_, M>, now: Standing) -> bool {
    for _ in 0..SETTLE_ATTEMPTS {
        let level = slot.level();
        let settled = level_at(level, now);
        if settled == level || slot.exchange_level(level, settled) == level {
            return true;
        }
    }
    false
}

#[inline(always)]
fn replace<M: Memory>(
    slot: LimitRef<'_, M>,
    request: &InstallRequest,
    old: &Grant,
    before: Standing,
    now: u64,
) -> InstallStatus {
    let same_floor =
        request.floor_multiplier == old.floor_multiplier && request.floor_burst == old.floor_burst;
    let same_amount = request.rate_multiplier == old.rate_multiplier && request.burst == old.burst;
    let was_alive = now < old.expires_ns;
    let is_alive = now < request.expires_ns;
    if was_alive && is_alive && same_amount && same_floor {
        slot.publish(&Grant {
            expires_ns: request.expires_ns,
            ..*old
        });
        return InstallStatus::Renewed;
    }
    if !was_alive && !is_alive && same_floor {
        return InstallStatus::Renewed;
    }
    slot.publish(&Grant {
        // Never before the old piece: its position at an earlier instant is that of its beginning.
        t0_ns: if now < old.t0_ns { old.t0_ns } else { now },
        v0: before.position,
        expires_ns: request.expires_ns,
        rate_multiplier: request.rate_multiplier,
        // A piece that is dead from the start keeps what is unspent now, up to the floor's burst.
        burst: if is_alive {
            request.burst
        } else {
            before.burst
        },
        floor_multiplier: request.floor_multiplier,
        floor_burst: request.floor_burst,
        carried_burst: before.burst,
    });
    InstallStatus::Installed
}
