//! The sockets that a node listens on.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::{Group, chown};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// Who may speak to the daemon without being root.
const GROUP: &str = "weir";
/// Owner and group may read and write, nobody else.
const SOCKET_MODE: u32 = 0o660;

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
/// # Errors
///
/// [`SocketError`] says what is in the way.
pub async fn unix(path: &Path) -> Result<UnixListener, SocketError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(SocketError::Taken(path.to_owned()));
    }
    let failed = |source| SocketError::Unix {
        path: path.to_owned(),
        source,
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => return Err(SocketError::NoSocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(path, None, Some(group.gid)).map_err(|errno| failed(errno.into()))?;
    }
    Ok(listener)
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
        let _ = fs::remove_file(&self.0);
    }
}

/// Listens on an address that `setting` names.
///
/// # Errors
///
/// [`SocketError::Tcp`].
pub async fn tcp(setting: &'static str, address: SocketAddr) -> Result<TcpListener, SocketError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| SocketError::Tcp {
            setting,
            address,
            source,
        })
}
