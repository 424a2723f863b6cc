//! Candidacy: an ephemeral sequential znode, of which the lowest stands.
//!
//! Each candidate watches only its predecessor, so the end of one session wakes one node and not
//! the fleet. Standing is a hint, since ephemerals outlive their sessions now and then
//! (ZOOKEEPER-4837): only `term` says who leads.

use std::convert::Infallible;

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use weir_model::NodeId;
use zookeeper_client::{CreateMode, Error, OneshotWatcher};

use super::{event::Event, link::RETRY_PAUSE, path, registration, session::Session};

/// Where a candidate is in the queue.
enum Place {
    /// Nobody is before it. The watch is on its own znode.
    First(OneshotWatcher),
    /// The watch is on the one before it. All that are before it may be of one node.
    Behind(OneshotWatcher, Option<NodeId>),
    /// The queue has changed meanwhile.
    Moved,
    /// Its znode is gone.
    Lost,
}

/// Keeps a candidacy, publishes its path, and tells when it becomes the lowest and when not.
pub(super) async fn stand(
    mut session: Session,
    candidacy: &watch::Sender<Option<String>>,
    resign: &Notify,
) -> Infallible {
    let mut has_term = session.has_term.subscribe();
    let mut standing = None;
    loop {
        if !*has_term.borrow_and_update() {
            step_back(&session, &mut standing);
            if has_term.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            continue;
        }
        let watcher = match step(&session, candidacy).await {
            Ok(Place::First(watcher)) => {
                tell(&session, &mut standing, Event::Standing);
                watcher
            }
            Ok(Place::Behind(watcher, after)) => {
                tell(&session, &mut standing, Event::NotStanding { after });
                watcher
            }
            Ok(Place::Moved) => continue,
            Ok(Place::Lost) => {
                candidacy.send_replace(None);
                step_back(&session, &mut standing);
                continue;
            }
            Err(error) => {
                tracing::debug!(%error, "the election could not be read yet");
                sleep(RETRY_PAUSE).await;
                continue;
            }
        };
        tokio::select! {
            () = session.changed(watcher) => {}
            _ = has_term.changed() => {}
            () = resign.notified() => {
                leave(&session, candidacy).await;
                step_back(&session, &mut standing);
            }
        }
    }
}

/// Nothing is told before there has been a candidacy.
fn step_back(session: &Session, standing: &mut Option<Event>) {
    if standing.is_some() {
        tell(session, standing, Event::NotStanding { after: None });
    }
}

fn tell(session: &Session, standing: &mut Option<Event>, now: Event) {
    if standing.replace(now.clone()) != Some(now.clone()) {
        session.outbox.tell(now);
    }
}

/// Deletes the candidacy, so that the next one is at the end of the queue.
async fn leave(session: &Session, candidacy: &watch::Sender<Option<String>>) {
    let Some(own) = candidacy.send_replace(None) else {
        return;
    };
    // On an unknown outcome a left-over is found, and taken up again, by `enter`.
    if let Err(error) = session.client.delete(&own, None).await {
        tracing::warn!(%error, own, "could not resign");
    }
}

async fn step(
    session: &Session,
    candidacy: &watch::Sender<Option<String>>,
) -> Result<Place, Error> {
    if candidacy.borrow().is_none() {
        let own = enter(session).await?;
        tracing::debug!(own, "candidate");
        candidacy.send_replace(Some(own));
    }
    let Some(own) = candidacy.borrow().clone() else {
        return Ok(Place::Lost);
    };
    place(session, &own).await
}

/// Finds this session's candidacy or makes one, and deletes those of this node's earlier lives.
async fn enter(session: &Session) -> Result<String, Error> {
    if !registration::is_registered(session).await? {
        // Another process goes by this node's identity: its candidacies are not ours to delete.
        return Err(Error::NoNode);
    }
    let client = &session.client;
    let own = path::place_of(session.live.node.0);
    client.sync(path::ELECTION).await?;
    let mut found = None;
    for name in path::in_order(client.list_children(path::ELECTION).await?) {
        if !name.starts_with(&own) {
            continue;
        }
        let candidate = format!("{}/{name}", path::ELECTION);
        let Some(stat) = client.check_stat(&candidate).await? else {
            continue;
        };
        if stat.ephemeral_owner == client.session_id().0 && found.is_none() {
            found = Some(candidate);
        } else {
            match client.delete(&candidate, None).await {
                Ok(()) | Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let prefix = format!("{}/{own}", path::ELECTION);
    let options = CreateMode::EphemeralSequential.with_acls(session.acls);
    let (_, sequence) = client.create(&prefix, b"", &options).await?;
    Ok(format!("{prefix}{sequence}"))
}

async fn place(session: &Session, own: &str) -> Result<Place, Error> {
    let client = &session.client;
    let queue = path::in_order(client.list_children(path::ELECTION).await?);
    let index = queue.iter().position(|name| {
        own.strip_prefix(path::ELECTION)
            .and_then(|own| own.strip_prefix('/'))
            == Some(name)
    });
    let watched = match index {
        None => return Ok(Place::Lost),
        Some(0) => own.to_owned(),
        Some(index) => format!("{}/{}", path::ELECTION, queue[index - 1]),
    };
    let (stat, watcher) = client.check_and_watch_stat(&watched).await?;
    Ok(match (stat, index) {
        (None, _) => Place::Moved,
        (Some(_), Some(0)) => Place::First(watcher),
        (Some(_), _) => {
            let before = queue.iter().take(index.unwrap_or(0));
            let mut owners = before.map(|name| path::owner(name));
            let first = owners.next().flatten();
            let is_one = first.is_some() && owners.all(|owner| owner == first);
            Place::Behind(watcher, first.filter(|_| is_one))
        }
    })
}
