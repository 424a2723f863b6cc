//! Buckets, from one layout's `install` program to another's.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use weir_abi::{InstallHeader, InstallRequest, InstallStatus, Operation, maps};

use super::{
    super::{install, pins::PinDirectory, raw::WordMap, sys},
    Step, step,
};

/// Which bucket goes where. Made while the old program still decides: what it needs does not
/// change.
pub(crate) struct Plan {
    old: Installer,
    new: Installer,
    /// Slots of limits that both layouts have, old and new.
    pub(super) slots: Vec<(u32, u32)>,
    /// Those among them whose bucket nobody has handed over yet.
    waiting: Vec<(u32, u32)>,
    /// What the new layout holds for want of a bucket that the old one does not have.
    unknown: Vec<InstallRequest>,
}

impl Plan {
    pub(super) fn new(old: &PinDirectory, new: &PinDirectory) -> io::Result<Self> {
        let (old, new) = (Installer::open(old)?, Installer::open(new)?);
        let identity = |one: &InstallRequest| (one.limit, one.revision);
        let known: HashMap<(u64, u64), u32> = old
            .export_all()?
            .iter()
            .map(|one| (identity(one), one.slot))
            .collect();
        let mut plan = Self {
            old,
            new,
            slots: Vec::new(),
            waiting: Vec::new(),
            unknown: Vec::new(),
        };
        for target in plan.new.export_all()? {
            match known.get(&identity(&target)) {
                Some(slot) => {
                    plan.slots.push((*slot, target.slot));
                    if is_held(&target) {
                        plan.waiting.push((*slot, target.slot));
                    }
                }
                None if is_held(&target) => plan.unknown.push(target),
                None => {}
            }
        }
        Ok(plan)
    }

    /// Hands over what waits. Then no bucket is held any more: what the old layout does not have
    /// is as it is after its creation, without a grant.
    pub(super) fn carry_out(&self) -> io::Result<()> {
        for batch in self.waiting.chunks(InstallHeader::MAX_COUNT) {
            // Looked at now, so that next to nothing lapses between the two.
            let asked: Vec<_> = batch.iter().map(|(old, _)| export(*old)).collect();
            let exported = self.old.run(&asked, InstallStatus::Exported)?;
            let restored: Vec<_> = exported
                .into_iter()
                .zip(batch)
                .map(|(exported, (_, new))| InstallRequest {
                    slot: *new,
                    operation: Operation::Restore as u16,
                    status: 0,
                    ..exported
                })
                .collect();
            self.new.run(&restored, InstallStatus::Installed)?;
            step::reached(Step::FirstBuckets);
        }
        let released: Vec<_> = self
            .unknown
            .iter()
            .map(|held| InstallRequest {
                limit: held.limit,
                revision: held.revision,
                slot: held.slot,
                operation: Operation::Grant as u16,
                ..InstallRequest::default()
            })
            .collect();
        self.new.run(&released, InstallStatus::Installed).map(drop)
    }
}

/// A bucket that waits for being handed over grants nothing, for ever: its limit neither falls to
/// a floor nor fails open.
const fn is_held(exported: &InstallRequest) -> bool {
    exported.limit != 0
        && exported.expires_ns == u64::MAX
        && exported.rate_multiplier | exported.burst == 0
        && exported.floor_multiplier | exported.floor_burst == 0
}

fn export(slot: u32) -> InstallRequest {
    InstallRequest {
        slot,
        operation: Operation::Export as u16,
        ..InstallRequest::default()
    }
}

/// A layout's pinned program.
pub(super) struct Installer {
    program: OwnedFd,
    slots: u32,
}

impl Installer {
    pub(super) fn open(layout: &PinDirectory) -> io::Result<Self> {
        Ok(Self {
            program: sys::open_pinned(&layout.pin(maps::INSTALL_PROGRAM))?,
            slots: WordMap::open(&layout.pin(maps::LIMITS))?.entries(),
        })
    }

    /// Whether it understands what we say.
    pub(super) fn answers(&self) -> io::Result<bool> {
        Ok(self.run(&[export(0)], InstallStatus::Exported).is_ok())
    }

    /// What all slots hold that were ever used.
    pub(super) fn export_all(&self) -> io::Result<Vec<InstallRequest>> {
        let asked: Vec<_> = (0..self.slots).map(export).collect();
        let mut exported = self.run(&asked, InstallStatus::Exported)?;
        exported.retain(|one| one.limit != 0);
        Ok(exported)
    }

    fn run(
        &self,
        requests: &[InstallRequest],
        expected: InstallStatus,
    ) -> io::Result<Vec<InstallRequest>> {
        let decided = install::run(self.program.as_fd(), requests).map_err(io::Error::other)?;
        let odd = decided.iter().find(|one| one.status != expected as u16);
        match odd {
            None => Ok(decided),
            Some(odd) => Err(io::Error::other(format!(
                "the install program said {} for slot {}, instead of {expected:?}",
                odd.status, odd.slot
            ))),
        }
    }
}
