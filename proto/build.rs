//! Compiles the `.proto` files with a compiler written in Rust, so that no `protoc` is needed.

use std::{error::Error, path::Path};

const ROOT: &str = "proto";
const FILES: [&str; 2] = [
    "weir/admin/v1/admin.proto",
    "weir/coordination/v1/coordination.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [Path::new(ROOT)])?;
    // The callers bring their own transport: TCP between nodes, a unix socket for the operator.
    tonic_prost_build::configure()
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
