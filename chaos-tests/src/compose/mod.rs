//! `deploy/compose` as a whole: the cluster in containers comes up, keeps a budget while what is in
//! it dies, and goes away again.
//!
//! - `engine` is the Docker daemon, started here only if none answers;
//! - `cluster` is the containers, by `deploy/compose/compose.yaml`;
//! - `test` is what is done to them, and what the receivers in the hosts' containers saw.

mod cluster;
mod engine;
mod test;

pub use test::{Check, Outcome, test};
