//! Programs that are in the kernel already: a daemon that starts again takes those that its
//! predecessor loaded, if it would load the very same.
//!
//! The verifier looks at every way through a program, which takes a processor about a second. A daemon
//! that is restarted would spend it on what the kernel knows already, while its leases run out.
//!
//! What the pinned programs were made from is written beside them, with the numbers that the kernel
//! gave them, in a symbolic link: bpffs has no files. It counts only while those numbers are the
//! pinned programs', so that whoever pins others, and knows nothing of the link, makes it void; and only
//! while each program runs over the pinned maps that it ran over then, so that whoever pins another map
//! does. A daemon that took such programs would write maps by which no packet is decided.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::{fd::AsFd as _, unix::fs::symlink},
    path::PathBuf,
};

use weir_abi::maps;

use super::{
    Programs,
    error::LoadError,
    loader::{Clock, LoadOptions},
    pins::{PinDirectory, file_error},
    sys,
};

/// The link.
const LOADED: &str = "loaded";

/// Pins what another version needs in order to take over, the program that decides, to go back to,
/// and the one that says what buckets hold; and what the next start of this version does.
pub(crate) fn pin(
    pins: &PinDirectory,
    programs: &Programs,
    options: &LoadOptions,
) -> Result<(), LoadError> {
    for (name, program) in [
        (maps::XDP_PROGRAM, &programs.decide),
        (maps::INSTALL_PROGRAM, &programs.install),
        (maps::SWEEP_PROGRAM, &programs.sweep),
    ] {
        let (path, new) = (pins.pin(name), pins.pin(&format!("{name}-new")));
        // A left-over of a run that was killed here.
        let _ = fs::remove_file(&new);
        let pinned = sys::pin(program.as_fd(), &new).and_then(|()| fs::rename(&new, &path));
        pinned.map_err(|source| file_error(&path, source))?;
    }
    let path = pins.pin(LOADED);
    let written = description(pins, programs, options).and_then(|text| {
        let new = pins.pin(&format!("{LOADED}-new"));
        let _ = fs::remove_file(&new);
        symlink(text, &new).and_then(|()| fs::rename(&new, &path))
    });
    written.map_err(|source| file_error(&path, source))
}

/// The pinned programs, if [`pin`] was called with what they would be made from now.
pub(crate) fn pinned(pins: &PinDirectory, options: &LoadOptions) -> Option<Programs> {
    // A test's clock is a map that is not pinned.
    if options.clock != Clock::Boot {
        return None;
    }
    let written = fs::read_link(pins.pin(LOADED)).ok()?;
    let open = |name| sys::open_pinned(&pins.pin(name)).ok();
    let programs = Programs {
        decide: open(maps::XDP_PROGRAM)?,
        install: open(maps::INSTALL_PROGRAM)?,
        sweep: open(maps::SWEEP_PROGRAM)?,
    };
    let expected = description(pins, &programs, options).ok()?;
    (written == expected).then_some(programs)
}

/// What programs are made from, which they are, and what they run over.
fn description(
    pins: &PinDirectory,
    programs: &Programs,
    options: &LoadOptions,
) -> io::Result<PathBuf> {
    let LoadOptions {
        management,
        clock,
        sizes,
        // What programs find in pinned maps, and where they are attached.
        interfaces: _,
        group: _,
        bpffs: _,
        mode: _,
        policy: _,
    } = options;
    // It tells versions apart; nobody but root can write here.
    let mut hasher = DefaultHasher::new();
    weir_object::OBJECT.hash(&mut hasher);
    format!("{management:?} {clock:?} {sizes:?}").hash(&mut hasher);
    let mut used = Vec::new();
    for program in [&programs.decide, &programs.install, &programs.sweep] {
        used.push(sys::maps_of(program.as_fd())?);
    }
    for name in maps::PINNED {
        let pinned = sys::open_pinned_read_only(&pins.pin(name))?;
        let id = sys::info::<sys::MapInfo>(pinned.as_fd())?.id;
        for by_program in &used {
            (name, by_program.contains(&id)).hash(&mut hasher);
        }
    }
    let made_from = hasher.finish();
    let id = |program| sys::info::<sys::ProgramInfo>(program).map(|info| info.id);
    let decide = id(programs.decide.as_fd())?;
    let install = id(programs.install.as_fd())?;
    let sweep = id(programs.sweep.as_fd())?;
    Ok(format!("{made_from:016x}-{decide}-{install}-{sweep}").into())
}
