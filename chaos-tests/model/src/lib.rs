//! Explicit-state model checking of Weir's protocol, over its real core.
//!
//! The followers and leaders here are those of `weir-coord-core`, not models of them. Around them
//! is the least world that can go wrong in every way that the design allows for: messages that are
//! lost, late, reordered and repeated, daemons that stop between any two steps and start again
//! without memory, leaders that live for ever, a clock that advances when it likes, and ZooKeeper
//! as far as the protocol may rely on it, conditional writes.
//!
//! A [`Scope`](scope::Scope) bounds how many there are of everything. [`explore`](explore::explore)
//! goes through it breadth first; [`walk`](walk::walk) takes random steps in one that is too large.

pub mod action;
pub mod catalogue;
pub mod directed;
pub mod explore;
pub mod fingerprint;
pub mod host;
pub mod invariant;
pub mod lead;
pub mod mutations;
pub mod scope;
pub mod start;
pub mod store;
pub mod trace;
pub mod visited;
pub mod walk;
pub mod world;
