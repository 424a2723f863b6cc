//! Limits documents: immutable, numbered, and one of them in force.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use weir_model::{NodeId, PolicyVersion};
use zookeeper_client::{Acls, CreateMode, Error, MultiWriteResult};

use super::{
    in_force::{InForce, Next},
    leadership::{ANY_VERSION, RECORD_BYTES_MAX, Tenure},
    link::{Access, Link, ReadFailure, parse},
    lock::{self, Guard, LockError, LockName},
    origin::{Author, Origin},
    outcome::Failure,
    path,
    remembered::Remembered,
};
use crate::trial::Trial;

/// Most versions that a history lists, latest first.
pub const HISTORY_MAX: usize = 100;

/// The document that stands for none.
pub const NO_LIMITS: &str = "version = 1\n";

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
    /// An earlier change waits to be confirmed. Nothing was changed.
    #[error("version {0} waits to be confirmed: `weir confirm` keeps it, `weir rollback` ends it")]
    OnTrial(PolicyVersion),
    /// An earlier change is coming into force. Nothing was changed.
    #[error("version {0} is coming into force: wait for it, or give it up with `weir rollback`")]
    Pending(PolicyVersion),
    /// No change waits to be confirmed. Nothing was changed.
    #[error("no change waits to be confirmed")]
    NoTrial,
    /// Nothing was in force before. Nothing was changed.
    #[error("no version was in force before this one")]
    NothingBefore,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// Its version.
    pub version: PolicyVersion,
    /// When it was stored, by the ZooKeeper leader's wall clock, in milliseconds since 1970.
    pub stored_at_ms: i64,
    /// The node that led then is not recorded; whether this document is in force is.
    pub is_in_force: bool,
    /// Where it comes from.
    pub origin: Origin,
}

/// A document that is to come into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its text.
    pub document: String,
    /// Refuse unless this version is in force, 0 being none.
    pub expected: PolicyVersion,
    /// Go back unless it is confirmed within this time.
    pub trial: Option<Duration>,
    /// End a trial that runs, and give up a version that is coming, instead of being refused.
    pub ends_trial: bool,
    /// What is written down beside it.
    pub origin: Origin,
}

impl Publication {
    /// To stay.
    #[must_use]
    pub fn new(document: impl Into<String>, expected: PolicyVersion) -> Self {
        Self {
            document: document.into(),
            expected,
            trial: None,
            ends_trial: false,
            origin: Origin::default(),
        }
    }
}

pub(super) enum PolicyCommand {
    Publish {
        publication: Publication,
        answer: oneshot::Sender<Result<PolicyVersion, PolicyError>>,
    },
    /// Nodes have it ready: it is in force.
    Activate {
        version: PolicyVersion,
        places: u32,
        answer: oneshot::Sender<Result<PolicyVersion, PolicyError>>,
    },
    Confirm {
        version: Option<PolicyVersion>,
        answer: oneshot::Sender<Result<PolicyVersion, PolicyError>>,
    },
    /// Nobody confirmed this version in time.
    Expire {
        version: PolicyVersion,
        answer: oneshot::Sender<Result<PolicyVersion, PolicyError>>,
    },
    /// Writes down what is left of a trial.
    Note {
        trial: Trial,
        answer: oneshot::Sender<Result<PolicyVersion, PolicyError>>,
    },
    InForce {
        answer: oneshot::Sender<Result<InForce, PolicyError>>,
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
    pub(super) remembered: Remembered,
}

impl Policies {
    /// Serves until every sender is gone. An answer that nobody waits for is dropped; what it was
    /// about is done nevertheless.
    pub(super) async fn run(self, mut commands: mpsc::Receiver<PolicyCommand>) {
        while let Some(command) = commands.recv().await {
            match command {
                PolicyCommand::Publish {
                    publication,
                    answer,
                } => {
                    let _ = answer.send(self.publish(&publication).await);
                }
                PolicyCommand::Activate {
                    version,
                    places,
                    answer,
                } => {
                    let _ = answer.send(self.activate(version, places).await);
                }
                PolicyCommand::Confirm { version, answer } => {
                    let _ = answer.send(self.confirm(version).await);
                }
                PolicyCommand::Expire { version, answer } => {
                    let _ = answer.send(self.expire(version).await);
                }
                PolicyCommand::Note { trial, answer } => {
                    let _ = answer.send(self.note(&trial).await);
                }
                PolicyCommand::InForce { answer } => {
                    let mut access = Access::new(&self.link, self.patience);
                    let found = current(&mut access).await;
                    let _ = answer.send(found.map(|(in_force, _)| in_force));
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

    async fn publish(&self, publication: &Publication) -> Result<PolicyVersion, PolicyError> {
        let bytes = publication.document.len();
        if bytes > RECORD_BYTES_MAX {
            return Err(PolicyError::TooLarge { bytes });
        }
        let tenure = (*self.tenure.borrow()).ok_or(PolicyError::NotLeader)?;
        let guard = self.lock().await?;
        let published = self.publish_under(&guard, tenure, publication).await;
        guard.release().await;
        published
    }

    async fn lock(&self) -> Result<Guard, LockError> {
        let (link, patience) = (&self.link, self.patience);
        lock::acquire(link, self.acls, LockName::Policy, self.node, patience).await
    }

    async fn publish_under(
        &self,
        guard: &Guard,
        tenure: Tenure,
        publication: &Publication,
    ) -> Result<PolicyVersion, PolicyError> {
        let mut access = Access::new(&self.link, self.patience);
        let (in_force, current_version) = current(&mut access).await?;
        let (expected, before) = (publication.expected, in_force.version);
        if before != expected {
            let current = before;
            return Err(PolicyError::Conflict { expected, current });
        }
        let running = trial(&mut access).await?;
        if let Some((trial, _)) = running.filter(|_| !publication.ends_trial) {
            return Err(PolicyError::OnTrial(trial.version));
        }
        if let Some(next) = in_force.next.filter(|_| !publication.ends_trial) {
            return Err(PolicyError::Pending(next.version));
        }
        self.skip_numbers(guard, tenure, before).await?;
        let document = &publication.document;
        let version = self.create(&mut access, guard, tenure, document).await?;
        if version <= before {
            let found = format!("{version} was created after {before}");
            return Err(PolicyError::Refused(found));
        }
        let within = publication.trial.map(|within| within.as_millis());
        let next = Next {
            version,
            confirm_within_ms: within.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        };
        let data = json(&InForce {
            next: Some(next),
            ..in_force
        });
        let origin = Some(&publication.origin).filter(|origin| origin.is_known());
        let origin = origin.map(|origin| (path::origin(version), json(origin)));
        let options = CreateMode::Persistent.with_acls(self.acls);
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_check_version(guard.path(), ANY_VERSION)?;
                writer.add_set_data(path::POLICY_CURRENT, &data, Some(current_version))?;
                if let Some((path, data)) = &origin {
                    writer.add_create(path, data, &options)?;
                }
                match running {
                    Some((_, trial)) => writer.add_delete(path::POLICY_TRIAL, Some(trial)),
                    None => Ok(()),
                }
            })
            .await;
        match written {
            Ok(_) => {
                let author = publication.origin.author.as_ref().map(Author::name);
                let trial = publication.trial;
                tracing::info!(%version, ?trial, ?author, "policy published");
                Ok(version)
            }
            Err(Failure::Refused { index, reason }) => Err(refused(index, &reason)),
            Err(Failure::Unknown(error)) => {
                let mut again = Access::new(&self.link, self.patience);
                match self::current(&mut again).await {
                    Ok((found, _)) if found.next == Some(next) || found.version == version => {
                        Ok(version)
                    }
                    _ => Err(PolicyError::Unknown(error.to_string())),
                }
            }
        }
    }

    /// Rule 12, *policy*, its end: writes down that a version is in force, and begins its trial if
    /// it has one. A version that is newer already stays; one that is in force gets more places.
    async fn activate(
        &self,
        version: PolicyVersion,
        places: u32,
    ) -> Result<PolicyVersion, PolicyError> {
        let tenure = (*self.tenure.borrow()).ok_or(PolicyError::NotLeader)?;
        let mut access = Access::new(&self.link, self.patience);
        let (in_force, current_version) = current(&mut access).await?;
        let is_news = in_force.version < version;
        let has_more = in_force.places.is_none_or(|known| known < places);
        if in_force.version > version || !(is_news || has_more) {
            return Ok(in_force.version);
        }
        let fallback = in_force.version;
        let is_this = in_force
            .next
            .filter(|next| is_news && next.version == version);
        let trial = is_this.and_then(|next| next.confirm_within_ms);
        let trial = trial.map(|left_ms| {
            json(&Trial {
                version,
                fallback,
                left_ms,
            })
        });
        let data = json(&InForce {
            version,
            before: if is_news { fallback } else { in_force.before },
            next: in_force.next.filter(|next| next.version > version),
            places: Some(places),
        });
        let options = CreateMode::Persistent.with_acls(self.acls);
        let document = path::document(version);
        // A ZooKeeper that was restored from a backup may not have it.
        let lost = self.lost(&mut access, version).await?;
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_set_data(path::POLICY_CURRENT, &data, Some(current_version))?;
                match &lost {
                    Some(text) => writer.add_create(&document, text.as_bytes(), &options)?,
                    None => writer.add_check_version(&document, ANY_VERSION)?,
                }
                match &trial {
                    Some(data) => writer.add_create(path::POLICY_TRIAL, data, &options),
                    None => Ok(()),
                }
            })
            .await;
        match written {
            Ok(_) => {
                let is_restored = lost.is_some();
                tracing::info!(%version, places, is_restored, "policy in force in the fleet");
                Ok(version)
            }
            Err(Failure::Refused { index, reason }) => Err(refused(index, &reason)),
            Err(Failure::Unknown(error)) => Err(PolicyError::Unknown(error.to_string())),
        }
    }

    /// Ends a trial and keeps what is in force. Of a confirmation and the end of the time at once,
    /// one finds the trial gone.
    async fn confirm(&self, version: Option<PolicyVersion>) -> Result<PolicyVersion, PolicyError> {
        let tenure = (*self.tenure.borrow()).ok_or(PolicyError::NotLeader)?;
        let mut access = Access::new(&self.link, self.patience);
        let Some((trial, trial_version)) = trial(&mut access).await? else {
            return Err(PolicyError::NoTrial);
        };
        if let Some(expected) = version.filter(|version| *version != trial.version) {
            let current = trial.version;
            return Err(PolicyError::Conflict { expected, current });
        }
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_delete(path::POLICY_TRIAL, Some(trial_version))
            })
            .await;
        match written {
            Ok(_) => {
                tracing::info!(version = %trial.version, "policy confirmed");
                Ok(trial.version)
            }
            Err(Failure::Refused { index: 0, .. }) => Err(PolicyError::NotLeader),
            // A note was written meanwhile, or the time is over: the caller may look again.
            Err(Failure::Refused { reason, .. }) => Err(PolicyError::Unknown(reason.to_string())),
            Err(Failure::Unknown(error)) => Err(PolicyError::Unknown(error.to_string())),
        }
    }

    /// Puts what was in force before a trial in force again, unless that trial is over.
    async fn expire(&self, version: PolicyVersion) -> Result<PolicyVersion, PolicyError> {
        let mut access = Access::new(&self.link, self.patience);
        let running = trial(&mut access).await?;
        let running = running.filter(|(trial, _)| trial.version == version);
        let (trial, _) = running.ok_or(PolicyError::NoTrial)?;
        let document = match trial.fallback {
            PolicyVersion(0) => NO_LIMITS.to_owned(),
            fallback => self.document(fallback).await?,
        };
        let publication = Publication {
            document,
            expected: version,
            trial: None,
            ends_trial: true,
            origin: Origin {
                author: None,
                restores: Some(trial.fallback),
            },
        };
        let restored = self.publish(&publication).await?;
        let fallback = trial.fallback;
        tracing::warn!(%version, %fallback, %restored, "not confirmed in time: rolled back");
        Ok(restored)
    }

    async fn note(&self, noted: &Trial) -> Result<PolicyVersion, PolicyError> {
        let tenure = (*self.tenure.borrow()).ok_or(PolicyError::NotLeader)?;
        let mut access = Access::new(&self.link, self.patience);
        let running = trial(&mut access).await?;
        let running = running.filter(|(trial, _)| trial.version == noted.version);
        let (_, trial_version) = running.ok_or(PolicyError::NoTrial)?;
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_set_data(path::POLICY_TRIAL, &json(noted), Some(trial_version))
            })
            .await;
        match written {
            Ok(_) => Ok(noted.version),
            Err(Failure::Refused { index, reason }) => Err(refused(index, &reason)),
            Err(Failure::Unknown(error)) => Err(PolicyError::Unknown(error.to_string())),
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
        let in_force = in_force.version;
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
                    let Some(stat) = client.check_stat(&path::document(version)).await? else {
                        continue;
                    };
                    let origin = if stat.num_children > 0 {
                        match client.get_data(&path::origin(version)).await {
                            Ok((data, _)) => Origin::read(&data),
                            Err(Error::NoNode) => Origin::default(),
                            Err(error) => return Err(error),
                        }
                    } else {
                        Origin::default()
                    };
                    entries.push(PolicyEntry {
                        version,
                        stored_at_ms: stat.ctime,
                        is_in_force: version == in_force,
                        origin,
                    });
                }
                Ok(entries)
            })
            .await;
        read.map_err(unread)
    }
}

/// What is in force, and the version of the znode that says so.
async fn current(access: &mut Access) -> Result<(InForce, i32), PolicyError> {
    let read = access
        .read_latest(|client| async move { client.get_data(path::POLICY_CURRENT).await })
        .await;
    let (data, stat) = read.map_err(unread)?;
    let in_force = InForce::parse(&data).map_err(|reason| {
        PolicyError::Refused(format!("{} is malformed: {reason}", path::POLICY_CURRENT))
    })?;
    Ok((in_force, stat.version))
}

/// The trial that runs, and the version of its znode.
async fn trial(access: &mut Access) -> Result<Option<(Trial, i32)>, PolicyError> {
    let read = access
        .read_latest(|client| async move { client.get_data(path::POLICY_TRIAL).await })
        .await;
    let (data, stat) = match read {
        Err(ReadFailure::Refused(Error::NoNode)) => return Ok(None),
        read => read.map_err(unread)?,
    };
    let trial = parse(&data).map_err(|reason| {
        PolicyError::Refused(format!("{} is malformed: {reason}", path::POLICY_TRIAL))
    })?;
    Ok(Some((trial, stat.version)))
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("a record of numbers and text is JSON")
}

pub(super) fn refused(index: usize, reason: &Error) -> PolicyError {
    match (index, reason) {
        (0, Error::BadVersion | Error::NoNode) => PolicyError::NotLeader,
        (_, reason) => PolicyError::Refused(reason.to_string()),
    }
}

pub(super) fn unread(failure: ReadFailure) -> PolicyError {
    match failure {
        ReadFailure::Refused(error) => PolicyError::Refused(error.to_string()),
        ReadFailure::Unanswered(Some(error)) => PolicyError::Refused(error.to_string()),
        ReadFailure::Unanswered(None) => {
            PolicyError::Refused("no server answered in time".to_owned())
        }
    }
}
