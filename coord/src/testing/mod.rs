//! For tests: a real ZooKeeper server, and a bad network in front of it.

mod proxy;
mod server;

pub use proxy::{Fault, Proxy, request};
pub use server::{Options, ZooKeeperServer};
