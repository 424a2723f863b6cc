//! Processors and who may use them.
//!
//! A benchmark that shares its processors with a compiler measures the compiler. Niceness does not
//! help where each session is a scheduling group of its own, so what is measured runs in a
//! real-time class. The kernel keeps a twentieth of each second for everybody else.

#![allow(unsafe_code)]

use std::{io, marker::PhantomData};

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

/// What a [`Nudge`] is.
const SIGNAL: libc::c_int = libc::SIGUSR1;
/// Of what keeps a processor from everybody else.
const OCCUPY: libc::c_int = 5;
/// Of what floods and of what receives.
const WORK: libc::c_int = 10;
/// Of what reads clocks and counters: short, and not to be kept waiting.
const MEASURE: libc::c_int = 20;

/// Pins a thread to a CPU and puts it ahead of whatever is not measured; 0 is the calling thread,
/// which stays there for as long as it lives.
///
/// # Errors
///
/// If there is no such CPU or thread, or the caller is not privileged.
pub fn work_on(thread: i32, cpu: usize) -> Result<()> {
    pin(thread, cpu)?;
    real_time(thread, WORK)
}

/// Pins the calling thread to a CPU and puts it ahead of whatever has to do with no measurement.
///
/// # Errors
///
/// As [`work_on`].
pub fn occupy(cpu: usize) -> Result<()> {
    pin(0, cpu)?;
    real_time(0, OCCUPY)
}

/// Pins the calling thread, without putting it ahead.
///
/// # Errors
///
/// If there is no such CPU.
pub fn run_on(cpu: usize) -> Result<()> {
    pin(0, cpu)
}

fn pin(thread: i32, cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(thread), &cpus)
        .with_context(|| format!("cannot run on CPU {cpu}"))
}

/// The calling thread is ahead of everything, and so are the tools that it runs: it reads at the
/// moment it means to, and can end a flood that has every processor. Dropped, it is back where
/// threads begin.
#[derive(Debug)]
pub struct Ahead(PhantomData<*const ()>);

impl Ahead {
    /// From now on, on any CPU.
    ///
    /// # Errors
    ///
    /// If the caller is not privileged.
    pub fn of_everything() -> Result<Self> {
        schedule(0, libc::SCHED_FIFO, MEASURE)?;
        Ok(Self(PhantomData))
    }

    /// From now on, on one CPU.
    ///
    /// # Errors
    ///
    /// If there is no such CPU, or the caller is not privileged.
    pub fn on(cpu: usize) -> Result<Self> {
        pin(0, cpu)?;
        Self::of_everything()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let rested = schedule(0, libc::SCHED_OTHER, 0).and_then(|()| run_anywhere());
        if let Err(error) = rested {
            eprintln!("error: {error:#}");
        }
    }
}

/// Undoes a pinning of the calling thread.
///
/// # Errors
///
/// If the system refuses.
pub fn run_anywhere() -> Result<()> {
    let mut cpus = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        cpus.set(cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot run on every CPU")
}

fn real_time(thread: i32, priority: libc::c_int) -> Result<()> {
    schedule(thread, libc::SCHED_FIFO, priority)
}

fn schedule(thread: i32, policy: libc::c_int, priority: libc::c_int) -> Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters live during the call, which only reads them.
    let result = unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).context("cannot set the scheduling class: this needs root")
}

/// Ends the system call that a thread is in, by a signal that does nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Nudge(libc::pthread_t);

impl Nudge {
    /// For the calling thread, which must not end before the last [`Nudge::send`].
    #[must_use]
    pub fn own() -> Self {
        // SAFETY: no arguments.
        Self(unsafe { libc::pthread_self() })
    }

    /// Ends the thread's system call, if it is in one.
    pub fn send(self) {
        // SAFETY: the thread has not been joined, so its name is still its own.
        let _sent = unsafe { libc::pthread_kill(self.0, SIGNAL) };
    }
}

/// Makes [`Nudge`]s harmless for this process.
///
/// # Errors
///
/// If the system refuses a handler.
pub fn allow_nudges() -> Result<()> {
    let received = std::sync::Arc::default();
    signal_hook::flag::register(SIGNAL, received).context("cannot handle SIGUSR1")?;
    Ok(())
}
