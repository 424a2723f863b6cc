//! Traffic from a client: UDP packets at a chosen rate, whose shape can change at any time, and TCP
//! flows that back off.

mod bulk;
mod frame;
mod generator;
mod pace;
mod socket;

pub use bulk::Bulk;
pub use frame::{Flow, FrameError, SourcePool};
pub use generator::{Generator, Sent};
