//! What a certificate says of its holder.

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use weir_model::NodeId;

/// What the URI names of Weir begin with.
const SCHEME: &str = "weir:";
const NODE: &str = "weir:node:";
const READ: &str = "weir:role:read";
const OPERATE: &str = "weir:role:operate";

/// What somebody may do who is no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// To look at the fleet.
    Read,
    /// To change its limits and its members too.
    Operate,
}

/// Who shows a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The node that it is.
    pub node: Option<NodeId>,
    /// The most that it may do besides.
    pub role: Option<Role>,
}

/// Why a certificate says nothing of use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("it is no certificate: {0}")]
    Malformed(String),
    /// It is for something else.
    #[error(
        "it has no URI name `{NODE}UUID`, `{READ}` or `{OPERATE}`; `weir cert` makes such ones"
    )]
    Nobody,
    /// A name of ours that is none.
    #[error("its URI name {0:?} is neither `{NODE}UUID` nor `{READ}` nor `{OPERATE}`")]
    Unknown(String),
    /// Two nodes cannot have one key.
    #[error("it names two nodes, {0} and {1}")]
    Ambiguous(NodeId, NodeId),
}

impl Role {
    /// The URI name that stands for it.
    #[must_use]
    pub const fn uri(self) -> &'static str {
        match self {
            Self::Read => READ,
            Self::Operate => OPERATE,
        }
    }
}

impl Identity {
    /// The URI name that stands for a node.
    #[must_use]
    pub fn uri_of(node: NodeId) -> String {
        format!("{NODE}{node}")
    }

    /// Reads the names of a certificate. Whether it is to be believed is not looked at.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] says what is wrong with it.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let malformed = |error: webpki::Error| IdentityError::Malformed(error.to_string());
        let parsed = webpki::EndEntityCert::try_from(certificate).map_err(malformed)?;
        Self::of_names(parsed.valid_uri_names())
    }

    fn of_names<'n>(names: impl Iterator<Item = &'n str>) -> Result<Self, IdentityError> {
        let mut identity = Self::default();
        for name in names.filter(|name| name.starts_with(SCHEME)) {
            let unknown = || IdentityError::Unknown(name.to_owned());
            match name {
                READ => identity.role = identity.role.max(Some(Role::Read)),
                OPERATE => identity.role = Some(Role::Operate),
                _ => {
                    let id = name.strip_prefix(NODE).ok_or_else(unknown)?;
                    let node = id.parse().map(NodeId).map_err(|_| unknown())?;
                    if let Some(other) = identity.node.replace(node)
                        && other != node
                    {
                        return Err(IdentityError::Ambiguous(other, node));
                    }
                }
            }
        }
        if identity == Self::default() {
            return Err(IdentityError::Nobody);
        }
        Ok(identity)
    }

    /// Whether it may look at the fleet.
    #[must_use]
    pub const fn may_read(&self) -> bool {
        self.role.is_some() || self.node.is_some()
    }

    /// Whether it may change the fleet by itself. A node may not; it passes on what its own
    /// operators may.
    #[must_use]
    pub const fn may_operate(&self) -> bool {
        matches!(self.role, Some(Role::Operate))
    }
}

/// Whom a connection is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This node and no other.
    Node(NodeId),
    /// Any node of the fleet.
    AnyNode,
}

impl Expected {
    /// Whether that is who answers; otherwise what to say.
    pub(crate) fn check(self, found: Identity) -> Result<(), String> {
        match (self, found.node) {
            (Self::AnyNode, Some(_)) => Ok(()),
            (Self::Node(expected), Some(node)) if node == expected => Ok(()),
            (Self::Node(expected), Some(node)) => Err(format!(
                "node {node} answers where node {expected} was expected"
            )),
            (_, None) => Err("whoever answers has no certificate of a node".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    fn read(names: &[&str]) -> Result<Identity, IdentityError> {
        Identity::of_names(names.iter().copied())
    }

    #[test]
    fn names_say_who_it_is() {
        let node = NodeId::from_u128(7);
        let uri = Identity::uri_of(node);
        assert_eq!(uri, format!("weir:node:{ID}"));
        let identity = read(&["https://example.org", &uri]).expect("a node");
        assert_eq!((identity.node, identity.role), (Some(node), None));
        assert!(identity.may_read() && !identity.may_operate());
        let operator = read(&[READ, OPERATE]).expect("an operator");
        assert_eq!(operator, read(&[OPERATE, READ]).expect("the same"));
        assert!(operator.may_operate() && operator.node.is_none());
        assert!(!read(&[READ]).expect("a reader").may_operate());
    }

    #[test]
    fn other_names_are_refused() {
        assert_eq!(read(&[]), Err(IdentityError::Nobody));
        assert_eq!(read(&["urn:weir:node"]), Err(IdentityError::Nobody));
        for name in ["weir:role:root", "weir:node:edge-1", "weir:node:", "weir:"] {
            let unknown = IdentityError::Unknown(name.to_owned());
            assert_eq!(read(&[OPERATE, name]), Err(unknown));
        }
        let two = [1, 2].map(|id| Identity::uri_of(NodeId::from_u128(id)));
        let refused = read(&[&two[0], &two[1]]);
        assert!(
            matches!(refused, Err(IdentityError::Ambiguous(..))),
            "{refused:?}"
        );
    }
}
