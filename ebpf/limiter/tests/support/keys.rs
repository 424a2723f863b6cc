//! Models of limits by source: exact ones, and those that a least-recently-used table keeps.

use std::collections::{BTreeMap, BTreeSet};

use weir_abi::KeyLine;

use super::{Host, frames::udp, host::Table, keyed};

/// A bucket for each key, for ever: GCRA (ITU-T I.371) in the same nanoseconds.
pub struct Exact {
    pub interval: u64,
    pub burst: u64,
    arrivals: Vec<u64>,
}

impl Exact {
    /// For keys from 0 to below a number.
    pub fn new(interval: u64, burst: u64, keys: usize) -> Self {
        Self {
            interval,
            burst,
            arrivals: vec![0; keys],
        }
    }

    pub fn offer(&mut self, key: usize, now: u64) -> bool {
        let arrival = self.arrivals[key].max(now) + self.interval;
        let admits = arrival - now <= self.burst * self.interval;
        if admits {
            self.arrivals[key] = arrival;
        }
        admits
    }
}

/// The same for so many keys at most: a new one takes the place of the one that was used least
/// recently, whose bucket is forgotten.
pub struct LeastRecentlyUsed {
    exact: Exact,
    /// Entries from the least to the most recently used: a list in both directions. The last
    /// place is the list's ends.
    towards_recent: Vec<usize>,
    towards_old: Vec<usize>,
    key_of: Vec<usize>,
    /// The entry of each key.
    entry_of: Vec<usize>,
    used: usize,
}

const NONE: usize = usize::MAX;

impl LeastRecentlyUsed {
    pub fn new(interval: u64, burst: u64, keys: usize, entries: usize) -> Self {
        Self {
            exact: Exact::new(interval, burst, keys),
            towards_recent: vec![entries; entries + 1],
            towards_old: vec![entries; entries + 1],
            key_of: vec![NONE; entries],
            entry_of: vec![NONE; keys],
            used: 0,
        }
    }

    pub fn offer(&mut self, key: usize, now: u64) -> bool {
        let ends = self.key_of.len();
        let entry = match self.entry_of[key] {
            NONE if self.used < ends => {
                self.used += 1;
                self.used - 1
            }
            NONE => {
                let oldest = self.towards_recent[ends];
                self.unlink(oldest);
                let forgotten = self.key_of[oldest];
                self.entry_of[forgotten] = NONE;
                self.exact.arrivals[forgotten] = 0;
                oldest
            }
            known => {
                self.unlink(known);
                known
            }
        };
        self.key_of[entry] = key;
        self.entry_of[key] = entry;
        let newest = self.towards_old[ends];
        self.towards_recent[newest] = entry;
        self.towards_old[entry] = newest;
        self.towards_recent[entry] = ends;
        self.towards_old[ends] = entry;
        self.exact.offer(key, now)
    }

    fn unlink(&mut self, entry: usize) {
        let (old, recent) = (self.towards_old[entry], self.towards_recent[entry]);
        self.towards_recent[old] = recent;
        self.towards_old[recent] = old;
    }
}

/// The table, asked by way of whole packets from sources with numbers.
pub struct ByPacket {
    pub host: Host,
    frame: Vec<u8>,
}

impl ByPacket {
    pub fn new(interval: u64, burst: u64, slots: usize, seed: u64) -> Self {
        let mut rule = keyed(interval, burst);
        rule.key_seed = seed;
        let mut host = Host::new([(rule, 0)]);
        host.keys = Table::new(slots / KeyLine::SLOTS, host.now);
        Self {
            host,
            frame: udp(53),
        }
    }

    pub fn offer(&mut self, key: usize, now: u64) -> bool {
        self.frame[26..30].copy_from_slice(&address(key));
        self.host.now = now;
        self.host.decide(&self.frame).passes()
    }
}

fn address(key: usize) -> [u8; 4] {
    (0x0a00_0000 + key as u32).to_be_bytes()
}

/// What places a key, written down a second time: the hash of an IPv4 source.
fn hash(seed: u64, source: [u8; 4]) -> u64 {
    let mut hash = seed ^ u64::from(u32::from_ne_bytes(source));
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// The bits that a source's tag is made of.
pub fn tag_bits(seed: u64, source: [u8; 4]) -> u32 {
    (hash(seed, source) >> (u64::BITS - KeyLine::TAG_BITS)) as u32
}

/// The keys that have the lines and the tag of another.
pub fn colliding(keys: usize, slots: usize, seed: u64) -> BTreeSet<usize> {
    let mut places: BTreeMap<(u32, u32, u32), Vec<usize>> = BTreeMap::new();
    let mask = (slots / KeyLine::SLOTS) as u32 - 1;
    for key in 0..keys {
        let tag = tag_bits(seed, address(key)).max(1);
        let first = hash(seed, address(key)) as u32 & mask;
        let second = first ^ ((tag.wrapping_mul(0x9e37_79b1) | 1) & mask);
        let place = (first.min(second), first.max(second), tag);
        places.entry(place).or_default().push(key);
    }
    let shared = places.into_values().filter(|keys| keys.len() > 1);
    shared.flatten().collect()
}
