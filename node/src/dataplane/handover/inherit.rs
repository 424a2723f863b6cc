//! Counters that go on.
//!
//! The old layout's counters stand still, and the new one's count already. So the old sums are not
//! added to the new counters but set beside them, which may be done any number of times, and
//! whoever reads adds the two.

use std::io;

use weir_abi::maps;

use super::super::{
    pins::PinDirectory,
    raw::{self, WordMap},
};

/// Sets what `new` inherits, in its slots: pairs of an old and a new one.
pub(super) fn set(old: &PinDirectory, new: &PinDirectory, slots: &[(u32, u32)]) -> io::Result<()> {
    let sums = Sums::open(old, maps::TOTALS, maps::INHERITED_TOTALS)?;
    WordMap::open(&new.pin(maps::INHERITED_TOTALS))?.set(0, &sums.of(0)?)?;

    let sums = Sums::open(old, maps::COUNTERS, maps::INHERITED_COUNTERS)?;
    let inherited = WordMap::open(&new.pin(maps::INHERITED_COUNTERS))?;
    for (from, to) in slots {
        inherited.set(*to, &sums.of(*from)?)?;
    }
    Ok(())
}

/// What a layout counted, and what it had inherited itself.
struct Sums {
    own: WordMap,
    inherited: WordMap,
}

impl Sums {
    fn open(layout: &PinDirectory, own: &str, inherited: &str) -> io::Result<Self> {
        Ok(Self {
            own: WordMap::open(&layout.pin(own))?,
            inherited: WordMap::open(&layout.pin(inherited))?,
        })
    }

    fn of(&self, key: u32) -> io::Result<Vec<u64>> {
        let mut sum = self.own.sum(key)?.unwrap_or_default();
        raw::add(&mut sum, &self.inherited.sum(key)?.unwrap_or_default());
        Ok(sum)
    }
}
