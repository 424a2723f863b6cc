//! The pure crates: they take time as an argument and perform nothing.

use std::path::Path;

use super::{Finding, TrackedFile};
use crate::shell;

/// Package, folder, and the features that it is pure with.
const PURE: [(&str, &str); 4] = [
    ("weir-model", "model"),
    ("weir-abi", "ebpf/abi"),
    ("weir-limiter", "ebpf/limiter"),
    ("weir-coord-core", "coord/core"),
];

/// A target without an operating system, whose core library Debian ships.
const BARE_TARGET: &str = "bpfel-unknown-none";
/// Debian's compiler, which has it.
const BARE_COMPILER: &str = "/usr/bin/rustc";

/// What every pure crate's `clippy.toml` forbids.
const BANNED: [&str; 4] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
];

/// Compiles each for a target that has neither `std` nor an operating system.
pub(super) fn builds_without_std() -> Finding {
    let mut problems = Vec::new();
    if !Path::new(BARE_COMPILER).exists() {
        problems.push(format!(
            "no {BARE_COMPILER}: `cargo xtask setup` installs it"
        ));
    }
    for (package, _) in PURE {
        let mut cargo = shell::cargo(&[
            "check",
            "--quiet",
            "--package",
            package,
            "--no-default-features",
            "--target",
            BARE_TARGET,
        ]);
        // Apart from everything else: another compiler would make cargo rebuild it all.
        cargo
            .arg("--target-dir")
            .arg(shell::root().join("target/bare"));
        cargo
            .env("RUSTC", BARE_COMPILER)
            .env_remove("RUSTUP_TOOLCHAIN");
        if let Err(error) = shell::output(&mut cargo) {
            problems.push(format!("{package} does not build without std: {error:#}"));
        }
    }
    let names: Vec<&str> = PURE.iter().map(|(package, _)| *package).collect();
    Finding {
        scope: format!("{} for {BARE_TARGET}", names.join(", ")),
        problems,
    }
}

/// Looks at each one's `clippy.toml`, which replaces the one in the root.
pub(super) fn bans(files: &[TrackedFile]) -> Finding {
    let mut problems = Vec::new();
    for (package, folder) in PURE {
        let path = format!("{folder}/clippy.toml");
        let Some(file) = files.iter().find(|file| file.path == path) else {
            problems.push(format!(
                "{package} has no {path}: it bans {}",
                BANNED.join(", ")
            ));
            continue;
        };
        for banned in BANNED
            .iter()
            .filter(|banned| !bans_type(&file.text, banned))
        {
            problems.push(format!(
                "{path} does not ban {banned} in `disallowed-types`"
            ));
        }
    }
    Finding {
        scope: format!("{} crates, {} types", PURE.len(), BANNED.len()),
        problems,
    }
}

fn bans_type(manifest: &str, banned: &str) -> bool {
    let list = manifest
        .split_once("disallowed-types")
        .map_or("", |(_, list)| list);
    let lines = list
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .into_iter()
        .any(|line| line.contains(&format!("\"{banned}\"")))
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    fn clippy(types: &[&str]) -> String {
        let list = types
            .iter()
            .map(|banned| format!("    {{ path = \"{banned}\" }},\n"));
        format!("disallowed-types = [\n{}]\n", list.collect::<String>())
    }

    #[test]
    fn complete_lists_pass() {
        let paths = PURE.map(|(_, folder)| format!("{folder}/clippy.toml"));
        let files: Vec<_> = paths
            .iter()
            .map(|path| file(path, &clippy(&BANNED)))
            .collect();
        assert!(bans(&files).problems.is_empty());
    }

    #[test]
    fn missing_files_and_gaps_do_not() {
        assert_eq!(bans(&[]).problems.len(), PURE.len());
        let gap = [file("model/clippy.toml", &clippy(&BANNED[1..]))];
        assert_eq!(bans(&gap).problems.len(), 1 + PURE.len() - 1);
        assert!(!bans_type(
            "# disallowed-types\n# \"std::time::Instant\"",
            BANNED[0]
        ));
    }
}
