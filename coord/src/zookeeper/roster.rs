//! Admission: who becomes a member, and has a floor reserved from then on.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use weir_coord_core::{
    commit::StoreOutcome,
    record::{MemberRecord, TermRecord},
};
use weir_model::{NodeId, Term};
use zookeeper_client::{Acls, CreateMode, Error};

use super::{
    event::Event,
    leadership::{ANY_VERSION, Tenure},
    link::{Access, Link, RETRY_PAUSE, parse},
    lock::{self, LockName},
    mailbox::Outbox,
    outcome::Failure,
    path,
};

/// The writer of `roster`.
pub(super) struct Admissions {
    pub(super) node: NodeId,
    pub(super) acls: Acls<'static>,
    pub(super) link: watch::Receiver<Link>,
    pub(super) patience: Duration,
    pub(super) outbox: Outbox,
    pub(super) tenure: watch::Receiver<Option<Tenure>>,
}

/// A member to be written, in the term in which that was decided: a later one of the same node has
/// not reserved its floors.
pub(super) struct Admission {
    pub(super) member: MemberRecord,
    pub(super) tenure: Option<Tenure>,
}

impl Admissions {
    /// Serves until every sender is gone.
    pub(super) async fn run(self, mut commands: mpsc::Receiver<Admission>) {
        while let Some(Admission { member, tenure }) = commands.recv().await {
            let node = member.node;
            let outcome = match tenure {
                Some(tenure) => self.admit(member, tenure).await,
                None => StoreOutcome::Fenced,
            };
            if outcome == StoreOutcome::Unknown {
                // The leader asks again at once.
                sleep(RETRY_PAUSE).await;
            }
            let term = tenure.map_or(Term(0), |tenure| tenure.term);
            self.outbox
                .answer(Event::Admitted {
                    term,
                    node,
                    outcome,
                })
                .await;
        }
    }

    async fn admit(&self, member: MemberRecord, tenure: Tenure) -> StoreOutcome {
        let lock = lock::acquire(
            &self.link,
            self.acls,
            LockName::Roster,
            self.node,
            self.patience,
        )
        .await;
        let guard = match lock {
            Ok(guard) => guard,
            Err(error) => {
                tracing::warn!(%error, node = %member.node, "not admitted yet");
                return StoreOutcome::Unknown;
            }
        };
        let outcome = self.write(&member, tenure, guard.path()).await;
        guard.release().await;
        outcome
    }

    /// A changed member is deleted and created in one multi: that changes the roster's child
    /// version and wakes those who watch it, which a change of the data would not.
    async fn write(&self, member: &MemberRecord, tenure: Tenure, lock: &str) -> StoreOutcome {
        let mut access = Access::new(&self.link, self.patience);
        // The same term may have another version since: its former voters were dropped.
        let latest = *self.tenure.borrow();
        let tenure = latest
            .filter(|latest| latest.term == tenure.term)
            .unwrap_or(tenure);
        let path = path::member(member.node);
        let data = serde_json::to_vec(member).expect("a record of numbers and text is JSON");
        let old = match stored(&mut access, &path).await {
            Ok(Some((old, _))) if old == data => return StoreOutcome::Committed,
            Ok(old) => old.map(|(_, version)| version),
            Err(()) => return StoreOutcome::Unknown,
        };
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_check_version(lock, ANY_VERSION)?;
                if let Some(version) = old {
                    writer.add_delete(&path, Some(version))?;
                }
                writer.add_create(&path, &data, &CreateMode::Persistent.with_acls(self.acls))
            })
            .await;
        match written {
            Ok(_) => StoreOutcome::Committed,
            Err(Failure::Refused {
                index: 0,
                reason: Error::BadVersion | Error::NoNode,
            }) => self.fenced(&mut access, tenure.term).await,
            Err(Failure::Refused { reason, .. }) => {
                tracing::warn!(%reason, node = %member.node, "not admitted yet");
                StoreOutcome::Unknown
            }
            Err(Failure::Unknown(error)) => {
                tracing::warn!(%error, node = %member.node, "reading what came of an admission");
                let mut again = Access::new(&self.link, self.patience);
                match stored(&mut again, &path).await {
                    Ok(Some((found, _))) if found == data => StoreOutcome::Committed,
                    _ => StoreOutcome::Unknown,
                }
            }
        }
    }
}

impl Admissions {
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
