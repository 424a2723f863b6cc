//! Capability sets (capabilities(7)): what is held, giving up all of it, and looking whether it is
//! gone.

use std::{fs, io};

use caps::{CapSet, Capability};
use nix::sys::prctl;

use super::PrivilegeError;

/// What the kernel says of this thread.
const STATUS: &str = "/proc/thread-self/status";
const TASKS: &str = "/proc/self/task";
/// The sets that must be empty, as the kernel names them. The bounding set is apart: it gives
/// nothing by itself.
const HELD: [&str; 4] = ["CapInh", "CapPrm", "CapEff", "CapAmb"];
const BOUNDING: &str = "CapBnd";

/// Whether this process can become another user, of other groups.
pub(super) fn can_change_user() -> bool {
    has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID)
}

/// Whether it can change its groups.
#[must_use]
pub fn can_change_groups() -> bool {
    has(Capability::CAP_SETGID)
}

/// Whether it can give files away.
pub(super) fn can_give_away() -> bool {
    has(Capability::CAP_CHOWN)
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// That there is one thread: capabilities belong to threads, and each would keep its own.
pub(super) fn only_thread() -> Result<(), PrivilegeError> {
    let failed = |source| PrivilegeError::Refused {
        step: "counting the threads",
        source,
    };
    match fs::read_dir(TASKS).map_err(failed)?.count() {
        1 => Ok(()),
        threads => Err(PrivilegeError::Threads(threads)),
    }
}

/// Empties the bounding set, which takes `CAP_SETPCAP`. Without that it stays as it is, and
/// [`clear_the_rest`] sees to it that nothing in it can be had.
pub(super) fn clear_bounding() -> Result<(), PrivilegeError> {
    if !has(Capability::CAP_SETPCAP) {
        return Ok(());
    }
    clear(CapSet::Bounding, "emptying the bounding set")
}

/// Empties all other sets, for good: no program that is executed from here on gets more.
pub(super) fn clear_the_rest() -> Result<(), PrivilegeError> {
    prctl::set_no_new_privs().map_err(|errno| PrivilegeError::Refused {
        step: "no_new_privs",
        source: errno.into(),
    })?;
    clear(CapSet::Ambient, "emptying the ambient set")?;
    // The effective set first: it has to be within the permitted one.
    clear(CapSet::Effective, "emptying the effective set")?;
    clear(CapSet::Permitted, "emptying the permitted set")?;
    clear(CapSet::Inheritable, "emptying the inheritable set")
}

fn clear(set: CapSet, step: &'static str) -> Result<(), PrivilegeError> {
    caps::clear(None, set).map_err(|error| PrivilegeError::Refused {
        step,
        source: io::Error::other(error),
    })
}

/// Reads back that nothing is left. Returns whether the bounding set is empty too.
pub(super) fn verify() -> Result<bool, PrivilegeError> {
    let status = fs::read_to_string(STATUS).map_err(|source| PrivilegeError::Refused {
        step: "reading /proc/thread-self/status",
        source,
    })?;
    left(&status).map_err(PrivilegeError::Left)
}

/// What a `status` file says: whether the bounding set is empty, or what else is left.
fn left(status: &str) -> Result<bool, String> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map_or("", str::trim)
    };
    let is_empty = |mask: &str| u64::from_str_radix(mask, 16) == Ok(0);
    let mut left: Vec<String> = HELD
        .into_iter()
        .map(|name| (name, field(name)))
        .filter(|(_, mask)| !is_empty(mask))
        .map(|(name, mask)| format!("{name} {mask}"))
        .collect();
    if field("NoNewPrivs") != "1" {
        left.push(format!("NoNewPrivs {}", field("NoNewPrivs")));
    }
    if left.is_empty() {
        Ok(is_empty(field(BOUNDING)))
    } else {
        Err(left.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(inheritable: &str, effective: &str, bounding: &str, no_new: u32) -> String {
        format!(
            "Name:\tweir-node\nCapInh:\t{inheritable}\nCapPrm:\t0000000000000000\n\
             CapEff:\t{effective}\nCapBnd:\t{bounding}\nCapAmb:\t0000000000000000\n\
             NoNewPrivs:\t{no_new}\n"
        )
    }

    #[test]
    fn whatever_is_left_is_named() {
        const NONE: &str = "0000000000000000";
        const SOME: &str = "0000008000001000";
        assert_eq!(left(&status(NONE, NONE, NONE, 1)), Ok(true));
        assert_eq!(left(&status(NONE, NONE, SOME, 1)), Ok(false));
        let found = left(&status(SOME, NONE, NONE, 1)).unwrap_err();
        assert_eq!(found, format!("CapInh {SOME}"));
        let found = left(&status(NONE, SOME, NONE, 0)).unwrap_err();
        assert_eq!(found, format!("CapEff {SOME}, NoNewPrivs 0"));
        assert!(left("").is_err(), "what cannot be read is not empty");
    }

    #[test]
    fn a_process_with_capabilities_is_caught() {
        assert!(
            matches!(verify(), Err(PrivilegeError::Left(_))),
            "tests do not run under no_new_privs"
        );
    }
}
