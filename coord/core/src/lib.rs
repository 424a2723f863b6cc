//! Weir's protocol: who may spend what, decided without any input or output.
//!
//! Everything here takes time and messages as arguments and returns commands. The shells in
//! `weir-coord` and `weir-node` perform the commands and bring back what came of them, so the same
//! code runs in the daemon, in the simulator and in the model checker. It never reads a clock,
//! never draws a random number, and iterates in a fixed order only.
#![no_std]

extern crate alloc;

pub mod allocation;
pub mod book;
pub mod campaign;
pub mod carry;
pub mod commit;
pub mod demand;
pub mod follower;
pub mod heavy;
pub mod leader;
pub mod news;
pub mod record;
pub mod register;
pub mod rules;
pub mod share;
mod slots;
pub mod timing;
pub mod voters;
