//! What the fleet's znodes hold, told again at every change and after every reconnection.
//!
//! All watches are one-shot: they are set by the read itself, and the server replays what they
//! missed when a connection returns. Persistent watches lose such events (ZOOKEEPER-4698).

use std::{collections::BTreeMap, convert::Infallible};

use serde::de::DeserializeOwned;
use tokio::time::sleep;
use weir_coord_core::record::{LiveRecord, MemberRecord, PolicyRecord, TermRecord};
use weir_model::{Incarnation, NodeId, PolicyVersion};
use zookeeper_client::{Error, OneshotWatcher, Stat};

use super::{
    event::{Event, Live, Refusal, Roster},
    in_force::{InForce, Next},
    leadership::note_version,
    link::{RETRY_PAUSE, parse, read_all},
    path,
    session::Session,
};

/// Tells the content of `term`, or refuses to lead without it.
pub(super) async fn term(mut session: Session) -> Infallible {
    let mut last = None;
    let mut refused = false;
    loop {
        let (found, watcher) = match term_once(&session).await {
            Ok(read) => read,
            Err(_) => {
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        match found {
            Ok((record, version)) => {
                session.has_term.send_replace(true);
                if std::mem::take(&mut refused) {
                    session.outbox.tell(Event::Accepted);
                }
                note_version(&session.tenure, session.live.node, &record, version);
                if last.as_ref() != Some(&(record.clone(), version)) {
                    last = Some((record.clone(), version));
                    session.outbox.tell(Event::Term { record, version });
                }
            }
            Err(refusal) => {
                session.has_term.send_replace(false);
                if !std::mem::replace(&mut refused, true) {
                    tracing::error!("{refusal}");
                    session.outbox.tell(Event::Refused(refusal));
                }
            }
        }
        session.changed(watcher).await;
    }
}

type Found = Result<(TermRecord, i32), Refusal>;

async fn term_once(session: &Session) -> Result<(Found, OneshotWatcher), Error> {
    let client = &session.client;
    match client.get_and_watch_data(path::TERM).await {
        Ok((data, stat, watcher)) => {
            let found = match parse(&data) {
                Ok(record) => Ok((record, stat.version)),
                Err(reason) => Err(Refusal::Malformed {
                    znode: path::TERM.to_owned(),
                    reason,
                }),
            };
            Ok((found, watcher))
        }
        Err(Error::NoNode) => match client.check_and_watch_stat(path::TERM).await? {
            (Some(_), _) => Err(Error::NoNode),
            (None, watcher) => Ok((
                Err(Refusal::TermMissing {
                    root: session.root.clone(),
                }),
                watcher,
            )),
        },
        Err(error) => Err(error),
    }
}

/// Tells the content of `roster`.
pub(super) async fn roster(mut session: Session) -> Infallible {
    let mut last = None;
    loop {
        match children::<MemberRecord>(&session, path::ROSTER).await {
            Ok((version, found, watcher)) => {
                let roster = roster_of(version, found.into_iter().map(|(record, _)| record));
                if last.as_ref() != Some(&roster) {
                    last = Some(roster.clone());
                    session.outbox.tell(Event::Members(roster));
                }
                session.changed(watcher).await;
            }
            Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
}

/// The members in the order of their identities.
pub(super) fn roster_of(version: i32, records: impl Iterator<Item = MemberRecord>) -> Roster {
    let members: BTreeMap<NodeId, MemberRecord> =
        records.map(|record| (record.node, record)).collect();
    Roster {
        version,
        members: members.into_values().collect(),
    }
}

/// Tells the content of `live`.
pub(super) async fn live(mut session: Session) -> Infallible {
    let mut last = None;
    loop {
        match children::<LiveRecord>(&session, path::LIVE).await {
            Ok((_, found, watcher)) => {
                let live = found.into_iter().map(|(record, stat)| {
                    let incarnation = Incarnation(u64::try_from(stat.czxid).unwrap_or_default());
                    (
                        record.node,
                        Live {
                            record,
                            incarnation,
                        },
                    )
                });
                let live: BTreeMap<NodeId, Live> = live.collect();
                let live: Vec<Live> = live.into_values().collect();
                if last.as_ref() != Some(&live) {
                    last = Some(live.clone());
                    session.outbox.tell(Event::Live(live));
                }
                session.changed(watcher).await;
            }
            Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
}

/// The records below a directory, its child version, and a watch on its children. One that is
/// malformed is left out and said once a reading.
async fn children<T: DeserializeOwned>(
    session: &Session,
    directory: &str,
) -> Result<(i32, Vec<(T, Stat)>, OneshotWatcher), Error> {
    let client = &session.client;
    let (names, directory_stat, watcher) = client.get_and_watch_children(directory).await?;
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("{directory}/{name}"))
        .collect();
    let mut records = Vec::with_capacity(paths.len());
    for (data, stat) in read_all(client, &paths).await? {
        match parse(&data) {
            Ok(record) => records.push((record, stat)),
            Err(reason) => tracing::warn!(directory, reason, "a malformed record is left out"),
        }
    }
    Ok((directory_stat.cversion, records, watcher))
}

/// Tells the document in force, and one that is to come. One that is older than the last is not
/// told: versions grow.
pub(super) async fn policy(mut session: Session, last: &mut PolicyVersion) -> Infallible {
    let mut last_next = PolicyVersion(0);
    let mut last_record = None;
    loop {
        let (found, watcher) = match policy_once(&session, *last, last_next).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "the policy could not be read yet");
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        if let Some((version, document)) = found.in_force {
            *last = version;
            session.outbox.tell(Event::Policy { version, document });
        }
        if let Some((version, document)) = found.next {
            last_next = version;
            session.outbox.tell(Event::NextPolicy { version, document });
        }
        if let Some(record) = found.record.filter(|found| last_record != Some(*found)) {
            last_record = Some(record);
            session.outbox.tell(Event::PolicyRecord(record));
        }
        session.changed(watcher).await;
    }
}

/// Documents that are newer than those that were told.
#[derive(Default)]
struct NewDocuments {
    record: Option<PolicyRecord>,
    in_force: Option<(PolicyVersion, String)>,
    next: Option<(PolicyVersion, String)>,
}

async fn policy_once(
    session: &Session,
    last: PolicyVersion,
    last_next: PolicyVersion,
) -> Result<(NewDocuments, OneshotWatcher), Error> {
    let client = &session.client;
    let (data, _, watcher) = client.get_and_watch_data(path::POLICY_CURRENT).await?;
    let mut found = NewDocuments::default();
    let in_force = match InForce::parse(&data) {
        Ok(in_force) => in_force,
        Err(reason) => {
            tracing::error!(
                reason,
                "policy/current is malformed; keeping the policy in force"
            );
            return Ok((found, watcher));
        }
    };
    found.record = Some(in_force.record());
    let version = in_force.version;
    if version < last {
        tracing::error!(%version, last = last.0, "policy/current went back; keeping the later one");
    }
    if version > last {
        found.in_force = document(session, version).await?;
    }
    let is_new = |next: &Next| next.version > version.max(last).max(last_next);
    if let Some(next) = in_force.next.filter(is_new) {
        found.next = document(session, next.version).await?;
    }
    Ok((found, watcher))
}

async fn document(
    session: &Session,
    version: PolicyVersion,
) -> Result<Option<(PolicyVersion, String)>, Error> {
    let (data, _) = session.client.get_data(&path::document(version)).await?;
    match String::from_utf8(data) {
        Ok(document) => Ok(Some((version, document))),
        Err(error) => {
            tracing::error!(%version, %error, "a policy document is not text; keeping the policy");
            Ok(None)
        }
    }
}

/// Tells whether a change waits to be confirmed, and for how long.
pub(super) async fn trial(mut session: Session) -> Infallible {
    let mut last = None;
    loop {
        let client = &session.client;
        let (trial, watcher) = match client.get_and_watch_data(path::POLICY_TRIAL).await {
            Ok((data, _, watcher)) => match parse(&data) {
                Ok(trial) => (Some(trial), watcher),
                Err(reason) => {
                    tracing::error!(
                        reason,
                        "policy/current/trial is malformed: nothing will roll back"
                    );
                    (None, watcher)
                }
            },
            Err(Error::NoNode) => match client.check_and_watch_stat(path::POLICY_TRIAL).await {
                Ok((None, watcher)) => (None, watcher),
                // It has just been made.
                Ok((Some(_), _)) => continue,
                Err(_) => {
                    sleep(RETRY_PAUSE).await;
                    continue;
                }
            },
            Err(_) => {
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        if last != Some(trial) {
            last = Some(trial);
            session.outbox.tell(Event::Trial(trial));
        }
        session.changed(watcher).await;
    }
}
