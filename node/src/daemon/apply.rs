//! Putting a limits document in force.

use std::{ops::RangeInclusive, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tonic::Status;
use tracing::{field::Empty, info_span};
use weir_coord::{
    fleet::CommitBy,
    traces::TARGET,
    zookeeper::{Keeper, PolicyError, Publication},
};
use weir_model::{
    Limit, Policy, PolicyVersion,
    change::{Change, changes},
    file,
};
use weir_proto::admin::v1;

use super::{Coordination, Daemon};
use crate::serve::{Answer, author};

/// Most shares, strict limits times members, that a commit by ZooKeeper stores: each takes up to 100
/// bytes, and ZooKeeper takes a megabyte.
const ENVELOPE_ROWS_MAX: usize = 10_000;

/// How long whoever asked waits for a document to come into force.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(8);
/// How often that is looked at.
const IN_FORCE_POLL: Duration = Duration::from_millis(50);
/// How long a change may wait to be confirmed.
const CONFIRM_WITHIN: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

type Reply = oneshot::Sender<Answer<v1::ApplyReply>>;

impl Daemon {
    /// Checks a document, says what it changes, and puts it in force unless that was all that was
    /// asked. Whoever asked is answered when ZooKeeper has it.
    pub(super) fn apply(&mut self, request: v1::ApplyRequest, answer: Reply) {
        let checked = file::check(&request.document);
        let warnings = checked
            .problems
            .iter()
            .filter(|problem| problem.severity == file::Severity::Warning)
            .map(ToString::to_string)
            .collect();
        let policy = match checked.into_result() {
            Ok(policy) => policy,
            Err(problems) => {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                let _ = answer.send(Answer::Refused(Status::invalid_argument(lines.join("\n"))));
                return;
            }
        };
        if let Some(within) = request.confirm_within_ms.map(Duration::from_millis)
            && !CONFIRM_WITHIN.contains(&within)
        {
            let message = format!(
                "a change cannot be confirmed within {within:?}: {:?} to {:?} are possible",
                CONFIRM_WITHIN.start(),
                CONFIRM_WITHIN.end()
            );
            let _ = answer.send(Answer::Refused(Status::out_of_range(message)));
            return;
        }
        if let Some(leader) = self.leader_elsewhere() {
            let _ = answer.send(Answer::Elsewhere(leader));
            return;
        }
        let fits = self.fits_envelope(&policy);
        if let Err(reason) = fits.and_then(|()| self.has_places(&policy)) {
            let _ = answer.send(Answer::Refused(Status::failed_precondition(reason)));
            return;
        }
        let current = self.enforcement.policy_version();
        let reply = v1::ApplyReply {
            version: current.0,
            changes: change_list(self.view().policy(), &policy),
            warnings,
        };
        let expected = request.expected_version.map_or(current, PolicyVersion);
        if expected != current {
            let conflict = PolicyError::Conflict { expected, current };
            let _ = answer.send(Answer::Refused(refusal(&conflict)));
        } else if request.dry_run {
            let _ = answer.send(Answer::Here(reply));
        } else {
            let publication = Publication {
                trial: request.confirm_within_ms.map(Duration::from_millis),
                origin: author::origin(request.author, None),
                ..Publication::new(request.document, expected)
            };
            self.publish(publication, reply, answer);
        }
    }

    /// Whether what a commit has to store of this policy fits one znode.
    fn fits_envelope(&self, policy: &Policy) -> Result<(), String> {
        let fleet = self.coordination.fleet();
        let Some(fleet) = fleet.filter(|fleet| fleet.commit_by() == CommitBy::ZooKeeper) else {
            return Ok(());
        };
        let is_strict = |limit: &&Limit| limit.is_leased();
        let limits = policy.limits.iter().filter(is_strict).count();
        let members = fleet.members().len();
        if limits * members <= ENVELOPE_ROWS_MAX {
            return Ok(());
        }
        Err(format!(
            "{limits} strict limits on {members} members are {} shares, and at most \
             {ENVELOPE_ROWS_MAX} fit what a commit stores in ZooKeeper; make some limits local, or \
             merge them",
            limits * members
        ))
    }

    /// Whether every member has a place under this policy: a leader would wait until they have.
    fn has_places(&self, policy: &Policy) -> Result<(), String> {
        let members = self
            .coordination
            .fleet()
            .map_or(0, |fleet| fleet.members().len());
        let places = policy.fleet.max_members;
        if u32::try_from(members).is_ok_and(|members| members <= places) {
            return Ok(());
        }
        Err(format!(
            "the fleet has {members} members, and `max_members = {places}` has room for fewer; \
             remove members first, or write at least {members}"
        ))
    }

    fn publish(&mut self, publication: Publication, reply: v1::ApplyReply, answer: Reply) {
        let Coordination::Fleet(fleet) = &self.coordination else {
            let _ = answer.send(match self.put(&publication) {
                Ok(version) => Answer::Here(v1::ApplyReply {
                    version: version.0,
                    ..reply
                }),
                Err(status) => Answer::Refused(status),
            });
            return;
        };
        if fleet.leader().is_none() {
            let _ = answer.send(Answer::Leaderless);
            return;
        }
        let keeper = fleet.keeper().clone();
        let trace = info_span!(
            target: TARGET,
            "policy.apply",
            weir.node.id = %self.facts.node,
            weir.term = fleet.leader().map(|leader| leader.term().0),
            weir.policy.version = Empty,
            otel.status_code = Empty,
            otel.status_description = Empty,
        );
        tokio::spawn(async move {
            let published = match keeper.publish(publication).await {
                Ok(version) => {
                    trace.record("weir.policy.version", version.0);
                    in_force(&keeper, version).await.map(|()| version)
                }
                Err(error) => Err(refusal(&error)),
            };
            match &published {
                Ok(_) => trace.record("otel.status_code", "OK"),
                Err(status) => trace
                    .record("otel.status_code", "ERROR")
                    .record("otel.status_description", status.message()),
            };
            drop(trace);
            let _ = answer.send(match published {
                Ok(version) => Answer::Here(v1::ApplyReply {
                    version: version.0,
                    ..reply
                }),
                Err(status) => Answer::Refused(status),
            });
        });
    }
}

/// Waits until ZooKeeper says that a version is in force.
pub(super) async fn in_force(keeper: &Keeper, version: PolicyVersion) -> Result<(), Status> {
    let by = Instant::now() + IN_FORCE_WITHIN;
    loop {
        let found = keeper.in_force().await;
        match found.map_err(|error| refusal(&error))? {
            found if found.version == version => return Ok(()),
            found if found.next.is_none_or(|next| next.version != version) => {
                let message = format!("version {version} was replaced before it came into force");
                return Err(Status::aborted(message));
            }
            _ if Instant::now() >= by => {
                let message = format!(
                    "version {version} is stored, and comes into force as soon as a majority of \
                     voters has it ready; the daemons' logs say what they wait for"
                );
                return Err(Status::deadline_exceeded(message));
            }
            _ => sleep(IN_FORCE_POLL).await,
        }
    }
}

pub(super) fn refusal(error: &PolicyError) -> Status {
    let message = error.to_string();
    match error {
        PolicyError::Conflict { .. } => Status::aborted(message),
        PolicyError::TooLarge { .. } => Status::invalid_argument(message),
        PolicyError::NoSuchVersion(_) => Status::not_found(message),
        PolicyError::OnTrial(_)
        | PolicyError::Pending(_)
        | PolicyError::NoTrial
        | PolicyError::NothingBefore => Status::failed_precondition(message),
        PolicyError::NotLeader
        | PolicyError::Lock(_)
        | PolicyError::Busy(_)
        | PolicyError::Refused(_)
        | PolicyError::Unknown(_) => Status::unavailable(message),
    }
}

pub(super) fn change_list(before: &Policy, after: &Policy) -> Vec<v1::LimitChange> {
    changes(before, after)
        .into_iter()
        .map(|(name, change)| {
            let (kind, fields) = match change {
                Change::Added => (v1::ChangeKind::Added, Vec::new()),
                Change::Removed => (v1::ChangeKind::Removed, Vec::new()),
                Change::Changed(fields) => (v1::ChangeKind::Changed, fields),
            };
            let fields = fields
                .into_iter()
                .map(|field| v1::FieldChange {
                    field: field.field.to_owned(),
                    before: field.before,
                    after: field.after,
                })
                .collect();
            v1::LimitChange {
                name,
                kind: kind.into(),
                fields,
            }
        })
        .collect()
}
