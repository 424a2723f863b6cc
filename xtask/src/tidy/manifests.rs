//! What every member's manifest has in common.

use super::{Finding, TrackedFile};

/// The members' manifests, by the fields that they inherit: packages outside the workspace have
/// nothing to inherit from.
fn members(files: &[TrackedFile]) -> Vec<&TrackedFile> {
    let manifests = files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    manifests
        .filter(|file| file.text.contains("version.workspace = true"))
        .collect()
}

/// The lines of a manifest, each with the section that it is in.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
            return None;
        }
        (!line.is_empty() && !line.starts_with('#')).then_some((section, line))
    })
}

/// Lints are set in one place.
pub(super) fn inherit_lints(files: &[TrackedFile]) -> Finding {
    let members = members(files);
    let inherits =
        |file: &&&TrackedFile| lines(&file.text).any(|line| line == ("lints", "workspace = true"));
    let without = members.iter().filter(|file| !inherits(file));
    let mut problems: Vec<String> = without
        .map(|file| format!("{}: no `[lints] workspace = true`", file.path))
        .collect();
    if members.is_empty() {
        problems.push("no member found".to_owned());
    }
    Finding {
        scope: format!("{} manifests", members.len()),
        problems,
    }
}

/// Versions are chosen in one place: a member names a dependency and its features only.
pub(super) fn share_versions(files: &[TrackedFile]) -> Finding {
    let members = members(files);
    let mut dependencies = 0;
    let mut problems = Vec::new();
    for file in &members {
        for (section, line) in lines(&file.text) {
            if !section.ends_with("dependencies") || !line.contains('=') {
                continue;
            }
            dependencies += 1;
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let has_version = value.trim_start().starts_with('"') || value.contains("version =");
            if has_version {
                problems.push(format!(
                    "{}: {} has a version of its own",
                    file.path,
                    name.trim()
                ));
            }
        }
    }
    Finding {
        scope: format!("{dependencies} dependencies"),
        problems,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    const PACKAGE: &str = "[package]\nversion.workspace = true\n";

    fn manifest(rest: &str) -> [TrackedFile; 1] {
        [file("some/Cargo.toml", &format!("{PACKAGE}{rest}"))]
    }

    #[test]
    fn lints_are_inherited_or_missed() {
        assert!(
            inherit_lints(&manifest("[lints]\nworkspace = true\n"))
                .problems
                .is_empty()
        );
        assert_eq!(
            inherit_lints(&manifest("[lints]\n# workspace = true\n"))
                .problems
                .len(),
            1
        );
        assert_eq!(
            inherit_lints(&manifest("[other]\nworkspace = true\n"))
                .problems
                .len(),
            1
        );
        assert_eq!(inherit_lints(&[]).problems.len(), 1);
    }

    #[test]
    fn versions_are_shared_or_missed() {
        let shared = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\n\
                      [features]\nversion = \"1\"\n";
        assert!(share_versions(&manifest(shared)).problems.is_empty());
        for own in ["a = \"1\"", "a = { version = \"1\", features = [] }"] {
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let text = format!("[{section}]\n{own}\n");
                assert_eq!(share_versions(&manifest(&text)).problems.len(), 1, "{text}");
            }
        }
    }
}
