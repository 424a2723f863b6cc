//! The stream between a node and the leader: generated types, and conversions both ways.
//!
//! To the wire always succeeds (`From`); from the wire is checked (`TryFrom`).

mod from_wire;
mod to_wire;

/// Code generated from `weir/coordination/v1/coordination.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("weir.coordination.v1");
}
