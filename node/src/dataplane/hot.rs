//! Keys of keyed limits that have a leased bucket of their own.
//!
//! They come and go with what a leader sees, while packets come in, so each step is one that a packet
//! may be in the middle of:
//!
//! - A bucket is made, empty and without a grant, before anything leads to it.
//! - An entry that leads to a bucket is taken away, and from then on packets find what they find of
//!   any other key. No entry is made, and no bucket made anew, before packets were waited for: the
//!   kernel uses an entry's memory again at once, and one that is still being read would lead a
//!   packet of the former key to the new one's tokens.
//! - The limit's rule says how many entries there are. It is set last, so that nobody looks in vain
//!   for long. It may be wrong for a moment, or for good after a crash: too large, it costs a look
//!   in vain; zero, the key is what it was before it was hot.
//!
//! What the kernel holds is all that there is to know, so a daemon that starts goes on with it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use aya::maps::{HashMap, MapData, MapError};
use weir_abi::{HotKey as Entry, InstallRequest, InstallStatus, Operation, Rule, maps};
use weir_model::{HotKey, LimitId, Revision, hot::MAX_HOT_KEYS, prefix::Prefix};

use super::{
    Dataplane,
    activate::expect,
    error::DataplaneError,
    install::Target,
    maps::{Maps, Raw, map_error},
    slots::{Bucket, Slots},
    sys,
};

const _: () = assert!(MAX_HOT_KEYS <= maps::HOT_SLOTS);

/// All that there are.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    keys: BTreeMap<LimitId, Known>,
    /// Slots that no entry leads to, the one that was given up last at the end.
    free: VecDeque<u32>,
    /// Whose buckets those have, if they were ever used: no two slots have the same owner.
    former: BTreeMap<(LimitId, Revision), u32>,
    /// Packets may be on their way to a bucket that was given up.
    must_wait: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) key: HotKey,
    /// Of the keyed limit.
    pub(crate) revision: Revision,
    /// What the kernel knows the key by.
    pub(crate) entry: Entry,
    pub(crate) slot: u32,
}

impl Hot {
    /// Reads them from the kernel. What leads nowhere, since somebody died at it, is taken away.
    pub(crate) fn read(
        kernel: &mut Maps,
        slots: &Slots,
        side: u32,
    ) -> Result<Self, DataplaneError> {
        let mut hot = Self {
            must_wait: true,
            ..Self::default()
        };
        let first = kernel.slots();
        let mut owners = BTreeMap::new();
        for slot in (first..).take(maps::HOT_SLOTS) {
            let owner = kernel.limits.get(&slot, 0);
            let owner = owner.map_err(map_error(maps::LIMITS))?.0;
            let owner = (LimitId(owner.limit), Revision(owner.revision as u32));
            owners.insert(slot, owner);
        }
        let mut in_use = BTreeSet::new();
        for (entry, slot) in entries(&kernel.hot)? {
            let owner = u32::try_from(slot).ok().and_then(|slot| {
                let owner = owners.get(&slot)?;
                Some((slot, *owner))
            });
            let known = owner.and_then(|(slot, (id, revision))| {
                let (limit, bucket) = slots.by_slot(entry.slot)?;
                let index = maps::sided(entry.slot, side);
                let rule = kernel.rules.get(&index, 0).ok()?.0;
                let key = key_of(&rule, &entry)?;
                let is_whole = bucket.revision == revision && in_use.insert(slot);
                is_whole.then_some(Known {
                    key: HotKey { id, limit, key },
                    revision,
                    entry,
                    slot,
                })
            });
            match known {
                Some(known) => drop(hot.keys.insert(known.key.id, known)),
                None => remove(kernel, &entry)?,
            }
        }
        for (slot, owner) in owners {
            if !in_use.contains(&slot) {
                hot.free.push_back(slot);
                if owner.0 != LimitId(0) {
                    hot.former.insert(owner, slot);
                }
            }
        }
        Ok(hot)
    }

    /// All of them.
    pub(crate) fn known(&self) -> impl Iterator<Item = &Known> {
        self.keys.values()
    }

    /// The leased bucket of a key.
    pub(crate) fn find(&self, id: LimitId) -> Option<Bucket> {
        self.keys.get(&id).map(|known| Bucket {
            slot: known.slot,
            revision: known.revision,
        })
    }

    /// How many keys of the limit in this slot there are.
    pub(crate) fn count(&self, limit_slot: u32) -> u16 {
        let of_limit = |known: &&Known| known.entry.slot == limit_slot;
        // There are 256 at most.
        self.keys.values().filter(of_limit).count() as u16
    }

    fn slot_for(&mut self, owner: (LimitId, Revision)) -> Option<u32> {
        let slot = match self.former.get(&owner) {
            Some(slot) => *slot,
            None => *self.free.front()?,
        };
        self.free.retain(|free| *free != slot);
        self.former.retain(|_, former| *former != slot);
        Some(slot)
    }

    fn give_up(&mut self, known: &Known) {
        self.keys.remove(&known.key.id);
        self.free.push_back(known.slot);
        self.former
            .insert((known.key.id, known.revision), known.slot);
        self.must_wait = true;
    }
}

impl Dataplane {
    /// The keys that have leased buckets, also after a restart, in the order of their numbers.
    pub fn hot_keys(&self) -> impl Iterator<Item = HotKey> + '_ {
        self.hot.keys.values().map(|known| known.key)
    }

    /// Whether this is the number of a key that has a leased bucket.
    #[must_use]
    pub fn is_hot(&self, id: LimitId) -> bool {
        self.hot.keys.contains_key(&id)
    }

    /// Gives these keys leased buckets, and no others. Who has one keeps it; a new one is empty, and
    /// has neither grant nor floor. What is no key of a limit of the policy in force is left out.
    ///
    /// # Errors
    ///
    /// If there are more than [`maps::HOT_SLOTS`], or a map cannot be written; then some may have
    /// theirs, and the next call goes on from there.
    pub fn set_hot_keys(&mut self, keys: &[HotKey]) -> Result<(), DataplaneError> {
        let mut wanted = BTreeMap::new();
        for key in keys {
            if let Some((revision, entry)) = self.entry(key)? {
                wanted.insert(key.id, (*key, revision, entry));
            }
        }
        if wanted.len() > maps::HOT_SLOTS {
            return Err(DataplaneError::TooLarge {
                what: "hot keys",
                found: wanted.len(),
                most: maps::HOT_SLOTS,
            });
        }
        let is_wanted = |known: &Known| {
            let wanted = wanted.get(&known.key.id);
            wanted.is_some_and(|(_, _, entry)| *entry == known.entry)
        };
        self.drop_hot_keys(|known| !is_wanted(known))?;
        let new: Vec<_> = wanted
            .into_values()
            .filter(|(key, ..)| !self.hot.keys.contains_key(&key.id))
            .collect();
        self.make_hot(&new)
    }

    /// Takes away what belongs to limits that are not in force any more.
    pub(crate) fn drop_strange_hot_keys(&mut self) -> Result<(), DataplaneError> {
        let of_limit = |limit| {
            let bucket: Option<Bucket> = self.slots.find(limit);
            bucket.map(|bucket| bucket.slot)
        };
        let strange: BTreeSet<LimitId> = self
            .hot
            .keys
            .values()
            .filter(|known| of_limit(known.key.limit) != Some(known.entry.slot))
            .map(|known| known.key.id)
            .collect();
        self.drop_hot_keys(|known| strange.contains(&known.key.id))
    }

    fn drop_hot_keys(&mut self, leaves: impl Fn(&Known) -> bool) -> Result<(), DataplaneError> {
        let leaving: Vec<Known> = self.hot.keys.values().copied().filter(leaves).collect();
        for known in &leaving {
            remove(&mut self.maps, &known.entry)?;
            self.hot.give_up(known);
        }
        self.count_hot_keys(leaving.iter().map(|known| known.entry.slot))
    }

    /// Makes a bucket for each of these, and leads packets to it.
    pub(crate) fn make_hot(
        &mut self,
        new: &[(HotKey, Revision, Entry)],
    ) -> Result<(), DataplaneError> {
        if new.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.hot.must_wait) {
            sys::wait_for_packets();
        }
        let mut made = Vec::with_capacity(new.len());
        for (key, revision, entry) in new {
            let slot = self.hot.slot_for((key.id, *revision));
            let slot = slot.ok_or(DataplaneError::TooLarge {
                what: "hot keys",
                found: self.hot.keys.len() + new.len(),
                most: maps::HOT_SLOTS,
            })?;
            self.reset_counters(slot)?;
            made.push(Known {
                key: *key,
                revision: *revision,
                entry: *entry,
                slot,
            });
        }
        let create: Vec<InstallRequest> = made
            .iter()
            .map(|known| {
                let target = Target {
                    limit: known.key.id,
                    revision: known.revision,
                    slot: known.slot,
                };
                target.request(Operation::Create)
            })
            .collect();
        let created = self.run_install(&create);
        let created = created.and_then(|created| expect(&created, &[InstallStatus::Installed]));
        let mut inserted = created;
        for known in &made {
            if inserted.is_ok() {
                inserted = insert(&mut self.maps, known);
            }
            match inserted {
                Ok(()) => drop(self.hot.keys.insert(known.key.id, *known)),
                Err(_) => self.hot.give_up(known),
            }
        }
        let counted = self.count_hot_keys(made.iter().map(|known| known.entry.slot));
        inserted.and(counted)
    }

    /// The slots of limits that have hot keys.
    pub(crate) fn hot_limits(&self) -> impl Iterator<Item = u32> + '_ {
        self.hot.keys.values().map(|known| known.entry.slot)
    }

    /// Has the rules of these slots say how many hot keys their limits have, on both sides.
    pub(crate) fn count_hot_keys(
        &mut self,
        limit_slots: impl Iterator<Item = u32>,
    ) -> Result<(), DataplaneError> {
        let error = map_error(maps::RULES);
        for slot in limit_slots.collect::<BTreeSet<u32>>() {
            let hot_keys = self.hot.count(slot);
            for side in [0, 1] {
                let index = maps::sided(slot, side);
                let rule = self.maps.rules.get(&index, 0).map_err(&error)?.0;
                if rule.keyed != 0 && rule.hot_keys != hot_keys {
                    // Every other byte is written as it is, so whoever reads meanwhile reads that.
                    let rule = Rule { hot_keys, ..rule };
                    self.maps.rules.set(index, Raw(rule), 0).map_err(&error)?;
                }
            }
        }
        Ok(())
    }

    /// What the kernel knows a key by; `None` if it is none of a limit of the policy in force.
    fn entry(&self, key: &HotKey) -> Result<Option<(Revision, Entry)>, DataplaneError> {
        let Some(bucket) = self.slots.find(key.limit) else {
            return Ok(None);
        };
        let index = maps::sided(bucket.slot, (self.generation & 1) as u32);
        let rule = self.maps.rules.get(&index, 0);
        let rule = rule.map_err(map_error(maps::RULES))?.0;
        let entry = entry(bucket.slot, key.key);
        let is_key = key_of(&rule, &entry) == Some(key.key);
        Ok(is_key.then_some((bucket.revision, entry)))
    }
}

/// All entries: the key, and the slot of its bucket.
pub(crate) fn entries(
    hot: &HashMap<MapData, Raw<Entry>, u64>,
) -> Result<Vec<(Entry, u64)>, DataplaneError> {
    let entries = hot.iter();
    let entries = entries.map(|entry| entry.map(|(key, slot)| (key.0, slot)));
    let entries = entries.collect::<Result<_, MapError>>();
    entries.map_err(map_error(maps::HOT))
}

fn insert(kernel: &mut Maps, known: &Known) -> Result<(), DataplaneError> {
    /// Never overwrite: of linux/bpf.h.
    const BPF_NOEXIST: u64 = 1;
    let inserted = kernel
        .hot
        .insert(Raw(known.entry), u64::from(known.slot), BPF_NOEXIST);
    inserted.map_err(map_error(maps::HOT))
}

fn remove(kernel: &mut Maps, entry: &Entry) -> Result<(), DataplaneError> {
    match kernel.hot.remove(&Raw(*entry)) {
        Err(MapError::KeyNotFound) => Ok(()),
        removed => removed.map_err(map_error(maps::HOT)),
    }
}

/// What the kernel knows a key of the limit in this slot by.
pub(crate) fn entry(slot: u32, key: Prefix) -> Entry {
    let mut bytes = [0; 16];
    let family = match key.address() {
        IpAddr::V4(address) => {
            bytes[..4].copy_from_slice(&address.octets());
            4
        }
        IpAddr::V6(address) => {
            bytes = address.octets();
            6
        }
    };
    Entry {
        slot,
        family,
        source: std::array::from_fn(|word| {
            let bytes = &bytes[4 * word..4 * word + 4];
            u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
        }),
    }
}

/// The key that an entry is of, by the rule of its limit; `None` if the limit has no such keys.
pub(crate) fn key_of(rule: &Rule, entry: &Entry) -> Option<Prefix> {
    if rule.keyed == 0 {
        return None;
    }
    let bytes = entry.source.map(u32::to_ne_bytes);
    let ones = |mask: &[u32]| mask.iter().map(|word| word.count_ones()).sum::<u32>() as u8;
    let (address, length) = match entry.family {
        4 => (IpAddr::from(bytes[0]), ones(&[rule.key_mask4])),
        6 => {
            let mut address = [0; 16];
            address.copy_from_slice(bytes.as_flattened());
            (IpAddr::from(address), ones(&rule.key_mask6))
        }
        _ => return None,
    };
    let key = Prefix::containing(address, length)?;
    (self::entry(entry.slot, key) == *entry).then_some(key)
}
