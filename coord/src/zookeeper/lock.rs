//! The lock recipe, for what must be read and then written without another in between.
//!
//! Each contender makes an ephemeral sequential znode under a name of its own, so that it can find
//! the znode again when the answer to its creation is lost, and watches only its predecessor. A
//! contender that is dropped, at whatever point, withdraws its znode in the background.
//!
//! A lock is no fence: its holder's session may end unnoticed. So writes made under it check its
//! znode, and the fencing number is there for those that guard something outside ZooKeeper.

use std::time::Duration;

use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use uuid::Uuid;
use weir_model::NodeId;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::{
    link::{Access, Link, RETRY_PAUSE},
    outcome::is_definite_no,
    path,
};

/// What a lock guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockName {
    /// Who is a member.
    Roster,
    /// Which policy is in force.
    Policy,
}

impl LockName {
    /// Every lock: their directories are made with the fleet.
    pub(super) const ALL: [Self; 2] = [Self::Roster, Self::Policy];

    pub(super) fn directory(self) -> String {
        let name = match self {
            Self::Roster => "roster",
            Self::Policy => "policy",
        };
        format!("{}/{name}", path::LOCKS)
    }
}

/// Why a lock was not taken. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LockError {
    /// Its turn did not come in time.
    #[error("the lock was not free within {patience:?}")]
    Timeout {
        /// How long was waited.
        patience: Duration,
    },
    /// ZooKeeper refused, or the session ended.
    #[error("the lock could not be taken: {0}")]
    Failed(Error),
}

/// A lock that is held until this is released or dropped, or the session ends.
#[derive(Debug)]
pub struct Guard {
    contender: Contender,
    path: String,
    fencing: u64,
}

impl Guard {
    /// Larger than that of every earlier holder of this lock. It is the transaction that made the
    /// znode, not its sequence number, which would start again if the directory were made anew.
    #[must_use]
    pub fn fencing(&self) -> u64 {
        self.fencing
    }

    /// The znode that is there while the lock is held.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Gives the lock back, and returns when it is given back. Dropping does so some time later.
    pub async fn release(mut self) {
        // Cancelled here, it goes on in the background.
        if let Some(place) = &self.contender.place {
            place.withdraw().await;
        }
        self.contender.place = None;
    }
}

/// Waits for the lock.
pub(super) async fn acquire(
    link: &watch::Receiver<Link>,
    acls: Acls<'static>,
    name: LockName,
    holder: NodeId,
    patience: Duration,
) -> Result<Guard, LockError> {
    let by = Instant::now() + patience;
    let Some(client) = Access::new(link, patience).client().await else {
        return Err(LockError::Timeout { patience });
    };
    let place = Place {
        client,
        directory: name.directory(),
        owner: path::place_of(Uuid::new_v4()),
    };
    let contender = Contender {
        place: Some(place.clone()),
    };
    match timeout_at(by, place.take(acls, holder)).await {
        Ok(Ok((path, fencing))) => Ok(Guard {
            contender,
            path,
            fencing,
        }),
        Ok(Err(error)) => Err(LockError::Failed(error)),
        Err(_) => Err(LockError::Timeout { patience }),
    }
}

/// Has a place in the queue, or is about to, and withdraws when it is dropped.
#[derive(Debug)]
struct Contender {
    place: Option<Place>,
}

impl Drop for Contender {
    fn drop(&mut self) {
        // Without a runtime the client ends too, and with it the session.
        if let (Some(place), Ok(runtime)) = (self.place.take(), Handle::try_current()) {
            runtime.spawn(async move { place.withdraw().await });
        }
    }
}

/// A place in the queue, from before its znode is there.
#[derive(Clone, Debug)]
struct Place {
    client: Client,
    directory: String,
    /// What its znode's name starts with. Nobody else's does.
    owner: String,
}

impl Place {
    /// Waits until it is the first.
    async fn take(&self, acls: Acls<'static>, holder: NodeId) -> Result<(String, u64), Error> {
        let (path, fencing) = self.enter(acls, holder).await?;
        loop {
            match self.predecessor(&path).await {
                Ok(None) => return Ok((path, fencing)),
                Ok(Some(predecessor)) => self.until_gone(&predecessor).await?,
                Err(error) => pause(error).await?,
            }
        }
    }

    /// Waits until something has happened to the one before, or to the session.
    async fn until_gone(&self, predecessor: &str) -> Result<(), Error> {
        match self.client.check_and_watch_stat(predecessor).await {
            Ok((Some(_), watcher)) => {
                watcher.changed().await;
                Ok(())
            }
            Ok((None, _)) => Ok(()),
            Err(error) => pause(error).await,
        }
    }

    async fn enter(&self, acls: Acls<'static>, holder: NodeId) -> Result<(String, u64), Error> {
        let prefix = format!("{}/{}", self.directory, self.owner);
        let options = CreateMode::EphemeralSequential.with_acls(acls);
        loop {
            let data = holder.to_string();
            match self.client.create(&prefix, data.as_bytes(), &options).await {
                Ok((stat, sequence)) => return Ok((format!("{prefix}{sequence}"), fencing(&stat))),
                Err(error) => pause(error).await?,
            }
            // The answer was lost; the znode may be there.
            loop {
                match self.find().await {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => break,
                    Err(error) => pause(error).await?,
                }
            }
        }
    }

    async fn find(&self) -> Result<Option<(String, u64)>, Error> {
        for path in self.own().await? {
            if let Some(stat) = self.client.check_stat(&path).await? {
                return Ok(Some((path, fencing(&stat))));
            }
        }
        Ok(None)
    }

    async fn own(&self) -> Result<Vec<String>, Error> {
        self.client.sync(&self.directory).await?;
        let names = path::in_order(self.client.list_children(&self.directory).await?);
        let own = names
            .into_iter()
            .filter(|name| name.starts_with(&self.owner));
        Ok(own
            .map(|name| format!("{}/{name}", self.directory))
            .collect())
    }

    /// The one before, `None` if this is the first.
    async fn predecessor(&self, own: &str) -> Result<Option<String>, Error> {
        let queue = path::in_order(self.client.list_children(&self.directory).await?);
        let index = queue.iter().position(|name| own.ends_with(name.as_str()));
        let index = index.ok_or(Error::NoNode)?;
        Ok(index
            .checked_sub(1)
            .map(|before| format!("{}/{}", self.directory, queue[before])))
    }

    /// Deletes the znode, wherever its creation got to: this is sent after it in the same session.
    /// It ends at the latest with the session, which takes the znode along.
    async fn withdraw(&self) {
        while let Err(error) = self.delete().await {
            if let Err(error) = pause(error).await {
                let owner = &self.owner;
                tracing::debug!(%error, owner, "left a lock to the end of its session");
                return;
            }
        }
    }

    async fn delete(&self) -> Result<(), Error> {
        for path in self.own().await? {
            match self.client.delete(&path, None).await {
                Ok(()) | Err(Error::NoNode) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Waits before another try, unless the error is a definite no or the session is over.
async fn pause(error: Error) -> Result<(), Error> {
    let is_over = matches!(
        error,
        Error::SessionExpired | Error::ClientClosed | Error::AuthFailed
    );
    if is_over || is_definite_no(&error) {
        return Err(error);
    }
    sleep(RETRY_PAUSE).await;
    Ok(())
}

fn fencing(stat: &zookeeper_client::Stat) -> u64 {
    u64::try_from(stat.czxid).expect("a znode outside a multi has a transaction id")
}
