//! `weir confirm`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    author::author,
    cli::{Cli, Confirm},
    client::ClientError,
    view::Confirmed,
};

/// Keeps the version that waits.
pub(super) fn run(cli: &Cli, arguments: &Confirm) -> anyhow::Result<ExitCode> {
    let request = v1::ConfirmRequest {
        version: arguments.version,
        author: author(),
    };
    let version = ask(cli, async |mut client| {
        let reply = client.confirm(request).await;
        Ok(reply.map_err(ClientError::from)?.into_inner().version)
    })?;
    if cli.json {
        print_json(&Confirmed { version })?;
    } else {
        println!("version {version} stays in force");
    }
    Ok(ExitCode::SUCCESS)
}
