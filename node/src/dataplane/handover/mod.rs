//! From a data plane of another layout to one of this program's, under traffic.
//!
//! Nobody has to know another one's maps. The old layout's own `install` program, which is pinned
//! with it, says what each bucket holds, and the new one's takes it up; counters are words that
//! are added; lines of keys and entries of hot ones have the same form in every layout that has a map
//! of that name. So any
//! version can bring to its end what another one began.
//!
//! What is spent is never granted again: once the new program decides, the old one's buckets are
//! as they remain, and until a bucket is handed over its limit admits nothing. What accrues
//! meanwhile goes to the old bucket, so that no more is lost than what does not fit a burst.
//!
//! | killed after | what is there | the next start |
//! | --- | --- | --- |
//! | [`Step::Prepared`], and any time before | the old layout, in force; `next` | takes `next` away, begins anew |
//! | [`Step::Committed`] | both, the new one with `predecessor` | goes on from here |
//! | [`Step::FirstLink`] | interfaces with either program; limits of the new one admit nothing | replaces the others |
//! | [`Step::Links`] | the new program on all; limits admit nothing | hands over the buckets |
//! | [`Step::FirstBuckets`] | some buckets handed over | hands over those that are still held |
//! | [`Step::Buckets`] | all; keyed limits closed, if the table has another size | copies the table, which nobody uses yet |
//! | [`Step::Keys`] | as above | as above, once more |
//! | [`Step::Opened`] | all limits as they were, but no counters | sets counters: the old ones stand still, so once or twice is the same |
//! | [`Step::Counters`] | everything handed over | finds nothing else to do |
//! | [`Step::Renamed`] | `predecessor` leads nowhere; `former` | forgets and takes away |
//! | [`Step::Forgotten`] | `former` | takes it away |
//!
//! A failure, other than a death, is undone as long as no bucket was handed over; from then on it
//! leaves what a death would.

mod buckets;
mod hold;
mod inherit;
mod rekey;
mod step;

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    time::Instant,
};

use tracing::info;
use weir_abi::{KeyLine, maps};

use self::buckets::{Installer, Plan};
#[doc(hidden)]
pub use self::step::{Step, kill_after};
use super::{
    error::LoadError,
    hot,
    maps::{Maps, refused},
    pins::{PinDirectory, PinGroup, file_error},
    raw::WordMap,
    sys,
};

/// [`maps::SIDE`] while keyed limits are closed: see [`super::Dataplane::hold`].
const CLOSED: u64 = 1;
/// And from then on.
const OPENED: u64 = 2;

/// Brings to its end what an earlier run began, and takes away what it left. Needs nothing that is
/// of this program's layout.
pub(crate) fn resume(group: &PinGroup) -> Result<(), LoadError> {
    group.next().remove_all()?;
    group.former().remove_all()?;
    for new in group.layouts()? {
        let Some(old) = new.predecessor() else {
            continue;
        };
        let handover = Handover {
            old: group.named(&old),
            new,
            next: group.next(),
            former: group.former(),
        };
        if handover.old.exists() {
            let plan = handover.plan()?;
            let begin = Instant::now();
            handover.move_links()?;
            handover.finish(&plan, begin)?;
        } else {
            handover.new.forget_predecessor()?;
        }
    }
    Ok(())
}

/// What a layout has for one that takes over from it.
pub(crate) struct Predecessor {
    pins: PinDirectory,
    /// Whether a policy was ever put in force.
    has_policy: bool,
    key_slots: u64,
}

impl Predecessor {
    /// Looks whether the layout can be taken over from.
    ///
    /// # Errors
    ///
    /// [`LoadError::CannotTakeOver`]. Nothing was changed.
    pub(crate) fn open(pins: PinDirectory) -> Result<Self, LoadError> {
        let unusable = |what: &str, error: &io::Error| LoadError::CannotTakeOver {
            path: pins.path().to_owned(),
            reason: format!("{what}: {error}"),
        };
        let map = |name| WordMap::open(&pins.pin(name)).map_err(|error| unusable(name, &error));
        for name in [
            maps::LIMITS,
            maps::COUNTERS,
            maps::TOTALS,
            maps::INHERITED_COUNTERS,
            maps::INHERITED_TOTALS,
            maps::KEY_SEED,
        ] {
            map(name)?;
        }
        let keys = map(maps::KEYS)?;
        if keys.words() != KeyLine::SLOTS || !keys.entries().is_power_of_two() {
            return Err(unusable(maps::KEYS, &io::ErrorKind::InvalidData.into()));
        }
        let side = map(maps::SIDE)?.sum(0);
        let side = side.map_err(|error| unusable(maps::SIDE, &error))?;
        let program = maps::XDP_PROGRAM;
        open_program(&pins, program).map_err(|error| unusable(program, &error))?;
        let answers = Installer::open(&pins).and_then(|installer| installer.answers());
        match answers {
            Err(error) => return Err(unusable(maps::INSTALL_PROGRAM, &error)),
            Ok(false) => {
                return Err(LoadError::CannotTakeOver {
                    path: pins.path().to_owned(),
                    reason: "its install program understands other requests than ours".to_owned(),
                });
            }
            Ok(true) => {}
        }
        Ok(Self {
            has_policy: side.is_some_and(|words| words != [0]),
            key_slots: u64::from(keys.entries()) * KeyLine::SLOTS as u64,
            pins,
        })
    }

    /// The keys that have leased buckets. A layout that knows none of them has none.
    pub(crate) fn hot_keys(&self) -> Result<Vec<HotBefore>, LoadError> {
        let path = self.pins.pin(maps::HOT);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let hot = Maps::open_hot(&path)?;
        let entries = hot::entries(&hot).map_err(|source| refused(maps::HOT, source))?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let exported = Installer::open(&self.pins).and_then(|installer| installer.export_all());
        let exported = exported.map_err(|source| refused(maps::INSTALL_PROGRAM, source))?;
        let owners: HashMap<u64, (u64, u64)> = exported
            .iter()
            .map(|one| (u64::from(one.slot), (one.limit, one.revision)))
            .collect();
        let owner = |slot: u64| owners.get(&slot).copied();
        let known = entries.into_iter().filter_map(|(entry, slot)| {
            Some(HotBefore {
                id: owner(slot)?.0,
                limit: owner(u64::from(entry.slot))?,
                entry,
            })
        });
        Ok(known.collect())
    }

    pub(crate) const fn has_policy(&self) -> bool {
        self.has_policy
    }

    pub(crate) fn path(&self) -> &Path {
        self.pins.path()
    }

    /// Pins in the new layout what both are to use: the seed of the table of keys, and the table
    /// itself if it has the right size. Returns whether it has.
    pub(crate) fn share_keys(&self, new: &PinDirectory, key_slots: u32) -> Result<bool, LoadError> {
        let is_shared = self.key_slots == u64::from(key_slots);
        let shared: &[&str] = if is_shared {
            &[maps::KEYS, maps::KEY_SEED]
        } else {
            &[maps::KEY_SEED]
        };
        for name in shared {
            let fd = sys::open_pinned(&self.pins.pin(name));
            let pinned = fd.and_then(|fd| sys::pin(fd.as_fd(), &new.pin(name)));
            pinned.map_err(|source| file_error(&new.pin(name), source))?;
        }
        Ok(is_shared)
    }

    /// Gives what was prepared in `next` its name, as the one that takes over. From now on a start
    /// of any version takes it for that.
    pub(crate) fn commit(self, group: &PinGroup, new: PinDirectory) -> Result<Handover, LoadError> {
        let next = group.next();
        next.set_predecessor(&self.pins)?;
        step::reached(Step::Prepared);
        next.rename(&new)?;
        step::reached(Step::Committed);
        Ok(Handover {
            old: self.pins,
            new,
            next,
            former: group.former(),
        })
    }
}

/// A key that had a leased bucket.
pub(crate) struct HotBefore {
    id: u64,
    /// The keyed limit, and its revision.
    limit: (u64, u64),
    /// With the slot that the limit had.
    entry: weir_abi::HotKey,
}

/// A layout that takes over from another one.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    old: PinDirectory,
    new: PinDirectory,
    next: PinDirectory,
    former: PinDirectory,
}

impl Handover {
    /// Looks what goes where.
    pub(crate) fn plan(&self) -> Result<Plan, LoadError> {
        Plan::new(&self.old, &self.new).map_err(|source| refused(&self.old.name(), source))
    }

    fn half_taken_over(&self, source: io::Error) -> LoadError {
        LoadError::HalfTakenOver {
            from: self.old.name(),
            to: self.new.name(),
            source,
        }
    }

    /// Has the new program decide on every interface that the old one has. If one refuses, all go
    /// back to the old one.
    pub(crate) fn move_links(&self) -> Result<(), LoadError> {
        let moved = move_links(&self.old, &self.new);
        if moved.is_err() {
            self.revert();
        }
        moved
    }

    /// Puts everything back as it was. Only before [`Self::finish`].
    pub(crate) fn revert(&self) {
        // What fails here is tried again, forwards, by the next start.
        if move_links(&self.new, &self.old).is_ok() && self.new.rename(&self.next).is_ok() {
            let _ = self.next.remove_all();
        }
    }

    /// Hands over all that the old layout holds, and takes it away. May be done again after any
    /// part of it. `begin` is when the first link was replaced.
    pub(crate) fn finish(&self, plan: &Plan, begin: Instant) -> Result<(), LoadError> {
        let opened = self.open(plan);
        let keys = opened.map_err(|source| self.half_taken_over(source))?;
        let paused = begin.elapsed();
        inherit::set(&self.old, &self.new, &plan.slots)
            .map_err(|source| self.half_taken_over(source))?;
        step::reached(Step::Counters);
        self.old.rename(&self.former)?;
        step::reached(Step::Renamed);
        self.new.forget_predecessor()?;
        step::reached(Step::Forgotten);
        self.former.remove_all()?;
        info!(
            from = self.old.name(),
            to = self.new.name(),
            buckets = plan.slots.len(),
            debts = keys.map(|keys| keys.debts),
            debts_without_room = keys.map(|keys| keys.crowded_out),
            ?paused,
            "the kernel's maps have another layout now; what was spent and counted goes on"
        );
        Ok(())
    }

    /// Hands over what limits admit by, so that all admit again.
    fn open(&self, plan: &Plan) -> io::Result<Option<rekey::Rekeyed>> {
        // Nobody charges or counts in the old maps any more.
        sys::wait_for_packets();
        step::reached(Step::Links);
        plan.carry_out()?;
        step::reached(Step::Buckets);
        let keys = self.open_keys()?;
        step::reached(Step::Opened);
        Ok(keys)
    }

    /// `None` if both use the same table, or it was copied before.
    fn open_keys(&self) -> io::Result<Option<rekey::Rekeyed>> {
        let [old, new] =
            [&self.old, &self.new].map(|layout| WordMap::open(&layout.pin(maps::KEYS)));
        let (old, new) = (old?, new?);
        let side = WordMap::open(&self.new.pin(maps::SIDE))?;
        let mut rekeyed = None;
        if old.id() != new.id() && side.sum(0)?.is_some_and(|side| side == [CLOSED]) {
            rekeyed = Some(rekey::rekey(&old.memory()?, &new.memory()?, super::now()));
            step::reached(Step::Keys);
            side.set(0, &[OPENED])?;
        }
        Ok(rekeyed)
    }
}

/// Gives the links of one layout to another, with its program.
fn move_links(from: &PinDirectory, to: &PinDirectory) -> Result<(), LoadError> {
    let program = open_program(to, maps::XDP_PROGRAM);
    let program = program.map_err(|source| file_error(&to.pin(maps::XDP_PROGRAM), source))?;
    for path in from.links()? {
        let failed = |source| refused(&path.display().to_string(), source);
        let link = sys::open_pinned(&path).map_err(failed)?;
        match sys::link_update(link.as_fd(), program.as_fd()) {
            Ok(()) => {}
            // The interface is gone. Attaching takes the pin away.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            Err(source) => return Err(failed(source)),
        }
        let place = to.path().join(path.file_name().unwrap_or_default());
        fs::rename(&path, &place).map_err(|source| file_error(&path, source))?;
        step::reached(Step::FirstLink);
    }
    Ok(())
}

fn open_program(pins: &PinDirectory, name: &str) -> io::Result<OwnedFd> {
    sys::open_pinned(&pins.pin(name))
}
