//! The stream between a node and the leader: generated types, and conversions both ways.
//!
//! To the wire always succeeds (`From`); from the wire is checked (`TryFrom`).

pub mod codec;
mod envelopes;
mod from_wire;
mod keys;
pub mod stream;
mod to_wire;

/// Most nodes in a register.
pub const MAX_NODES: usize = 4_096;

/// Most limits of all nodes together in a register: one of a thousand nodes and a thousand limits has
/// a million.
pub const MAX_REGISTER_ROWS: usize = 4 << 20;

/// The largest message of the stream between a node and the leader: a register of a thousand nodes
/// and a thousand limits is a third of it. While it is decoded it takes some eight times as much.
/// What is no register is smaller, see [`codec`].
pub const MAX_STREAM_BYTES: usize = 32 << 20;

/// Code generated from `weir/coordination/v1/coordination.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("weir.coordination.v1");
}
