//! What loads and speaks to the kernel, compiled once more for another layout of maps: a later
//! version, as far as an upgrade is concerned.

#[path = "../../../../node/src/dataplane/mod.rs"]
pub mod dataplane;

pub use weir_abi::LAYOUT_VERSION;
