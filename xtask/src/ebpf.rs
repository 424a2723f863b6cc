//! Builds the kernel programs.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{setup, shell};

/// Packages whose build scripts build a kernel program.
const PACKAGES: [&str; 2] = ["weir-object", "weir-chaos"];

/// Builds them and prints the path of each object.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    let mut cargo = shell::cargo(&["build", "--message-format", "json-render-diagnostics"]);
    for package in PACKAGES {
        cargo.args(["--package", package]);
    }
    cargo.stderr(std::process::Stdio::inherit());
    let messages = shell::output(&mut cargo)?;
    for directory in messages.lines().filter_map(output_directory) {
        let entries = std::fs::read_dir(&directory).with_context(|| directory.clone())?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "o") {
                println!("{}", shown(&path));
            }
        }
    }
    Ok(())
}

/// Where the build script of one of the packages wrote to, if the message is about that.
fn output_directory(message: &str) -> Option<String> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_ours = |id: &str| {
        PACKAGES
            .iter()
            .any(|package| id.contains(&format!("#{package}@")))
    };
    let ours = message["reason"] == "build-script-executed"
        && message["package_id"].as_str().is_some_and(is_ours);
    ours.then(|| message["out_dir"].as_str().map(str::to_owned))
        .flatten()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(shell::root())
        .unwrap_or(path)
        .display()
        .to_string()
}
