//! Weir's wire messages, and the checked conversions between them and the domain.
//!
//! What arrives from the network is turned into [`weir_model::message`] types here, or refused
//! with an error that names the field; nothing behind this crate looks at an unchecked message.
//! The crate knows no socket and no clock.

pub mod admin;
pub mod coordination;
mod error;

pub use error::WireError;

/// Most limits in one message; one with more is refused. A policy may have more limits than this,
/// as those that are not leased need not be reported.
pub const MAX_ROWS: usize = 4_096;

/// The largest message that either side has to accept: a report on [`MAX_ROWS`] limits, with room
/// to grow. Set it as the decoding limit of every client and server.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;
