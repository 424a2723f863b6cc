//! Where things are pinned: the BPF file system, the directory of one group of interfaces, and the
//! lock on it.

use std::{
    ffi::CString,
    fs::{self, File, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use weir_abi::LAYOUT_VERSION;

use super::{error::LoadError, undo::Undo};

/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: libc::__fsword_t = 0xcafe_4a11;

const LINK_PREFIX: &str = "link-";

/// The directory of one group of interfaces, locked for as long as this exists.
#[derive(Debug)]
pub(crate) struct PinDirectory {
    path: PathBuf,
    lock: File,
}

impl PinDirectory {
    /// Mounts bpffs if it is not, makes the directory if it is not there, and locks it.
    pub(crate) fn lock(bpffs: &Path, group: &str, undo: &mut Undo) -> Result<Self, LoadError> {
        mount(bpffs, undo)?;
        let weir = bpffs.join("weir");
        let of_group = weir.join(pin_name(group));
        let path = of_group.join(format!("v{LAYOUT_VERSION}"));
        for directory in [&weir, &of_group, &path] {
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

    pub(crate) fn map(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn link(&self, interface: &str) -> PathBuf {
        self.path
            .join(format!("{LINK_PREFIX}{}", pin_name(interface)))
    }

    /// Takes away the links of interfaces that are not among these, and with them the program.
    pub(crate) fn keep_links_of(&self, interfaces: &[String]) -> Result<(), LoadError> {
        let kept: Vec<PathBuf> = interfaces.iter().map(|name| self.link(name)).collect();
        for path in self.entries()? {
            if is_link(&path) && !kept.contains(&path) {
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

    /// Everything that is pinned here.
    pub(crate) fn entries(&self) -> Result<Vec<PathBuf>, LoadError> {
        let entries = fs::read_dir(&self.path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
        });
        entries.map_err(|source| file_error(&self.path, source))
    }

    /// Takes the directory away, which must be empty, and those above it that then are.
    pub(crate) fn remove(self) -> Result<(), LoadError> {
        fs::remove_dir(&self.path).map_err(|source| file_error(&self.path, source))?;
        for above in self.path.ancestors().skip(1).take(2) {
            // Not empty: another group, or another version.
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        // Closing would do, but for a child that has been forked and not yet become another
        // program: it has the descriptor, and the lock with it, a moment longer.
        let _ = self.lock.unlock();
    }
}

/// Whether a pin is that of a link.
pub(crate) fn is_link(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with(LINK_PREFIX))
}

/// Where the pins of a group are.
pub(crate) fn path(bpffs: &Path, group: &str) -> PathBuf {
    bpffs
        .join("weir")
        .join(pin_name(group))
        .join(format!("v{LAYOUT_VERSION}"))
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
