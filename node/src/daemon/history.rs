//! Keeping a change, going back, and what there was.

use tokio::sync::oneshot;
use tonic::Status;
use weir_coord::zookeeper::{Keeper, NO_LIMITS, PolicyError, Publication};
use weir_model::{Policy, PolicyVersion, file};
use weir_proto::admin::v1;

use super::{
    Coordination, Daemon,
    apply::{change_list, in_force, refusal},
    view::millis,
};
use crate::{
    dataplane,
    serve::{Answer, author},
};

type Reply<T> = oneshot::Sender<Answer<T>>;

/// No fleet, no history.
const ALONE: &str = "this host is alone: there is no ZooKeeper that keeps versions";

impl Daemon {
    /// Keeps a change that was applied for a trial.
    pub(super) fn confirm(&mut self, request: v1::ConfirmRequest, answer: Reply<v1::ConfirmReply>) {
        if matches!(self.coordination, Coordination::Embedded { .. }) {
            let _ = answer.send(match self.keep(request.version.map(PolicyVersion)) {
                Ok(PolicyVersion(version)) => Answer::Here(v1::ConfirmReply { version }),
                Err(status) => Answer::Refused(status),
            });
            return;
        }
        let Some((keeper, answer)) = self.as_leader(answer) else {
            return;
        };
        tokio::spawn(async move {
            let version = request.version.map(PolicyVersion);
            let by = request.author.and_then(author::checked);
            let _ = answer.send(match keeper.confirm(version, by).await {
                Ok(PolicyVersion(version)) => Answer::Here(v1::ConfirmReply { version }),
                Err(error) => Answer::Refused(refusal(&error)),
            });
        });
    }

    /// Puts an earlier version in force again.
    pub(super) fn rollback(&mut self, request: v1::RollbackRequest, answer: Reply<v1::ApplyReply>) {
        if matches!(self.coordination, Coordination::Embedded { .. }) {
            let _ = answer.send(match self.put_back(request.version.map(PolicyVersion)) {
                Ok(reply) => Answer::Here(reply),
                Err(status) => Answer::Refused(status),
            });
            return;
        }
        let Some((keeper, answer)) = self.as_leader(answer) else {
            return;
        };
        let in_force = self.view().policy().clone();
        let is_on_trial = self.trial().is_some();
        tokio::spawn(async move {
            let rolled_back = roll_back(&keeper, &in_force, request, is_on_trial).await;
            let _ = answer.send(match rolled_back {
                Ok(reply) => Answer::Here(reply),
                Err(status) => Answer::Refused(status),
            });
        });
    }

    /// The stored versions. Every node can read them.
    pub(super) fn history(&self, answer: Reply<v1::HistoryReply>) {
        let Some(fleet) = self.coordination.fleet() else {
            let _ = answer.send(Answer::Refused(Status::failed_precondition(ALONE)));
            return;
        };
        let keeper = fleet.keeper().clone();
        let trial = self.trial();
        tokio::spawn(async move {
            let _ = answer.send(match keeper.history().await {
                Ok(entries) => {
                    let versions = entries.into_iter().map(|entry| {
                        let trial = trial.as_ref();
                        let waits = trial.filter(|trial| trial.version == entry.version.0);
                        v1::Version {
                            version: entry.version.0,
                            stored_at_ms: entry.stored_at_ms,
                            in_force: entry.is_in_force,
                            confirm_within_ms: waits.and_then(|trial| trial.confirm_within_ms),
                            author: entry.origin.author.as_ref().map(author::told),
                            restores: entry.origin.restores.map(|version| version.0),
                            confirmed_by: entry.origin.confirmed_by.as_ref().map(author::told),
                        }
                    });
                    Answer::Here(v1::HistoryReply {
                        versions: versions.collect(),
                    })
                }
                Err(error) => Answer::Refused(refusal(&error)),
            });
        });
    }

    /// The version that waits to be confirmed, as far as this node knows.
    pub(super) fn trial(&self) -> Option<v1::Version> {
        let trial = match self.coordination.fleet() {
            Some(fleet) => fleet.trial()?,
            None => self.own_trial.as_ref()?,
        };
        Some(v1::Version {
            version: trial.version().0,
            in_force: true,
            confirm_within_ms: Some(millis(trial.left(dataplane::now()))),
            ..v1::Version::default()
        })
    }

    /// What a leader changes the policy with. Anybody else says who can.
    fn as_leader<T>(&self, answer: Reply<T>) -> Option<(Keeper, Reply<T>)> {
        let fleet = self.coordination.fleet();
        if let Some(fleet) = fleet.filter(|fleet| fleet.leader().is_some()) {
            return Some((fleet.keeper().clone(), answer));
        }
        let refused = match self.leader_elsewhere() {
            Some(leader) => Answer::Elsewhere(leader),
            None => Answer::Leaderless,
        };
        let _ = answer.send(refused);
        None
    }
}

async fn roll_back(
    keeper: &Keeper,
    before: &Policy,
    request: v1::RollbackRequest,
    is_on_trial: bool,
) -> Result<v1::ApplyReply, Status> {
    let current = keeper.in_force().await.map_err(|error| refusal(&error))?;
    // A change that has not come into force yet is given up by the one that is.
    let is_coming = current.next.is_some();
    let last = if is_coming {
        current.version
    } else {
        current.before
    };
    let target = request.version.map_or(last, PolicyVersion);
    if target == current.version && !is_coming {
        let already = format!("version {target} is in force already");
        return Err(Status::failed_precondition(already));
    }
    let document = match target {
        // A first change on trial goes back to what was before it; nothing else goes back to none.
        PolicyVersion(0) if is_on_trial || is_coming => NO_LIMITS.to_owned(),
        PolicyVersion(0) => return Err(refusal(&PolicyError::NothingBefore)),
        version => {
            let document = keeper.document(version).await;
            document.map_err(|error| refusal(&error))?
        }
    };
    let policy = file::parse(&document).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let problems = lines.join("\n");
        let message = format!("version {target} is no valid document any more:\n{problems}");
        Status::failed_precondition(message)
    })?;
    let publication = Publication {
        ends_trial: true,
        origin: author::origin(request.author, Some(target)),
        ..Publication::new(document, current.version)
    };
    let published = keeper.publish(publication).await;
    let version = published.map_err(|error| refusal(&error))?;
    in_force(keeper, version).await?;
    Ok(v1::ApplyReply {
        version: version.0,
        changes: change_list(before, &policy),
        warnings: Vec::new(),
    })
}
