//! Changes on a host alone: no ZooKeeper keeps versions there, so the host remembers the one before a change
//! that waits to be confirmed, also across a restart, and goes back by itself.

use std::time::Duration;

use tonic::Status;
use tracing::{error, warn};
use weir_coord::{
    trial::{Countdown, Due, Trial},
    zookeeper::{NO_LIMITS, PolicyError, Publication},
};
use weir_model::{Nanos, PolicyVersion, file};
use weir_proto::admin::v1;

use super::{
    Daemon,
    apply::{change_list, refusal},
    memory::OwnTrial,
    view::millis,
};
use crate::dataplane;

const NOT_REMEMBERED: &str =
    "this could not be remembered, and nothing was changed; the daemon's log says why";

impl Daemon {
    /// A change that waited when the daemon ended goes on waiting, with what was left of its time.
    pub(super) fn resume_trial(&mut self) {
        let in_force = self.enforcement.policy_version();
        let remembered = self.enforcement.remembered_trial();
        let waiting = remembered.filter(|own| own.trial.version == in_force);
        self.own_trial = waiting.map(|own| Countdown::read(own.trial, None, dataplane::now()));
    }

    pub(super) fn put(&mut self, publication: &Publication) -> Result<PolicyVersion, Status> {
        if let Some(waiting) = &self.own_trial {
            return Err(refusal(&PolicyError::OnTrial(waiting.version())));
        }
        let version = publication.expected.next();
        if let Some(within) = publication.trial {
            self.begin_trial(version, within)?;
        }
        let done = self.put_in_force(version, &publication.document);
        if done.is_err() {
            self.end_trial()?;
        }
        done.map(|()| version)
    }

    /// What there is to go back to is remembered before anything is changed.
    fn begin_trial(&mut self, version: PolicyVersion, within: Duration) -> Result<(), Status> {
        let before = self.enforcement.remembered_policy();
        let (fallback, document) = before.unwrap_or((PolicyVersion(0), NO_LIMITS.to_owned()));
        let trial = Trial {
            version,
            fallback,
            left_ms: millis(within),
        };
        self.enforcement
            .remember_trial(Some(OwnTrial { trial, document }))
            .map_err(|_| Status::failed_precondition(NOT_REMEMBERED))?;
        self.own_trial = Some(Countdown::read(trial, None, dataplane::now()));
        Ok(())
    }

    fn end_trial(&mut self) -> Result<(), Status> {
        self.enforcement
            .remember_trial(None)
            .map_err(|_| Status::failed_precondition(NOT_REMEMBERED))?;
        self.own_trial = None;
        Ok(())
    }

    fn put_in_force(&mut self, version: PolicyVersion, document: &str) -> Result<(), Status> {
        self.enforcement.set_policy(version, document);
        let is_in_force = self.enforcement.policy_version() == version;
        self.policy_changed();
        if is_in_force {
            return Ok(());
        }
        self.enforcement.give_up_wanted();
        Err(Status::failed_precondition(
            "this host cannot enforce or remember this policy; the daemon's log says why",
        ))
    }

    /// Keeps a change that was applied for a trial.
    pub(super) fn keep(&mut self, version: Option<PolicyVersion>) -> Result<PolicyVersion, Status> {
        let waiting = self.own_trial.map(|waiting| waiting.version());
        let waiting = waiting.filter(|waiting| version.is_none_or(|version| version == *waiting));
        let waiting = waiting.ok_or_else(|| refusal(&PolicyError::NoTrial))?;
        self.end_trial()?;
        Ok(waiting)
    }

    /// Puts what was in force before a change that waits in force again.
    pub(super) fn put_back(
        &mut self,
        version: Option<PolicyVersion>,
    ) -> Result<v1::ApplyReply, Status> {
        let remembered = self.enforcement.remembered_trial();
        let waiting = remembered.filter(|_| self.own_trial.is_some());
        let asked =
            waiting.filter(|own| version.is_none_or(|version| version == own.trial.fallback));
        let OwnTrial { document, .. } = asked.ok_or_else(|| {
            Status::failed_precondition(
                "this host is alone: it remembers no version but the one before a change that waits to be \
                 confirmed; apply the file of the one that you want",
            )
        })?;
        let policy = file::parse(&document);
        let policy = policy.map_err(|_| Status::failed_precondition("it is no longer valid"))?;
        let changes = change_list(self.view().policy(), &policy);
        let version = self.enforcement.policy_version().next();
        self.put_in_force(version, &document)?;
        self.end_trial()?;
        Ok(v1::ApplyReply {
            version: version.0,
            changes,
            warnings: Vec::new(),
        })
    }

    /// Counts the time of a change that waits.
    pub(super) fn attend_to_trial(&mut self, now: Nanos) {
        let Some(due) = self.own_trial.as_mut().and_then(|trial| trial.poll(now)) else {
            return;
        };
        match due {
            Due::RollBack(version) => {
                warn!(%version, "nobody confirmed this version in time: the one before comes back");
                if let Err(status) = self.put_back(None) {
                    error!(error = status.message(), "not yet; it is tried again");
                }
            }
            Due::Note(trial) => {
                let noted = self.enforcement.remembered_trial();
                let noted = noted.map(|own| OwnTrial { trial, ..own });
                // Whoever starts without the note counts from an older one, which is longer.
                let _ = self.enforcement.remember_trial(noted);
                self.own_trial = Some(Countdown::read(trial, self.own_trial, now));
            }
        }
    }
}
