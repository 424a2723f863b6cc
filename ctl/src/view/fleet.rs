//! Versions, members and voters.

use serde::Serialize;
use weir_proto::admin::v1;

use super::Node;

/// `weir confirm`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Confirmed {
    pub(crate) version: u64,
}

/// `weir drain`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Drained {
    #[serde(flatten)]
    pub(crate) node: Node,
    pub(crate) drained: bool,
}

/// `weir remove`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Removed {
    #[serde(flatten)]
    pub(crate) node: Node,
}

/// `weir history`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct History {
    pub(crate) versions: Vec<Version>,
}

/// A stored document.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) version: u64,
    /// Milliseconds since 1970.
    pub(crate) stored_at_ms: i64,
    pub(crate) in_force: bool,
    pub(crate) confirm_within_ms: Option<u64>,
    /// Who asked for it, if that is known.
    pub(crate) author: Option<Author>,
    /// The version that it repeats; 0 is none at all.
    pub(crate) restores: Option<u64>,
    /// Who ended its trial, if it had one and that is known.
    pub(crate) confirmed_by: Option<Author>,
}

/// Who asked for a version or confirmed it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Author {
    pub(crate) name: String,
    /// Whether a certificate says so.
    pub(crate) certified: bool,
}

impl From<v1::Author> for Author {
    fn from(author: v1::Author) -> Self {
        Self {
            name: author.name,
            certified: author.certified,
        }
    }
}

impl From<v1::HistoryReply> for History {
    fn from(reply: v1::HistoryReply) -> Self {
        let version = |version: v1::Version| Version {
            version: version.version,
            stored_at_ms: version.stored_at_ms,
            in_force: version.in_force,
            confirm_within_ms: version.confirm_within_ms,
            author: version.author.map(Author::from),
            restores: version.restores,
            confirmed_by: version.confirmed_by.map(Author::from),
        };
        Self {
            versions: reply.versions.into_iter().map(version).collect(),
        }
    }
}

/// A version that waits to be confirmed.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Trial {
    pub(crate) version: u64,
    pub(crate) confirm_within_ms: u64,
}

impl Trial {
    pub(super) fn of(version: v1::Version) -> Self {
        Self {
            version: version.version,
            confirm_within_ms: version.confirm_within_ms.unwrap_or_default(),
        }
    }
}

/// `weir voters`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Voters {
    pub(crate) voters: Vec<Voter>,
    /// How many of them have to acknowledge.
    pub(crate) majority: usize,
    /// How many of them seem to run.
    pub(crate) live: usize,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Voter {
    #[serde(flatten)]
    pub(crate) node: Node,
    pub(crate) live: bool,
}

impl From<v1::StatusReply> for Voters {
    fn from(reply: v1::StatusReply) -> Self {
        let is_live = |voter: &v1::Node| {
            let of_voter = |node: &v1::Node| node.id == voter.id;
            let mut members = reply.members.iter();
            members.any(|member| member.live && member.node.as_ref().is_some_and(of_voter))
        };
        let voters: Vec<Voter> = reply
            .voters
            .iter()
            .map(|voter| Voter {
                live: is_live(voter),
                node: Node::of(Some(voter.clone())),
            })
            .collect();
        Self {
            majority: if voters.is_empty() {
                0
            } else {
                voters.len() / 2 + 1
            },
            live: voters.iter().filter(|voter| voter.live).count(),
            voters,
        }
    }
}
