//! This daemon's `live` znode, whose creation numbers its life.

use std::convert::Infallible;

use tokio::time::sleep;
use weir_model::Incarnation;
use zookeeper_client::{CreateMode, Error, Stat};

use super::{
    event::{Event, Refusal},
    link::RETRY_PAUSE,
    outcome::Failure,
    path,
    session::Session,
};

/// Deletes the `live` znode of an earlier life and makes this one's, in one multi, and returns its
/// czxid. A multi's own answer has no valid `Stat` on server 3.8.0, so it is read back.
pub(super) async fn register(session: &Session) -> Incarnation {
    loop {
        match attempt(session).await {
            Ok(stat) => return incarnation(&stat),
            Err(error) => {
                tracing::debug!(%error, "not registered yet");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn attempt(session: &Session) -> Result<Stat, Error> {
    let client = &session.client;
    let path = path::live(session.live.node);
    let data = serde_json::to_vec(&session.live).expect("a record of numbers and text is JSON");
    let old = client.check_stat(&path).await?;
    if let Some(own) = old.filter(|stat| is_own(session, stat)) {
        // An attempt whose outcome was unknown had come through.
        return Ok(own);
    }
    let mut writer = client.new_multi_writer();
    if let Some(old) = old {
        writer.add_delete(&path, Some(old.version))?;
    }
    writer.add_create(&path, &data, &CreateMode::Ephemeral.with_acls(session.acls))?;
    match writer.commit().await.map_err(Failure::from) {
        Ok(_) => client.check_stat(&path).await?.ok_or(Error::NoNode),
        Err(Failure::Refused { reason: error, .. } | Failure::Unknown(error)) => Err(error),
    }
}

/// Makes the registration anew when it is deleted, and tells of it, unless another process has
/// taken the identity over: the two would delete each other's for ever.
pub(super) async fn keep(mut session: Session, mut current: Incarnation) -> Infallible {
    let node = session.live.node;
    let path = path::live(node);
    loop {
        match session.client.clone().check_and_watch_stat(&path).await {
            Ok((Some(stat), watcher)) if is_own(&session, &stat) => {
                if incarnation(&stat) != current {
                    current = incarnation(&stat);
                    session.outbox.tell(Event::Registered {
                        incarnation: current,
                    });
                }
                session.changed(watcher).await;
            }
            Ok((Some(_), watcher)) => {
                let refusal = Refusal::Displaced { node };
                tracing::error!("{refusal}");
                session.outbox.tell(Event::Refused(refusal));
                session.changed(watcher).await;
            }
            Ok((None, _)) => {
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
