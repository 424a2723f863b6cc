//! 64-bit fingerprints: two different things have the same one with a chance of 2^-64.
//!
//! A state is known by its fingerprint alone (*hash compaction*: Wolper and Leroy, 1993). With n
//! states the chance that one was taken for another, and left out, is below n² / 2^65: 3 in a
//! million million for ten thousand states, 1 in 400 for three hundred million.

use std::hash::{BuildHasher, Hash, Hasher};

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0x243f_6a88_85a3_08d3;

/// Folded multiplication, word by word (as wyhash does): fast, and every bit counts.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprinter(u64);

impl Default for Fingerprinter {
    fn default() -> Self {
        Self(SEED)
    }
}

const fn folded(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Fingerprinter {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_u64(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = folded(self.0 ^ value, MULTIPLIER).wrapping_add(SEED);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        folded(self.0 ^ SEED, MULTIPLIER)
    }
}

/// Makes maps that hash by [`Fingerprinter`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ByFingerprint;

impl BuildHasher for ByFingerprint {
    type Hasher = Fingerprinter;

    fn build_hasher(&self) -> Fingerprinter {
        Fingerprinter::default()
    }
}

/// The fingerprint of one thing. Never 0, which stands for nothing.
pub fn fingerprint<T: Hash + ?Sized>(thing: &T) -> u64 {
    let mut hasher = Fingerprinter::default();
    thing.hash(&mut hasher);
    hasher.finish().max(1)
}
