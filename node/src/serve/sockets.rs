//! The sockets that a node listens on.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
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
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        chown(path, None, Some(group.gid)).map_err(|errno| failed(errno.into()))?;
    }
    Ok(listener)
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
