//! Frames, an environment in memory, and models to compare with.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used
)]

pub mod corpus;
pub mod frames;
pub mod host;
pub mod keys;
pub mod limit;
pub mod random;

pub use frames::{from4, ipv4, ipv6, tcp, udp};
pub use host::{Host, any, keyed, on_port};
pub use random::Random;
