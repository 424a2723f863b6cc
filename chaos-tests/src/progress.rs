//! Progress on standard error: one line a step, with the time that it took.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

use anyhow::{Context as _, Result};

/// Tells a person what is going on.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    live: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            live: std::io::stderr().is_terminal(),
        }
    }
}

impl Progress {
    /// Runs one step, and names it in its error.
    ///
    /// # Errors
    ///
    /// What the step returns.
    pub fn step<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        if self.live {
            eprint!("  … {name}");
            // A terminal that went away is no reason to stop.
            let _flushed = std::io::stderr().flush();
        }
        let result = act();
        let mark = if result.is_ok() { "✓" } else { "✗" };
        let clear = if self.live { "\r\x1b[K" } else { "" };
        eprintln!(
            "{clear}  {mark} {name:<12} {:>6.1} s",
            begun.elapsed().as_secs_f64()
        );
        result.with_context(|| name.to_owned())
    }

    /// One line that stays.
    pub fn note(&mut self, line: &str) {
        eprintln!("    {line}");
    }

    /// Seconds since the beginning.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }
}
