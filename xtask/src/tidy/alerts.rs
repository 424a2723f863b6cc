//! Whether every alert has a test in which it fires, one in which it is quiet, and a section of the runbook.

use super::{Finding, TrackedFile};

const RULES: &str = "deploy/prometheus/alerts.yml";
const TESTS: &str = "deploy/prometheus/alerts.test.yml";
const RUNBOOK: &str = "docs/runbook.md";

/// Rules are as promtool reads them; here it is enough to look at lines.
pub(super) fn are_tested(files: &[TrackedFile]) -> Finding {
    let text = |path: &str| {
        let found = files.iter().find(|file| file.path == path);
        found.map_or("", |file| file.text.as_str())
    };
    let headings = text(RUNBOOK).lines().filter(|line| line.starts_with('#'));
    let sections: Vec<String> = headings.map(anchor).collect();
    let rules = text(RULES).split("- alert: ").skip(1);
    let mut problems = Vec::new();
    let mut alerts = 0;
    for rule in rules {
        alerts += 1;
        let name = rule.lines().next().unwrap_or_default().trim();
        let is_of = |line: &&str| {
            let tested = line.split_once("alertname: ");
            tested.is_some_and(|(_, rest)| rest.split([',', ' ']).next() == Some(name))
        };
        let (quiet, fires): (Vec<&str>, Vec<&str>) = text(TESTS)
            .lines()
            .filter(is_of)
            .partition(|line| line.contains("exp_alerts: []"));
        if fires.is_empty() {
            problems.push(format!("{TESTS}: {name} never fires"));
        }
        if quiet.is_empty() {
            problems.push(format!("{TESTS}: {name} is never quiet"));
        }
        let section = rule.split_once("runbook: \"").and_then(|(_, rest)| {
            let (section, _) = rest.split_once('"')?;
            section.strip_prefix(RUNBOOK)?.strip_prefix('#')
        });
        if !section.is_some_and(|section| sections.iter().any(|known| known == section)) {
            problems.push(format!("{RULES}: {name} names no section of {RUNBOOK}"));
        }
        if !text(RUNBOOK).contains(&format!("`{name}`")) {
            problems.push(format!("{RUNBOOK} does not name {name}"));
        }
    }
    if alerts == 0 {
        problems.push(format!("{RULES} has no alerts"));
    }
    Finding {
        scope: format!("{alerts} alerts"),
        problems,
    }
}

/// What a link to a heading is called.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    words
        .chars()
        .filter(kept)
        .collect::<String>()
        .replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::{super::file, *};

    const RULE: &str = "- alert: Down\n  runbook: \"docs/runbook.md#it-is-down-gone\"\n";
    const TEST: &str = "- { alertname: Down, exp_alerts: [] }\n- alertname: Down\n  exp_alerts:\n";
    const SECTION: &str = "| `Down` |\n## It is down (`gone`)\n";

    fn problems(rules: &str, tests: &str, runbook: &str) -> usize {
        let files = [
            file(RULES, rules),
            file(TESTS, tests),
            file(RUNBOOK, runbook),
        ];
        are_tested(&files).problems.len()
    }

    #[test]
    fn alerts_have_tests_and_sections() {
        assert_eq!(problems(RULE, TEST, SECTION), 0);
        assert_eq!(problems("", TEST, SECTION), 1, "no alerts");
        assert_eq!(problems(RULE, "", SECTION), 2);
        assert_eq!(problems(RULE, &TEST.replace("Down", "Downs"), SECTION), 2);
        assert_eq!(problems(RULE, &TEST.replace("[]", "[1]"), SECTION), 1);
        assert_eq!(problems(RULE, TEST, "| `Down` |\n## It is down\n"), 1);
        assert_eq!(problems(RULE, TEST, &SECTION.replace("`Down`", "")), 1);
        assert_eq!(problems("- alert: Down\n", TEST, SECTION), 1);
    }
}
