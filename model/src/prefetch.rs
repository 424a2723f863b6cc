//! Waiting for memory once for many entries, instead of once for each.
//!
//! A large fleet's tables are many times what a processor's caches hold. Whoever looks at entries here
//! and there waits for each for about as long as two hundred instructions take, unless it is clear
//! early enough which ones are next: a processor has about ten lines on their way at a time, but looks
//! no more than some hundred instructions ahead, which is less than one entry needs here.

use core::hint::black_box;

/// Entries that are fetched ahead of being looked at: enough to wait for them together, and few enough
/// to be still there.
pub const AT_ONCE: usize = 32;

/// Reads these words: what they are part of is near then.
pub fn fetch(words: impl Iterator<Item = u64>) {
    black_box(words.fold(0, |all, word| all ^ word));
}
