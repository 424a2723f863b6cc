//! Who may depend on whom.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;

/// Each package of the workspace, and those of the workspace that it may depend on in what it
/// ships. Tests may look further; they are not part of the architecture.
const ALLOWED: [(&str, &[&str]); 21] = [
    ("weir-model", &[]),
    ("weir-abi", &[]),
    ("weir-limiter", &["weir-abi"]),
    ("weir-bpf-builder", &[]),
    ("weir-object", &["weir-bpf-builder"]),
    ("weir-proto", &["weir-model"]),
    ("weir-tls", &["weir-model"]),
    ("weir-coord-core", &["weir-model"]),
    (
        "weir-coord",
        &["weir-coord-core", "weir-model", "weir-proto", "weir-tls"],
    ),
    (
        "weir-node",
        &[
            "weir-abi",
            "weir-coord",
            "weir-coord-core",
            "weir-limiter",
            "weir-model",
            "weir-object",
            "weir-proto",
            "weir-tls",
        ],
    ),
    (
        "weir",
        &["weir-limiter", "weir-model", "weir-proto", "weir-tls"],
    ),
    (
        "weir-chaos",
        &["weir-bpf-builder", "weir-model", "weir-proto", "weir-sim"],
    ),
    (
        "weir-sim",
        &["weir-abi", "weir-coord-core", "weir-limiter", "weir-model"],
    ),
    (
        "weir-control-bench",
        &[
            "weir-coord",
            "weir-coord-core",
            "weir-model",
            "weir-proto",
            "weir-sim",
        ],
    ),
    (
        "weir-model-check",
        &["weir-coord-core", "weir-model", "weir-sim"],
    ),
    ("xtask", &[]),
    ("weir-xdp", &["weir-abi", "weir-limiter"]),
    // For tests of upgrades: the same sources once more, with another layout of maps.
    ("weir-other-abi", &[]),
    ("weir-other-limiter", &["weir-other-abi"]),
    ("weir-other-object", &["weir-bpf-builder"]),
    (
        "weir-other-dataplane",
        &[
            "weir-model",
            "weir-other-abi",
            "weir-other-limiter",
            "weir-other-object",
        ],
    ),
];

/// Compares `cargo metadata` with the table.
pub(super) fn check(metadata: &Value) -> Finding {
    let empty = Vec::new();
    let packages = metadata["packages"].as_array().unwrap_or(&empty);
    let members: BTreeSet<&str> = packages
        .iter()
        .filter_map(|package| package["name"].as_str())
        .collect();
    let mut edges = 0;
    let mut problems = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            problems.push(format!(
                "{name} is not in the table of xtask/src/tidy/edges.rs"
            ));
            continue;
        };
        let dependencies = package["dependencies"].as_array().unwrap_or(&empty);
        let shipped = dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev");
        for to in shipped.filter_map(|dependency| dependency["name"].as_str()) {
            if !members.contains(to) {
                continue;
            }
            edges += 1;
            if !allowed.contains(&to) {
                problems.push(format!("{name} depends on {to}: it may on {allowed:?}"));
            }
        }
    }
    if packages.is_empty() {
        problems.push("cargo metadata lists no package".to_owned());
    }
    Finding {
        scope: format!("{} packages, {edges} edges", packages.len()),
        problems,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(from: &str, to: &str, kind: Option<&str>) -> Value {
        json!({ "packages": [
            { "name": from, "dependencies": [{ "name": to, "kind": kind }] },
            { "name": to, "dependencies": [] },
        ]})
    }

    #[test]
    fn allowed_edges_pass() {
        let finding = check(&metadata("weir-coord", "weir-model", None));
        assert!(finding.problems.is_empty(), "{finding:?}");
        assert_eq!(finding.scope, "2 packages, 1 edges");
        assert!(
            check(&metadata("weir-model", "weir-coord", Some("dev")))
                .problems
                .is_empty()
        );
    }

    #[test]
    fn other_edges_do_not() {
        assert_eq!(
            check(&metadata("weir-model", "weir-coord", None))
                .problems
                .len(),
            1
        );
        assert_eq!(
            check(&metadata("weir-coord-core", "weir-proto", Some("build")))
                .problems
                .len(),
            1
        );
    }

    #[test]
    fn unknown_packages_and_empty_metadata_do_not() {
        assert_eq!(
            check(&metadata("weir-new", "weir-model", None))
                .problems
                .len(),
            1
        );
        assert_eq!(check(&json!({})).problems.len(), 1);
    }
}
