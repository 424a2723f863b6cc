//! Talking to a daemon.

use std::{error::Error as StdError, io, time::Duration};

use thiserror::Error;
use tonic::{
    Code, Status,
    transport::{self, Channel, Endpoint},
};
use weir_proto::admin::{MAX_REPLY_BYTES, v1::admin_client::AdminClient};
use weir_tls::{Credentials, Expected, Security, TlsError, TlsFiles};

use crate::{address::Address, cli::Certificates};

/// To connect takes far less, or nobody is there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The fleet, as one of its daemons sees it.
pub(crate) type Client = AdminClient<Channel>;

/// Why the fleet did not do what it was asked.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// There is nothing at the socket's path.
    #[error(
        "no daemon listens at {0}: there is no such socket; start weir-node, or name another \
         node with --address"
    )]
    NoSocket(Address),
    /// The socket is there, for others.
    #[error("not allowed to use {0}; become root, or a member of the socket's group")]
    Forbidden(Address),
    /// Nobody has the other end.
    #[error("no daemon answers at {0}: the connection was refused; is weir-node running?")]
    Refused(Address),
    /// Something else on the way.
    #[error("no daemon answers at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What the system says.
        reason: String,
    },
    /// Who asks is not allowed to.
    #[error("not allowed: {0}")]
    NotPermitted(String),
    /// TLS without all that it takes.
    #[error(
        "{address} takes a certificate: name --ca, --certificate and --key, or set WEIR_CA, \
         WEIR_CERTIFICATE and WEIR_KEY; `weir cert operator` makes one"
    )]
    NoCertificate {
        /// Where.
        address: Address,
    },
    /// Certificates that cannot be used.
    #[error("{0}")]
    Certificates(#[from] TlsError),
    /// The daemon cannot do it now.
    #[error("{0}; nothing is known to have been changed, try again in a moment")]
    Unavailable(String),
    /// The daemon accepts, and says nothing.
    #[error("the daemon did not answer in time; it may hang, and may yet do what it was asked")]
    TimedOut,
    /// Another version of the policy than expected.
    #[error("{0}; look at what is in force, then apply again")]
    Conflict(String),
    /// The daemon does not know the request.
    #[error("the daemon does not know this command: it is older than this `weir`")]
    Unknown,
    /// HTTP, and no gRPC.
    #[error(
        "whoever answers there is no daemon's gRPC, or something on the way answers for it: name the port \
         of `[grpc] listen`, 7946 in most fleets, not that of metrics"
    )]
    NotGrpc,
    /// Anything else.
    #[error("the daemon refused: {0}")]
    Other(String),
}

/// Connects to the daemon at an address, for questions that it has `timeout` to answer.
pub(crate) async fn connect(
    address: &Address,
    certificates: &Certificates,
    timeout: Duration,
) -> Result<Client, ClientError> {
    let (url, security) = match address {
        Address::Socket(path) => (format!("unix:{}", path.display()), Security::Plain),
        Address::Http(url) => (url.clone(), Security::Plain),
        Address::Https(authority) => {
            let files = certificates
                .files()
                .ok_or_else(|| ClientError::NoCertificate {
                    address: address.clone(),
                })?;
            let security = Security::Tls(Credentials::load(files)?);
            (format!("http://{authority}"), security)
        }
    };
    let endpoint = Endpoint::from_shared(url)
        .map_err(|error| unreachable(address, &error))?
        .connect_timeout(CONNECT_TIMEOUT.min(timeout))
        .timeout(timeout);
    let channel = weir_tls::connect(&endpoint, &security, Expected::AnyNode)
        .await
        .map_err(|error| not_connected(address, &error))?;
    Ok(AdminClient::new(channel).max_decoding_message_size(MAX_REPLY_BYTES))
}

fn not_connected(address: &Address, error: &transport::Error) -> ClientError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::NotFound => ClientError::NoSocket(address.clone()),
                io::ErrorKind::PermissionDenied => ClientError::Forbidden(address.clone()),
                io::ErrorKind::ConnectionRefused => ClientError::Refused(address.clone()),
                _ => unreachable(address, error),
            };
        }
        cause = error.source();
    }
    unreachable(address, error)
}

fn unreachable(address: &Address, error: &(dyn StdError + 'static)) -> ClientError {
    // The innermost cause says what happened; the outer ones say "transport error".
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    ClientError::Unreachable {
        address: address.clone(),
        reason: innermost.to_string(),
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            // `infer_grpc_status` in tonic: an answer without a status of gRPC's own.
            _ if message.contains("mapped from HTTP status code") => Self::NotGrpc,
            Code::DeadlineExceeded | Code::Cancelled => Self::TimedOut,
            Code::Unavailable => Self::Unavailable(message),
            Code::Aborted => Self::Conflict(message),
            Code::Unimplemented => Self::Unknown,
            Code::PermissionDenied => Self::NotPermitted(message),
            _ => Self::Other(message),
        }
    }
}

impl Certificates {
    /// Whether there is all that TLS takes.
    pub(crate) fn are_named(&self) -> bool {
        self.files().is_some()
    }

    /// `None` unless all are named.
    fn files(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            ca: Some(self.ca.clone()?),
            certificate: self.certificate.clone()?,
            key: self.key.clone()?,
        })
    }
}
