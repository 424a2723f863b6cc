//! Destinations that were looked for lately, and what was found.
//!
//! The trie of destinations costs a call and a walk through memory for each packet, and a host has
//! few addresses that much traffic goes to. So each CPU remembers some. What it remembers is of one
//! generation of the policy and is worth nothing in another, so nobody has to make it forget.

use crate::packet::Address;

/// A power of two.
const PLACES: usize = 16;
/// 2^32 by the golden ratio: multiplication brings every bit of a word to the highest ones
/// (Knuth, The Art of Computer Programming 3, 6.4).
const GOLDEN: u32 = 0x9e37_79b9;

/// A place for each destination, which it may have to share.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Searches {
    places: [Search; PLACES],
}

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Search {
    /// Of the policy.
    generation: u64,
    /// As that of an address, or 0: nothing was looked for.
    family: u32,
    words: [u32; 4],
    /// The service's number and one; 0 if there is none.
    found: u32,
}

impl Searches {
    pub(crate) const NONE: Self = Self {
        places: [Search {
            generation: 0,
            family: 0,
            words: [0; 4],
            found: 0,
        }; PLACES],
    };

    /// What was found for the destination, or is found now.
    #[inline(always)]
    pub(crate) fn find(
        &mut self,
        generation: u64,
        destination: &Address,
        search: impl FnOnce() -> Option<u32>,
    ) -> Option<u32> {
        let [a, b, c, d] = destination.words;
        let stirred = (a ^ b ^ c ^ d).wrapping_mul(GOLDEN);
        let place = &mut self.places[(stirred >> 28) as usize % PLACES];
        let is_known = place.generation == generation
            && place.family == destination.family as u32
            && place.words == destination.words;
        if !is_known {
            *place = Search {
                generation,
                family: destination.family as u32,
                words: destination.words,
                found: search().map_or(0, |number| number.wrapping_add(1)),
            };
        }
        place.found.checked_sub(1)
    }
}

const _: () = assert!(PLACES.is_power_of_two() && PLACES <= 16);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{cell::Cell, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn address(number: u8) -> Address {
        let word = u32::from(number);
        match number % 3 {
            0 => Address::v4(word),
            // The same words in the other family, and words that come to the same when mixed.
            1 => Address::v6([word - 1, 0, 0, 0]),
            _ => Address::v6([0, word, 0, 0]),
        }
    }

    /// What there is to find: nothing for some, and something else in each generation.
    fn truth(generation: u64, number: u8) -> Option<u32> {
        let found = u32::from(number) + generation as u32;
        found.is_multiple_of(5).then_some(found / 5)
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_a_search_finds(
            steps in prop::collection::vec((0_u64..3, 0_u8..60), 1..300),
        ) {
            let mut searches = Searches::NONE;
            let mut generation = 0;
            for (newer, number) in steps {
                generation += newer / 2;
                let found = searches.find(generation, &address(number), || truth(generation, number));
                prop_assert_eq!(found, truth(generation, number));
            }
        }
    }

    #[test]
    fn a_search_is_not_repeated_whatever_it_found() {
        let made = Cell::new(0);
        let mut searches = Searches::NONE;
        let mut find = |generation, found| {
            searches.find(generation, &Address::v4(0), || {
                made.set(made.get() + 1);
                found
            })
        };
        let found: Vec<_> = [(0, None), (0, None), (1, Some(0)), (1, None), (0, None)]
            .map(|(generation, found)| find(generation, found))
            .into();
        assert_eq!(found, [None, None, Some(0), Some(0), None]);
        assert_eq!(made.get(), 3);
    }

    #[test]
    fn neighbours_have_places_of_their_own() {
        let made = Cell::new(0);
        let mut searches = Searches::NONE;
        for _ in 0..10 {
            for host in 1..=4_u8 {
                let destination = Address::v4(u32::from_ne_bytes([192, 0, 2, host]));
                searches.find(0, &destination, || {
                    made.set(made.get() + 1);
                    None
                });
            }
        }
        assert_eq!(made.get(), 4);
    }
}
