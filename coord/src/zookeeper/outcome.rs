//! What an error says about a write: a definite no, or nothing.
//!
//! A connection that goes quiet ends in `Error::Custom` and not in `ConnectionLoss`, a request of
//! an expired session may have been applied before, and a request that was made while the client
//! was disconnected is sent later. So nothing but the server's own refusal is a no.

use zookeeper_client::{Error, MultiWriteError};

/// Whether the server refused the request, so that it was not and never will be applied.
pub(super) fn is_definite_no(error: &Error) -> bool {
    matches!(
        error,
        Error::NoNode
            | Error::NoAuth
            | Error::BadVersion
            | Error::NodeExists
            | Error::NotEmpty
            | Error::NoChildrenForEphemerals
            | Error::InvalidAcl
            | Error::BadArguments(_)
    )
}

/// What came of a multi that was not applied for certain.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused it because of the operation at this index. Nothing was applied.
    Refused {
        /// Which operation, counted from 0.
        index: usize,
        /// Why.
        reason: Error,
    },
    /// It may have been applied, or may still be.
    Unknown(Error),
}

impl From<MultiWriteError> for Failure {
    fn from(error: MultiWriteError) -> Self {
        match error {
            MultiWriteError::OperationFailed { index, source } if is_definite_no(&source) => {
                Self::Refused {
                    index,
                    reason: source,
                }
            }
            MultiWriteError::OperationFailed { source, .. }
            | MultiWriteError::RequestFailed { source } => Self::Unknown(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_refusal_is_a_no() {
        assert!(is_definite_no(&Error::BadVersion));
        for unknown in [
            Error::ConnectionLoss,
            Error::SessionExpired,
            Error::SessionMoved,
            Error::Timeout,
            Error::ClientClosed,
            Error::UnexpectedErrorCode(-1),
            Error::RuntimeInconsistent,
        ] {
            assert!(!is_definite_no(&unknown), "{unknown}");
            let failure = MultiWriteError::RequestFailed { source: unknown }.into();
            assert!(matches!(failure, Failure::Unknown(_)));
        }
    }
}
