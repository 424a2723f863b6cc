//! The sockets that a node listens on. They are made while the process may, before the event loop
//! that serves them exists.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use nix::{
    sys::{
        socket::{Backlog, listen},
        stat::{Mode, umask},
    },
    unistd::{Gid, Group, getegid},
};
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    config::DEFAULT_SOCKET,
    privileges::{PrivilegeError, Unprivileged, can_change_groups, in_group},
};

/// Who may speak to the daemon without being root.
const GROUP: &str = "weir";
/// Not for a socket: owner and group may read and write, nobody else may do anything.
const NOT_FOR_SOCKETS: Mode = Mode::from_bits_truncate(0o117);
/// Of the directory of the local socket, if it has to be made: the socket's own mode decides.
const DIRECTORY_MODE: u32 = 0o755;
/// Connections of peers that are not accepted yet; a whole fleet may come at once. Beyond it they
/// try again after a second.
const WAITING_PEERS: i32 = 1024;

/// Why a socket cannot be listened on.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A daemon answers on it.
    #[error(
        "another daemon is running: it answers on {0}; stop it, or set another `[admin] socket`"
    )]
    Taken(PathBuf),
    /// Something that is no socket is there.
    #[error("{0} exists and is no socket; correct `[admin] socket`, or remove it")]
    NoSocket(PathBuf),
    /// The local socket cannot be made.
    #[error("local socket {path}: {source}")]
    Unix {
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Its directory, or acting as the user that it is made for.
    #[error(transparent)]
    Privileges(#[from] PrivilegeError),
    /// The address cannot be bound.
    #[error(
        "{setting} {address}: {source}; is another daemon running, is the address this host's?"
    )]
    Tcp {
        /// Which setting names it.
        setting: &'static str,
        /// Which.
        address: SocketAddr,
        /// The system's word.
        source: io::Error,
    },
}

/// Listens on a local socket for root and the group `weir`. A file that a dead daemon left behind
/// is replaced.
///
/// Its directory is made for `user`, and is the user's if it is `/run/weir`. In a directory of the
/// user's the socket is, too.
///
/// # Errors
///
/// [`SocketError`] says what is in the way.
pub fn unix(path: &Path, user: &Unprivileged) -> Result<UnixListener, SocketError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.is_dir() || Some(directory) == Path::new(DEFAULT_SOCKET).parent() {
        user.own_directory(directory, DIRECTORY_MODE)?;
    }
    let is_users = fs::metadata(directory).is_ok_and(|found| found.uid() == user.uid());
    if is_users {
        user.acting_in_group(group(), || replace(path))?
    } else {
        in_group(group(), || replace(path))?
    }
}

/// The group `weir`, if there is one and this process can make it the socket's.
fn group() -> Gid {
    let own = getegid();
    match Group::from_name(GROUP) {
        Ok(Some(group)) if group.gid == own || can_change_groups() => group.gid,
        Ok(Some(_)) => {
            warn!(
                group = GROUP,
                "without CAP_SETGID the local socket is not the group's: its members cannot use it"
            );
            own
        }
        _ => own,
    }
}

fn replace(path: &Path) -> Result<UnixListener, SocketError> {
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::Taken(path.to_owned()));
    }
    let failed = |source| SocketError::Unix {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(SocketError::NoSocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = bind(path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Makes the socket with its mode, rather than giving it to whatever is at the path afterwards.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let mask = umask(NOT_FOR_SOCKETS);
    let listener = UnixListener::bind(path);
    umask(mask);
    listener
}

/// Removes a local socket when the daemon ends, so that nobody takes it for one that crashed.
#[derive(Debug)]
pub struct Unlink(PathBuf);

impl Unlink {
    /// Removes the socket at `path` when dropped.
    #[must_use]
    pub fn on_drop(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl Drop for Unlink {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            let path = self.0.display();
            info!(%path, %error, "the local socket stays until the next start");
        }
    }
}

/// Listens on an address that `setting` names.
///
/// # Errors
///
/// [`SocketError::Tcp`].
pub fn tcp(setting: &'static str, address: SocketAddr) -> Result<TcpListener, SocketError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        let backlog = Backlog::new(WAITING_PEERS)?;
        listen(&listener, backlog)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| SocketError::Tcp {
        setting,
        address,
        source,
    })
}
