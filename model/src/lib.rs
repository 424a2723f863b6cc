//! Weir's domain: the words of the design, their units, and the language of limits.
//!
//! This crate is pure. It reads no clock, opens no file and knows nothing of ZooKeeper, gRPC or
//! the kernel; every other crate may depend on it and it depends on none of them. Without the
//! `file` feature it is `no_std`, which the architecture check proves by building it that way.
#![no_std]

extern crate alloc;
#[cfg(feature = "file")]
extern crate std;

pub mod amount;
pub mod change;
pub mod hot;
pub mod identity;
pub mod message;
pub mod policy;
pub mod prefetch;
pub mod prefix;
pub mod register;
pub mod rows;
pub mod time;

#[cfg(feature = "file")]
pub mod file;

pub use amount::{Amount, Scale, Units, UnitsPerSecond};
pub use hot::{HeavyKey, HotKey};
pub use identity::{Generation, Incarnation, LimitId, NodeId, PolicyVersion, Revision, Term};
pub use policy::{Cost, Limit, Policy};
pub use time::Nanos;
