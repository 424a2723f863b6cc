//! How many files a daemon may have open: each connection is one.

use std::io;

use tracing::{debug, warn};

/// Raises the soft limit to the hard one. The soft one is 1,024 in most places, for programs that
/// count descriptors with `select`; there is none here. To be called before anything is served.
pub(super) fn raise() {
    match raised() {
        Ok(limit) => debug!(limit, "files that may be open"),
        Err(error) => warn!(%error, "the limit of open files stays what it is"),
    }
}

fn raised() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes two numbers where there is room for them.
    succeeded(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads two numbers.
    succeeded(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

fn succeeded(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
