//! Who is a member, and has a floor reserved: admission, removal, and the operator's word on it.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use weir_coord_core::{
    commit::StoreOutcome,
    record::{MemberRecord, TermRecord},
};
use weir_model::{NodeId, Term};
use zookeeper_client::{Acls, CreateMode, Error};

use super::{
    event::{Busy, Event},
    leadership::{ANY_VERSION, Tenure},
    link::{Access, Link, RETRY_PAUSE, parse},
    lock::{self, Guard, LockError, LockName},
    mailbox::Outbox,
    outcome::Failure,
    path,
};

/// Why an operator's word was not written down.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RosterError {
    /// There is no such member. Nothing was changed.
    #[error("{0} is no member")]
    NoSuchMember(NodeId),
    /// The lock "roster" could not be taken. Nothing was changed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Too many commands wait. Nothing was changed.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// ZooKeeper did not do it, or did not say: read again.
    #[error("ZooKeeper: {0}")]
    Unknown(String),
}

/// The writer of `roster`.
pub(super) struct Admissions {
    pub(super) node: NodeId,
    pub(super) acls: Acls<'static>,
    pub(super) link: watch::Receiver<Link>,
    pub(super) patience: Duration,
    pub(super) outbox: Outbox,
    pub(super) tenure: watch::Receiver<Option<Tenure>>,
}

pub(super) enum RosterCommand {
    Admit(Admission),
    /// A member that is to be none, in the term in which that was decided.
    Remove {
        node: NodeId,
        tenure: Option<Tenure>,
    },
    /// A member that has no power, by the operator's word.
    PowerOff {
        node: NodeId,
        answer: oneshot::Sender<Result<(), RosterError>>,
    },
}

/// A member to be written, in the term in which that was decided: a later one of the same node has
/// not reserved its floors.
pub(super) struct Admission {
    pub(super) member: MemberRecord,
    pub(super) tenure: Option<Tenure>,
}

impl Admissions {
    /// Serves until every sender is gone.
    pub(super) async fn run(self, mut commands: mpsc::Receiver<RosterCommand>) {
        while let Some(command) = commands.recv().await {
            match command {
                RosterCommand::Admit(Admission { member, tenure }) => {
                    let node = member.node;
                    let (term, outcome) = self.change(node, Some(member), tenure).await;
                    let admitted = Event::Admitted {
                        term,
                        node,
                        outcome,
                    };
                    self.outbox.answer(admitted).await;
                }
                RosterCommand::Remove { node, tenure } => {
                    let (term, outcome) = self.change(node, None, tenure).await;
                    let removed = Event::Removed {
                        term,
                        node,
                        outcome,
                    };
                    self.outbox.answer(removed).await;
                }
                RosterCommand::PowerOff { node, answer } => {
                    // An answer that nobody waits for is dropped; what it was about is done.
                    let _ = answer.send(self.power_off(node).await);
                }
            }
        }
    }

    async fn lock(&self) -> Result<Guard, LockError> {
        let (link, patience) = (&self.link, self.patience);
        lock::acquire(link, self.acls, LockName::Roster, self.node, patience).await
    }

    /// Makes the roster have `wanted` of a node, under the lock and the fence.
    async fn change(
        &self,
        node: NodeId,
        wanted: Option<MemberRecord>,
        tenure: Option<Tenure>,
    ) -> (Term, StoreOutcome) {
        let Some(tenure) = tenure else {
            return (Term(0), StoreOutcome::Fenced);
        };
        let outcome = match self.lock().await {
            Ok(guard) => {
                let outcome = self.write(node, wanted, tenure, guard.path()).await;
                guard.release().await;
                outcome
            }
            Err(error) => {
                tracing::warn!(%error, %node, "the roster was not changed yet");
                StoreOutcome::Unknown
            }
        };
        if outcome == StoreOutcome::Unknown {
            // The leader asks again at once.
            sleep(RETRY_PAUSE).await;
        }
        (tenure.term, outcome)
    }

    /// A changed member is deleted and created in one multi: that changes the roster's child
    /// version and wakes those who watch it, which a change of the data would not. Versions of a
    /// znode begin anew with it; what keeps others out between reading and writing is the lock.
    async fn write(
        &self,
        node: NodeId,
        mut wanted: Option<MemberRecord>,
        tenure: Tenure,
        lock: &str,
    ) -> StoreOutcome {
        let mut access = Access::new(&self.link, self.patience);
        // The same term may have another version since: its former voters were dropped.
        let latest = *self.tenure.borrow();
        let tenure = latest
            .filter(|latest| latest.term == tenure.term)
            .unwrap_or(tenure);
        let path = path::member(node);
        let Ok(old) = stored(&mut access, &path).await else {
            return StoreOutcome::Unknown;
        };
        if let (Some(wanted), Some((old, _))) = (&mut wanted, &old) {
            // The operator's word is not the leader's to take back.
            wanted.is_powered_off |= is_powered_off(old);
        }
        let data = wanted.as_ref().map(json);
        if data.as_ref() == old.as_ref().map(|(old, _)| old) {
            return StoreOutcome::Committed;
        }
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_check_version(lock, ANY_VERSION)?;
                if let Some((_, version)) = old {
                    writer.add_delete(&path, Some(version))?;
                }
                match &data {
                    Some(data) => {
                        writer.add_create(&path, data, &CreateMode::Persistent.with_acls(self.acls))
                    }
                    None => Ok(()),
                }
            })
            .await;
        match written {
            Ok(_) => StoreOutcome::Committed,
            Err(Failure::Refused {
                index: 0,
                reason: Error::BadVersion | Error::NoNode,
            }) => self.fenced(&mut access, tenure.term).await,
            Err(Failure::Refused { reason, .. }) => {
                tracing::warn!(%reason, %node, "the roster was not changed yet");
                StoreOutcome::Unknown
            }
            Err(Failure::Unknown(error)) => {
                tracing::warn!(%error, %node, "reading what came of a change of the roster");
                let mut again = Access::new(&self.link, self.patience);
                match stored(&mut again, &path).await {
                    Ok(found) if found.as_ref().map(|(found, _)| found) == data.as_ref() => {
                        StoreOutcome::Committed
                    }
                    _ => StoreOutcome::Unknown,
                }
            }
        }
    }

    /// Whether `term` is somebody else's, or only at another version.
    async fn fenced(&self, access: &mut Access, term: Term) -> StoreOutcome {
        match stored(access, path::TERM).await {
            Ok(Some((data, _))) => match parse::<TermRecord>(&data) {
                Ok(found) if found.term == term && found.leader == Some(self.node) => {
                    StoreOutcome::Unknown
                }
                _ => StoreOutcome::Fenced,
            },
            Ok(None) => StoreOutcome::Fenced,
            Err(()) => StoreOutcome::Unknown,
        }
    }

    async fn power_off(&self, node: NodeId) -> Result<(), RosterError> {
        let guard = self.lock().await?;
        let done = self.power_off_under(node, guard.path()).await;
        guard.release().await;
        done
    }

    async fn power_off_under(&self, node: NodeId, lock: &str) -> Result<(), RosterError> {
        let mut access = Access::new(&self.link, self.patience);
        let path = path::member(node);
        let unread = |()| RosterError::Unknown("the roster could not be read".to_owned());
        let old = stored(&mut access, &path).await.map_err(unread)?;
        let (old, version) = old.ok_or(RosterError::NoSuchMember(node))?;
        let mut member: MemberRecord = parse(&old).map_err(RosterError::Unknown)?;
        if std::mem::replace(&mut member.is_powered_off, true) {
            return Ok(());
        }
        let data = json(&member);
        let options = CreateMode::Persistent.with_acls(self.acls);
        let written = access
            .write(|writer| {
                writer.add_check_version(lock, ANY_VERSION)?;
                writer.add_delete(&path, Some(version))?;
                writer.add_create(&path, &data, &options)
            })
            .await;
        match written {
            Ok(_) => {
                tracing::warn!(%node, "a member has no power, by an operator's word");
                Ok(())
            }
            Err(Failure::Refused { reason: error, .. } | Failure::Unknown(error)) => {
                Err(RosterError::Unknown(error.to_string()))
            }
        }
    }
}

fn json(member: &MemberRecord) -> Vec<u8> {
    serde_json::to_vec(member).expect("a record of numbers and text is JSON")
}

fn is_powered_off(data: &[u8]) -> bool {
    parse::<MemberRecord>(data).is_ok_and(|member| member.is_powered_off)
}

/// The data and version of a znode, if it is there.
async fn stored(access: &mut Access, path: &str) -> Result<Option<(Vec<u8>, i32)>, ()> {
    let read = access
        .read_latest(|client| async move {
            match client.get_data(path).await {
                Ok((data, stat)) => Ok(Some((data, stat.version))),
                Err(Error::NoNode) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await;
    read.map_err(|failure| tracing::warn!(?failure, path, "could not be read"))
}
