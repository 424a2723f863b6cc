//! The end of a trial by somebody who keeps the change, and who that was.

use weir_model::PolicyVersion;
use zookeeper_client::{CreateMode, Error};

use super::{
    link::{Access, ReadFailure},
    origin::{Author, Origin},
    outcome::Failure,
    path,
    policy::{Policies, PolicyError, json, trial, unread},
};

impl Policies {
    /// Ends a trial and keeps what is in force. Of a confirmation and the end of the time at once,
    /// one finds the trial gone. Who it was is written down in the same transaction.
    pub(super) async fn confirm(
        &self,
        version: Option<PolicyVersion>,
        by: Option<Author>,
    ) -> Result<PolicyVersion, PolicyError> {
        let tenure = (*self.tenure.borrow()).ok_or(PolicyError::NotLeader)?;
        let mut access = Access::new(&self.link, self.patience);
        let Some((trial, trial_version)) = trial(&mut access).await? else {
            return Err(PolicyError::NoTrial);
        };
        if let Some(expected) = version.filter(|version| *version != trial.version) {
            let current = trial.version;
            return Err(PolicyError::Conflict { expected, current });
        }
        let path = &path::origin(trial.version);
        let record = match by {
            Some(by) => Some(origin(&mut access, path).await?.confirmed(by)),
            None => None,
        };
        let options = CreateMode::Persistent.with_acls(self.acls);
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                match &record {
                    Some((data, Some(version))) => {
                        writer.add_set_data(path, data, Some(*version))?
                    }
                    Some((data, None)) => writer.add_create(path, data, &options)?,
                    None => {}
                }
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
}

/// What is written down of a version, and the version of its znode if it has one.
struct Written(Origin, Option<i32>);

impl Written {
    fn confirmed(self, by: Author) -> (Vec<u8>, Option<i32>) {
        let Self(origin, version) = self;
        let confirmed_by = Some(by);
        let origin = Origin {
            confirmed_by,
            ..origin
        };
        (json(&origin), version)
    }
}

async fn origin(access: &mut Access, path: &str) -> Result<Written, PolicyError> {
    let read = access
        .read_latest(|client| async move { client.get_data(path).await })
        .await;
    match read {
        Err(ReadFailure::Refused(Error::NoNode)) => Ok(Written(Origin::default(), None)),
        read => {
            let (data, stat) = read.map_err(unread)?;
            Ok(Written(Origin::read(&data), Some(stat.version)))
        }
    }
}
