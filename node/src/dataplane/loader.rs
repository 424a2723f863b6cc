//! The privileged step: loading the programs and attaching them.
//!
//! What a daemon left pinned is adopted: the maps, with every bucket and grant, and the links,
//! whose program is replaced in one step, if it is to be another one. Packets are decided by the old
//! program or by the new one, never by none. The allow-list is frozen in maps of its own, which come
//! anew with each program.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Instant,
};

use tracing::{debug, warn};
use weir_abi::{KeyLine, maps};
use weir_model::{Policy, PolicyVersion};

use super::{
    Dataplane, Programs,
    attach::attach,
    error::LoadError,
    handover::{self, Predecessor},
    management::ManagementEntry,
    maps::{Maps, refused},
    object::Object,
    pins::{PinDirectory, PinGroup},
    preflight, reuse, sys,
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
    /// The policy that is in force as far as anybody remembers. Needed if what is in the kernel has
    /// another layout or other sizes, for then it is compiled anew; not looked at otherwise.
    pub policy: Option<(Policy, PolicyVersion)>,
}

/// How much a data plane has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Slots for limits, at least twice as many as a policy has limits; at most
    /// [`maps::MAX_SLOTS`]. Each takes 512 bytes, and 192 for each CPU; [`maps::HOT_SLOTS`] more
    /// are for hot keys.
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
    pub(crate) fn key_lines(self) -> u32 {
        self.key_slots / KeyLine::SLOTS as u32
    }
}

impl LoadOptions {
    /// With the sizes that are pinned, if others were asked for and nobody remembers the policy,
    /// which other sizes would need: rather the wrong size than no start.
    fn fitted(&self, group: &PinGroup) -> Result<Self, LoadError> {
        let mut fitted = self.clone();
        if self.policy.is_none()
            && !group.own(self.sizes).exists()
            && let Some(pinned) = group.layouts()?.pop().and_then(|layout| layout.sizes())
        {
            warn!(?pinned, asked = ?self.sizes, "sizes stay as they are: no policy is remembered");
            fitted.sizes = pinned;
        }
        Ok(fitted)
    }

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

/// Loads the programs, or adopts those that are there, and attaches them. What is there in another
/// layout of maps is taken over, with all that was spent and counted, while packets come in.
///
/// # Errors
///
/// [`LoadError`]; then nothing that this call did is left behind, and what was there before is.
/// Except of [`LoadError::HalfTakenOver`], which says what is.
pub fn load(options: &LoadOptions) -> Result<Dataplane, LoadError> {
    preflight::check()?;
    let interfaces = interface_indexes(&options.interfaces)?;
    let mut undo = Undo::default();
    let group = PinGroup::lock(&options.bpffs, &options.group, &mut undo)?;
    handover::resume(&group)?;
    let options = &options.fitted(&group)?;
    let own = group.own(options.sizes);
    let loading = Loading {
        options,
        interfaces,
        own: &own,
        undo,
    };
    let mut dataplane = if own.exists() {
        loading.adopt()?
    } else if let Some(old) = group.layouts()?.pop() {
        loading.take_over(&group, Predecessor::open(old)?)?
    } else {
        loading.begin(&group)?
    };
    own.keep_links_of(&options.interfaces)?;
    dataplane.lock = Some(group);
    Ok(dataplane)
}

/// A run of [`load`].
struct Loading<'a> {
    options: &'a LoadOptions,
    interfaces: Vec<(String, u32)>,
    own: &'a PinDirectory,
    undo: Undo,
}

impl Loading<'_> {
    /// Where nothing is.
    fn begin(mut self, group: &PinGroup) -> Result<Dataplane, LoadError> {
        let next = group.next();
        let object = self.prepare(&next)?;
        next.rename(self.own)?;
        let own = self.own.clone();
        self.undo.push(move || drop(own.remove_all()));
        let dataplane = self.dataplane(self.own, object)?;
        self.attach(&dataplane.programs)?;
        self.undo.keep();
        Ok(dataplane)
    }

    /// Where this layout is.
    fn adopt(mut self) -> Result<Dataplane, LoadError> {
        let found = Object::pinned(self.own, self.options);
        let is_new = found.is_none();
        let object = match found {
            Some(object) => object,
            None => Object::load(self.own, self.options, &mut self.undo)?,
        };
        object.sweep_new_table(self.own, self.options.sizes)?;
        let dataplane = self.dataplane(self.own, object)?;
        self.attach(&dataplane.programs)?;
        if is_new {
            // What is pinned until here does as well: it has the same maps.
            reuse::pin(self.own, &dataplane.programs, self.options)?;
        }
        self.undo.keep();
        Ok(dataplane)
    }

    /// Where another layout is.
    fn take_over(mut self, group: &PinGroup, old: Predecessor) -> Result<Dataplane, LoadError> {
        let policy = match &self.options.policy {
            None if old.has_policy() => {
                return Err(LoadError::UnknownPolicy {
                    path: old.path().to_owned(),
                });
            }
            policy => policy.as_ref().filter(|_| old.has_policy()),
        };
        let next = group.next();
        next.make(&mut self.undo)?;
        let is_table_shared = old.share_keys(&next, self.options.sizes.key_slots)?;
        let object = self.prepare(&next)?;
        if !is_table_shared {
            object.sweep_table(self.options.sizes)?;
        }
        let mut dataplane = self.dataplane(&next, object)?;
        if let Some((policy, version)) = policy {
            let held = dataplane.hold(policy, *version, is_table_shared);
            let hot = old.hot_keys()?;
            let held = held.and_then(|()| dataplane.hold_hot(&hot));
            held.map_err(|source| LoadError::PolicyRefused {
                path: old.path().to_owned(),
                source,
            })?;
        }
        let handover = old.commit(group, self.own.clone())?;
        let back = handover.clone();
        self.undo.push(move || back.revert());
        let plan = handover.plan()?;
        let begin = Instant::now();
        handover.move_links()?;
        self.attach(&dataplane.programs)?;
        self.undo.keep();
        handover.finish(&plan, begin)?;
        dataplane
            .read_again()
            .map_err(|source| refused("the pinned state", source))?;
        Ok(dataplane)
    }

    /// All that a new layout has, in a directory that means nothing yet.
    fn prepare(&mut self, next: &PinDirectory) -> Result<Object, LoadError> {
        next.make(&mut self.undo)?;
        let all = next.clone();
        self.undo.push(move || drop(all.remove_all()));
        let object = Object::load(next, self.options, &mut self.undo)?;
        object.sweep_new_table(next, self.options.sizes)?;
        reuse::pin(next, object.programs(), self.options)?;
        Ok(object)
    }

    fn dataplane(&self, pins: &PinDirectory, object: Object) -> Result<Dataplane, LoadError> {
        let maps = Maps::open(|name| pins.pin(name))?;
        let (programs, test_clock) = object.into_parts();
        Dataplane::adopt(maps, programs, test_clock)
            .map_err(|source| refused("the pinned state", source))
    }

    fn attach(&mut self, programs: &Programs) -> Result<(), LoadError> {
        for (name, index) in &self.interfaces {
            let (decide, mode) = (programs.decide.as_fd(), self.options.mode);
            attach(self.own, name, *index, decide, mode, &mut self.undo)?;
        }
        Ok(())
    }
}

/// Takes the programs off all interfaces of a group and forgets its limits, buckets and grants.
/// Returns the interfaces that it was attached to.
///
/// # Errors
///
/// [`LoadError::AlreadyRunning`] while a daemon has them.
pub fn detach(bpffs: &Path, group: &str) -> Result<Vec<String>, LoadError> {
    let Some(group) = PinGroup::lock_existing(bpffs, group)? else {
        return Ok(Vec::new());
    };
    let mut interfaces = Vec::new();
    let directories = group.directories()?;
    for directory in &directories {
        for path in directory.links()? {
            let Ok(link) = sys::open_pinned(&path) else {
                continue;
            };
            if let Ok(info) = sys::info::<sys::LinkInfo>(link.as_fd())
                && let Some(name) = interface_name(info.interface)
            {
                interfaces.push(name);
            }
            if let Err(error) = sys::link_detach(link.as_fd()) {
                debug!(%error, path = %path.display(), "it ends with its pin");
            }
        }
    }
    for directory in &directories {
        directory.remove_all()?;
    }
    group.remove()?;
    Ok(interfaces)
}

fn interface_indexes(names: &[String]) -> Result<Vec<(String, u32)>, LoadError> {
    names
        .iter()
        .map(|name| Ok((name.clone(), interface_index(name)?)))
        .collect()
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
