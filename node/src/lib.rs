//! The daemon of a Weir host.
//!
//! [`dataplane`] loads the kernel's programs and speaks to their maps; [`daemon`] is the loop that
//! turns ticks, messages and events into grants; [`serve`] answers peers, operators and scrapers;
//! [`config`] is the node file; [`privileges`] is what starting needs and ticking does without;
//! [`logs`] is what it says; [`start`] puts them together. No protocol rule is decided here:
//! those are in `weir-coord-core`.

pub mod attachment;
pub mod config;
pub mod daemon;
pub mod dataplane;
pub mod logs;
pub mod privileges;
pub mod serve;
pub mod start;
#[cfg(feature = "otlp")]
mod traces;
