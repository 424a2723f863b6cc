//! Attaching the program to an interface, or replacing the one that an earlier daemon attached.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use super::{
    error::LoadError,
    loader::AttachMode,
    netlink::{self, Attached},
    pins::{PinDirectory, file_error, is_link},
    sys,
    undo::Undo,
};

// Flags of linux/if_link.h.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Attaches the program. Where a link is pinned for this interface its program is replaced in one
/// step, otherwise a link is made and pinned.
pub(crate) fn attach(
    pins: &PinDirectory,
    name: &str,
    index: u32,
    program: BorrowedFd<'_>,
    mode: AttachMode,
    undo: &mut Undo,
) -> Result<(), LoadError> {
    let path = pins.link(name);
    let pinned = pinned_link(&path, index)?;
    let present = attached(name, index)?;
    let ours = pinned.as_ref().map(|(_, info)| info.program_id);
    if let Some(other) = present.iter().find(|one| Some(one.program_id) != ours) {
        return Err(stranger(pins, name, other.program_id));
    }
    match pinned {
        Some((link, info)) => {
            same_mode(name, &present, mode)?;
            replace(name, link, info.program_id, program, undo)?;
        }
        None => create(name, index, &path, program, mode, undo)?,
    }
    confirm(name, index, program, mode)
}

/// Whose program it is that is on the interface.
fn stranger(pins: &PinDirectory, interface: &str, id: u32) -> LoadError {
    let interface = interface.to_owned();
    match pins.other_groups().iter().find(|group| holds(group, id)) {
        Some(group) => LoadError::OtherGroup {
            interface,
            group: group
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
        },
        None => LoadError::OtherProgram {
            interface,
            name: program_name(id),
            id,
        },
    }
}

/// Whether one of the group's links, of any layout, has this program.
fn holds(group: &Path, id: u32) -> bool {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    entries(group)
        .flat_map(|layout| {
            entries(&layout)
                .filter(|path| is_link(path))
                .collect::<Vec<_>>()
        })
        .filter_map(|path| sys::open_pinned(&path).ok())
        .filter_map(|link| sys::info::<sys::LinkInfo>(link.as_fd()).ok())
        .any(|info| info.program_id == id)
}

/// The link of an earlier daemon, if its interface is still there. One whose interface is gone
/// holds nothing, and its pin is taken away.
fn pinned_link(path: &Path, index: u32) -> Result<Option<(OwnedFd, sys::LinkInfo)>, LoadError> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = |source| file_error(path, source);
    let link = sys::open_pinned(path).map_err(failed)?;
    let info: sys::LinkInfo = sys::info(link.as_fd()).map_err(failed)?;
    if info.interface == index {
        return Ok(Some((link, info)));
    }
    fs::remove_file(path).map_err(failed)?;
    Ok(None)
}

fn same_mode(name: &str, present: &[Attached], mode: AttachMode) -> Result<(), LoadError> {
    match present.first().and_then(|attached| attached.mode) {
        Some(found) if found != mode => Err(LoadError::OtherMode {
            interface: name.to_owned(),
            found: found.name().to_owned(),
            expected: mode.name().to_owned(),
        }),
        _ => Ok(()),
    }
}

fn replace(
    name: &str,
    link: OwnedFd,
    old: u32,
    program: BorrowedFd<'_>,
    undo: &mut Undo,
) -> Result<(), LoadError> {
    let failed = |source| refused(name, source);
    // Only CAP_SYS_ADMIN may look programs up. Without it the new one stays if a later step fails;
    // it decides by the same maps.
    let old = sys::program_by_id(old).ok();
    sys::link_update(link.as_fd(), program).map_err(failed)?;
    if let Some(old) = old {
        undo.push(move || drop(sys::link_update(link.as_fd(), old.as_fd())));
    }
    Ok(())
}

/// `bpf_link_create` either makes a link or fails: no netlink attachment, which would not be
/// ours to replace, takes its place.
fn create(
    name: &str,
    index: u32,
    path: &Path,
    program: BorrowedFd<'_>,
    mode: AttachMode,
    undo: &mut Undo,
) -> Result<(), LoadError> {
    let flags = match mode {
        AttachMode::Native => XDP_FLAGS_DRV_MODE,
        AttachMode::Generic => XDP_FLAGS_SKB_MODE,
    };
    let link = sys::link_xdp(program, index, flags).map_err(|source| {
        match (mode, source.raw_os_error()) {
            (AttachMode::Native, Some(libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)) => {
                LoadError::NativeRefused {
                    interface: name.to_owned(),
                    source,
                }
            }
            _ => refused(name, source),
        }
    })?;
    // Until it is pinned the link lives by its descriptor alone, so a failure here takes it off.
    sys::pin(link.as_fd(), path).map_err(|source| file_error(path, source))?;
    let path = path.to_owned();
    undo.push(move || drop(fs::remove_file(path)));
    Ok(())
}

/// Looks with the kernel's other eye whether the program is where it should be.
fn confirm(
    name: &str,
    index: u32,
    program: BorrowedFd<'_>,
    mode: AttachMode,
) -> Result<(), LoadError> {
    let info: sys::ProgramInfo = sys::info(program).map_err(|source| refused(name, source))?;
    let expected = Attached {
        program_id: info.id,
        mode: Some(mode),
    };
    if attached(name, index)? == [expected] {
        return Ok(());
    }
    let silent = io::Error::other("it said yes, but the program is not on the interface");
    Err(refused(name, silent))
}

fn attached(name: &str, index: u32) -> Result<Vec<Attached>, LoadError> {
    netlink::attached(index).map_err(|source| refused(name, source))
}

fn refused(interface: &str, source: io::Error) -> LoadError {
    LoadError::AttachRefused {
        interface: interface.to_owned(),
        source,
    }
}

fn program_name(id: u32) -> String {
    sys::program_by_id(id)
        .and_then(|program| sys::info::<sys::ProgramInfo>(program.as_fd()))
        .map_or_else(|_| "(unnamed)".to_owned(), |info| info.name())
}
