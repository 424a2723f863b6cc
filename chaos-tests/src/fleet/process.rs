//! Processes, told apart from later ones that have the same number.

use std::{fs, process};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// A process of this boot. Its number may be reused after it has ended; its start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot.
    started: u64,
}

impl Process {
    /// The process that has this number now, if one has.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = state_and_start(&stat)?;
        (state != 'Z').then_some(Self { pid, started })
    }

    /// This very process.
    ///
    /// # Panics
    ///
    /// If `/proc` is not mounted.
    #[must_use]
    pub fn current() -> Self {
        Self::of(process::id()).expect("/proc is mounted")
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Ends it at once, if it still runs.
    pub fn kill(&self) {
        if self.is_alive()
            && let Ok(pid) = i32::try_from(self.pid)
        {
            // It may have ended by itself in between, which is as good.
            let _ended = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Fields 3 and 22 of `/proc/<pid>/stat` (proc(5)). The second field is a name in parentheses,
/// which may itself hold blanks and parentheses.
fn state_and_start(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn reads_the_kernels_line() {
        let line = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8765 0 0";
        assert_eq!(state_and_start(line), Some(('S', 8765)));
        assert_eq!(state_and_start("42 (a"), None);
    }

    #[test]
    fn a_killed_process_is_not_alive() {
        assert!(Process::current().is_alive());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(
            !Process {
                started: 1,
                ..process
            }
            .is_alive()
        );
        process.kill();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
