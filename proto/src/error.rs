//! Why a message from the network is refused.

use thiserror::Error;
use uuid::Uuid;
use weir_model::NodeId;

/// A message that no correct peer sends. Each names the field as a path in the `.proto` files.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// A field that every message of its kind has is absent.
    #[error("{field} is missing")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// An identity of the wrong length.
    #[error("{field} is an identity of {found} bytes, expected 16")]
    Identity {
        /// Which.
        field: &'static str,
        /// How many bytes it has.
        found: usize,
    },
    /// An amount above the bound of its type.
    #[error("{field} is {found}, expected at most {most}")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// What it is.
        found: u64,
        /// The bound.
        most: u64,
    },
    /// A list that is longer than its bound.
    #[error("{field} has {found} rows, expected at most {most}")]
    TooMany {
        /// Which.
        field: &'static str,
        /// How many it has.
        found: usize,
        /// The bound.
        most: usize,
    },
    /// A message about another one that this stream has not had.
    #[error("{field} is about a message that was never sent on this stream")]
    Baseless {
        /// Which.
        field: &'static str,
    },
    /// Columns of different lengths, a row that is none, or a number that leaves its range.
    #[error("{field} does not fit what this stream has had")]
    Misfit {
        /// Which.
        field: &'static str,
    },
    /// Bytes that are no address, a length beyond the address, or bits behind the prefix.
    #[error("{field} has a key that is no address prefix")]
    Prefix {
        /// Which.
        field: &'static str,
    },
    /// A list that names a limit twice.
    #[error("{field} names limit {limit:016x} twice, expected each limit once")]
    Repeated {
        /// Which.
        field: &'static str,
        /// The limit's identity.
        limit: u64,
    },
}

/// The identity in `bytes`.
pub(crate) fn node_id(field: &'static str, bytes: &[u8]) -> Result<NodeId, WireError> {
    let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| WireError::Identity {
        field,
        found: bytes.len(),
    })?;
    Ok(NodeId(Uuid::from_bytes(bytes)))
}

/// A field that must be there.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { field })
}

/// A number that must be at most `most`.
pub(crate) fn at_most(field: &'static str, found: u64, most: u64) -> Result<u64, WireError> {
    if found <= most {
        Ok(found)
    } else {
        Err(WireError::TooLarge { field, found, most })
    }
}
