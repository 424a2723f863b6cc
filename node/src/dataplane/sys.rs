//! The `bpf` system call, as far as aya does not make it the way that is needed here: read-only
//! descriptors, links that are no links by netlink instead, test-runs, freezing.

use std::{
    ffi::{CString, c_long},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    time::Duration,
};

use weir_abi::Plain;

// Commands: `enum bpf_cmd` of linux/bpf.h.
const BPF_MAP_LOOKUP_ELEM: c_long = 1;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_OBJ_PIN: c_long = 6;
const BPF_OBJ_GET: c_long = 7;
const BPF_PROG_TEST_RUN: c_long = 10;
const BPF_PROG_GET_FD_BY_ID: c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: c_long = 15;
const BPF_MAP_FREEZE: c_long = 22;
const BPF_MAP_LOOKUP_BATCH: c_long = 24;
const BPF_LINK_CREATE: c_long = 28;
const BPF_LINK_UPDATE: c_long = 29;
const BPF_LINK_DETACH: c_long = 34;

/// `BPF_MAP_TYPE_PERCPU_ARRAY` of `enum bpf_map_type`.
pub(crate) const PER_CPU_ARRAY: u32 = 6;
/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// `BPF_F_RDONLY`: the descriptor cannot write.
const READ_ONLY: u32 = 1 << 3;

/// A pinned object, by path.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    open(path, 0)
}

/// A pinned map, by path, on a descriptor that cannot write to it.
pub(crate) fn open_pinned_read_only(path: &Path) -> io::Result<OwnedFd> {
    open(path, READ_ONLY)
}

#[repr(C)]
struct ObjectAttributes {
    path: u64,
    fd: u32,
    flags: u32,
}

fn open(path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let attributes = ObjectAttributes {
        path: path.as_ptr() as u64,
        fd: 0,
        flags,
    };
    bpf_fd(BPF_OBJ_GET, &attributes)
}

/// Pins an object.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let attributes = ObjectAttributes {
        path: path.as_ptr() as u64,
        fd: raw(fd),
        flags: 0,
    };
    bpf(BPF_OBJ_PIN, &attributes).map(drop)
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttributes {
    fn new(map: BorrowedFd<'_>, key: &u32, value: u64) -> Self {
        Self {
            map: raw(map),
            reserved: 0,
            key: std::ptr::from_ref(key) as u64,
            value,
            flags: 0,
        }
    }
}

/// Reads the value of a key.
///
/// # Safety
///
/// The map's keys are four bytes, and `value` has room for one of its values; of a map that has
/// one for each CPU, for all of them, each rounded up to eight bytes.
pub(crate) unsafe fn lookup(map: BorrowedFd<'_>, key: u32, value: &mut [u64]) -> io::Result<()> {
    let attributes = ElementAttributes::new(map, &key, value.as_mut_ptr() as u64);
    bpf(BPF_MAP_LOOKUP_ELEM, &attributes).map(drop)
}

/// Reads the values of as many keys of an array as `keys` has room for, from `first` on.
///
/// # Errors
///
/// [`io::ErrorKind::UnexpectedEof`] if the array ends before; what the system says.
///
/// # Safety
///
/// As of [`lookup`], with room for the values of all of them.
pub(crate) unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    first: u32,
    keys: &mut [u32],
    values: *mut u8,
) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        /// The key before the first; none for the beginning.
        before: u64,
        last: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: u32,
        element_flags: u64,
        flags: u64,
    }
    let before = first.checked_sub(1);
    let mut last = 0_u32;
    let count = u32::try_from(keys.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attributes = Attributes {
        before: before
            .as_ref()
            .map_or(0, |key| std::ptr::from_ref(key) as u64),
        last: std::ptr::from_mut(&mut last) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values as u64,
        count,
        map: raw(map),
        element_flags: 0,
        flags: 0,
    };
    match bpf_mut(BPF_MAP_LOOKUP_BATCH, &mut attributes) {
        // Where the array ends.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ if attributes.count < count => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Sets the value of a key.
///
/// # Safety
///
/// As of [`lookup`].
pub(crate) unsafe fn update(map: BorrowedFd<'_>, key: u32, value: &[u64]) -> io::Result<()> {
    let attributes = ElementAttributes::new(map, &key, value.as_ptr() as u64);
    bpf(BPF_MAP_UPDATE_ELEM, &attributes).map(drop)
}

/// Makes a map unchangeable from user space for as long as it exists.
pub(crate) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_MAP_FREEZE, &raw(map)).map(drop)
}

/// A loaded program, by number.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        id: u32,
        next_id: u32,
        flags: u32,
    }
    let attributes = Attributes {
        id,
        next_id: 0,
        flags: 0,
    };
    bpf_fd(BPF_PROG_GET_FD_BY_ID, &attributes)
}

/// Attaches a program to an interface, through a link: the descriptor.
pub(crate) fn link_xdp(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        interface: u32,
        attach_type: u32,
        flags: u32,
    }
    let attributes = Attributes {
        program: raw(program),
        interface,
        attach_type: ATTACH_XDP,
        flags,
    };
    bpf_fd(BPF_LINK_CREATE, &attributes)
}

/// Replaces the program of a link, atomically.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let attributes = Attributes {
        link: raw(link),
        program: raw(program),
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &attributes).map(drop)
}

/// Takes a link's program off its interface before it returns. Dropping the last reference does so
/// too, but from a work queue, later (`bpf_link_put` in `kernel/bpf/syscall.c`).
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &raw(link)).map(drop)
}

/// Runs a program once on `data`, which it may change; returns what the program returned.
pub(crate) fn test_run(program: BorrowedFd<'_>, data: &mut [u8]) -> io::Result<u32> {
    let size = u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attributes = TestRunAttributes {
        program: raw(program),
        size_in: size,
        size_out: size,
        data_in: data.as_ptr() as u64,
        data_out: data.as_mut_ptr() as u64,
        repeat: 1,
        ..TestRunAttributes::default()
    };
    bpf_mut(BPF_PROG_TEST_RUN, &mut attributes)?;
    Ok(attributes.returned)
}

/// The mean duration of as many runs on `data`, in nanoseconds.
pub(crate) fn test_run_cost(program: BorrowedFd<'_>, data: &[u8], runs: u32) -> io::Result<u32> {
    let mut attributes = TestRunAttributes {
        program: raw(program),
        size_in: u32::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        data_in: data.as_ptr() as u64,
        repeat: runs,
        ..TestRunAttributes::default()
    };
    bpf_mut(BPF_PROG_TEST_RUN, &mut attributes)?;
    Ok(attributes.duration)
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttributes {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

/// The beginning of `struct bpf_link_info` for XDP.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program_id: u32,
    reserved: u32,
    /// 0 if the interface is gone.
    pub(crate) interface: u32,
    reserved_at_end: u32,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgramInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    reserved: [u64; 5],
    created_by: u32,
    /// In: how many numbers there is room for. Out: how many maps it uses.
    map_count: u32,
    /// Where the numbers of those go.
    map_ids: u64,
    name: [u8; 16],
}

impl ProgramInfo {
    pub(crate) fn name(&self) -> String {
        let end = self.name.iter().position(|byte| *byte == 0);
        String::from_utf8_lossy(&self.name[..end.unwrap_or(self.name.len())]).into_owned()
    }
}

// SAFETY: integers that fill the size.
unsafe impl Plain for LinkInfo {}
// SAFETY: integers that fill the size.
unsafe impl Plain for MapInfo {}
// SAFETY: integers that fill the size.
unsafe impl Plain for ProgramInfo {}

const _: () = {
    assert!(std::mem::offset_of!(LinkInfo, interface) == 16);
    assert!(std::mem::offset_of!(ProgramInfo, map_count) == 52);
    assert!(std::mem::offset_of!(ProgramInfo, map_ids) == 56);
    assert!(std::mem::offset_of!(ProgramInfo, name) == 64);
};

/// What the kernel knows of an object. It fills as much of the structure as is asked for.
pub(crate) fn info<T: Plain + Default>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    fill(object, &mut info)?;
    Ok(info)
}

/// Most maps that a program may use, as the kernel has it (`MAX_USED_MAPS`).
const MAPS_OF_A_PROGRAM: usize = 64;

/// The numbers of the maps that a program runs over.
pub(crate) fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; MAPS_OF_A_PROGRAM];
    let mut info = ProgramInfo {
        map_count: MAPS_OF_A_PROGRAM as u32,
        map_ids: ids.as_mut_ptr() as u64,
        ..ProgramInfo::default()
    };
    fill(program, &mut info)?;
    Ok(ids.into_iter().take(info.map_count as usize).collect())
}

fn fill<T: Plain>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attributes = Attributes {
        fd: raw(object),
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    bpf_mut(BPF_OBJ_GET_INFO_BY_FD, &mut attributes).map(drop)
}

/// A number that nobody can guess.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: a buffer to fill, and its length.
    let filled = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(filled) {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Far longer than a decision takes, where there is no better way to know that it has ended.
const LONGEST_DECISION: Duration = Duration::from_millis(50);

/// Returns after every packet that was being decided has been.
///
/// XDP programs run within an RCU read-side section, and this command of `membarrier(2)` waits for
/// the end of all of them. Needs no privilege. Kernels with isolated CPUs (`nohz_full`) do not
/// have it; there a decision, of well under a microsecond, is given time instead.
pub(crate) fn wait_for_packets() {
    const MEMBARRIER_CMD_GLOBAL: c_long = 1;
    // SAFETY: the call takes no pointer.
    let result =
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0 as c_long, 0) };
    if result < 0 {
        std::thread::sleep(LONGEST_DECISION);
    }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn bpf_fd<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<c_long> {
    // SAFETY: commands that go through here only read the attributes, `size_of` says how much; the
    // kernel takes what is missing for zero.
    unsafe { call(command, std::ptr::from_ref(attributes).cast_mut()) }
}

fn bpf_mut<T>(command: c_long, attributes: &mut T) -> io::Result<c_long> {
    // SAFETY: the kernel writes within `size_of` and within the buffers that attributes name.
    unsafe { call(command, attributes) }
}

unsafe fn call<T>(command: c_long, attributes: *mut T) -> io::Result<c_long> {
    // SAFETY: the caller's.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>() as c_long) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
