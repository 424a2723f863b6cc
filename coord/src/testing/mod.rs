//! For tests: real ZooKeeper servers, and a bad network in front of them.

mod ensemble;
mod proxy;
mod server;

pub use ensemble::Ensemble;
pub use proxy::{Fault, Proxy, request};
pub use server::{Options, ZooKeeperServer};
