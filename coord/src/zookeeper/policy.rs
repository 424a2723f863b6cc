//! Limits documents: immutable, numbered, and one of them in force.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use weir_model::{NodeId, PolicyVersion};
use zookeeper_client::{Acls, CreateMode, Error, MultiWriteResult};

use super::{
    leadership::{ANY_VERSION, RECORD_BYTES_MAX, Tenure},
    link::{Access, Link, ReadFailure, parse},
    lock::{self, Guard, LockError, LockName},
    outcome::Failure,
    path,
};

/// Most versions that a history lists, latest first.
pub const HISTORY_MAX: usize = 100;

/// Why a document is not in force, or was not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// Only the leader may change the policy.
    #[error("this node does not lead")]
    NotLeader,
    /// Somebody else changed the policy meanwhile. Nothing was changed.
    #[error("version {current} is in force and not {expected}: look at it and apply again")]
    Conflict {
        /// What was expected to be in force.
        expected: PolicyVersion,
        /// What is in force.
        current: PolicyVersion,
    },
    /// A znode cannot hold it.
    #[error("the document has {bytes} bytes, and at most {RECORD_BYTES_MAX} can be stored")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// There is no such document.
    #[error("there is no policy version {0}")]
    NoSuchVersion(PolicyVersion),
    /// The lock "policy" could not be taken. Nothing was changed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Too many commands wait. Nothing was changed.
    #[error(transparent)]
    Busy(#[from] super::Busy),
    /// ZooKeeper refused, or holds what Weir did not write. Nothing was changed.
    #[error("ZooKeeper: {0}")]
    Refused(String),
    /// ZooKeeper did not say in time. The document may be in force now or later: read again.
    #[error("ZooKeeper did not say what came of it: {0}")]
    Unknown(String),
}

/// One document of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// Its version.
    pub version: PolicyVersion,
    /// When it was stored, by the ZooKeeper leader's wall clock, in milliseconds since 1970.
    pub stored_at_ms: i64,
    /// The node that led then is not recorded; whether this document is in force is.
    pub is_in_force: bool,
}

pub(super) enum PolicyCommand {
    Publish {
        document: String,
        expected: PolicyVersion,
        answer: oneshot::Sender<Result<PolicyVersion, PolicyError>>,
    },
    Document {
        version: PolicyVersion,
        answer: oneshot::Sender<Result<String, PolicyError>>,
    },
    History {
        answer: oneshot::Sender<Result<Vec<PolicyEntry>, PolicyError>>,
    },
}

/// The reader and writer of `policy`.
pub(super) struct Policies {
    pub(super) node: NodeId,
    pub(super) acls: Acls<'static>,
    pub(super) link: watch::Receiver<Link>,
    pub(super) patience: Duration,
    pub(super) tenure: watch::Receiver<Option<Tenure>>,
}

impl Policies {
    /// Serves until every sender is gone. An answer that nobody waits for is dropped; what it was
    /// about is done nevertheless.
    pub(super) async fn run(self, mut commands: mpsc::Receiver<PolicyCommand>) {
        while let Some(command) = commands.recv().await {
            match command {
                PolicyCommand::Publish {
                    document,
                    expected,
                    answer,
                } => {
                    let _ = answer.send(self.publish(&document, expected).await);
                }
                PolicyCommand::Document { version, answer } => {
                    let _ = answer.send(self.document(version).await);
                }
                PolicyCommand::History { answer } => {
                    let _ = answer.send(self.history().await);
                }
            }
        }
    }

    async fn publish(
        &self,
        document: &str,
        expected: PolicyVersion,
    ) -> Result<PolicyVersion, PolicyError> {
        let bytes = document.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(PolicyError::TooLarge { bytes });
        }
        let tenure = (*self.tenure.borrow()).ok_or(PolicyError::NotLeader)?;
        let guard = lock::acquire(
            &self.link,
            self.acls,
            LockName::Policy,
            self.node,
            self.patience,
        )
        .await?;
        let published = self.publish_under(&guard, tenure, document, expected).await;
        guard.release().await;
        published
    }

    async fn publish_under(
        &self,
        guard: &Guard,
        tenure: Tenure,
        document: &str,
        expected: PolicyVersion,
    ) -> Result<PolicyVersion, PolicyError> {
        let mut access = Access::new(&self.link, self.patience);
        let (current, current_version) = current(&mut access).await?;
        if current != expected {
            return Err(PolicyError::Conflict { expected, current });
        }
        let version = self.create(&mut access, guard, tenure, document).await?;
        if version <= current {
            let found = format!("{version} was created after {current}");
            return Err(PolicyError::Refused(found));
        }
        let data = version.to_string();
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_check_version(guard.path(), ANY_VERSION)?;
                writer.add_set_data(path::POLICY_CURRENT, data.as_bytes(), Some(current_version))
            })
            .await;
        match written {
            Ok(_) => {
                tracing::info!(%version, "policy published");
                Ok(version)
            }
            Err(Failure::Refused { index, reason }) => Err(refused(index, &reason)),
            Err(Failure::Unknown(error)) => {
                let mut again = Access::new(&self.link, self.patience);
                match self::current(&mut again).await {
                    Ok((found, _)) if found == version => Ok(version),
                    _ => Err(PolicyError::Unknown(error.to_string())),
                }
            }
        }
    }

    /// Stores a document under the next number. If it does not come into force it stays, unused:
    /// numbers are not given twice.
    async fn create(
        &self,
        access: &mut Access,
        guard: &Guard,
        tenure: Tenure,
        document: &str,
    ) -> Result<PolicyVersion, PolicyError> {
        let prefix = format!("{}/{}", path::POLICY, path::DOCUMENT);
        let options = CreateMode::PersistentSequential.with_acls(self.acls);
        let created = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_check_version(guard.path(), ANY_VERSION)?;
                writer.add_create(&prefix, document.as_bytes(), &options)
            })
            .await;
        let results = match created {
            Ok(results) => results,
            Err(Failure::Refused { index, reason }) => return Err(refused(index, &reason)),
            // It is not in force, and will not be.
            Err(Failure::Unknown(error)) => return Err(PolicyError::Refused(error.to_string())),
        };
        let Some(MultiWriteResult::Create { path, .. }) = results.last() else {
            return Err(PolicyError::Refused(format!(
                "answered {results:?} to a creation"
            )));
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        path::document_version(name)
            .ok_or_else(|| PolicyError::Refused(format!("{path} has no sequence number")))
    }

    async fn document(&self, version: PolicyVersion) -> Result<String, PolicyError> {
        let mut access = Access::new(&self.link, self.patience);
        let path = &path::document(version);
        let read = access
            .read_latest(|client| async move { client.get_data(path).await })
            .await;
        let (data, _) = read.map_err(|failure| match failure {
            ReadFailure::Refused(Error::NoNode) => PolicyError::NoSuchVersion(version),
            failure => unread(failure),
        })?;
        String::from_utf8(data).map_err(|error| PolicyError::Refused(format!("{path}: {error}")))
    }

    async fn history(&self) -> Result<Vec<PolicyEntry>, PolicyError> {
        let mut access = Access::new(&self.link, self.patience);
        let (in_force, _) = current(&mut access).await?;
        let read = access
            .read(|client| async move {
                let names = client.list_children(path::POLICY).await?;
                let mut versions: Vec<PolicyVersion> = names
                    .iter()
                    .filter_map(|name| path::document_version(name))
                    .collect();
                versions.sort();
                let mut entries = Vec::new();
                for version in versions.into_iter().rev().take(HISTORY_MAX) {
                    if let Some(stat) = client.check_stat(&path::document(version)).await? {
                        let is_in_force = version == in_force;
                        entries.push(PolicyEntry {
                            version,
                            stored_at_ms: stat.ctime,
                            is_in_force,
                        });
                    }
                }
                Ok(entries)
            })
            .await;
        read.map_err(unread)
    }
}

/// The version in force, and the version of the znode that says so.
async fn current(access: &mut Access) -> Result<(PolicyVersion, i32), PolicyError> {
    let read = access
        .read_latest(|client| async move { client.get_data(path::POLICY_CURRENT).await })
        .await;
    let (data, stat) = read.map_err(unread)?;
    let version = parse(&data).map_err(|reason| {
        PolicyError::Refused(format!("{} is malformed: {reason}", path::POLICY_CURRENT))
    })?;
    Ok((version, stat.version))
}

fn refused(index: usize, reason: &Error) -> PolicyError {
    match (index, reason) {
        (0, Error::BadVersion | Error::NoNode) => PolicyError::NotLeader,
        (_, reason) => PolicyError::Refused(reason.to_string()),
    }
}

fn unread(failure: ReadFailure) -> PolicyError {
    match failure {
        ReadFailure::Refused(error) => PolicyError::Refused(error.to_string()),
        ReadFailure::Unanswered(Some(error)) => PolicyError::Refused(error.to_string()),
        ReadFailure::Unanswered(None) => {
            PolicyError::Refused("no server answered in time".to_owned())
        }
    }
}
