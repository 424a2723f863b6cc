//! Taking the term over and writing under it, one write at a time.
//!
//! A request may reach the server long after its sender gave it up, so what a write may do then is
//! decided by its checks alone: that `term` is at the version which this node's take-over made,
//! and that `envelope` is at the version which this node's last write left.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use weir_coord_core::{
    commit::StoreOutcome,
    record::{Candidate, EnvelopeRecord, MemberRecord, PolicyRecord, TermRecord},
    voters::succeeding,
};
use weir_model::{NodeId, Term};
use zookeeper_client::Error;

use super::{
    event::{Event, Refusal, Roster, TakeOver, TakeOverFailure},
    in_force::InForce,
    link::{Access, Link, RETRY_PAUSE, ReadFailure, parse, read_all},
    mailbox::Outbox,
    mirror::roster_of,
    outcome::Failure,
    path,
};

/// The largest record that is sent: a server closes the connection on more than 1 MB
/// (`jute.maxbuffer`), headers included.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// The least time that a store is given, however short its lease.
const STORE_PATIENCE_MIN: Duration = Duration::from_millis(100);

/// The term that this node took, for as long as it may be its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) term: Term,
    /// The version that this node's last write left `term` at.
    pub(super) term_version: i32,
}

/// `term` was read by `node`, which may not have heard what became of its own last write there. Every
/// write under its term checks this version.
pub(super) fn note_version(
    tenure: &watch::Sender<Option<Tenure>>,
    node: NodeId,
    record: &TermRecord,
    version: i32,
) {
    tenure.send_if_modified(|tenure| match tenure {
        Some(tenure) if tenure.term == record.term && record.leader == Some(node) => {
            let is_newer = version.wrapping_sub(tenure.term_version) > 0;
            if is_newer {
                tenure.term_version = version;
            }
            is_newer
        }
        _ => false,
    });
}

pub(super) enum LeaderCommand {
    TakeOver(TakeOver),
    Store(EnvelopeRecord),
    /// Forget the voters before this term, which has committed, and whether by votes.
    DropFormer {
        term: Term,
        is_voted: bool,
    },
}

/// The writer of `term` and `envelope`.
pub(super) struct Leadership {
    pub(super) node: NodeId,
    pub(super) root: String,
    pub(super) link: watch::Receiver<Link>,
    pub(super) patience: Duration,
    pub(super) candidacy: watch::Receiver<Option<String>>,
    pub(super) tenure: watch::Sender<Option<Tenure>>,
    pub(super) outbox: Outbox,
    pub(super) envelope: EnvelopeVersion,
}

/// What is known of the version of `envelope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EnvelopeVersion {
    Known(i32),
    /// After a store whose outcome is unknown, until it has been read again.
    Doubtful,
}

/// What was read after `term` was written.
struct Inheritance {
    envelope: Option<EnvelopeRecord>,
    envelope_version: i32,
    roster: Roster,
    in_force: PolicyRecord,
}

impl Leadership {
    /// Serves until every sender is gone.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<LeaderCommand>) {
        while let Some(command) = commands.recv().await {
            let answer = match command {
                LeaderCommand::TakeOver(take_over) => match self.take_over(take_over).await {
                    Ok(taken_over) => taken_over,
                    Err(reason) => Event::TakeOverFailed { reason },
                },
                LeaderCommand::Store(record) => {
                    let generation = record.generation;
                    Event::Stored {
                        generation,
                        outcome: self.store(record).await,
                    }
                }
                LeaderCommand::DropFormer { term, is_voted } => {
                    self.drop_former(term, is_voted).await;
                    continue;
                }
            };
            self.outbox.answer(answer).await;
        }
    }

    async fn take_over(&mut self, how: TakeOver) -> Result<Event, TakeOverFailure> {
        let mut access = Access::new(&self.link, self.patience);
        let candidacy = self
            .candidacy
            .borrow()
            .clone()
            .ok_or(TakeOverFailure::NoCandidacy)?;
        let (stored, version) = self.read_term(&mut access).await?;
        let voters = match how.voters {
            Some(voters) => voters,
            None => {
                let (members, _) = self.members(&mut access).await?;
                succeeding(&stored.voters, &members, self.node)
            }
        };
        let candidate = Candidate {
            node: self.node,
            address: how.address,
            lease: how.lease,
            is_voted: how.is_voted,
        };
        let record = stored.successor(candidate, how.at_least, voters, how.roster_version);
        let suspect = match how.instead_of {
            Some(suspect) => self.candidacies(&mut access, suspect, &candidacy).await?,
            None => Vec::new(),
        };
        let tenure = self
            .write_term(&mut access, (&candidacy, &suspect), &record, version)
            .await?;
        let inheritance = self.inherit(&mut access).await?;
        tracing::info!(term = %tenure.term, "took over");
        self.envelope = EnvelopeVersion::Known(inheritance.envelope_version);
        self.tenure.send_replace(Some(tenure));
        let Inheritance {
            envelope,
            roster,
            in_force,
            ..
        } = inheritance;
        Ok(Event::TakenOver {
            record,
            envelope,
            roster,
            in_force,
        })
    }

    async fn read_term(&self, access: &mut Access) -> Result<(TermRecord, i32), TakeOverFailure> {
        let read = access
            .read_latest(|client| async move { client.get_data(path::TERM).await })
            .await;
        let (data, stat) = read.map_err(|failure| self.refused(failure))?;
        let record = parse(&data).map_err(|reason| malformed(path::TERM, reason))?;
        Ok((record, stat.version))
    }

    /// The candidacies of a node that are lower than this node's own.
    async fn candidacies(
        &self,
        access: &mut Access,
        of: NodeId,
        own: &str,
    ) -> Result<Vec<String>, TakeOverFailure> {
        let read = access
            .read_latest(|client| async move { client.list_children(path::ELECTION).await })
            .await;
        let names = path::in_order(read.map_err(|failure| self.refused(failure))?);
        let own = own.rsplit('/').next().and_then(path::sequence);
        Ok(names
            .into_iter()
            .filter(|name| path::owner(name) == Some(of) && path::sequence(name) < own)
            .map(|name| format!("{}/{name}", path::ELECTION))
            .collect())
    }

    async fn write_term(
        &self,
        access: &mut Access,
        (candidacy, suspect): (&str, &[String]),
        record: &TermRecord,
        version: i32,
    ) -> Result<Tenure, TakeOverFailure> {
        let data = serde_json::to_vec(record).expect("a record of numbers and text is JSON");
        let written = access
            .write(|writer| {
                writer.add_check_version(candidacy, ANY_VERSION)?;
                writer.add_set_data(path::TERM, &data, Some(version))?;
                suspect
                    .iter()
                    .try_for_each(|candidacy| writer.add_delete(candidacy, None))
            })
            .await;
        // A conditional write at one version leaves the next one.
        let tenure = Tenure {
            term: record.term,
            term_version: version.wrapping_add(1),
        };
        match written {
            Ok(_) => Ok(tenure),
            Err(Failure::Refused { index: 0, .. }) => Err(TakeOverFailure::NoCandidacy),
            Err(Failure::Refused {
                reason: Error::BadVersion,
                ..
            }) => Err(TakeOverFailure::Outrun),
            Err(Failure::Refused {
                index,
                reason: Error::NoNode,
            }) if index > 1 => {
                // The suspect's session has ended meanwhile, which is as good.
                Err(TakeOverFailure::Outrun)
            }
            Err(Failure::Refused { reason, .. }) => Err(self.refused(ReadFailure::Refused(reason))),
            Err(Failure::Unknown(error)) => {
                tracing::warn!(%error, term = %record.term, "reading what came of a take-over");
                let mut again = Access::new(&self.link, self.patience);
                let (found, found_version) = self.read_term(&mut again).await?;
                *access = again;
                if found == *record && found_version == tenure.term_version {
                    Ok(tenure)
                } else if found_version == version {
                    Err(TakeOverFailure::Unknown(error.to_string()))
                } else {
                    Err(TakeOverFailure::Outrun)
                }
            }
        }
    }

    /// The members, and the child version of the roster.
    async fn members(
        &self,
        access: &mut Access,
    ) -> Result<(Vec<MemberRecord>, i32), TakeOverFailure> {
        let read = access
            .read_latest(|client| async move {
                let (names, directory) = client.get_children(path::ROSTER).await?;
                let paths: Vec<String> = names
                    .iter()
                    .map(|name| format!("{}/{name}", path::ROSTER))
                    .collect();
                Ok((read_all(&client, &paths).await?, directory.cversion))
            })
            .await;
        let (members, version) = read.map_err(|failure| self.refused(failure))?;
        let members: Result<Vec<MemberRecord>, _> =
            members.iter().map(|(data, _)| parse(data)).collect();
        // A member that is left out would have its floor granted to others.
        let members = members.map_err(|reason| malformed(path::ROSTER, reason))?;
        Ok((members, version))
    }

    /// Reads what the last leader left. It comes after the write of `term`, which fences every
    /// earlier leader: nothing can be added to the envelope any more.
    async fn inherit(&self, access: &mut Access) -> Result<Inheritance, TakeOverFailure> {
        let read = access
            .read_latest(|client| async move { client.get_data(path::ENVELOPE).await })
            .await;
        let (envelope, stat) = read.map_err(|failure| self.refused(failure))?;
        let envelope_version = stat.version;
        let envelope = match envelope.as_slice() {
            b"" => None,
            data => Some(parse(data).map_err(|reason| malformed(path::ENVELOPE, reason))?),
        };
        let (members, roster_version) = self.members(access).await?;
        let roster = roster_of(roster_version, members.into_iter());
        let in_force = self.in_force(access).await?;
        Ok(Inheritance {
            envelope,
            envelope_version,
            roster,
            in_force,
        })
    }

    /// What is in force. Without it a fleet is led, and admits nobody before all members go by the policy
    /// of its leader.
    async fn in_force(&self, access: &mut Access) -> Result<PolicyRecord, TakeOverFailure> {
        let read = access
            .read_latest(|client| async move { client.get_data(path::POLICY_CURRENT).await })
            .await;
        let found = match read {
            Ok((data, _)) => InForce::parse(&data),
            Err(ReadFailure::Refused(Error::NoNode)) => Err("it is missing".to_owned()),
            Err(failure) => return Err(self.refused(failure)),
        };
        Ok(match found {
            Ok(in_force) => in_force.record(),
            Err(reason) => {
                tracing::error!(reason, "policy/current says nothing of what is in force");
                PolicyRecord::UNKNOWN
            }
        })
    }

    fn refused(&self, failure: ReadFailure) -> TakeOverFailure {
        let root = self.root.clone();
        match failure {
            ReadFailure::Refused(Error::NoNode) => {
                TakeOverFailure::Refused(Refusal::TermMissing { root })
            }
            ReadFailure::Refused(Error::NoAuth) => {
                TakeOverFailure::Refused(Refusal::NotAuthorised { root })
            }
            ReadFailure::Refused(error) | ReadFailure::Unanswered(Some(error)) => {
                TakeOverFailure::Unknown(error.to_string())
            }
            ReadFailure::Unanswered(None) => {
                TakeOverFailure::Unknown("no server answered in time".to_owned())
            }
        }
    }

    /// Rule 6, its end: this term has committed, so what its own voters know is enough. It is a
    /// courtesy to the next leader, so that nobody waits for it and failing does no harm.
    async fn drop_former(&mut self, term: Term, is_voted: bool) {
        let tenure = *self.tenure.borrow();
        let Some(tenure) = tenure.filter(|tenure| tenure.term == term) else {
            return;
        };
        let mut access = Access::new(&self.link, self.patience);
        let Ok((mut record, version)) = self.read_term(&mut access).await else {
            return;
        };
        if record.term != term || record.leader != Some(self.node) {
            return;
        }
        if record.former.is_empty() && record.is_voted == is_voted {
            return;
        }
        record.former.clear();
        record.is_voted = is_voted;
        let data = serde_json::to_vec(&record).expect("a record of numbers and text is JSON");
        let written = access
            .write(|writer| writer.add_set_data(path::TERM, &data, Some(version)))
            .await;
        match written {
            Ok(_) => {
                let term_version = version.wrapping_add(1);
                self.tenure.send_replace(Some(Tenure {
                    term_version,
                    ..tenure
                }));
            }
            Err(_) => self.reread_tenure(&mut access, tenure).await,
        }
    }

    /// What became of a write of `term` that was only about its voters.
    async fn reread_tenure(&self, access: &mut Access, tenure: Tenure) {
        if let Ok((record, term_version)) = self.read_term(access).await {
            let is_own = record.term == tenure.term && record.leader == Some(self.node);
            let tenure = is_own.then_some(Tenure {
                term_version,
                ..tenure
            });
            self.tenure.send_replace(tenure);
        }
    }

    async fn store(&mut self, record: EnvelopeRecord) -> StoreOutcome {
        let tenure = *self.tenure.borrow();
        let Some(tenure) = tenure.filter(|tenure| tenure.term == record.term) else {
            return StoreOutcome::Fenced;
        };
        let data = serde_json::to_vec(&record).expect("a record of numbers and text is JSON");
        if data.len() > RECORD_BYTES_MAX {
            let bytes = data.len();
            tracing::error!(
                bytes,
                RECORD_BYTES_MAX,
                "the envelope is too large for a znode"
            );
            return StoreOutcome::Unknown;
        }
        // Beyond half its lease a commit is of no use to anybody.
        let patience = (record.lease / 2).clamp(STORE_PATIENCE_MIN, self.patience);
        let mut access = Access::new(&self.link, patience);
        let outcome = self.write_envelope(&mut access, tenure, &data).await;
        if outcome == StoreOutcome::Fenced {
            tracing::info!(term = %tenure.term, "fenced");
            self.tenure.send_replace(None);
        }
        outcome
    }

    async fn write_envelope(
        &mut self,
        access: &mut Access,
        tenure: Tenure,
        data: &[u8],
    ) -> StoreOutcome {
        let version = match self.envelope {
            EnvelopeVersion::Known(version) => version,
            EnvelopeVersion::Doubtful => match self.reread(access, tenure).await {
                Ok(version) => version,
                Err(outcome) => return outcome,
            },
        };
        // From here until a definite answer: this future may also be dropped.
        self.envelope = EnvelopeVersion::Doubtful;
        let written = access
            .write(|writer| {
                writer.add_check_version(path::TERM, tenure.term_version)?;
                writer.add_set_data(path::ENVELOPE, data, Some(version))
            })
            .await;
        match written {
            Ok(_) => {
                self.envelope = EnvelopeVersion::Known(version.wrapping_add(1));
                StoreOutcome::Committed
            }
            Err(Failure::Refused {
                index: 0,
                reason: Error::BadVersion | Error::NoNode,
            }) => StoreOutcome::Fenced,
            Err(Failure::Refused { reason, .. }) => {
                // An earlier store, given up for unknown, has come through after all.
                tracing::warn!(%reason, "the envelope is not as it was left; reading it again");
                StoreOutcome::Unknown
            }
            Err(Failure::Unknown(error)) => {
                tracing::warn!(%error, "what came of a store is unknown");
                StoreOutcome::Unknown
            }
        }
    }

    /// Whether the term is still this node's, and then the version of the envelope.
    async fn reread(&self, access: &mut Access, tenure: Tenure) -> Result<i32, StoreOutcome> {
        let read = access
            .read_latest(|client| async move {
                let term = client.check_stat(path::TERM).await?;
                let envelope = client.check_stat(path::ENVELOPE).await?;
                Ok((
                    term.map(|stat| stat.version),
                    envelope.map(|stat| stat.version),
                ))
            })
            .await;
        match read {
            Ok((Some(term), Some(envelope))) if term == tenure.term_version => Ok(envelope),
            Ok((Some(term), _)) if term == tenure.term_version => Err(StoreOutcome::Unknown),
            Ok(_) => Err(StoreOutcome::Fenced),
            Err(_) => {
                sleep(RETRY_PAUSE).await;
                Err(StoreOutcome::Unknown)
            }
        }
    }
}

/// Checks only that the znode is there.
pub(super) const ANY_VERSION: i32 = -1;

fn malformed(znode: &str, reason: String) -> TakeOverFailure {
    TakeOverFailure::Refused(Refusal::Malformed {
        znode: znode.to_owned(),
        reason,
    })
}
