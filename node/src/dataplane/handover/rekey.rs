//! From a table of keys of one size to one of another.
//!
//! A line's number is the low bits of a hash that nobody has any more. In a table of more lines a
//! key that was in a line may be in any of those with the same low bits, so what a line holds is
//! copied to all of them: keys find what they owe, and what nobody finds passes with time. In a
//! table of fewer lines several become one.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use weir_abi::KeyLine;
use weir_model::Nanos;

const LINE: usize = KeyLine::SLOTS;
const TIME_MASK: u64 = (1 << KeyLine::TIME_BITS) - 1;
const TAG_MASK: u64 = (1 << KeyLine::TAG_BITS) - 1;
const SHARED: u64 = 1 << (u64::BITS - 1);

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rekeyed {
    /// Debts that the old table held.
    pub(crate) debts: u64,
    /// Debts among them for which there was no room.
    pub(crate) crowded_out: u64,
}

/// Makes `new` hold what `old` holds. No packet may be using `new`.
///
/// Debts of the same tag in one line are one: those of a key that a larger table had copied, or of
/// keys that nobody could tell apart from now on.
///
/// Where debts do not fit a line the smallest are left out, and all that remain are marked as
/// shared: a newcomer to such a line begins with the debt of the slot that its hash fixes, which
/// is no smaller than one that was left out. So only a key that had been moved to its second line,
/// out of one that was crowded already, can have its debt forgiven.
pub(crate) fn rekey(old: &[AtomicU64], new: &[AtomicU64], now: Nanos) -> Rekeyed {
    let lines = [old.len() / LINE, new.len() / LINE];
    let [old_lines, new_lines] = lines;
    let mut rekeyed = Rekeyed::default();
    let mut owed = Vec::new();
    for line in 0..new_lines {
        owed.clear();
        // A larger table: the one line; a smaller one: every line that ends up here.
        for from in (line % old_lines..old_lines).step_by(new_lines) {
            owed.extend(debts_of(&old[from * LINE..][..LINE], now));
        }
        if line < old_lines {
            rekeyed.debts += owed.len() as u64;
        }
        rekeyed.crowded_out += fill(&new[line * LINE..][..LINE], &mut owed, now);
    }
    rekeyed
}

/// One key's debt.
struct Owed {
    ahead: u64,
    word: u64,
    index: usize,
}

fn debts_of(line: &[AtomicU64], now: Nanos) -> impl Iterator<Item = Owed> {
    let words = line.iter().map(|slot| slot.load(Relaxed)).enumerate();
    words.filter_map(move |(index, word)| {
        let ahead = word.wrapping_sub(now.0) & TIME_MASK;
        let is_owned = word >> KeyLine::TIME_BITS & TAG_MASK != 0;
        let is_busy = is_owned && ahead != 0 && ahead <= KeyLine::MAX_DEBT_NS;
        is_busy.then_some(Owed { ahead, word, index })
    })
}

/// Writes a line; returns how many debts found no room.
fn fill(line: &[AtomicU64], owed: &mut Vec<Owed>, now: Nanos) -> u64 {
    owed.sort_by_key(|one| std::cmp::Reverse(one.ahead));
    let mut tags = BTreeSet::new();
    owed.retain(|one| tags.insert(one.word >> KeyLine::TIME_BITS & TAG_MASK));
    let crowded_out = owed.len().saturating_sub(LINE);
    owed.truncate(LINE);
    let mark = if crowded_out > 0 { SHARED } else { 0 };
    let mut words = [None; LINE];
    // A slot that is shared is found by its place, so whoever can keeps its own.
    let mut displaced = Vec::new();
    for one in owed.iter() {
        match &mut words[one.index] {
            place @ None => *place = Some(one.word | mark),
            Some(_) => displaced.push(one.word | mark),
        }
    }
    // There are as many places as words.
    let free = words.iter_mut().filter(|place| place.is_none());
    for (place, word) in free.zip(displaced) {
        *place = Some(word);
    }
    let idle = now.0.wrapping_sub(1) & TIME_MASK;
    for (slot, word) in line.iter().zip(words) {
        slot.store(word.unwrap_or(idle), Relaxed);
    }
    crowded_out as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos(1 << 50 | 12_345);

    fn debt(tag: u64, ahead: u64) -> u64 {
        tag << KeyLine::TIME_BITS | (NOW.0 + ahead) & TIME_MASK
    }

    fn table(lines: usize, filled: &[(usize, u64)]) -> Vec<AtomicU64> {
        let table: Vec<_> = (0..lines * LINE).map(|_| AtomicU64::new(0)).collect();
        for slot in &table {
            slot.store(debt(3, 0), Relaxed);
        }
        for (place, word) in filled {
            table[*place].store(*word, Relaxed);
        }
        table
    }

    fn busy(table: &[AtomicU64], line: usize) -> Vec<(usize, u64)> {
        let line = &table[line * LINE..][..LINE];
        debts_of(line, NOW)
            .map(|one| (one.index, one.word))
            .collect()
    }

    #[test]
    fn a_larger_table_has_each_debt_wherever_its_key_may_look() {
        let old = table(2, &[(1, debt(7, 900)), (8 + 4, SHARED | debt(9, 50))]);
        let new = table(8, &[]);
        let rekeyed = rekey(&old, &new, NOW);
        assert_eq!(
            rekeyed,
            Rekeyed {
                debts: 2,
                crowded_out: 0
            }
        );
        for line in 0..8 {
            let expected = if line % 2 == 0 {
                (1, debt(7, 900))
            } else {
                (4, SHARED | debt(9, 50))
            };
            assert_eq!(busy(&new, line), [expected], "line {line}");
        }
    }

    #[test]
    fn a_smaller_table_has_the_debts_of_all_lines_that_become_one() {
        let old = table(
            4,
            &[(1, debt(7, 900)), (16 + 1, debt(8, 50)), (24, debt(9, 1))],
        );
        let new = table(2, &[]);
        let rekeyed = rekey(&old, &new, NOW);
        assert_eq!(
            rekeyed,
            Rekeyed {
                debts: 3,
                crowded_out: 0
            }
        );
        assert_eq!(busy(&new, 0), [(0, debt(8, 50)), (1, debt(7, 900))]);
        assert_eq!(busy(&new, 1), [(0, debt(9, 1))]);
    }

    #[test]
    fn where_debts_do_not_fit_the_largest_stay_and_are_shared() {
        let filled: Vec<_> = (0..2 * LINE)
            .map(|place| (place, debt(place as u64 + 1, place as u64 * 10 + 1)))
            .collect();
        let new = table(1, &[]);
        let rekeyed = rekey(&table(2, &filled), &new, NOW);
        assert_eq!(
            rekeyed,
            Rekeyed {
                debts: 16,
                crowded_out: 8
            }
        );
        let kept = busy(&new, 0);
        assert_eq!(kept.len(), LINE);
        for (_, word) in kept {
            assert_ne!(word & SHARED, 0);
            assert!(word >> KeyLine::TIME_BITS & TAG_MASK > LINE as u64);
        }
    }

    #[test]
    fn there_and_back_again_is_where_it_was() {
        let filled: Vec<_> = (0..6)
            .map(|place| (place, debt(place as u64 + 1, place as u64 * 10 + 1)))
            .collect();
        let (small, large, back) = (table(1, &filled), table(16, &[]), table(1, &[]));
        rekey(&small, &large, NOW);
        // Meanwhile one key was charged, wherever it is.
        large[9 * LINE + 2].store(debt(3, 5_000), Relaxed);
        assert_eq!(rekey(&large, &back, NOW).crowded_out, 0);
        let mut kept = busy(&back, 0);
        kept.sort_unstable_by_key(|(_, word)| *word);
        let expected = [1, 11, 5_000, 31, 41, 51];
        let words = kept.iter().map(|(_, word)| *word);
        assert!(words.eq((1..).zip(expected).map(|(tag, ahead)| debt(tag, ahead))));
    }

    #[test]
    fn whatever_was_in_the_new_table_is_gone_so_that_it_can_be_done_again() {
        let old = table(2, &[(5, debt(7, 900))]);
        let new = table(2, &[(3, debt(1, 1_000))]);
        rekey(&old, &new, NOW);
        rekey(&old, &new, NOW);
        assert_eq!(busy(&new, 0), [(5, debt(7, 900))]);
        assert!(busy(&new, 1).is_empty());
    }

    #[test]
    fn what_is_past_or_belongs_to_nobody_is_no_debt() {
        let past = debt(7, 0);
        let far = debt(7, KeyLine::MAX_DEBT_NS + 1);
        let nobody = debt(0, 100);
        let old = table(1, &[(0, past), (1, far), (2, nobody)]);
        let new = table(1, &[]);
        assert_eq!(rekey(&old, &new, NOW), Rekeyed::default());
        assert!(busy(&new, 0).is_empty());
    }
}
