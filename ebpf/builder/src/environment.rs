//! The environment of the nested cargo.
//!
//! A build script inherits what the outer cargo and rustup set for the *host* build. Some of it
//! would break the nested build (flags, the compiler to use), and some of it would only change
//! from one call to the next and make cargo rebuild for nothing.

use std::{env, process::Command};

/// Prefixes of variables that describe the outer build.
const FOREIGN: [&str; 6] = ["CARGO", "DEP_", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY_"];

/// Further variables of the outer build, whole names.
const FOREIGN_NAMES: [&str; 12] = [
    "DEBUG",
    "HOST",
    "LD_LIBRARY_PATH",
    "MAKEFLAGS",
    "MFLAGS",
    "NUM_JOBS",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUST_RECURSION_COUNT",
    "RUSTUP_TOOLCHAIN",
    "TARGET",
];

/// Prefixes of cargo's variables that say how to reach registries: those the nested build needs.
const KEPT: [&str; 5] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
];

/// Takes the outer build's variables away from `command`.
pub(crate) fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_foreign) {
            command.env_remove(name);
        }
    }
}

fn is_foreign(name: &str) -> bool {
    let any = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    (any(&FOREIGN) && !any(&KEPT)) || FOREIGN_NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::is_foreign;

    #[test]
    fn keeps_the_way_to_registries_and_drops_the_outer_build() {
        for name in [
            "CARGO",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_MAKEFLAGS",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "RUSTC",
            "RUSTC_BOOTSTRAP",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_foreign(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "PATH",
            "HOME",
            "RUSTUP_HOME",
        ] {
            assert!(!is_foreign(name), "{name}");
        }
    }
}
