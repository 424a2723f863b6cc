//! What a page is about.

use weir_proto::admin::v1;

/// Bytes of a name: those of limits and nodes are shorter.
const NAME_BYTES: usize = 255;
/// Sources that a page tells of.
const SOURCES: u32 = 10;

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// The fleet, its limits and nodes.
    Fleet,
    /// The limit with this name, on every node.
    Limit(String),
    /// The node with this name, with every limit.
    Node(String),
}

impl Topic {
    /// A limit, if that can be its name.
    pub(super) fn limit(name: String) -> Option<Self> {
        (name.len() <= NAME_BYTES).then_some(Self::Limit(name))
    }

    /// A node, if that can be its name.
    pub(super) fn node(name: String) -> Option<Self> {
        (name.len() <= NAME_BYTES).then_some(Self::Node(name))
    }

    /// What to ask for.
    pub(super) fn request(&self) -> v1::OverviewRequest {
        let (limit, node) = match self {
            Self::Fleet => ("", ""),
            Self::Limit(name) => (name.as_str(), ""),
            Self::Node(name) => ("", name.as_str()),
        };
        v1::OverviewRequest {
            limit: limit.to_owned(),
            node: node.to_owned(),
            top: if matches!(self, Self::Limit(_)) {
                SOURCES
            } else {
                0
            },
        }
    }
}
