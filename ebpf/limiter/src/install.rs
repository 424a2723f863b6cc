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
/// - A slot is exported and restored so that another program can go on with what is unspent.
/// - A grant that has expired is refused, unless it grants nothing: then only the floor is set.
/// - The bucket is settled with the burst that is in force now, so a burst that grows starts empty.
/// - The new piece of the clock begins where the old one stands now. If nothing but the end
///   changes *and the grant is still alive*, the piece goes on, with another end; one that is dead
///   has had the floor's slope since, so it has to begin anew. A floor that stays the same is left
///   alone, or setting it again each tick would take away what it has gathered.
#[inline(always)]
pub fn install<M: Memory>(
    slot: LimitRef<'_, M>,
    request: &mut InstallRequest,
    now: u64,
) -> InstallStatus {
    if request.operation == Operation::Create as u16 {
        create(slot, request, now);
        return InstallStatus::Installed;
    }
    if request.operation == Operation::Restore as u16 {
        restore(slot, request, now);
        return InstallStatus::Installed;
    }
    if request.operation == Operation::Export as u16 {
        return export(slot, request, now);
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

/// Says what the slot holds.
#[inline(always)]
fn export<M: Memory>(
    slot: LimitRef<'_, M>,
    request: &mut InstallRequest,
    now: u64,
) -> InstallStatus {
    let Some(grant) = slot.grant() else {
        return InstallStatus::Contended;
    };
    let standing = standing(&grant, now);
    let left = standing
        .position
        .wrapping_sub(level_at(slot.level(), standing));
    (request.limit, request.revision) = slot.identity();
    request.rate_multiplier = grant.rate_multiplier;
    request.burst = grant.burst;
    request.floor_multiplier = grant.floor_multiplier;
    request.floor_burst = grant.floor_burst;
    request.expires_ns = grant.expires_ns;
    // A bucket that is ahead of its clock has nothing left.
    request.unspent = if left <= standing.burst { left } else { 0 };
    request.carried_burst = standing.burst;
    InstallStatus::Exported
}

/// Takes up what another program's slot held. What came in since it said so has lapsed.
#[inline(always)]
fn restore<M: Memory>(slot: LimitRef<'_, M>, request: &InstallRequest, now: u64) {
    slot.claim(request.limit, request.revision);
    let is_alive = now < request.expires_ns;
    let unspent = if request.unspent < request.carried_burst {
        request.unspent
    } else {
        request.carried_burst
    };
    // The bucket first: the new piece begins at 0, and what is unspent lies behind it.
    let level = slot.level();
    let _ = slot.exchange_level(level, 0_u64.wrapping_sub(unspent));
    slot.publish(&Grant {
        t0_ns: now,
        v0: 0,
        expires_ns: request.expires_ns,
        rate_multiplier: request.rate_multiplier,
        burst: if is_alive {
            request.burst
        } else {
            request.carried_burst
        },
        floor_multiplier: request.floor_multiplier,
        floor_burst: request.floor_burst,
        carried_burst: request.carried_burst,
    });
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
