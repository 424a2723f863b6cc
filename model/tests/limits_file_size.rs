//! The largest limits files.

use weir_model::{
    LimitId,
    file::{self, MAX_DESTINATION_PREFIXES},
    policy::MAX_LIMITS,
};

/// As many limits, and as many different destinations, as one policy may have.
fn largest() -> String {
    let each = MAX_DESTINATION_PREFIXES / MAX_LIMITS;
    let address = |index: usize| format!("10.{}.{}.{}", index >> 16, index >> 8 & 255, index & 255);
    (0..MAX_LIMITS).fold(String::from("version = 1\n"), |text, limit| {
        let to: Vec<String> = (limit * each..(limit + 1) * each).map(address).collect();
        text + &format!(
            "[[limit]]\nname = \"limit-{limit}\"\nto = {to:?}\nrate = \"100k packets/s\"\n"
        )
    })
}

#[test]
fn the_largest_policy_is_read_and_every_limit_is_found() {
    let policy = file::parse(&largest()).expect("a policy of the largest size");
    assert_eq!(policy.limits.len(), MAX_LIMITS);
    for index in 0..MAX_LIMITS {
        let name = format!("limit-{index}");
        let found = policy.limit(LimitId::of(&name)).expect("a limit");
        assert_eq!(found.name, name);
    }
}

/// Whatever is wrong, time is in proportion to the file: these would take minutes if every limit
/// were compared with every other, or every column counted from the beginning of its line.
#[test]
fn large_files_are_refused_in_proportion_to_their_size() {
    let limits = |rest: &dyn Fn(usize) -> String| -> String {
        (0..MAX_LIMITS)
            .map(|index| format!("[[limit]]\nrate = \"100k packets/s\"\n{}\n", rest(index)))
            .collect()
    };
    let same_name = limits(&|index| {
        format!(
            "name = \"a\"\nto = [\"10.0.{}.{}\"]",
            index >> 8,
            index & 255
        )
    });
    let same_prefix = limits(&|index| format!("name = \"l{index}\"\nto = [\"10.0.0.0/8\"]"));
    let one_line: String = (0..MAX_LIMITS)
        .map(|index| format!("{{ name = \"L{index}\", rate = \"1 packet/s\" }},"))
        .collect();
    let no_toml = "a = = 1\n".repeat(MAX_LIMITS);
    for (text, least) in [
        (same_name, MAX_LIMITS - 1),
        (same_prefix, 1),
        (format!("limit = [{one_line}]\n"), MAX_LIMITS),
        (no_toml, MAX_LIMITS),
    ] {
        let problems = file::parse(&format!("version = 1\n{text}")).expect_err("errors");
        assert!(problems.len() >= least, "{}", problems.len());
    }
}
