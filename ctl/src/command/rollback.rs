//! `weir rollback`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{apply, ask};
use crate::{
    author::author,
    cli::{Cli, Rollback},
    client::ClientError,
    view::Applied,
};

/// Puts an earlier version in force again.
pub(super) fn run(cli: &Cli, arguments: &Rollback) -> anyhow::Result<ExitCode> {
    let request = v1::RollbackRequest {
        version: arguments.version,
        author: author(),
    };
    let reply = ask(cli, async |mut client| {
        let reply = client.rollback(request).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    apply::print(cli, &Applied::of(reply, false))
}
