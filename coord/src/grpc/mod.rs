//! The streams between nodes and leader, over gRPC.
//!
//! Each node opens one bidirectional stream to the leader. On both ends a bounded channel stands
//! between the stream and the protocol; a message that finds it full is dropped, since the next
//! tick's says all that it said. Nothing queues up behind a slow peer.

mod client;
mod pace;
mod server;
mod suspects;

pub use client::LeaderLink;
pub use server::{AttachService, Inbound, Streams, Suspicion, incoming};
pub use suspects::{Inquiry, Suspected, Whereabouts};
pub use weir_tls::Security;

/// Messages that wait for one peer. Beyond it new ones are dropped.
const OUTBOX: usize = 32;
/// Messages from all peers that wait for the protocol. Beyond it new ones are dropped.
const INBOX: usize = 4_096;
