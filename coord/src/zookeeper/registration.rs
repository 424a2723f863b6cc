//! This daemon's `live` znode, whose creation numbers its life.
//!
//! An identity is one host's. A daemon that starts again takes the place of its earlier life at once,
//! but what another host has registered is left alone: two hosts that go by one identity would each
//! spend what the fleet has granted, and reserved, once.

use tokio::time::sleep;
use weir_coord_core::record::LiveRecord;
use weir_model::Incarnation;
use zookeeper_client::{CreateMode, Error, Stat};

use super::{
    event::{Event, Refusal},
    link::RETRY_PAUSE,
    outcome::Failure,
    path,
    session::Session,
};

/// What came of an attempt.
enum Attempt {
    Registered(Stat),
    /// Another host is there.
    Taken(Refusal),
}

/// Deletes the `live` znode of an earlier life and makes this one's, in one multi, and returns its
/// czxid. A multi's own answer has no valid `Stat` on server 3.8.0, so it is read back. As long as
/// another host is registered under this identity, that is told, and waited for.
pub(super) async fn register(session: &Session) -> Incarnation {
    let mut refused = None;
    loop {
        match attempt(session).await {
            Ok(Attempt::Registered(stat)) => {
                if refused.is_some() {
                    session.outbox.tell(Event::Accepted);
                }
                return incarnation(&stat);
            }
            Ok(Attempt::Taken(refusal)) => {
                if refused.as_ref() != Some(&refusal) {
                    session.outbox.tell(Event::Refused(refusal.clone()));
                    refused = Some(refusal);
                }
            }
            Err(error) => tracing::debug!(%error, "not registered yet"),
        }
        sleep(RETRY_PAUSE).await;
    }
}

async fn attempt(session: &Session) -> Result<Attempt, Error> {
    let client = &session.client;
    let path = path::live(session.live.node);
    let data = serde_json::to_vec(&session.live).expect("a record of numbers and text is JSON");
    let old = match client.get_data(&path).await {
        Ok(old) => Some(old),
        Err(Error::NoNode) => None,
        Err(error) => return Err(error),
    };
    let mut writer = client.new_multi_writer();
    if let Some((found, stat)) = old {
        if is_own(session, &stat) {
            // An attempt whose outcome was unknown had come through.
            return Ok(Attempt::Registered(stat));
        }
        if let Some(twin) = twin(session, &found) {
            return Ok(Attempt::Taken(twin));
        }
        writer.add_delete(&path, Some(stat.version))?;
    }
    writer.add_create(&path, &data, &CreateMode::Ephemeral.with_acls(session.acls))?;
    match writer.commit().await.map_err(Failure::from) {
        Ok(_) => {
            let stat = client.check_stat(&path).await?.ok_or(Error::NoNode)?;
            Ok(Attempt::Registered(stat))
        }
        Err(Failure::Refused { reason: error, .. } | Failure::Unknown(error)) => Err(error),
    }
}

/// The refusal that a registration is reason for, if it is another host's. The boot id alone does not
/// tell: containers share their host's. One that cannot be read is no living daemon's.
fn twin(session: &Session, found: &[u8]) -> Option<Refusal> {
    let found: LiveRecord = serde_json::from_slice(found).ok()?;
    let own = &session.live;
    let is_this_host = found.boot_id == own.boot_id && found.address == own.address;
    (!is_this_host).then_some(Refusal::Twin {
        node: own.node,
        name: found.name,
        address: found.address,
    })
}

/// Makes the registration anew when it is deleted. Returns when it was another's for a while and is
/// free now: all that was read under it has to be read again. What another process has taken over is
/// left to it, or the two would delete each other's for ever.
pub(super) async fn keep(mut session: Session, mut current: Incarnation) {
    let path = path::live(session.live.node);
    let mut is_displaced = false;
    loop {
        match session.client.clone().get_and_watch_data(&path).await {
            Ok((_, stat, watcher)) if is_own(&session, &stat) => {
                if incarnation(&stat) != current {
                    current = incarnation(&stat);
                    session.outbox.tell(Event::Registered {
                        incarnation: current,
                    });
                }
                session.changed(watcher).await;
            }
            Ok((found, _, watcher)) => {
                let node = session.live.node;
                let refusal = twin(&session, &found).unwrap_or(Refusal::Displaced { node });
                session.outbox.tell(Event::Refused(refusal));
                is_displaced = true;
                session.changed(watcher).await;
            }
            Err(Error::NoNode) if is_displaced => return,
            Err(Error::NoNode) => {
                tracing::warn!(path, "own registration was deleted; making it anew");
                register(&session).await;
            }
            Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
}

/// Whether this session is the one registered under the node's identity.
pub(super) async fn is_registered(session: &Session) -> Result<bool, Error> {
    let stat = session
        .client
        .check_stat(&path::live(session.live.node))
        .await?;
    Ok(stat.is_some_and(|stat| is_own(session, &stat)))
}

fn is_own(session: &Session, stat: &Stat) -> bool {
    stat.ephemeral_owner == session.client.session_id().0
}

fn incarnation(stat: &Stat) -> Incarnation {
    Incarnation(u64::try_from(stat.czxid).expect("a znode that was read has a transaction id"))
}
