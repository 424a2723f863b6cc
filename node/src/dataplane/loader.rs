//! The privileged step: loading the programs and attaching them.
//!
//! What a daemon left pinned is adopted: the maps, with every bucket and grant, and the links,
//! whose program is replaced in one step. Packets are decided by the old program or by the new
//! one, never by none. The allow-list is frozen in maps of its own, which come anew with each load.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData},
    programs::Xdp,
};
use weir_abi::{KeyLine, SweepRequest, bytes_of, maps};

use super::{
    Dataplane, Programs,
    attach::attach,
    error::LoadError,
    management::{self, ManagementEntry},
    maps::{Maps, Tries, refused, typed},
    pins::{PinDirectory, file_error, is_link},
    preflight, sys,
    undo::Undo,
};

/// What to load, and where to attach it.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The interfaces, by name. All share one set of limits.
    pub interfaces: Vec<String>,
    /// What the pins are found by; by default [`LoadOptions::group_of`] the interfaces.
    pub group: String,
    /// Where bpffs is, or is to be, mounted.
    pub bpffs: PathBuf,
    /// How to attach.
    pub mode: AttachMode,
    /// What passes before any limit is looked at. Cannot be changed while the program runs.
    pub management: Vec<ManagementEntry>,
    /// What time it is.
    pub clock: Clock,
    /// How much there is room for.
    pub sizes: Sizes,
}

/// How much a data plane has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Slots for limits, at least twice as many as a policy has limits; at most
    /// [`maps::MAX_SLOTS`]. Each takes 512 bytes, and 192 for each CPU.
    pub limit_slots: u32,
    /// Slots of the table of keys, a power of two from [`maps::MIN_KEY_SLOTS`] to
    /// [`maps::MAX_KEY_SLOTS`]. Each takes 8 bytes.
    pub key_slots: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            limit_slots: maps::DEFAULT_SLOTS as u32,
            key_slots: maps::DEFAULT_KEY_SLOTS as u32,
        }
    }
}

impl Sizes {
    fn key_lines(self) -> u32 {
        self.key_slots / KeyLine::SLOTS as u32
    }
}

impl LoadOptions {
    /// The name of a group of interfaces: theirs, joined.
    #[must_use]
    pub fn group_of(interfaces: &[String]) -> String {
        interfaces.join("+")
    }
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel spends anything on the packet.
    Native,
    /// In the network stack, on any interface, at several times the cost.
    Generic,
}

impl AttachMode {
    /// The word that the operator uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The clock of the kernel's programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_BOOTTIME`.
    #[default]
    Boot,
    /// For tests: stands still until [`Dataplane::set_test_clock`].
    Test,
}

/// Loads the programs, or adopts those that are there, and attaches them.
///
/// # Errors
///
/// [`LoadError`]; then nothing that this call did is left behind, and what was there before is.
pub fn load(options: &LoadOptions) -> Result<Dataplane, LoadError> {
    preflight::check()?;
    let indexes = interface_indexes(&options.interfaces)?;
    let mut undo = Undo::default();
    let pins = PinDirectory::lock(&options.bpffs, &options.group, &mut undo)?;

    let mut object = load_object(&pins, options, &mut undo)?;
    // Programs first: until then they refer to maps by descriptors, which the object has to keep.
    let decide = load_program(&mut object, maps::XDP_PROGRAM)?;
    let install = load_program(&mut object, maps::INSTALL_PROGRAM)?;
    let sweep = load_program(&mut object, maps::SWEEP_PROGRAM)?;
    write_management(&mut object, &options.management)?;
    let test_clock = match options.clock {
        Clock::Boot => None,
        Clock::Test => Some(take::<Array<MapData, u64>>(&mut object, maps::TEST_CLOCK)?),
    };
    prepare_keys(&pins, options.sizes, sweep.as_fd())?;
    let maps = Maps::open(|name| pins.map(name))?;

    for (name, index) in options.interfaces.iter().zip(indexes) {
        attach(&pins, name, index, decide.as_fd(), options.mode, &mut undo)?;
    }
    let programs = Programs {
        decide,
        install,
        sweep,
    };
    let dataplane = Dataplane::adopt(maps, programs, test_clock, pins)
        .map_err(|source| refused("the pinned state", source))?;
    undo.keep();
    dataplane.pins.keep_links_of(&options.interfaces)?;
    Ok(dataplane)
}

/// Takes the programs off all interfaces of a group and forgets its limits, buckets and grants.
/// Returns the interfaces that it was attached to.
///
/// # Errors
///
/// [`LoadError::AlreadyRunning`] while a daemon has them.
pub fn detach(bpffs: &Path, group: &str) -> Result<Vec<String>, LoadError> {
    let Some(pins) = PinDirectory::lock_existing(bpffs, group)? else {
        return Ok(Vec::new());
    };
    let mut interfaces = Vec::new();
    // Links first: a program without maps does not exist, but one without pins would go on.
    let mut entries = pins.entries()?;
    entries.sort_by_key(|path| !is_link(path));
    for path in entries {
        if let (true, Ok(link)) = (is_link(&path), sys::open_pinned(&path))
            && let Ok(info) = sys::info::<sys::LinkInfo>(link.as_fd())
            && let Some(name) = interface_name(info.interface)
        {
            interfaces.push(name);
        }
        fs::remove_file(&path).map_err(|source| file_error(&path, source))?;
    }
    pins.remove()?;
    Ok(interfaces)
}

fn load_object(
    pins: &PinDirectory,
    options: &LoadOptions,
    undo: &mut Undo,
) -> Result<Ebpf, LoadError> {
    let switch = u32::from(options.clock == Clock::Test);
    let key_line_mask = options.sizes.key_lines() - 1;
    let mut loader = EbpfLoader::new();
    loader.override_global(maps::TEST_CLOCK_SWITCH, &switch, true);
    loader.override_global(maps::KEY_LINE_MASK, &key_line_mask, true);
    for name in [maps::LIMITS, maps::COUNTERS, maps::RULES, maps::KEYS] {
        let (_, _, entries) = shape(name, options.sizes);
        loader.map_max_entries(name, entries);
    }
    for name in maps::PINNED {
        let path = pins.map(name);
        if !path.exists() {
            let path = path.clone();
            undo.push(move || drop(fs::remove_file(path)));
        }
        loader.map_pin_path(name, path);
    }
    let object = loader
        .load(weir_object::OBJECT)
        .map_err(|source| refused("the maps", source))?;
    // Adopted maps are taken as they are by aya, whatever their shape.
    for name in maps::PINNED {
        check_shape(name, options.sizes, &pins.map(name))?;
    }
    Ok(object)
}

/// A pinned map must have the shape that this version's object would have made.
fn check_shape(name: &str, sizes: Sizes, path: &Path) -> Result<(), LoadError> {
    let pinned = sys::open_pinned(path).map_err(|source| file_error(path, source))?;
    let found: sys::MapInfo =
        sys::info(pinned.as_fd()).map_err(|source| file_error(path, source))?;
    let (key, value, entries) = shape(name, sizes);
    if (found.key_size, found.value_size, found.max_entries) == (key, value, entries) {
        return Ok(());
    }
    Err(LoadError::OtherLayout {
        path: path.to_owned(),
        found: format!(
            "{} entries of {} + {} bytes",
            found.max_entries, found.key_size, found.value_size
        ),
        expected: format!("{entries} entries of {key} + {value} bytes"),
    })
}

/// Sizes of key and value in bytes, and the number of entries.
fn shape(name: &str, sizes: Sizes) -> (u32, u32, u32) {
    use weir_abi::{LimitCounters, LimitSlot, PolicyRecord, Rule, Service, Totals};
    let index = size_of::<u32>();
    let slots = sizes.limit_slots as usize;
    let (key, value, entries) = match name {
        maps::LIMITS => (index, size_of::<LimitSlot>(), slots),
        maps::COUNTERS => (index, size_of::<LimitCounters>(), slots),
        maps::KEYS => (index, size_of::<KeyLine>(), sizes.key_lines() as usize),
        maps::KEY_SEED | maps::SAMPLING => (index, size_of::<u64>(), 1),
        maps::EVENTS => (0, 0, maps::EVENT_RING_BYTES),
        maps::TOTALS => (index, size_of::<Totals>(), 1),
        maps::SIDE => (index, size_of::<u64>(), 1),
        maps::POLICIES => (index, size_of::<PolicyRecord>(), 2),
        maps::RULES => (index, size_of::<Rule>(), 2 * slots),
        maps::SERVICES => (index, size_of::<Service>(), 2 * maps::SERVICES_PER_SIDE),
        maps::DESTINATIONS4 => (size_of::<maps::Key4>(), size_of::<u32>(), maps::PREFIXES),
        maps::DESTINATIONS6 => (size_of::<maps::Key6>(), size_of::<u32>(), maps::PREFIXES),
        maps::SOURCES4 => (size_of::<maps::Key4>(), size_of::<u64>(), maps::PREFIXES),
        maps::SOURCES6 => (size_of::<maps::Key6>(), size_of::<u64>(), maps::PREFIXES),
        _ => (0, 0, 0),
    };
    (key as u32, value as u32, entries as u32)
}

/// A table of keys that is new gets its seed, and slots that are past whatever the clock shows.
fn prepare_keys(pins: &PinDirectory, sizes: Sizes, sweep: BorrowedFd<'_>) -> Result<(), LoadError> {
    let name = maps::KEY_SEED;
    let fd = sys::open_pinned(&pins.map(name));
    let fd = fd.map_err(|source| file_error(&pins.map(name), source))?;
    let map = MapData::from_fd(fd).map_err(|source| refused(name, source))?;
    let mut seed: Array<MapData, u64> = typed(name, Map::Array(map))?;
    if seed.get(&0, 0).map_err(|source| refused(name, source))? != 0 {
        return Ok(());
    }
    sweep_all(sweep, sizes).map_err(|source| refused(maps::KEYS, source))?;
    let drawn = sys::random().map_err(|source| refused(name, source))?;
    // The seed last: with it the table counts as prepared.
    seed.set(0, drawn | 1, 0)
        .map_err(|source| refused(name, source))?;
    let fd = sys::open_pinned(&pins.map(name));
    let fd = fd.map_err(|source| file_error(&pins.map(name), source))?;
    sys::freeze(fd.as_fd()).map_err(|source| refused(name, source))
}

fn sweep_all(program: BorrowedFd<'_>, sizes: Sizes) -> io::Result<()> {
    let most = SweepRequest::MAX_LINES;
    for first_line in (0..sizes.key_lines()).step_by(most as usize) {
        let request = SweepRequest::new(first_line, most);
        sys::test_run(program, &mut bytes_of(&request).to_vec())?;
    }
    Ok(())
}

fn write_management(object: &mut Ebpf, entries: &[ManagementEntry]) -> Result<(), LoadError> {
    const SOURCES: [&str; 2] = [maps::MANAGEMENT_SOURCES4, maps::MANAGEMENT_SOURCES6];
    let freeze = |name: &str, object: &Ebpf| -> Result<OwnedFd, LoadError> {
        let map = object.map(name).ok_or_else(|| absent(name))?;
        let (Map::Array(data) | Map::LpmTrie(data)) = map else {
            return Err(absent(name));
        };
        let fd = data.fd().as_fd().try_clone_to_owned();
        fd.map_err(|source| refused(name, source))
    };
    // Descriptors to freeze by, before the maps move into their types.
    let descriptors = [maps::MANAGEMENT_PORTS, SOURCES[0], SOURCES[1]]
        .map(|name| freeze(name, object).map(|fd| (name, fd)));

    let mut ports = take(object, maps::MANAGEMENT_PORTS)?;
    let [v4, v6] = SOURCES.map(|name| object.take_map(name).ok_or_else(|| absent(name)));
    let mut sources = Tries::new(SOURCES, v4?, v6?)?;
    management::write(entries, &mut ports, &mut sources)?;
    for descriptor in descriptors {
        let (name, fd) = descriptor?;
        sys::freeze(fd.as_fd()).map_err(|source| refused(name, source))?;
    }
    Ok(())
}

fn take<T>(object: &mut Ebpf, name: &str) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = aya::maps::MapError>,
{
    typed(name, object.take_map(name).ok_or_else(|| absent(name))?)
}

fn load_program(object: &mut Ebpf, name: &str) -> Result<OwnedFd, LoadError> {
    let program = object.program_mut(name).ok_or_else(|| absent(name))?;
    let program: &mut Xdp = program.try_into().map_err(|source| refused(name, source))?;
    program.load().map_err(|source| refused(name, source))?;
    let fd = program.fd().map_err(|source| refused(name, source))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|source| refused(name, source))
}

/// The embedded object is not what this daemon was built with: a defect.
fn absent(name: &str) -> LoadError {
    refused(name, io::Error::from(io::ErrorKind::NotFound))
}

fn interface_indexes(names: &[String]) -> Result<Vec<u32>, LoadError> {
    names.iter().map(|name| interface_index(name)).collect()
}

fn interface_index(name: &str) -> Result<u32, LoadError> {
    let found = std::ffi::CString::new(name).ok().map(|name| {
        // SAFETY: a string that ends in a zero.
        unsafe { libc::if_nametoindex(name.as_ptr()) }
    });
    match found {
        Some(index) if index != 0 => Ok(index),
        _ => Err(LoadError::NoInterface {
            name: name.to_owned(),
            present: present_interfaces(),
        }),
    }
}

fn present_interfaces() -> Vec<String> {
    // `/proc/net/dev` belongs to the network namespace of the process, unlike a mounted sysfs.
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// The name of an interface; `None` if it is gone.
fn interface_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call asks for.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let name = std::ffi::CStr::from_bytes_until_nul(&name).ok()?;
    Some(name.to_string_lossy().into_owned())
}
