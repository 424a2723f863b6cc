//! Fleets of real kernels, real packets and real ZooKeeper on one machine, judged at the receiver.
//!
//! - [`fleet`] makes hosts in network namespaces and runs a daemon in each;
//! - [`traffic`] sends, [`receiver`] counts in front of the limiter and behind it;
//! - [`stage`] plays a script of shifts and faults and records what was counted;
//! - [`oracle`] judges a recording, and shares no code with what it judges;
//! - [`compose`] does the same to containers;
//! - [`documents`] types what documents show;
//! - [`demo`] and [`scenario`] are scripts with their views and verdicts.

pub mod bench;
pub mod clock;
pub mod command;
pub mod compose;
pub mod demo;
pub mod documents;
pub mod fleet;
pub mod interrupt;
pub mod namespace;
pub mod oracle;
pub mod plot;
pub mod priority;
pub mod progress;
pub mod receiver;
pub mod report;
pub mod scenario;
pub mod series;
pub mod stage;
pub mod text;
pub mod traffic;
