//! Deterministic choices.

use std::time::Duration;

/// A generator of pseudo-random numbers (xorshift64*, Vigna 2016): a run is its seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of one seed. Neighbouring seeds are spread apart first (`SplitMix64`).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((z ^ (z >> 31)) | 1)
    }

    /// A number below `sides`, which is at least 1.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % sides.max(1)
    }

    /// True once in `sides` times.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// An index below `length`.
    pub fn index(&mut self, length: usize) -> usize {
        self.roll(length as u64) as usize
    }

    /// Up to so many milliseconds, in microseconds.
    pub fn up_to_ms(&mut self, ms: u64) -> Duration {
        Duration::from_micros(self.roll(ms * 1_000 + 1))
    }
}
