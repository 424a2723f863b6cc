//! What happens to a packet, as pure functions.
//!
//! The crate is compiled twice: for the host, where tests and simulators call it, and for BPF,
//! where the XDP program is a shell around it. It has no dependency but the layouts, performs
//! nothing, and reads no clock: maps, memory and time come in through [`Environment`], [`Memory`]
//! and [`Frame`].
//!
//! [`decide`] is the way of a packet, [`install`] the way of a grant, [`sweep`] that of a table
//! which nobody else tidies.
#![no_std]

mod bucket;
mod charging;
mod clock;
mod counting;
mod decide;
mod essential;
mod hopeless;
mod install;
mod keyed;
mod matching;
mod memory;
mod packet;
mod parse;
mod searches;
mod work;

pub use bucket::{charge, level_at, shortfall};
pub use clock::{Standing, advance, multiplier, standing};
pub use decide::{Environment, decide};
pub use install::install;
pub use keyed::{KeyTable, key_seed, sweep};
#[cfg(not(target_arch = "bpf"))]
pub use memory::SharedMemory;
pub use memory::{LimitRef, Memory};
pub use packet::{Address, Family, Packet, Transport};
pub use parse::{Frame, Parsed, parse};
pub use work::Work;
