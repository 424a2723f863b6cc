//! The embedded object in the kernel: its maps, new or pinned, and its programs.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData},
    programs::{ProgramError, Xdp},
};
use weir_abi::{KeyLine, SweepRequest, bytes_of, maps};

use super::{
    Programs,
    error::LoadError,
    loader::{Clock, LoadOptions, Sizes},
    management::{self, ManagementEntry},
    maps::{Tries, refused, typed},
    pins::{PinDirectory, file_error},
    reuse, sys,
    undo::Undo,
};

/// What was loaded.
pub(crate) struct Object {
    programs: Programs,
    test_clock: Option<Array<MapData, u64>>,
}

impl Object {
    /// Loads it, with the maps that are pinned here, or that are pinned here from now on.
    pub(crate) fn load(
        pins: &PinDirectory,
        options: &LoadOptions,
        undo: &mut Undo,
    ) -> Result<Self, LoadError> {
        let mut object = load_object(pins, options, undo)?;
        // Programs first: until then they refer to maps by descriptors, which the object has to
        // keep.
        let programs = Programs {
            decide: load_program(&mut object, maps::XDP_PROGRAM)?,
            install: load_program(&mut object, maps::INSTALL_PROGRAM)?,
            sweep: load_program(&mut object, maps::SWEEP_PROGRAM)?,
        };
        write_management(&mut object, &options.management)?;
        let test_clock = match options.clock {
            Clock::Boot => None,
            Clock::Test => Some(take::<Array<MapData, u64>>(&mut object, maps::TEST_CLOCK)?),
        };
        Ok(Self {
            programs,
            test_clock,
        })
    }

    /// What a daemon before this one loaded, if this one would load the same.
    pub(crate) fn pinned(pins: &PinDirectory, options: &LoadOptions) -> Option<Self> {
        let programs = reuse::pinned(pins, options)?;
        let fits = |name: &str| check_shape(name, options.sizes, &pins.pin(name)).is_ok();
        maps::PINNED.iter().all(|name| fits(name)).then_some(Self {
            programs,
            test_clock: None,
        })
    }

    pub(crate) const fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(crate) fn into_parts(self) -> (Programs, Option<Array<MapData, u64>>) {
        (self.programs, self.test_clock)
    }

    /// A table of keys that has no seed yet is new: it gets one, and slots that are past whatever
    /// the clock shows.
    pub(crate) fn sweep_new_table(
        &self,
        pins: &PinDirectory,
        sizes: Sizes,
    ) -> Result<(), LoadError> {
        let name = maps::KEY_SEED;
        let path = pins.pin(name);
        let open = || sys::open_pinned(&path).map_err(|source| file_error(&path, source));
        let map = MapData::from_fd(open()?).map_err(|source| refused(name, source))?;
        let mut seed: Array<MapData, u64> = typed(name, Map::Array(map))?;
        if seed.get(&0, 0).map_err(|source| refused(name, source))? != 0 {
            return Ok(());
        }
        self.sweep_table(sizes)?;
        let drawn = sys::random().map_err(|source| refused(name, source))?;
        // The seed last: with it the table counts as prepared.
        seed.set(0, drawn | 1, 0)
            .map_err(|source| refused(name, source))?;
        sys::freeze(open()?.as_fd()).map_err(|source| refused(name, source))
    }

    /// Frees every slot of the table of keys that is past.
    pub(crate) fn sweep_table(&self, sizes: Sizes) -> Result<(), LoadError> {
        sweep_all(self.programs.sweep.as_fd(), sizes).map_err(|source| refused(maps::KEYS, source))
    }
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
    for name in [
        maps::LIMITS,
        maps::COUNTERS,
        maps::INHERITED_COUNTERS,
        maps::RULES,
        maps::KEYS,
    ] {
        let (_, _, entries) = shape(name, options.sizes);
        loader.map_max_entries(name, entries);
    }
    for name in maps::PINNED {
        let path = pins.pin(name);
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
        check_shape(name, options.sizes, &pins.pin(name))?;
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
    use weir_abi::{HotKey, LimitCounters, LimitSlot, PolicyRecord, Rule, Service, Totals};
    let index = size_of::<u32>();
    let slots = sizes.limit_slots as usize;
    let all_slots = slots + maps::HOT_SLOTS;
    let (key, value, entries) = match name {
        maps::LIMITS => (index, size_of::<LimitSlot>(), all_slots),
        maps::COUNTERS | maps::INHERITED_COUNTERS => (index, size_of::<LimitCounters>(), all_slots),
        maps::HOT => (size_of::<HotKey>(), size_of::<u64>(), maps::HOT_SLOTS),
        maps::KEYS => (index, size_of::<KeyLine>(), sizes.key_lines() as usize),
        maps::KEY_SEED | maps::SAMPLING => (index, size_of::<u64>(), 1),
        maps::EVENTS => (0, 0, maps::EVENT_RING_BYTES),
        maps::TOTALS | maps::INHERITED_TOTALS => (index, size_of::<Totals>(), 1),
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
    load_patiently(program).map_err(|source| refused(name, source))?;
    let fd = program.fd().map_err(|source| refused(name, source))?;
    fd.as_fd()
        .try_clone_to_owned()
        .map_err(|source| refused(name, source))
}

/// How often the kernel is asked to load a program. Its verifier gives up with `EAGAIN` when other
/// work waits for the thread (`bpf_check`, `signal_pending`); libbpf tries as often.
const LOAD_ATTEMPTS: usize = 5;

fn load_patiently(program: &mut Xdp) -> Result<(), ProgramError> {
    for _ in 1..LOAD_ATTEMPTS {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
    program.load()
}

/// The embedded object is not what this daemon was built with: a defect.
fn absent(name: &str) -> LoadError {
    refused(name, io::Error::from(io::ErrorKind::NotFound))
}
