//! Which limit has which slot.
//!
//! A slot belongs to a limit and a revision for as long as nobody else needs it, so a limit that
//! leaves the policy and comes back finds its bucket as it was, and no change of policy refills
//! one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_abi::maps;
use weir_model::{LimitId, Revision};

use super::{
    error::DataplaneError,
    maps::{Maps, map_error},
};

/// A limit's bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) slot: u32,
    pub(crate) revision: Revision,
}

/// The owners of all slots.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    by_owner: BTreeMap<(LimitId, Revision), u32>,
    owners: HashMap<u32, (LimitId, Revision)>,
    active: BTreeMap<LimitId, Bucket>,
    never_used: BTreeSet<u32>,
}

impl Slots {
    /// Reads them from the kernel, with the limits that `side`'s policy uses.
    pub(crate) fn read(kernel: &Maps, side: u32) -> Result<Self, DataplaneError> {
        let mut slots = Self::default();
        for slot in 0..kernel.slots() {
            let owner = kernel.limits.get(&slot, 0);
            let owner = owner.map_err(map_error(maps::LIMITS))?.0;
            if owner.limit == 0 {
                slots.never_used.insert(slot);
                continue;
            }
            let limit = LimitId(owner.limit);
            let revision = Revision(owner.revision as u32);
            slots.created((limit, revision), slot);
            let rule = kernel.rules.get(&maps::sided(slot, side), 0);
            if rule.map_err(map_error(maps::RULES))?.0.limit == owner.limit {
                slots.active.insert(limit, Bucket { slot, revision });
            }
        }
        Ok(slots)
    }

    /// The limits of the policy in force.
    pub(crate) fn active(&self) -> impl Iterator<Item = (LimitId, Bucket)> + '_ {
        self.active.iter().map(|(limit, bucket)| (*limit, *bucket))
    }

    /// Whose slot this is.
    pub(crate) fn owner(&self, slot: u32) -> Option<LimitId> {
        self.owners.get(&slot).map(|(limit, _)| *limit)
    }

    /// The limit of the policy in force that has this slot.
    pub(crate) fn by_slot(&self, slot: u32) -> Option<(LimitId, Bucket)> {
        let limit = self.owner(slot)?;
        let bucket = self.find(limit)?;
        (bucket.slot == slot).then_some((limit, bucket))
    }

    /// The bucket of a limit of the policy in force.
    pub(crate) fn find(&self, limit: LimitId) -> Option<Bucket> {
        self.active.get(&limit).copied()
    }

    /// Slots for these limits: their own, or ones that neither they nor the policy in force use.
    /// The second part says which have to be created.
    pub(crate) fn assign(
        &self,
        wanted: impl IntoIterator<Item = (LimitId, Revision)>,
    ) -> Result<Vec<(u32, bool)>, DataplaneError> {
        let wanted: Vec<_> = wanted.into_iter().collect();
        let own = |owner: &(LimitId, Revision)| self.by_owner.get(owner).copied();
        let taken: BTreeSet<u32> = wanted
            .iter()
            .filter_map(own)
            .chain(self.active.values().map(|bucket| bucket.slot))
            .collect();
        // Never used ones first: whoever comes back should find its bucket.
        let mut free = self
            .never_used
            .iter()
            .chain(self.by_owner.values())
            .filter(|slot| !taken.contains(slot));
        wanted
            .iter()
            .map(|owner| match own(owner) {
                Some(slot) => Ok((slot, false)),
                None => free.next().map(|slot| (*slot, true)).ok_or({
                    DataplaneError::TooLarge {
                        what: "limits, with those of the policy in force",
                        found: wanted.len() + self.active.len(),
                        most: self.never_used.len() + self.owners.len(),
                    }
                }),
            })
            .collect()
    }

    /// A slot has got this owner in the kernel.
    pub(crate) fn created(&mut self, owner: (LimitId, Revision), slot: u32) {
        self.never_used.remove(&slot);
        if let Some(former) = self.owners.insert(slot, owner) {
            self.by_owner.remove(&former);
        }
        self.by_owner.insert(owner, slot);
    }

    /// Another policy is in force.
    pub(crate) fn activate(&mut self, active: BTreeMap<LimitId, Bucket>) {
        self.active = active;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(id: u64) -> (LimitId, Revision) {
        (LimitId(id), Revision(0))
    }

    fn slots(used: &[(u64, u32)], active: &[u64], never_used: &[u32]) -> Slots {
        Slots {
            by_owner: used.iter().map(|(id, slot)| (owner(*id), *slot)).collect(),
            owners: used.iter().map(|(id, slot)| (*slot, owner(*id))).collect(),
            active: active
                .iter()
                .map(|id| {
                    let slot = used.iter().find(|(other, _)| other == id).unwrap().1;
                    let revision = Revision(0);
                    (LimitId(*id), Bucket { slot, revision })
                })
                .collect(),
            never_used: never_used.iter().copied().collect(),
        }
    }

    #[test]
    fn a_limit_keeps_its_slot_and_a_new_one_gets_an_unused_one() {
        let slots = slots(&[(1, 0), (2, 1)], &[1], &[2, 3]);
        let assigned = slots.assign([owner(1), owner(9), owner(2)]).unwrap();
        assert_eq!(assigned, [(0, false), (2, true), (1, false)]);
    }

    #[test]
    fn the_slot_of_a_limit_that_left_is_taken_last_and_that_of_an_active_one_never() {
        let mut slots = slots(&[(1, 0), (2, 1)], &[1], &[2]);
        let assigned = slots.assign([owner(8), owner(9)]).unwrap();
        assert_eq!(assigned, [(2, true), (1, true)]);
        assert!(slots.assign([owner(7), owner(8), owner(9)]).is_err());
        slots.created(owner(9), 1);
        assert_eq!(slots.assign([owner(9)]).unwrap(), [(1, false)]);
        assert!(slots.assign([owner(2), owner(3), owner(4)]).is_err());
    }
}
