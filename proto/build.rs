//! Compiles the `.proto` files with a compiler written in Rust, so that no `protoc` is needed.

use std::{error::Error, path::Path};

const ROOT: &str = "proto";
/// Each with the codec of its messages.
const FILES: [(&str, &str); 2] = [
    ("weir/admin/v1/admin.proto", "tonic_prost::ProstCodec"),
    (
        "weir/coordination/v1/coordination.proto",
        "crate::coordination::codec::Bounded",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={ROOT}");
    for (file, codec) in FILES {
        let descriptors = protox::compile([file], [Path::new(ROOT)])?;
        // The callers bring their own transport: TCP between nodes, a unix socket for the operator.
        tonic_prost_build::configure()
            .build_transport(false)
            .codec_path(codec)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
