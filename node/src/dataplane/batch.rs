//! Many values of an array with one call.
//!
//! A tick reads the counters of every limit that has a lease. With a call for each, these calls are most of
//! what a daemon does on an idle host. `BPF_MAP_LOOKUP_BATCH` reads arrays with a value for each CPU since
//! Linux 5.13, in the order of their keys (`generic_map_lookup_batch` in `kernel/bpf/syscall.c`).

use std::{
    io,
    marker::PhantomData,
    ops::RangeInclusive,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use weir_abi::Plain;

use super::{error::LoadError, maps::refused, pins::file_error, sys};

/// Values that are no further from each other, in bytes, are read together with what lies between: a call costs
/// as much as to copy some thousand bytes.
const LARGEST_STEP: usize = 4_096;
/// Bytes of one call, about, and of one key at least.
const MOST_BYTES: usize = 1 << 20;

/// An array with a value for each CPU.
pub(crate) struct Batch<T> {
    map: OwnedFd,
    cpus: usize,
    value: PhantomData<T>,
}

impl<T: Plain + Default> Batch<T> {
    /// Opens the array that is pinned here.
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let map = sys::open_pinned_read_only(path).map_err(|source| file_error(path, source))?;
        let info: sys::MapInfo =
            sys::info(map.as_fd()).map_err(|source| file_error(path, source))?;
        let is_such = info.kind == sys::PER_CPU_ARRAY
            && info.key_size as usize == size_of::<u32>()
            && info.value_size as usize == size_of::<T>()
            && size_of::<T>().is_multiple_of(8);
        if !is_such {
            let source = io::Error::from(io::ErrorKind::InvalidData);
            return Err(refused(&path.display().to_string(), source));
        }
        let cpus =
            aya::util::nr_cpus().map_err(|(path, source)| file_error(path.as_ref(), source))?;
        Ok(Self {
            map,
            cpus,
            value: PhantomData,
        })
    }

    /// Reads the values of these keys. Each is handed to `found` with its place among them, and with one
    /// value for each CPU, in the order of keys.
    ///
    /// # Errors
    ///
    /// What the system says, before or after some of them.
    pub(crate) fn read(&self, keys: &[u32], mut found: impl FnMut(usize, &[T])) -> io::Result<()> {
        let mut places: Vec<usize> = (0..keys.len()).collect();
        places.sort_unstable_by_key(|place| keys[*place]);
        let bytes = self.cpus * size_of::<T>();
        let step = 1 + LARGEST_STEP / bytes;
        let is_near = |one: &usize, next: &usize| (keys[*next] - keys[*one]) as usize <= step;
        let mut values = Vec::new();
        for near in places.chunk_by(is_near) {
            for part in near.chunks((MOST_BYTES / bytes / step).max(1)) {
                let (first, last) = (keys[part[0]], keys[part[part.len() - 1]]);
                self.read_range(first..=last, &mut values)?;
                for place in part {
                    let from = (keys[*place] - first) as usize * self.cpus;
                    found(*place, &values[from..from + self.cpus]);
                }
            }
        }
        Ok(())
    }

    fn read_range(&self, keys: RangeInclusive<u32>, values: &mut Vec<T>) -> io::Result<()> {
        let (first, count) = (*keys.start(), keys.count());
        values.clear();
        values.resize(count * self.cpus, T::default());
        let mut read = vec![0; count];
        // SAFETY: `open` has seen that keys are four bytes and what a value is; there is room for as many
        // as there are keys, one for each CPU, and any bytes are a value.
        unsafe {
            sys::lookup_batch(
                self.map.as_fd(),
                first,
                &mut read,
                values.as_mut_ptr().cast(),
            )?
        };
        Ok(())
    }
}
