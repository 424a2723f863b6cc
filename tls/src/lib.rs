//! Who speaks: mutual TLS between Weir's daemons, and from operators to them.
//!
//! Everybody shows a certificate of the fleet's one authority. What it says of its holder are URI
//! names, `weir:node:UUID`, `weir:role:read` and `weir:role:operate`; host names and the subject
//! are for people. TLS 1.3 alone, no resumption: who is let in shows a certificate every time.
//!
//! Files are looked at again while the process runs, and what has been rotated is used for the
//! connections that are made from then on.

mod accept;
mod connect;
mod credentials;
mod identity;
#[cfg(feature = "issue")]
pub mod issue;
mod subject;
mod verify;

pub use accept::{
    Bounds, Connection, HANDSHAKE_TIMEOUT, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_CERTIFICATE,
    MAX_HANDSHAKES_PER_ADDRESS, Peer, accept,
};
pub use connect::connect;
pub use credentials::{Credentials, LOOK_AGAIN, TlsError, TlsFiles};
pub use identity::{Expected, Identity, IdentityError, Role};

/// How hosts speak to each other.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// In plain text: anybody may say anything in any name.
    #[default]
    Plain,
    /// Over TLS, where both sides show certificates.
    Tls(Credentials),
}

impl Security {
    /// Whether peers have to show who they are.
    #[must_use]
    pub const fn is_authenticated(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}
