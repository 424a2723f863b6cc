//! What the text of the repository has to look like.

use super::{Finding, TrackedFile};

/// Most lines of a source file. Half of it reads well.
const MOST_LINES: usize = 600;

/// Names that say nothing about a thing.
const EMPTY_NAMES: [&str; 4] = ["utils", "util", "helpers", "manager"];

/// Files whose text other programs write.
const GENERATED: [&str; 2] = ["Cargo.lock", ".svg"];

fn rust(files: &[TrackedFile]) -> impl Iterator<Item = &TrackedFile> + Clone {
    files.iter().filter(|file| file.path.ends_with(".rs"))
}

/// Every library and binary begins with its documentation.
pub(super) fn documented_roots(files: &[TrackedFile]) -> Finding {
    let is_root = |path: &str| {
        let in_bin = path.contains("/src/bin/") && !path.ends_with("/mod.rs");
        path.ends_with("src/lib.rs") || path.ends_with("src/main.rs") || in_bin
    };
    let roots: Vec<_> = rust(files).filter(|file| is_root(&file.path)).collect();
    let undocumented = roots.iter().filter(|file| !is_documented(&file.text));
    let mut problems: Vec<String> = undocumented
        .map(|file| format!("{}: does not begin with `//! …`", file.path))
        .collect();
    if roots.is_empty() {
        problems.push("no crate found".to_owned());
    }
    Finding {
        scope: format!("{} crates", roots.len()),
        problems,
    }
}

fn is_documented(text: &str) -> bool {
    let first = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//! "));
    first.is_some_and(|sentence| !sentence.trim().is_empty() && sentence != "Placeholder.")
}

/// No file is too long to be read.
pub(super) fn bounded_size(files: &[TrackedFile]) -> Finding {
    let length = |file: &TrackedFile| file.text.lines().count();
    let long = rust(files).filter(|file| length(file) > MOST_LINES);
    let problems = long.map(|file| {
        format!(
            "{}: {} lines, at most {MOST_LINES}",
            file.path,
            length(file)
        )
    });
    let longest = rust(files).map(length).max().unwrap_or(0);
    let scope = format!(
        "{} files, the longest has {longest} lines",
        rust(files).count()
    );
    Finding {
        scope,
        problems: problems.collect(),
    }
}

/// Files, modules and accessors are named for what they are.
pub(super) fn named_well(files: &[TrackedFile]) -> Finding {
    let mut problems = Vec::new();
    for file in rust(files) {
        let words = file.path.trim_end_matches(".rs").split(['/', '-', '_']);
        for word in words.filter(|word| EMPTY_NAMES.contains(word)) {
            problems.push(format!(
                "{}: '{word}' says nothing about what is inside",
                file.path
            ));
        }
        for (number, line) in numbered(&file.text) {
            if is_getter(line) {
                problems.push(format!(
                    "{}:{number}: an accessor without its `get_`",
                    file.path
                ));
            }
        }
    }
    Finding {
        scope: format!("{} files", rust(files).count()),
        problems,
    }
}

fn is_getter(line: &str) -> bool {
    let code = line.trim_start();
    let declares = [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "const fn ",
        "pub const fn ",
    ];
    declares.iter().any(|start| {
        code.strip_prefix(start)
            .is_some_and(|name| name.starts_with("get_"))
    })
}

/// Nothing in the repository depends on, or tells of, the machine that it was written on; no work
/// is left lying about.
pub(super) fn neutral_text(files: &[TrackedFile]) -> Finding {
    // Put together here, so that this file does not contain them.
    let foreign = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/tmp/tar", "get"],
        [".inter", "nal/"],
        ["TO", "DO"],
        ["FIX", "ME"],
        ["HA", "CK:"],
    ]
    .map(|halves| halves.concat());
    let written = |file: &&TrackedFile| !GENERATED.iter().any(|end| file.path.ends_with(end));
    let files: Vec<_> = files.iter().filter(written).collect();
    let mut problems = Vec::new();
    for file in &files {
        for (number, line) in numbered(&file.text) {
            for word in foreign.iter().filter(|word| line.contains(word.as_str())) {
                problems.push(format!("{}:{number}: '{word}'", file.path));
            }
        }
    }
    Finding {
        scope: format!("{} files", files.len()),
        problems,
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    #[test]
    fn roots_are_documented_or_missed() {
        assert!(
            documented_roots(&[file("a/src/lib.rs", "//! What it is.\n")])
                .problems
                .is_empty()
        );
        for text in ["", "//!\n", "//! Placeholder.\n", "fn main() {}\n"] {
            for path in ["a/src/lib.rs", "a/src/main.rs", "a/src/bin/tool.rs"] {
                assert_eq!(
                    documented_roots(&[file(path, text)]).problems.len(),
                    1,
                    "{text}"
                );
            }
        }
        assert_eq!(
            documented_roots(&[file("a/src/other.rs", "")])
                .problems
                .len(),
            1
        );
    }

    #[test]
    fn long_files_are_found() {
        let text = |lines| "x\n".repeat(lines);
        assert!(
            bounded_size(&[file("a.rs", &text(MOST_LINES))])
                .problems
                .is_empty()
        );
        assert_eq!(
            bounded_size(&[file("a.rs", &text(MOST_LINES + 1))])
                .problems
                .len(),
            1
        );
        assert!(
            bounded_size(&[file("a.md", &text(MOST_LINES + 1))])
                .problems
                .is_empty()
        );
    }

    #[test]
    fn empty_names_are_found() {
        assert!(
            named_well(&[file("a/src/bucket.rs", "fn level() {}")])
                .problems
                .is_empty()
        );
        assert_eq!(named_well(&[file("a/src/utils.rs", "")]).problems.len(), 1);
        assert_eq!(
            named_well(&[file("a/src/limit_manager.rs", "")])
                .problems
                .len(),
            1
        );
        let getter = file("a/src/bucket.rs", "    pub const fn get_level() {}");
        assert_eq!(named_well(&[getter]).problems.len(), 1);
    }

    #[test]
    fn foreign_text_is_found() {
        assert!(
            neutral_text(&[file("README.md", "cargo xtask demo\n")])
                .problems
                .is_empty()
        );
        for halves in [
            ["see /ho", "me/me"],
            ["// TO", "DO later"],
            ["/wo", "rk/main"],
        ] {
            let finding = neutral_text(&[file("README.md", &halves.concat())]);
            assert_eq!(finding.problems.len(), 1, "{halves:?}");
        }
        assert!(
            neutral_text(&[file("Cargo.lock", &["/ro", "ot/"].concat())])
                .problems
                .is_empty()
        );
    }
}
