//! What an object depends on, so that it is rebuilt when that changes and not otherwise.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{BuildError, file};

/// Tells the outer cargo to run the build script again when this file or directory changes.
pub(crate) fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

/// Watches every source file that the dep-info file names, path dependencies included, the
/// manifests of their packages, and the lock file.
pub(crate) fn watch_all(dep_info: &Path, crate_dir: &Path) -> Result<(), BuildError> {
    let text = file(dep_info, |path| fs::read_to_string(path))?;
    let sources = sources(&text);
    let manifests: BTreeSet<PathBuf> = sources.iter().filter_map(|path| manifest(path)).collect();
    for path in sources.iter().chain(&manifests) {
        watch(path);
    }
    watch(&crate_dir.join("Cargo.lock"));
    Ok(())
}

/// The paths behind the colon of cargo's dep-info, which is one make rule; blanks within a path
/// are escaped by a backslash.
fn sources(dep_info: &str) -> Vec<PathBuf> {
    const BLANK: &str = "\u{1}";
    let Some((_, paths)) = dep_info.split_once(": ") else {
        return Vec::new();
    };
    paths
        .replace("\\ ", BLANK)
        .split_whitespace()
        .map(|path| PathBuf::from(path.replace(BLANK, " ")))
        .collect()
}

/// The manifest of the package that a source file belongs to.
fn manifest(source: &Path) -> Option<PathBuf> {
    source
        .ancestors()
        .skip(1)
        .map(|directory| directory.join("Cargo.toml"))
        .find(|manifest| manifest.exists())
}

/// The `name` of the manifest's package: its first line of that form.
pub(crate) fn package_name(manifest: &Path) -> Result<String, BuildError> {
    let text = file(manifest, |path| fs::read_to_string(path))?;
    text.lines()
        .filter_map(|line| line.strip_prefix("name"))
        .filter_map(|rest| rest.trim_start().strip_prefix('='))
        .map(|value| value.trim().trim_matches('"').to_owned())
        .find(|name| !name.is_empty())
        .ok_or_else(|| BuildError::NoPackage {
            manifest: manifest.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dep_info() {
        assert_eq!(
            sources("/t/weir-xdp: /a/lib.rs /with\\ blank/main.rs\n"),
            [
                PathBuf::from("/a/lib.rs"),
                PathBuf::from("/with blank/main.rs")
            ]
        );
        assert!(sources("").is_empty());
    }

    #[test]
    fn reads_its_own_manifest() {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        assert_eq!(package_name(&manifest).unwrap(), "weir-bpf-builder");
    }
}
