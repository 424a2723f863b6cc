//! Where things are pinned: the BPF file system, the directory of one group of interfaces with the
//! lock on it, and in there a directory for each layout of maps.
//!
//! There is one layout at a time, but for the moments of a handover (see [`super::handover`]).

use std::{
    ffi::CString,
    fs::{self, File, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use weir_abi::LAYOUT_VERSION;

use super::{error::LoadError, loader::Sizes, undo::Undo};

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: libc::__fsword_t = 0xcafe_4a11;

const LINK_PREFIX: &str = "link-";
/// Begins the names of layouts.
const LAYOUT_PREFIX: &str = "v";
/// A layout that is being prepared. Means nothing before it has got its own name.
const NEXT: &str = "next";
/// A layout that is being taken away.
const FORMER: &str = "former";
/// A symbolic link in a layout that is still taking over: it names the one that it takes over from.
const PREDECESSOR: &str = "predecessor";

/// The directory of one group of interfaces, locked for as long as this exists.
#[derive(Debug)]
pub(crate) struct PinGroup {
    path: PathBuf,
    lock: File,
}

impl PinGroup {
    /// Mounts bpffs if it is not, makes the directory if it is not there, and locks it.
    pub(crate) fn lock(bpffs: &Path, group: &str, undo: &mut Undo) -> Result<Self, LoadError> {
        mount(bpffs, undo)?;
        let path = path(bpffs, group);
        for directory in [&bpffs.join(WEIR), &path] {
            make(directory, undo)?;
        }
        let lock = lock(&path)?;
        Ok(Self { path, lock })
    }

    /// The directory of a group whose limits are in the kernel already; `None` if there is none.
    pub(crate) fn lock_existing(bpffs: &Path, group: &str) -> Result<Option<Self>, LoadError> {
        let path = path(bpffs, group);
        if !path.is_dir() {
            return Ok(None);
        }
        let lock = lock(&path)?;
        Ok(Some(Self { path, lock }))
    }

    /// The directory of this program's layout.
    pub(crate) fn own(&self, sizes: Sizes) -> PinDirectory {
        let Sizes {
            limit_slots,
            key_slots,
        } = sizes;
        self.named(&format!(
            "{LAYOUT_PREFIX}{LAYOUT_VERSION}-{limit_slots}-{key_slots}"
        ))
    }

    /// Where a layout is prepared.
    pub(crate) fn next(&self) -> PinDirectory {
        self.named(NEXT)
    }

    /// Where a layout is taken away.
    pub(crate) fn former(&self) -> PinDirectory {
        self.named(FORMER)
    }

    pub(crate) fn named(&self, name: &str) -> PinDirectory {
        PinDirectory {
            path: self.path.join(name),
        }
    }

    /// The layouts that are there, without those that are being prepared or taken away.
    pub(crate) fn layouts(&self) -> Result<Vec<PinDirectory>, LoadError> {
        let is_layout = |path: &Path| name(path).starts_with(LAYOUT_PREFIX) && path.is_dir();
        let mut found = entries(&self.path)?;
        found.retain(|path| is_layout(path));
        found.sort_unstable();
        Ok(found
            .into_iter()
            .map(|path| PinDirectory { path })
            .collect())
    }

    /// All directories of the group.
    pub(crate) fn directories(&self) -> Result<Vec<PinDirectory>, LoadError> {
        let found = entries(&self.path)?;
        Ok(found
            .into_iter()
            .map(|path| PinDirectory { path })
            .collect())
    }

    /// Takes the directory away, which must be empty, and the one above it if that then is.
    pub(crate) fn remove(self) -> Result<(), LoadError> {
        fs::remove_dir(&self.path).map_err(|source| file_error(&self.path, source))?;
        if let Some(weir) = self.path.parent() {
            // Not empty: there is another group.
            let _ = fs::remove_dir(weir);
        }
        Ok(())
    }
}

impl Drop for PinGroup {
    fn drop(&mut self) {
        // Closing would do, but for a child that has been forked and not yet become another
        // program: it has the descriptor, and the lock with it, a moment longer.
        let _ = self.lock.unlock();
    }
}

/// The directory of one layout of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PinDirectory {
    path: PathBuf,
}

impl PinDirectory {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the layout is called.
    pub(crate) fn name(&self) -> String {
        name(&self.path)
    }

    /// The sizes of a layout of this version; `None` of another version.
    pub(crate) fn sizes(&self) -> Option<Sizes> {
        let name = self.name();
        let mut words = name.strip_prefix(LAYOUT_PREFIX)?.split('-');
        let version = words.next()?.parse().ok();
        let mut size = || words.next()?.parse().ok();
        let sizes = Sizes {
            limit_slots: size()?,
            key_slots: size()?,
        };
        (version == Some(LAYOUT_VERSION)).then_some(sizes)
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes it.
    pub(crate) fn make(&self, undo: &mut Undo) -> Result<(), LoadError> {
        make(&self.path, undo)
    }

    /// Where a map or a program is pinned.
    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        self.path
            .join(format!("{LINK_PREFIX}{}", pin_name(interface)))
    }

    /// Every link that is pinned here.
    pub(crate) fn links(&self) -> Result<Vec<PathBuf>, LoadError> {
        let mut links = entries(&self.path)?;
        links.retain(|path| is_link(path));
        links.sort_unstable();
        Ok(links)
    }

    /// Takes away the links of interfaces that are not among these, and with them the program.
    pub(crate) fn keep_links_of(&self, interfaces: &[String]) -> Result<(), LoadError> {
        let kept: Vec<PathBuf> = interfaces.iter().map(|name| self.link(name)).collect();
        for path in self.links()? {
            if !kept.contains(&path) {
                fs::remove_file(&path).map_err(|source| file_error(&path, source))?;
            }
        }
        Ok(())
    }

    /// The groups of this file system, as directories, without this one.
    pub(crate) fn other_groups(&self) -> Vec<PathBuf> {
        let own = self.path.parent();
        let all = own.and_then(Path::parent).map(fs::read_dir);
        let Some(Ok(groups)) = all else {
            return Vec::new();
        };
        let paths = groups.filter_map(|group| Some(group.ok()?.path()));
        paths.filter(|path| Some(path.as_path()) != own).collect()
    }

    /// Gives it another name, all at once.
    pub(crate) fn rename(&self, to: &Self) -> Result<(), LoadError> {
        fs::rename(&self.path, &to.path).map_err(|source| file_error(&self.path, source))
    }

    /// Remembers whom this layout takes over from.
    pub(crate) fn set_predecessor(&self, other: &Self) -> Result<(), LoadError> {
        let path = self.path.join(PREDECESSOR);
        symlink(other.name(), &path).map_err(|source| file_error(&path, source))
    }

    /// The name of the layout that this one has not finished to take over from.
    pub(crate) fn predecessor(&self) -> Option<String> {
        let target = fs::read_link(self.path.join(PREDECESSOR)).ok()?;
        Some(name(&target))
    }

    /// It has taken over.
    pub(crate) fn forget_predecessor(&self) -> Result<(), LoadError> {
        let path = self.path.join(PREDECESSOR);
        fs::remove_file(&path).map_err(|source| file_error(&path, source))
    }

    /// Takes it away with all that is pinned here, if it is there. Links first: a program without
    /// maps does not exist, but one without pins would go on.
    pub(crate) fn remove_all(&self) -> Result<(), LoadError> {
        if !self.exists() {
            return Ok(());
        }
        let mut found = entries(&self.path)?;
        found.sort_by_key(|path| !is_link(path));
        for path in found {
            fs::remove_file(&path).map_err(|source| file_error(&path, source))?;
        }
        fs::remove_dir(&self.path).map_err(|source| file_error(&self.path, source))
    }
}

/// Whether a pin is that of a link.
pub(crate) fn is_link(path: &Path) -> bool {
    name(path).starts_with(LINK_PREFIX)
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn entries(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let entries = fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(|source| file_error(path, source))
}

const WEIR: &str = "weir";

/// Where the pins of a group are.
fn path(bpffs: &Path, group: &str) -> PathBuf {
    bpffs.join(WEIR).join(pin_name(group))
}

/// bpffs reserves names with a dot, which VLAN interfaces have. No interface name has a tilde as a
/// rule, and one that had would only share a name with its twin.
fn pin_name(interface: &str) -> String {
    interface.replace('.', "~")
}

pub(crate) fn file_error(path: &Path, source: io::Error) -> LoadError {
    LoadError::File {
        path: path.to_owned(),
        source,
    }
}

fn make(directory: &Path, undo: &mut Undo) -> Result<(), LoadError> {
    // What is pinned is for root alone; the directory keeps others from its lock too.
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {
            let directory = directory.to_owned();
            undo.push(move || drop(fs::remove_dir(directory)));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(file_error(directory, source)),
    }
}

fn mount(bpffs: &Path, undo: &mut Undo) -> Result<(), LoadError> {
    if is_bpffs(bpffs) {
        return Ok(());
    }
    let refused = |source| LoadError::BpfFileSystem {
        path: bpffs.to_owned(),
        source,
    };
    fs::create_dir_all(bpffs).map_err(refused)?;
    let target = c_path(bpffs).map_err(refused)?;
    // SAFETY: strings that end in a zero.
    let result = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            target.as_ptr(),
            c"bpf".as_ptr(),
            libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
            c"mode=0700".as_ptr().cast(),
        )
    };
    if result != 0 {
        return Err(refused(io::Error::last_os_error()));
    }
    undo.push(move || {
        // SAFETY: a string that ends in a zero.
        let _ = unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    });
    Ok(())
}

fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = c_path(path) else {
        return false;
    };
    // SAFETY: all zero is a `statfs`.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a string that ends in a zero, and a structure to fill.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut found) };
    result == 0 && found.f_type == BPF_FS_MAGIC
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn lock(path: &Path) -> Result<File, LoadError> {
    let directory = File::open(path).map_err(|source| file_error(path, source))?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(LoadError::AlreadyRunning {
            path: path.to_owned(),
            holder: holder(&directory),
        }),
        Err(TryLockError::Error(source)) => Err(file_error(path, source)),
    }
}

/// Who holds the lock, by `/proc/locks`: lines like `1: FLOCK ADVISORY WRITE 71 00:1d:3 0 EOF`.
fn holder(directory: &File) -> Option<String> {
    let inode = directory.metadata().ok()?.ino().to_string();
    let device = directory.metadata().ok()?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let process = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str()))
            .then(|| words[4].to_owned())
    })?;
    let command = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    Some(format!("process {process} {}", command.trim()))
}
