//! Maps of words, read and written whatever layout they belong to.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

use super::sys;

const WORD: usize = size_of::<u64>();

/// A pinned map whose keys are numbers and whose values are words.
#[derive(Debug)]
pub(crate) struct WordMap {
    fd: OwnedFd,
    info: sys::MapInfo,
    /// How many values a key has.
    copies: usize,
}

impl WordMap {
    /// Opens a map.
    ///
    /// # Errors
    ///
    /// What the system says; [`io::ErrorKind::InvalidData`] if it is not a map of words.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let fd = sys::open_pinned(path)?;
        let info: sys::MapInfo = sys::info(fd.as_fd())?;
        let of_words = info.value_size > 0 && (info.value_size as usize).is_multiple_of(WORD);
        if info.key_size as usize != size_of::<u32>() || !of_words {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let copies = if info.kind == sys::PER_CPU_ARRAY {
            aya::util::nr_cpus().map_err(|(_, source)| source)?
        } else {
            1
        };
        Ok(Self { fd, info, copies })
    }

    /// The kernel's number of the map: the same for all its pins.
    pub(crate) const fn id(&self) -> u32 {
        self.info.id
    }

    /// How many keys it has room for.
    pub(crate) const fn entries(&self) -> u32 {
        self.info.max_entries
    }

    /// Words of a value.
    pub(crate) const fn words(&self) -> usize {
        self.info.value_size as usize / WORD
    }

    /// The value of a key, word by word the sum of all CPUs' if each has one; `None` if the key
    /// is not there.
    pub(crate) fn sum(&self, key: u32) -> io::Result<Option<Vec<u64>>> {
        let words = self.words();
        let mut values = vec![0; words * self.copies];
        // SAFETY: `open` has seen that keys are numbers, and there is room for all values.
        match unsafe { sys::lookup(self.fd.as_fd(), key, &mut values) } {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut sum = vec![0; words];
        for value in values.chunks_exact(words) {
            add(&mut sum, value);
        }
        Ok(Some(sum))
    }

    /// Sets the value of a key: as many words as it has, zero where `value` has fewer.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if each CPU has a value of its own.
    pub(crate) fn set(&self, key: u32, value: &[u64]) -> io::Result<()> {
        if self.copies != 1 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut fitted = value.to_vec();
        fitted.resize(self.words(), 0);
        // SAFETY: `open` has seen that keys are numbers, and the value has its size.
        unsafe { sys::update(self.fd.as_fd(), key, &fitted) }
    }

    /// The map's memory, which the kernel and its programs go on using.
    ///
    /// # Errors
    ///
    /// If it was not made to be mapped.
    pub(crate) fn memory(&self) -> io::Result<MappedWords> {
        let words = self.entries() as usize * self.words();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                words * WORD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                self.fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(MappedWords { address, words })
    }
}

/// Adds word by word; words that only one of them has are kept.
pub(crate) fn add(sum: &mut Vec<u64>, value: &[u64]) {
    sum.resize(sum.len().max(value.len()), 0);
    for (sum, word) in sum.iter_mut().zip(value) {
        *sum = sum.wrapping_add(*word);
    }
}

/// Memory of a map.
pub(crate) struct MappedWords {
    address: NonNull<AtomicU64>,
    words: usize,
}

impl std::ops::Deref for MappedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: mapped for as long as this lives, on a page, and shared with the kernel as
        // atomics may be.
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.words) }
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: the very mapping.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.words * WORD) };
    }
}

#[cfg(test)]
mod tests {
    use super::add;

    #[test]
    fn sums_are_as_long_as_the_longest() {
        let mut sum = vec![1, 2];
        add(&mut sum, &[10, 20, 30]);
        add(&mut sum, &[u64::MAX]);
        assert_eq!(sum, [10, 22, 30]);
    }
}
