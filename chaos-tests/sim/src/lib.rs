//! A simulator of whole fleets: the real protocol core on hundreds of hosts, one virtual clock, one
//! thread, and everything that can go wrong drawn from a seed.
//!
//! - [`world`] is the event loop; [`daemon`] performs the core's commands in it, also in
//!   `follow` and `lead`;
//! - [`kernel`], [`network`], [`zookeeper`] and [`load`] are what surrounds the core, at their worst;
//! - [`faults`] breaks things;
//! - [`judge`] is the oracle, outside the protocol: promise 1 as a receiver would see it, and the
//!   invariants, in every step; [`figures`] measures promises 2 and 3;
//! - [`mutation`] breaks rules on purpose, and [`mutations`] proves that the oracle finds each;
//! - [`directed`] has the runs that random faults seldom meet;
//! - [`yardstick`] plays what others have published;
//! - [`run`] plays many seeds, and [`scenario`] helps to write one run down.
//!
//! A run is its settings and its seed: playing it again gives the same events.

pub mod daemon;
pub mod dice;
pub mod directed;
pub mod fairness;
pub mod faults;
pub mod figures;
mod follow;
pub mod host;
pub mod judge;
pub mod kernel;
pub mod keys;
mod lead;
pub mod limits;
pub mod load;
pub mod mutation;
pub mod mutations;
pub mod network;
pub mod run;
pub mod scenario;
pub mod world;
pub mod yardstick;
pub mod zookeeper;

pub use judge::Violation;
pub use load::Pattern;
pub use mutation::Broken;
pub use run::{Outcome, Summary, play, play_all};
pub use world::{Settings, World};
