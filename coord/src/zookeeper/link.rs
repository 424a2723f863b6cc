//! The connection as those see it who outlive sessions, and how they read and write through it.

use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use zookeeper_client::{Client, Error, MultiWriteResult, MultiWriter, Stat};

use super::{outcome::Failure, outcome::is_definite_no, path};

/// The pause before a failed read is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The current session, if there is one, and whether a server answers in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    pub(super) client: Option<Client>,
    pub(super) is_up: bool,
}

/// A view of the [`Link`] with the patience for one operation.
#[derive(Clone, Debug)]
pub(super) struct Access {
    link: watch::Receiver<Link>,
    by: Instant,
}

/// Why a read gave nothing.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The server's definite answer.
    Refused(Error),
    /// No server answered in time; this was the last error, if any.
    Unanswered(Option<Error>),
}

impl Access {
    pub(super) fn new(link: &watch::Receiver<Link>, patience: Duration) -> Self {
        Self {
            link: link.clone(),
            by: Instant::now() + patience,
        }
    }

    /// The client of a session in which a server answers; waits for one. Nothing is sent on a
    /// connection that is known to be lost, so requests do not pile up in the client.
    pub(super) async fn client(&mut self) -> Option<Client> {
        let up = timeout_at(self.by, self.link.wait_for(|link| link.is_up)).await;
        up.ok()?.ok()?.client.clone()
    }

    /// Reads until a server answers, one way or the other.
    pub(super) async fn read<T, F>(
        &mut self,
        operation: impl Fn(Client) -> F,
    ) -> Result<T, ReadFailure>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        let mut last = None;
        loop {
            let Some(client) = self.client().await else {
                return Err(ReadFailure::Unanswered(last));
            };
            match timeout_at(self.by, operation(client)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if is_definite_no(&error) => {
                    return Err(ReadFailure::Refused(error));
                }
                Ok(Err(error)) => last = Some(error),
                Err(_) => return Err(ReadFailure::Unanswered(last)),
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Reads what is not older than any write that was answered, or given up, before: a server
    /// that follows may be behind the one that took the write.
    pub(super) async fn read_latest<T, F>(
        &mut self,
        operation: impl Fn(Client) -> F,
    ) -> Result<T, ReadFailure>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        self.read(|client| {
            let operation = operation(client.clone());
            async move {
                client.sync(path::TERM).await?;
                operation.await
            }
        })
        .await
    }

    /// Sends a multi, once. When no server answers in time its outcome is unknown, and it may
    /// still be applied later: what it may do then is for its checks to say.
    pub(super) async fn write(
        &mut self,
        operations: impl FnOnce(&mut MultiWriter<'_>) -> Result<(), Error>,
    ) -> Result<Vec<MultiWriteResult>, Failure> {
        let Some(client) = self.client().await else {
            return Err(Failure::Unknown(Error::ConnectionLoss));
        };
        let mut writer = client.new_multi_writer();
        operations(&mut writer).map_err(|reason| Failure::Refused { index: 0, reason })?;
        match timeout_at(self.by, writer.commit()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Failure::Unknown(Error::Timeout)),
        }
    }
}

/// The record that a znode holds as JSON.
///
/// # Errors
///
/// What is wrong with it, for people.
pub(super) fn parse<T: DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    serde_json::from_slice(data).map_err(|error| error.to_string())
}

/// The data of several znodes in as few requests as the size of an answer allows; those that are
/// gone are left out. The whole is not one snapshot.
pub(super) async fn read_all(
    client: &Client,
    paths: &[String],
) -> Result<Vec<(Vec<u8>, Stat)>, Error> {
    /// Records are below 1 kB and an answer may have 1 MB.
    const PER_REQUEST: usize = 256;
    let mut found = Vec::with_capacity(paths.len());
    for paths in paths.chunks(PER_REQUEST) {
        let mut reader = client.new_multi_reader();
        for path in paths {
            reader.add_get_data(path)?;
        }
        for result in reader.commit().await? {
            match result {
                zookeeper_client::MultiReadResult::Data { data, stat } => found.push((data, stat)),
                zookeeper_client::MultiReadResult::Error { err: Error::NoNode } => {}
                zookeeper_client::MultiReadResult::Error { err } => return Err(err),
                _ => {}
            }
        }
    }
    Ok(found)
}
