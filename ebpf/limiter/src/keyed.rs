//! The buckets of keyed limits: a set-associative table.
//!
//! Keys are many, mostly idle, and an attacker makes up as many as it likes. So a bucket is one
//! word, eight share a cache line, and nothing is ever allocated, linked or aged. GCRA (ITU-T
//! I.371) needs only an instant for each key, and once that instant has passed the word holds no
//! information: taking it for another key forgets nothing. This is what makes a flood of spoofed
//! sources harmless that would throw good keys out of a least-recently-used table.
//!
//! A key may be in either of two lines (balanced allocations: Azar, Broder, Karlin and Upfal,
//! 1999; the second line is found from the first and the tag, as in a cuckoo filter: Fan et al.,
//! 2014). The first is taken unless it is crowded, so most keys cost one cache miss.
//!
//! Claiming a slot and charging it is one compare-and-swap. CPUs that race for a new key choose
//! the same slot, so whoever loses finds the key when it looks again.

use weir_abi::{KeyLine, Rule};

use crate::{
    memory::Memory,
    packet::{Address, Family},
    work::Answer,
};

/// A newcomer goes to its second line if its first has at least so many busy slots, and the second
/// has fewer.
const CROWDED: u32 = 6;

/// What is freed counts as idle for so long already, 1.07 s: the clocks of two CPUs never differ by
/// more, and to one that is behind a slot freed just now would look busy.
const CLOCKS_APART_NS: u64 = 1 << 30;

const TIME_MASK: u64 = (1 << KeyLine::TIME_BITS) - 1;
const TAG_MASK: u64 = (1 << KeyLine::TAG_BITS) - 1;
const SHARED: u64 = 1 << 63;
const SLOT_MASK: u32 = KeyLine::SLOTS as u32 - 1;

/// The table, which CPUs share.
pub trait KeyTable {
    /// How its words are shared.
    type Memory: Memory;

    /// Lines less one; there are a power of two of them.
    fn line_mask(&self) -> u32;

    /// A line; `None` if there is none of this number.
    fn line(&self, number: u32) -> Option<*mut KeyLine>;
}

/// Where a key may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Place {
    first: u32,
    second: u32,
    /// Never zero.
    tag: u32,
    /// The slot of the first line that takes the key if both lines are full.
    home: u32,
}

/// What one packet asks of a key.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Charge {
    /// Nanoseconds.
    pub(crate) cost_ns: u64,
    /// Nanoseconds.
    pub(crate) burst_ns: u64,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub(crate) now: u64,
}

/// What the table said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) answer: Answer,
    /// How far over, in nanoseconds.
    pub(crate) over_ns: u64,
    /// Whether the bucket is one that the key shares, for want of a free slot.
    pub(crate) pressure: bool,
}

/// The bits of a source that are its key.
#[inline(always)]
pub(crate) const fn masked(rule: &Rule, source: &Address) -> Address {
    let [a, b, c, d] = source.words;
    match source.family {
        Family::V4 => Address::v4(a & rule.key_mask4),
        Family::V6 => {
            let [m, n, o, p] = rule.key_mask6;
            Address::v6([a & m, b & n, c & o, d & p])
        }
    }
}

impl Place {
    /// The place of a [masked] source.
    #[inline(always)]
    pub(crate) const fn of(rule: &Rule, key: &Address, line_mask: u32) -> Self {
        let [a, b, c, d] = key.words;
        let hash = match key.family {
            Family::V4 => mix(rule.key_seed ^ a as u64),
            Family::V6 => {
                let high = (a as u64) << 32 | b as u64;
                let low = (c as u64) << 32 | d as u64;
                // The upper half first, and both stirred: IPv4 keys are never stirred twice.
                mix(mix(rule.key_seed ^ high).wrapping_add(low) ^ V6)
            }
        };
        let tag = (hash >> (u64::BITS - KeyLine::TAG_BITS)) as u32;
        let tag = if tag == 0 { 1 } else { tag };
        let first = hash as u32 & line_mask;
        Self {
            first,
            // Odd, so it is another line, and the way back is the same.
            second: first ^ ((tag.wrapping_mul(0x9e37_79b1) | 1) & line_mask),
            tag,
            home: (hash >> 40) as u32 & SLOT_MASK,
        }
    }
}

/// What hashes of a limit's keys begin with, in a table of this seed.
#[must_use]
pub const fn key_seed(table_seed: u64, limit: u64, revision: u64) -> u64 {
    mix(mix(table_seed ^ limit).wrapping_add(revision))
}

const V6: u64 = 0x7065_6572_2d69_7636;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the input changes every
/// bit of the result with even odds. The seed is secret and the result is never seen, so nobody
/// can aim at a line.
#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// More than any burst.
const UNPAYABLE_NS: u64 = 1 << 62;

/// The nanoseconds that tokens cost a key, rounded up. The interval is below 2^47, and below 2^44
/// where a packet can cost more than one token. Tokens are below 2^20: no frame is larger, but for
/// what a host itself glues together, and that is refused.
#[inline(always)]
pub(crate) const fn cost_ns(rule: &Rule, tokens: u32) -> u64 {
    if tokens >> 20 != 0 {
        return UNPAYABLE_NS;
    }
    let shift = rule.key_shift as u32 & 63;
    let product = (tokens as u64).wrapping_mul(rule.key_interval);
    product.wrapping_add((1 << shift) - 1) >> shift
}

/// Asks a key's bucket whether a packet may pass; if it may and `commit` is set, charges it, which
/// another CPU may get in the way of.
#[inline(always)]
pub(crate) fn ask<T: KeyTable>(table: &T, place: Place, charge: Charge, commit: bool) -> Verdict {
    let Some(target) = find(table, place, charge.now) else {
        return Verdict {
            answer: Answer::Missing,
            over_ns: 0,
            pressure: false,
        };
    };
    let pressure = target.pressure;
    let debt = target.debt.wrapping_add(charge.cost_ns);
    if debt > charge.burst_ns {
        return Verdict {
            answer: Answer::Over,
            over_ns: debt - charge.burst_ns,
            pressure,
        };
    }
    let until = charge.now.wrapping_add(debt) & TIME_MASK;
    let charged = target.owner | until;
    // SAFETY: `find` takes slots of lines that the table has.
    let raced = commit
        && (target.is_taken
            || unsafe { T::Memory::compare_exchange(target.slot, target.word, charged) }
                != target.word);
    Verdict {
        answer: if raced {
            Answer::Contended
        } else {
            Answer::Admits
        },
        over_ns: 0,
        pressure,
    }
}

/// What a key owes by the slot that it has in its first line, in nanoseconds; 0 if it has none.
#[inline(always)]
pub(crate) fn owed<T: KeyTable>(table: &T, place: Place, now: u64) -> u64 {
    let Some(line) = table.line(place.first) else {
        return 0;
    };
    let found = scan::<T::Memory>(line, place.tag, now);
    if found.own == 0 {
        return 0;
    }
    own::<T>(line, found.own, place, now).debt
}

/// The slot to charge.
struct Target {
    slot: *mut u64,
    /// What it holds.
    word: u64,
    /// Tag and mark that it is to hold, in place.
    owner: u64,
    /// Nanoseconds that its instant is ahead of now.
    debt: u64,
    pressure: bool,
    /// Whether another CPU gave it to another key after it was looked for.
    is_taken: bool,
}

/// The key's own slot; or else a free one, or else the one that it has to share.
#[inline(always)]
fn find<T: KeyTable>(table: &T, place: Place, now: u64) -> Option<Target> {
    let first = table.line(place.first)?;
    let in_first = scan::<T::Memory>(first, place.tag, now);
    if in_first.own != 0 {
        return Some(own::<T>(first, in_first.own, place, now));
    }
    let second = table.line(place.second)?;
    let in_second = scan::<T::Memory>(second, place.tag, now);
    if in_second.own != 0 {
        return Some(own::<T>(second, in_second.own, place, now));
    }
    // What others spent of the slot that would be the key's share of a full line is not forgotten.
    let home = slot::<T>(first, place.home);
    let owed = if home.word & SHARED == 0 {
        0
    } else {
        debt(home.word, now)
    };
    let (line, idle) = match choose(in_first.idle, in_second.idle) {
        Choice::First => (first, in_first.idle),
        Choice::Second => (second, in_second.idle),
        Choice::Neither => {
            return Some(Target {
                owner: home.word & !TIME_MASK | SHARED,
                debt: debt(home.word, now),
                pressure: true,
                ..home
            });
        }
    };
    let free = slot::<T>(line, lowest(idle));
    Some(Target {
        owner: u64::from(place.tag) << KeyLine::TIME_BITS,
        debt: owed,
        pressure: false,
        is_taken: debt(free.word, now) != 0,
        ..free
    })
}

enum Choice {
    First,
    Second,
    Neither,
}

/// Which line takes a newcomer, given the bits of their idle slots.
#[inline(always)]
const fn choose(first: u32, second: u32) -> Choice {
    let (of_first, of_second) = (count(first), count(second));
    if of_first > SLOT_MASK + 1 - CROWDED || (of_first >= of_second && of_first != 0) {
        Choice::First
    } else if of_second != 0 {
        Choice::Second
    } else {
        Choice::Neither
    }
}

/// What a line holds for a key, a bit for each slot.
struct Scan {
    /// The key's own slot, if any.
    own: u32,
    idle: u32,
}

/// Looks at all slots of a line, without a branch that could be guessed wrong.
#[inline(always)]
fn scan<M: Memory>(line: *mut KeyLine, tag: u32, now: u64) -> Scan {
    let mut own = 0_u64;
    let mut idle = 0_u64;
    let mut index = 0;
    while index < KeyLine::SLOTS {
        // SAFETY: a slot of a line that the table has.
        let word = unsafe { M::load((&raw const (*line).slots).cast::<u64>().add(index)) };
        let found = word >> KeyLine::TIME_BITS & TAG_MASK;
        own |= is_zero(found ^ tag as u64) << index;
        // An instant that has just been reached is past, hence the one: 0 is furthest ahead.
        let ahead = (word.wrapping_sub(now).wrapping_sub(1) & TIME_MASK) >> KeyLine::MAX_DEBT_BITS;
        // 0 if it is a debt; 1 to 3, and so a carry, if not.
        idle |= ((ahead + 3) >> 2) << index;
        index += 1;
    }
    Scan {
        own: own as u32,
        idle: idle as u32,
    }
}

/// 1 if a tag is zero, otherwise 0. By a carry: a comparison would become a branch, which a flood
/// makes the processor guess wrong, and of which the verifier would follow every combination.
#[inline(always)]
const fn is_zero(tag: u64) -> u64 {
    ((tag + TAG_MASK) >> KeyLine::TAG_BITS) ^ 1
}

/// The key's own slot. If it is idle the mark ends with the debt that it stood for.
#[inline(always)]
fn own<T: KeyTable>(line: *mut KeyLine, bits: u32, place: Place, now: u64) -> Target {
    let found = slot::<T>(line, lowest(bits));
    let is_taken = found.word >> KeyLine::TIME_BITS & TAG_MASK != place.tag as u64;
    // What another key owes is no reason to refuse this one.
    let debt = if is_taken { 0 } else { debt(found.word, now) };
    let mark = if debt == 0 { 0 } else { found.word & SHARED };
    Target {
        owner: (place.tag as u64) << KeyLine::TIME_BITS | mark,
        debt,
        is_taken,
        ..found
    }
}

#[inline(always)]
fn slot<T: KeyTable>(line: *mut KeyLine, index: u32) -> Target {
    // SAFETY: a line that the table has, and an index below its number of slots.
    unsafe {
        let slot = (&raw mut (*line).slots)
            .cast::<u64>()
            .add((index & SLOT_MASK) as usize);
        Target {
            slot,
            word: T::Memory::load(slot),
            owner: 0,
            debt: 0,
            pressure: false,
            is_taken: false,
        }
    }
}

/// How far a slot's instant is ahead of now, in nanoseconds; 0 if it has passed.
#[inline(always)]
const fn debt(word: u64, now: u64) -> u64 {
    let ahead = word.wrapping_sub(now) & TIME_MASK;
    if ahead > KeyLine::MAX_DEBT_NS {
        0
    } else {
        ahead
    }
}

/// The number of the lowest bit that is set, of eight; by de Bruijn multiplication, since the
/// instruction set has no such count.
#[inline(always)]
const fn lowest(bits: u32) -> u32 {
    const DE_BRUIJN: u32 = 0x1d;
    const POSITIONS: u32 = 0x3457_2610;
    let one = bits & bits.wrapping_neg();
    POSITIONS >> ((one.wrapping_mul(DE_BRUIJN) >> 5 & 7) * 4) & 7
}

/// How many of eight bits are set.
#[inline(always)]
const fn count(bits: u32) -> u32 {
    let pairs = bits - (bits >> 1 & 0x55);
    let nibbles = (pairs & 0x33) + (pairs >> 2 & 0x33);
    (nibbles + (nibbles >> 4)) & 0x0f
}

/// Frees the slots of a line that are idle, so that no instant lives until it looks like the
/// future again; returns how many are busy. A table is swept before its first packet, and then at
/// least once in two days.
///
/// # Safety
///
/// `line` is valid, and everybody who accesses it does so through `M`.
#[inline(always)]
pub unsafe fn sweep<M: Memory>(line: *mut KeyLine, now: u64) -> u32 {
    let free = now.wrapping_sub(CLOCKS_APART_NS) & TIME_MASK;
    let mut busy = 0;
    let mut index = 0;
    while index < KeyLine::SLOTS {
        // SAFETY: the caller promises a valid line.
        unsafe {
            let slot = (&raw mut (*line).slots).cast::<u64>().add(index);
            let word = M::load(slot);
            let is_owned = word >> KeyLine::TIME_BITS & TAG_MASK != 0;
            if is_owned && debt(word, now) != 0 {
                busy += 1;
            } else {
                // If it fails a packet has made it busy.
                let _ = M::compare_exchange(slot, word, free);
            }
        }
        index += 1;
    }
    busy
}
