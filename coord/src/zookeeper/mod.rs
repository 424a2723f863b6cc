//! The ZooKeeper shell: sessions, terms, membership, policy and locks, for one node of a fleet.
//!
//! [`spawn`] starts a task that keeps a session for ever and tells what it sees as [`Event`]s.
//! Commands go in through a [`Keeper`]; each is answered by one event, or by the future that sent
//! it. Nothing here decides who *should* lead: that a candidacy stands is a hint for the protocol,
//! and that `term` was written is what makes a leader.
//!
//! # What ZooKeeper does not promise, and what stands in for it
//!
//! - Requests made while disconnected are applied after the reconnection, even if nobody waits for
//!   them any more. Every leader write is a multi that checks `term`, and the version of what it
//!   writes; nothing is sent on a connection that is known to be lost.
//! - An error is no proof that a write was not applied. Only the server's own refusal is; the rest
//!   is [`StoreOutcome::Unknown`](weir_coord_core::commit::StoreOutcome::Unknown), and is read
//!   again before the next write.
//! - Ephemerals outlive their session now and then, and the end of a session is seen by the server
//!   before the client. No decision rests on either.
//! - ACLs are not inherited: every znode is made with one.

mod election;
mod event;
mod in_force;
mod layout;
mod leadership;
mod link;
mod lock;
mod mailbox;
mod mirror;
mod origin;
mod outcome;
mod path;
mod policy;
mod registration;
mod remembered;
mod roster;
mod session;
mod settings;

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use weir_coord_core::record::{EnvelopeRecord, LiveRecord, MemberRecord};
use weir_model::{NodeId, PolicyVersion, Term};
use zookeeper_client::Acls;

pub use event::{Busy, Event, Live, Refusal, Roster, TakeOver, TakeOverFailure};
pub use in_force::{InForce, Next};
pub use leadership::RECORD_BYTES_MAX;
pub use lock::{Guard, LockError, LockName};
pub use mailbox::{ANSWERS_MAX, Events};
pub use origin::{AUTHOR_BYTES_MAX, Author, AuthorError, Origin};
pub use policy::{HISTORY_MAX, NO_LIMITS, PolicyEntry, PolicyError, Publication};
pub use roster::RosterError;
pub use session::{ATTEMPT_PERIOD, ATTEMPTS_MAX};
pub use settings::{
    Credentials, FLEET_NAME_MAX, SESSION_TIMEOUT_DEFAULT, Settings, SettingsError, Tls,
};

use crate::trial::Trial;
use leadership::{EnvelopeVersion, LeaderCommand, Leadership, Tenure};
use link::Link;
use policy::{Policies, PolicyCommand};
use remembered::Remembered;
use roster::{Admission, Admissions, RosterCommand};
use session::Sessions;

/// Most commands of one kind that wait to be performed. Beyond it they are [`Busy`].
pub const COMMANDS_MAX: usize = 16;

/// Starts the shell for the node that `live` describes. It must be called within a tokio runtime.
///
/// It goes on until every [`Keeper`] has been dropped; then the session is closed, and
/// [`Events::next`] returns `None`.
#[must_use]
pub fn spawn(settings: Settings, live: LiveRecord) -> (Keeper, Events) {
    if settings.credentials().is_none() {
        let root = settings.root();
        tracing::warn!(
            root,
            "no ZooKeeper credentials are set: anybody who reaches it can change every limit"
        );
    }
    let (outbox, events) = mailbox::mailbox();
    let (link, link_seen) = watch::channel(Link::default());
    let (candidacy, candidacy_seen) = watch::channel(None);
    let (tenure, tenure_seen) = watch::channel(None);
    let (leader, leader_commands) = mpsc::channel(COMMANDS_MAX);
    let (roster, roster_commands) = mpsc::channel(COMMANDS_MAX);
    let (policy, policy_commands) = mpsc::channel(COMMANDS_MAX);
    let resign = Arc::new(Notify::new());
    let remembered = Remembered::default();
    let (node, acls, patience) = (live.node, settings.acls(), settings.session_timeout());

    let keeper = Keeper {
        leader,
        roster,
        policy,
        resign: Arc::clone(&resign),
        tenure: tenure_seen.clone(),
        link: link_seen.clone(),
        remembered: remembered.clone(),
        node,
        acls,
    };
    let leadership = Leadership {
        node,
        root: settings.root(),
        link: link_seen.clone(),
        patience,
        candidacy: candidacy_seen,
        tenure: tenure.clone(),
        outbox: outbox.clone(),
        envelope: EnvelopeVersion::Doubtful,
    };
    let admissions = Admissions {
        node,
        acls,
        link: link_seen.clone(),
        patience,
        outbox: outbox.clone(),
        tenure: tenure_seen.clone(),
    };
    let policies = Policies {
        node,
        acls,
        link: link_seen,
        patience,
        tenure: tenure_seen,
        remembered,
    };
    let link = Arc::new(link);
    let sessions = Sessions {
        settings,
        live,
        outbox: outbox.clone(),
        link: Arc::clone(&link),
        candidacy,
        resign,
        tenure,
    };
    tokio::spawn(async move {
        let commands = async {
            tokio::join!(
                leadership.run(leader_commands),
                admissions.run(roster_commands),
                policies.run(policy_commands),
            )
        };
        tokio::select! {
            never = sessions.run() => match never {},
            _ = commands => {}
        }
        session::close(&link).await;
        outbox.close();
    });
    (keeper, events)
}

/// Sends commands to the shell. Clones command the same one.
#[derive(Clone, Debug)]
pub struct Keeper {
    leader: mpsc::Sender<LeaderCommand>,
    roster: mpsc::Sender<RosterCommand>,
    policy: mpsc::Sender<PolicyCommand>,
    resign: Arc<Notify>,
    tenure: watch::Receiver<Option<Tenure>>,
    link: watch::Receiver<Link>,
    remembered: Remembered,
    node: NodeId,
    acls: Acls<'static>,
}

impl Keeper {
    /// Writes a new term with this node as leader, if its candidacy is there. Answered by
    /// [`Event::TakenOver`] or [`Event::TakeOverFailed`].
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing is answered then.
    pub fn take_over(&self, how: TakeOver) -> Result<(), Busy> {
        self.leader
            .try_send(LeaderCommand::TakeOver(how))
            .map_err(|_| Busy)
    }

    /// Stores an envelope under the fence of the term that it is of. One is stored after the
    /// other. Answered by [`Event::Stored`], at the latest after half the envelope's lease.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing is answered then.
    pub fn store(&self, envelope: EnvelopeRecord) -> Result<(), Busy> {
        self.leader
            .try_send(LeaderCommand::Store(envelope))
            .map_err(|_| Busy)
    }

    /// Drops the former voters from `term`, once this node's term has committed. Nothing is
    /// answered: it may fail, and then the next leader asks more voters than it would have to.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing is done then.
    pub fn drop_former(&self, term: Term, is_voted: bool) -> Result<(), Busy> {
        self.leader
            .try_send(LeaderCommand::DropFormer { term, is_voted })
            .map_err(|_| Busy)
    }

    /// Writes a member to the roster, under the lock "roster" and the fence of this node's term.
    /// Answered by [`Event::Admitted`]. Repeating it does no harm.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing is answered then.
    pub fn admit(&self, member: MemberRecord) -> Result<(), Busy> {
        let tenure = *self.tenure.borrow();
        self.roster
            .try_send(RosterCommand::Admit(Admission { member, tenure }))
            .map_err(|_| Busy)
    }

    /// Goes to the end of the queue of candidates. [`Event::Standing`] follows if it is the only
    /// one.
    pub fn resign(&self) {
        self.resign.notify_one();
    }

    /// Stores a document that is to come into force as soon as nodes have it ready, and returns its
    /// version. Under the lock "policy" and the fence of this node's term.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] says whether anything was changed.
    pub async fn publish(&self, publication: Publication) -> Result<PolicyVersion, PolicyError> {
        self.ask(|answer| PolicyCommand::Publish {
            publication,
            answer,
        })
        .await
    }

    /// Says what a document is that this node has seen or remembers: if ZooKeeper does not have it any more,
    /// it is stored again when it is in force, and no other document gets its number.
    pub fn remember(&self, version: PolicyVersion, document: &str) {
        self.remembered.note(version, document);
    }

    /// Writes down that a version is in force, and for how many members there is
    /// [room](weir_coord_core::record::PolicyRecord::places).
    ///
    /// # Errors
    ///
    /// [`PolicyError`]; repeating it does no harm.
    pub async fn activate(
        &self,
        version: PolicyVersion,
        places: u32,
    ) -> Result<PolicyVersion, PolicyError> {
        self.ask(|answer| PolicyCommand::Activate {
            version,
            places,
            answer,
        })
        .await
    }

    /// Takes a member out of the roster, under the lock "roster" and the fence of this node's term.
    /// Answered by [`Event::Removed`]. Repeating it does no harm.
    ///
    /// # Errors
    ///
    /// [`Busy`]; nothing is answered then.
    pub fn remove(&self, node: NodeId) -> Result<(), Busy> {
        let tenure = *self.tenure.borrow();
        self.roster
            .try_send(RosterCommand::Remove { node, tenure })
            .map_err(|_| Busy)
    }

    /// Writes down the operator's word that a member has no power. It needs no leader: what it is
    /// for is a fleet that cannot have one.
    ///
    /// # Errors
    ///
    /// [`RosterError`] says whether anything was changed.
    pub async fn power_off(&self, node: NodeId) -> Result<(), RosterError> {
        let (answer, answered) = oneshot::channel();
        let command = RosterCommand::PowerOff { node, answer };
        self.roster.try_send(command).map_err(|_| Busy)?;
        let ended = || Err(RosterError::Unknown("shutting down".to_owned()));
        answered.await.unwrap_or_else(|_| ended())
    }

    /// Keeps the version that waits to be confirmed, if it is this one, and returns it.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] says whether anything was changed.
    pub async fn confirm(
        &self,
        version: Option<PolicyVersion>,
    ) -> Result<PolicyVersion, PolicyError> {
        self.ask(|answer| PolicyCommand::Confirm { version, answer })
            .await
    }

    /// Nobody confirmed this version in time: puts the one before in force again, under a new
    /// number, which is returned.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] says whether anything was changed; [`PolicyError::NoTrial`] if somebody did
    /// confirm it.
    pub async fn expire(&self, version: PolicyVersion) -> Result<PolicyVersion, PolicyError> {
        self.ask(|answer| PolicyCommand::Expire { version, answer })
            .await
    }

    /// Writes down what is left of a trial.
    ///
    /// # Errors
    ///
    /// [`PolicyError`]; it is tried again later.
    pub async fn note(&self, trial: Trial) -> Result<PolicyVersion, PolicyError> {
        self.ask(|answer| PolicyCommand::Note { trial, answer })
            .await
    }

    /// What is in force, and what was before.
    ///
    /// # Errors
    ///
    /// That it could not be read.
    pub async fn in_force(&self) -> Result<InForce, PolicyError> {
        self.ask(|answer| PolicyCommand::InForce { answer }).await
    }

    /// The text of one version.
    ///
    /// # Errors
    ///
    /// [`PolicyError::NoSuchVersion`], or that it could not be read.
    pub async fn document(&self, version: PolicyVersion) -> Result<String, PolicyError> {
        self.ask(|answer| PolicyCommand::Document { version, answer })
            .await
    }

    /// The stored versions, latest first, at most [`HISTORY_MAX`]. One that never came into force,
    /// since its publication was interrupted, is among them.
    ///
    /// # Errors
    ///
    /// That they could not be read.
    pub async fn history(&self) -> Result<Vec<PolicyEntry>, PolicyError> {
        self.ask(|answer| PolicyCommand::History { answer }).await
    }

    /// Takes a lock of the fleet, waiting at most `patience` for it.
    ///
    /// # Errors
    ///
    /// [`LockError`]; nothing is left behind then, nor if the future is dropped.
    pub async fn lock(&self, name: LockName, patience: Duration) -> Result<Guard, LockError> {
        lock::acquire(&self.link, self.acls, name, self.node, patience).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, PolicyError>>) -> PolicyCommand,
    ) -> Result<T, PolicyError> {
        let (answer, answered) = oneshot::channel();
        self.policy.try_send(command(answer)).map_err(|_| Busy)?;
        answered
            .await
            .unwrap_or_else(|_| Err(PolicyError::Unknown("shutting down".to_owned())))
    }
}
