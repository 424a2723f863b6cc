//! The stream between a node and the leader: generated types, and conversions both ways.
//!
//! To the wire always succeeds (`From`); from the wire is checked (`TryFrom`).

mod envelopes;
mod from_wire;
mod keys;
pub mod stream;
mod to_wire;

/// Most nodes in a register.
pub const MAX_NODES: usize = 4_096;

/// The largest message of the stream between a node and the leader: a register of a thousand nodes
/// and a thousand limits. Whoever reaches the port can have so much decoded before it is refused; until
/// streams are authenticated, only hosts of the fleet may reach it.
pub const MAX_STREAM_BYTES: usize = 64 << 20;

/// Code generated from `weir/coordination/v1/coordination.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("weir.coordination.v1");
}
