//! One limit, and what it may admit in plain numbers.

use std::{cell::UnsafeCell, ptr::NonNull};

use weir_abi::{InstallRequest, InstallStatus, LimitSlot, Operation};
use weir_limiter::{LimitRef, SharedMemory, charge, install, multiplier, standing};

/// A limit as the kernel has it.
pub struct Limit {
    pub slot: Box<UnsafeCell<LimitSlot>>,
}

impl Limit {
    pub fn new(now: u64) -> Self {
        let limit = Self {
            slot: Box::default(),
        };
        let mut request = InstallRequest {
            operation: Operation::Create as u16,
            ..REQUEST
        };
        assert_eq!(
            install(limit.memory(), &mut request, now),
            InstallStatus::Installed
        );
        limit
    }

    pub fn memory(&self) -> LimitRef<'_, SharedMemory> {
        // SAFETY: boxed for as long as `self` lives, and only accessed through `LimitRef`.
        unsafe { LimitRef::new(NonNull::new_unchecked(self.slot.get())) }
    }

    pub fn grant(&self, grant: &Piece, now: u64) -> InstallStatus {
        let mut request = InstallRequest {
            rate_multiplier: multiplier(grant.rate),
            burst: grant.burst,
            floor_multiplier: multiplier(grant.floor_rate),
            floor_burst: grant.floor_burst,
            expires_ns: grant.expires,
            ..REQUEST
        };
        install(self.memory(), &mut request, now)
    }

    pub fn offer(&self, cost: u64, now: u64) -> bool {
        let limit = self.memory();
        let standing = standing(&limit.grant().unwrap(), now);
        let level = limit.level();
        match charge(level, standing, cost) {
            Some(charged) => {
                assert_eq!(limit.exchange_level(level, charged), level);
                true
            }
            None => false,
        }
    }
}

pub const REQUEST: InstallRequest = InstallRequest {
    limit: 7,
    revision: 1,
    slot: 0,
    operation: Operation::Grant as u16,
    status: 0,
    rate_multiplier: 0,
    burst: 0,
    floor_multiplier: 0,
    floor_burst: 0,
    expires_ns: 0,
    decided_ns: 0,
    unspent: 0,
    carried_burst: 0,
};

/// A grant in plain numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Piece {
    pub begins: u64,
    pub expires: u64,
    pub rate: u64,
    pub burst: u64,
    pub floor_rate: u64,
    pub floor_burst: u64,
}

impl Piece {
    /// Entitlement from its beginning to `now`, in units times 10^9.
    pub fn gained(&self, now: u64) -> i128 {
        let end = self.expires.clamp(self.begins, now.max(self.begins));
        let granted = i128::from(end - self.begins) * i128::from(self.rate);
        granted + i128::from(now.max(end) - end) * i128::from(self.floor_rate)
    }

    pub fn burst(&self, now: u64) -> u64 {
        if now < self.expires {
            self.burst
        } else {
            self.floor_burst
        }
    }
}
