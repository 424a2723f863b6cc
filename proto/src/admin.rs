//! The operator's service: generated types, and the words of the domain in them.

use uuid::Uuid;
use weir_model::{
    Cost, NodeId,
    policy::{Key, Mode, Promise},
};

use crate::error::{WireError, node_id};

/// Code generated from `weir/admin/v1/admin.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("weir.admin.v1");
}

/// The largest reply that a caller has to accept. [`v1::NodesReply`] has a row of some 100 bytes for
/// every limit on every node.
pub const MAX_REPLY_BYTES: usize = 64 << 20;

impl v1::Node {
    /// The node of this identity.
    #[must_use]
    pub fn new(id: NodeId, name: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            id: Uuid::into_bytes(id.0).to_vec(),
            name: name.into(),
            address: address.into(),
        }
    }

    /// Its identity.
    ///
    /// # Errors
    ///
    /// [`WireError::Identity`] unless `id` has 16 bytes.
    pub fn node_id(&self) -> Result<NodeId, WireError> {
        node_id("node.id", &self.id)
    }
}

impl From<Cost> for v1::Unit {
    fn from(cost: Cost) -> Self {
        match cost {
            Cost::Packets => Self::Packets,
            Cost::Bits => Self::Bits,
            Cost::Connections => Self::Connections,
        }
    }
}

impl From<Key> for v1::Key {
    fn from(key: Key) -> Self {
        Self {
            source_v4: key.source_v4.into(),
            source_v6: key.source_v6.into(),
        }
    }
}

impl From<Promise> for v1::Promise {
    fn from(promise: Promise) -> Self {
        match promise {
            Promise::Strict => Self::Strict,
            Promise::Elastic => Self::Elastic,
            Promise::Local => Self::Local,
        }
    }
}

impl From<Mode> for v1::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Enforce => Self::Enforce,
            Mode::Shadow => Self::Shadow,
        }
    }
}
