//! What a stream says again and again is sent by what has changed.
//!
//! A stream is reliable and in order, so both ends know what was last said on it: an encoder and a
//! decoder for each direction keep that, and a message becomes its difference to the one before. The
//! first of a stream, and whatever has no simple difference, is sent whole. Nothing is lost: the
//! decoder returns what the encoder was given, to the bit.
//!
//! The domain's messages are whole states, and the latest one wins *before* an encoder: whatever
//! is encoded has to be sent. What found no room in a queue has to be dropped in front of it.

pub(super) mod column;
mod propose;
mod report;

pub use propose::{EncodedRegisters, ProposeDecoder, ProposeEncoder};
pub use report::{ReportDecoder, ReportEncoder};
