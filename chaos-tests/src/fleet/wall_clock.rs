//! Wall clocks that can be set: the daemons read them instead of the machine's, which is left alone.
//!
//! Debian's `libfaketime` is loaded into the daemons. Of all clocks, only `CLOCK_REALTIME` is
//! answered from a file, at every reading; boot time and monotonic time are the kernel's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::Daemon;

/// The library, below the directory of the machine's architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A wall clock for each daemon.
#[derive(Debug)]
pub struct WallClocks {
    files: Vec<PathBuf>,
}

impl WallClocks {
    /// Has each of the daemons start with a wall clock of its own, which is right at first.
    pub(super) fn give(daemons: &mut [Daemon]) -> Result<Self> {
        let library = library()?;
        let mut files = Vec::new();
        for daemon in daemons {
            fs::create_dir_all(daemon.directory())?;
            let file = daemon.directory().join("wall-clock");
            daemon.dress("LD_PRELOAD", library.display().to_string());
            daemon.dress("FAKETIME_TIMESTAMP_FILE", file.display().to_string());
            daemon.dress("FAKETIME_NO_CACHE", "1".to_owned());
            daemon.dress("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned());
            files.push(file);
        }
        let clocks = Self { files };
        for host in 0..clocks.files.len() {
            clocks.set(host, 0)?;
        }
        Ok(clocks)
    }

    /// Sets the wall clock of a host: so many seconds ahead of the right time.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn set(&self, host: usize, ahead_s: i64) -> Result<()> {
        let file = &self.files[host];
        // A daemon never reads half of a value: the file is replaced at once.
        let unfinished = file.with_extension("new");
        fs::write(&unfinished, format!("{ahead_s:+}\n"))
            .and_then(|()| fs::rename(&unfinished, file))
            .with_context(|| file.display().to_string())
    }
}

fn library() -> Result<PathBuf> {
    let directories = fs::read_dir("/usr/lib").context("/usr/lib")?;
    let found = directories
        .filter_map(|entry| Some(entry.ok()?.path().join(LIBRARY)))
        .find(|path: &PathBuf| Path::is_file(path));
    match found {
        Some(path) => Ok(path),
        None => bail!("no /usr/lib/*/{LIBRARY}: install it with `cargo xtask setup`"),
    }
}
