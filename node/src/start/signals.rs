//! Being told to stop.
//!
//! Signals are held from the very beginning, so that one that comes while something is attached
//! neither ends the process half-way nor is missed.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

/// The signals that stop a daemon.
pub(super) fn stopping() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Keeps the signals that stop a daemon until [`stop`] asks for them.
pub(super) fn hold() -> anyhow::Result<()> {
    stopping().thread_block().context("no signal mask")
}

/// Ready once the daemon is told to stop, or was while signals were held. To be called in the event
/// loop, before anything is served.
pub(super) fn stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("no signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signal handler")?;
    let mut hangup = signal(SignalKind::hangup()).context("no signal handler")?;
    stopping().thread_unblock().context("no signal mask")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("told to stop"),
            _ = interrupt.recv() => info!("interrupted"),
            _ = hangup.recv() => info!("the terminal is gone"),
        }
    })
}
