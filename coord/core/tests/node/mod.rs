//! A node whose kernel does at once what it is told.

use weir_coord_core::follower::{Command, Follower};
use weir_model::{Nanos, message::FromNode};

/// Does what the node has decided; what it says.
pub(crate) fn answers(node: &mut Follower, now: Nanos) -> Vec<FromNode> {
    let mut said = Vec::new();
    while let Some(command) = node.poll_command() {
        match command {
            Command::Install {
                grants,
                acknowledge,
            } => node.installed(&grants, acknowledge, now),
            Command::Send(message) => said.push(message),
            Command::Enforce(_) | Command::Heat(_) | Command::Give(_) => {}
        }
    }
    said
}
