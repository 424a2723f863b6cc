//! Documents that this host remembers, in case ZooKeeper does not: it may have been restored from a backup.
//!
//! Hosts go on by the policy that they have, and refuse older ones. So a leader stores its document again, and
//! no number is given to another document that this host has seen with one already.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use weir_model::PolicyVersion;
use zookeeper_client::CreateMode;

use super::{
    leadership::{ANY_VERSION, Tenure},
    link::Access,
    lock::Guard,
    outcome::Failure,
    path,
    policy::{Policies, PolicyError, refused, unread},
};

/// How many are kept, newest first: the one before, the one in force, and one that is to come.
const KEPT: usize = 3;
/// Numbers that one write passes over.
const SKIPPED_AT_ONCE: u64 = 64;

/// The newest documents that this host has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Remembered(Arc<Mutex<BTreeMap<PolicyVersion, Arc<str>>>>);

impl Remembered {
    /// Has one. If a number has two documents the first one counts: it is the one that nodes enforce.
    pub(super) fn note(&self, version: PolicyVersion, document: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(version).or_insert_with(|| document.into());
        while known.len() > KEPT {
            known.pop_first();
        }
    }

    pub(super) fn document(&self, version: PolicyVersion) -> Option<Arc<str>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&version).cloned()
    }

    fn newest(&self) -> PolicyVersion {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known.last_key_value();
        newest.map_or(PolicyVersion(0), |(version, _)| *version)
    }
}

impl Policies {
    /// The document, if it is not stored and this host has it.
    pub(super) async fn lost(
        &self,
        access: &mut Access,
        version: PolicyVersion,
    ) -> Result<Option<Arc<str>>, PolicyError> {
        let Some(document) = self.remembered.document(version) else {
            return Ok(None);
        };
        let path = &path::document(version);
        let read = access
            .read_latest(|client| async move { client.check_stat(path).await })
            .await;
        let stored = read.map_err(unread)?;
        Ok(stored.is_none().then_some(document))
    }

    /// Has the next document numbered above all that this host has seen, and above what is in force.
    /// Documents are numbered by how many children `policy` ever had.
    pub(super) async fn skip_numbers(
        &self,
        guard: &Guard,
        tenure: Tenure,
        in_force: PolicyVersion,
    ) -> Result<(), PolicyError> {
        let above = self.remembered.newest().max(in_force);
        let options = CreateMode::Persistent.with_acls(self.acls);
        loop {
            let mut access = Access::new(&self.link, self.patience);
            let read = access
                .read_latest(|client| async move { client.check_stat(path::POLICY).await })
                .await;
            let stat = read.map_err(unread)?;
            let next = stat.map_or(0, |stat| u64::try_from(stat.cversion).unwrap_or_default());
            let missing = (above.0 + 1).saturating_sub(next);
            if missing == 0 {
                return Ok(());
            }
            tracing::warn!(%above, next, "ZooKeeper would give a policy's number a second time");
            let written = access
                .write(|writer| {
                    writer.add_check_version(path::TERM, tenure.term_version)?;
                    writer.add_check_version(guard.path(), ANY_VERSION)?;
                    for _ in 0..missing.min(SKIPPED_AT_ONCE) {
                        writer.add_create(path::POLICY_SKIPPED, &[], &options)?;
                        writer.add_delete(path::POLICY_SKIPPED, None)?;
                    }
                    Ok(())
                })
                .await;
            match written {
                Ok(_) => {}
                Err(Failure::Refused { index, reason }) => {
                    return Err(refused(index, &reason));
                }
                // A document has not been stored, and will not be.
                Err(Failure::Unknown(error)) => {
                    return Err(PolicyError::Refused(error.to_string()));
                }
            }
        }
    }
}
