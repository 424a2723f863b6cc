//! Whether every attack in `docs/attacks.md` is tried by a test that there is.

use super::{Finding, TrackedFile};

const TABLE: &str = "docs/attacks.md";

/// The last column of each row names tests, as `file::test`, and `test` for more of the same file.
pub(super) fn are_tried(files: &[TrackedFile]) -> Finding {
    let text = |path: &str| {
        let found = files.iter().find(|file| file.path == path);
        found.map(|file| file.text.as_str())
    };
    let (mut attacks, mut problems) = (0, Vec::new());
    let rows = text(TABLE).unwrap_or_default().lines();
    let rows = rows.filter(|line| line.starts_with("| ") && !line.starts_with("| attack |"));
    for row in rows.filter(|line| !line.starts_with("| ---")) {
        attacks += 1;
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let tests = cells.last().map_or("", |cell| cell.trim());
        let mut source = None;
        let mut named = 0;
        for test in tests.split('`').skip(1).step_by(2) {
            let (path, name) = test
                .split_once("::")
                .map_or((None, test), |(path, name)| (Some(path), name));
            source = path.map(text).unwrap_or(source);
            let is_there = source.is_some_and(|text| is_run(text, name));
            named += usize::from(is_there);
            if !is_there {
                problems.push(format!("{TABLE}: there is no test {test}"));
            }
        }
        if named == 0 {
            problems.push(format!("{TABLE}: nothing tries {}", cells[0].trim()));
        }
    }
    if attacks == 0 {
        problems.push(format!("{TABLE} has no rows"));
    }
    Finding {
        scope: format!("{attacks} attacks"),
        problems,
    }
}

/// Whether there is such a test, which is not left out.
fn is_run(text: &str, name: &str) -> bool {
    let declaration = format!("fn {name}(");
    let Some(before) = text.find(&declaration).map(|found| &text[..found]) else {
        return false;
    };
    // The last of these lines is the beginning of the declaration's own.
    let above = before
        .lines()
        .rev()
        .skip(usize::from(!before.ends_with('\n')));
    let attributes = above
        .map(str::trim)
        .take_while(|line| line.starts_with(['#', '/']));
    let attributes: Vec<&str> = attributes.filter(|line| line.starts_with("#[")).collect();
    let has = |word: &str| attributes.iter().any(|line| line.contains(word));
    has("test") && !has("ignore")
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    fn problems(row: &str) -> usize {
        let table = format!("| attack | what happens | tried by |\n| --- | --- | --- |\n{row}\n");
        let files = [
            file(TABLE, &table),
            file(
                "a/tests/b.rs",
                "#[test]\nfn one() {}\n\n#[tokio::test]\n// Slow.\nasync fn other() {}\nfn help() {}\n\
                 #[test]\n#[ignore]\nfn later() {}\n",
            ),
        ];
        are_tried(&files).problems.len()
    }

    #[test]
    fn rows_name_tests_that_there_are() {
        assert_eq!(
            problems("| a flood | dropped | `a/tests/b.rs::one`, `other` |"),
            0
        );
        assert_eq!(
            problems("| a flood | dropped | `a/tests/b.rs::one`, `third` |"),
            1
        );
        assert_eq!(problems("| a flood | dropped | `a/tests/c.rs::one` |"), 2);
        for no_test in ["help", "later"] {
            let row = format!("| a flood | dropped | `a/tests/b.rs::one`, `{no_test}` |");
            assert_eq!(problems(&row), 1, "{no_test}");
        }
        assert_eq!(problems("| a flood | dropped | reading |"), 1);
        assert_eq!(problems(""), 1, "no rows");
    }
}
