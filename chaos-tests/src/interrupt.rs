//! The user's wish to stop. Nothing is killed in the middle: every wait looks at this flag, and
//! whatever was made is removed on the way out.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::clock::WaitError;

/// Raised once, stays raised. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that SIGINT, SIGTERM and SIGHUP raise.
    ///
    /// # Errors
    ///
    /// If the system refuses a handler.
    pub fn on_signals() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0))?;
        }
        Ok(interrupt)
    }

    /// Raises the flag.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it has been raised.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    ///
    /// [`WaitError::Interrupted`] if it has been raised.
    pub fn check(&self) -> Result<(), WaitError> {
        if self.is_raised() {
            Err(WaitError::Interrupted)
        } else {
            Ok(())
        }
    }
}
