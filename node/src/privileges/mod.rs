//! What the process may do, and when it gives that up.
//!
//! Starting needs capabilities: to load, to attach, to listen. What ticks afterwards works through
//! descriptors that it holds, as an ordinary user without any capability. Whoever takes the
//! ticking process over can spend the limits of this host; it can neither load a program, nor take
//! one off an interface, nor read or write what is not that user's.
//!
//! [`Unprivileged::choose`] says before anything is changed whether that will work;
//! [`Unprivileged::drop_privileges`] does it, while there is one thread, and shows that it is done.

mod account;
mod capabilities;
mod proof;
mod unprivileged;

use std::{io, path::PathBuf};

use thiserror::Error;

pub use account::Account;
pub use capabilities::can_change_groups;
pub use unprivileged::{Unprivileged, in_group};

/// Why the process cannot give up its privileges.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// The node file names a user, and this process cannot become another one.
    #[error(
        "cannot become user {user}: this process (uid {uid}) lacks CAP_SETUID or CAP_SETGID; start \
         weir-node as root, or remove `[node] user` to tick as uid {uid}"
    )]
    CannotBecome {
        /// Who it should become.
        user: String,
        /// Who it is.
        uid: u32,
    },
    /// A directory cannot be made, or handed to the user.
    #[error("directory {path} for user {user}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// For whom.
        user: String,
        /// The system's word.
        source: io::Error,
    },
    /// Something runs already that would keep what it has.
    #[error("{0} threads exist where one was expected: the others would keep their privileges")]
    Threads(usize),
    /// The kernel refused a step.
    #[error("{step}: {source}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The kernel took every step, and something is left.
    #[error("privileges are left that should be gone: {0}")]
    Left(String),
    /// A program could be loaded afterwards.
    #[error(
        "a process without capabilities could load an XDP program; this kernel does not keep \
         programs to the privileged, so weir-node does not run on it"
    )]
    CouldLoad,
    /// It could not, for another reason than a lack of privilege, which shows nothing.
    #[error("loading a program was expected to fail for lack of privilege, but: {0}")]
    Unproven(io::Error),
}
