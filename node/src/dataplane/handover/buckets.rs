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

/// Hands over all buckets that the new layout has and that nobody handed over before. Returns the
/// slots of limits that both have, old and new.
///
/// Then no bucket is held any more: what the old layout does not have is as it is after its
/// creation, without a grant.
pub(super) fn hand_over(old: &PinDirectory, new: &PinDirectory) -> io::Result<Vec<(u32, u32)>> {
    let (old, new) = (Installer::open(old)?, Installer::open(new)?);
    let waiting: HashMap<(u64, u64), InstallRequest> = new
        .export_all()?
        .into_iter()
        .map(|exported| ((exported.limit, exported.revision), exported))
        .collect();
    let pairs: Vec<(u32, InstallRequest)> = old
        .export_all()?
        .into_iter()
        .filter_map(|exported| {
            let target = waiting.get(&(exported.limit, exported.revision))?;
            Some((exported.slot, *target))
        })
        .collect();
    let held: Vec<_> = pairs.iter().filter(|(_, target)| is_held(target)).collect();
    for batch in held.chunks(InstallHeader::MAX_COUNT) {
        // Looked at again, so that next to nothing lapses between the two.
        let asked: Vec<_> = batch.iter().map(|(slot, _)| export(*slot)).collect();
        let exported = old.run(&asked, InstallStatus::Exported)?;
        let restored: Vec<_> = exported
            .into_iter()
            .zip(batch)
            .map(|(exported, (_, target))| InstallRequest {
                slot: target.slot,
                operation: Operation::Restore as u16,
                status: 0,
                ..exported
            })
            .collect();
        new.run(&restored, InstallStatus::Installed)?;
        step::reached(Step::FirstBuckets);
    }
    new.let_go()?;
    Ok(pairs
        .into_iter()
        .map(|(slot, target)| (slot, target.slot))
        .collect())
}

/// A bucket that waits for being handed over grants nothing, for ever: its limit neither falls to
/// a floor nor fails open.
pub(super) const fn is_held(exported: &InstallRequest) -> bool {
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
    fn export_all(&self) -> io::Result<Vec<InstallRequest>> {
        let asked: Vec<_> = (0..self.slots).map(export).collect();
        let mut exported = self.run(&asked, InstallStatus::Exported)?;
        exported.retain(|one| one.limit != 0);
        Ok(exported)
    }

    fn let_go(&self) -> io::Result<()> {
        let held = self.export_all()?.into_iter().filter(is_held);
        let released: Vec<_> = held
            .map(|held| InstallRequest {
                limit: held.limit,
                revision: held.revision,
                slot: held.slot,
                operation: Operation::Grant as u16,
                ..InstallRequest::default()
            })
            .collect();
        self.run(&released, InstallStatus::Installed).map(drop)
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
