//! The lab outranks whatever else the machine does.
//!
//! Figures have to tell of the fleet, not of a compiler that runs beside it: a sender that waits
//! for a processor offers nothing, and a daemon that waits misses its tick.

#![allow(unsafe_code)]

use std::io;

use anyhow::{Context as _, Result};

/// Above everything with a default priority, and below what is real-time.
const NICENESS: libc::c_int = -15;

/// Raises the priority of the calling thread, and with it that of every thread and process that it
/// starts from now on.
///
/// # Errors
///
/// If the caller is not privileged.
pub fn outrank_the_rest() -> Result<()> {
    // SAFETY: no pointers are passed; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).context("cannot raise the priority: this needs root")
}
