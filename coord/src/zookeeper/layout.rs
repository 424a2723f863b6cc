//! The fleet's znodes come into being together, once.

use weir_coord_core::record::TermRecord;
use zookeeper_client::{Acls, Client, CreateMode, Error};

use super::{
    lock::LockName,
    outcome::Failure,
    path,
    settings::{PARENT, Settings},
};

/// What the root znode of an initialised fleet holds: the layout's name and version.
const MARKER: &[u8] = b"weir 1";

/// Why there is no fleet to work with.
#[derive(Debug)]
pub(super) enum Unready {
    /// The fleet was there before and is gone, and with it the terms that nodes have promised.
    Vanished,
    /// The credentials do not suffice.
    NotAuthorised,
    /// Worth another try.
    Failed(Error),
}

/// Makes the fleet's znodes if this is a new fleet. `base` is a client without the fleet's root.
///
/// Of two that initialise at once one wins, and the other finds the work done. A fleet whose
/// `term` is gone is *not* initialised again: its nodes would refuse the low terms at best.
///
/// # Errors
///
/// [`Unready`]; `known` tells that this process has seen the fleet before.
pub(super) async fn ensure(base: &Client, settings: &Settings, known: bool) -> Result<(), Unready> {
    let root = settings.root();
    match base.get_data(&root).await {
        Ok((data, _)) if data == MARKER => Ok(()),
        Ok(_) | Err(Error::NoNode) if known => Err(Unready::Vanished),
        Ok((_, stat)) if stat.num_children > 0 => Err(Unready::Vanished),
        // A root that an operator made, to give it an ACL or a quota.
        Ok((_, stat)) => initialise(base, settings, Some(stat.version)).await,
        Err(Error::NoNode) => {
            make_parent(base, settings.acls()).await?;
            initialise(base, settings, None).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn make_parent(base: &Client, acls: Acls<'static>) -> Result<(), Unready> {
    match base
        .create(PARENT, b"", &CreateMode::Persistent.with_acls(acls))
        .await
    {
        Ok(_) | Err(Error::NodeExists) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn initialise(
    base: &Client,
    settings: &Settings,
    root_version: Option<i32>,
) -> Result<(), Unready> {
    let root = settings.root();
    let options = CreateMode::Persistent.with_acls(settings.acls());
    let term =
        serde_json::to_vec(&TermRecord::VACANT).expect("a record of numbers and text is JSON");
    let mut writer = base.new_multi_writer();
    match root_version {
        Some(version) => writer.add_set_data(&root, MARKER, Some(version))?,
        None => writer.add_create(&root, MARKER, &options)?,
    }
    for directory in [
        path::ELECTION,
        path::ROSTER,
        path::LIVE,
        path::POLICY,
        path::LOCKS,
    ] {
        writer.add_create(&format!("{root}{directory}"), b"", &options)?;
    }
    for lock in LockName::ALL {
        writer.add_create(&format!("{root}{}", lock.directory()), b"", &options)?;
    }
    // It takes the sequence number 0, so that documents count from 1 and 0 is none.
    writer.add_create(&format!("{root}{}", path::POLICY_CURRENT), b"0", &options)?;
    writer.add_create(&format!("{root}{}", path::ENVELOPE), b"", &options)?;
    writer.add_create(&format!("{root}{}", path::TERM), &term, &options)?;
    match writer.commit().await.map_err(Failure::from) {
        Ok(_) => {
            tracing::info!(root, "initialised a new fleet");
            Ok(())
        }
        Err(Failure::Refused {
            reason: Error::NodeExists | Error::BadVersion,
            ..
        }) => {
            tracing::debug!(root, "another node initialised the fleet first");
            Err(Unready::Failed(Error::NodeExists))
        }
        Err(Failure::Refused { reason: error, .. } | Failure::Unknown(error)) => Err(error.into()),
    }
}

impl From<Error> for Unready {
    fn from(error: Error) -> Self {
        match error {
            Error::NoAuth => Self::NotAuthorised,
            error => Self::Failed(error),
        }
    }
}
