//! The shells around Weir's protocol core: they perform what `weir-coord-core` decides.

pub mod broken;
pub mod embedded;
pub mod fleet;
pub mod grpc;
#[cfg(feature = "test-support")]
pub mod testing;
pub mod traces;
pub mod trial;
pub mod zookeeper;
