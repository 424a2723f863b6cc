//! `weir drain` and `weir remove`.

use std::process::ExitCode;

use weir_proto::admin::v1;

use super::{ask, print_json};
use crate::{
    cli::{Cli, Drain, Remove},
    client::ClientError,
    view::{Drained, Node, Removed},
};

/// Has a member give back its share, or take one again.
pub(super) fn drain(cli: &Cli, arguments: &Drain) -> anyhow::Result<ExitCode> {
    let request = v1::DrainRequest {
        node: arguments.node.clone(),
        undo: arguments.undo,
    };
    let reply = ask(cli, async |mut client| {
        let reply = client.drain(request).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let drained = Drained {
        node: Node::of(reply.node),
        drained: !arguments.undo,
    };
    let name = &drained.node.name;
    if cli.json {
        print_json(&drained)?;
    } else if drained.drained {
        println!("{name} is drained: it keeps its floors, and is granted no share");
    } else {
        println!("{name} is granted a share again");
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes a member out of the fleet.
pub(super) fn remove(cli: &Cli, arguments: &Remove) -> anyhow::Result<ExitCode> {
    let request = v1::RemoveRequest {
        node: arguments.node.clone(),
        powered_off: arguments.powered_off,
    };
    let reply = ask(cli, async |mut client| {
        let reply = client.remove(request).await;
        Ok(reply.map_err(ClientError::from)?.into_inner())
    })?;
    let removed = Removed {
        node: Node::of(reply.node),
    };
    if cli.json {
        print_json(&removed)?;
    } else {
        println!("{} is no member any more", removed.node.name);
    }
    Ok(ExitCode::SUCCESS)
}
