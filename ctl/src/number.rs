//! Numbers for people: three digits and a prefix.

use std::time::Duration;

/// `30.0k`, `1.25M`, `7`: at least three digits of a number that is not negative.
pub(crate) fn short(number: f64) -> String {
    const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    // 999.95 would be printed as 1000.0, so it belongs to the next prefix already.
    let prefixed = PREFIXES.iter().find(|(unit, _)| number >= 0.9995 * unit);
    let (value, prefix) = match prefixed {
        Some((unit, prefix)) => (number / unit, *prefix),
        None => (number, ""),
    };
    let digits = match value {
        value if prefix.is_empty() && value.fract() == 0.0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{prefix}")
}

/// The same, of each key if there are keys: `500/key`.
pub(crate) fn for_each(number: f64, key: bool) -> String {
    let number = short(number);
    if key { format!("{number}/key") } else { number }
}

/// An estimate that is known to lie between two numbers: `~30.0k`, or `~10.0k..30.0k` if they are
/// apart.
pub(crate) fn about(least: f64, most: f64) -> String {
    let [from, to] = [short(least), short(most)];
    if most - least <= 0.05 * most {
        format!("~{to}")
    } else {
        format!("~{from}..{to}")
    }
}

/// `80 ms`, `2.5 s`, `3 min`, `2 h`, `5 days`.
pub(crate) fn span(milliseconds: u64) -> String {
    let seconds = Duration::from_millis(milliseconds).as_secs();
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..10 => format!("{}.{} s", seconds, milliseconds % 1_000 / 100),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (number, expected) in [
            (0.0, "0"),
            (7.0, "7"),
            (0.25, "0.25"),
            (99.97, "100"),
            (999.0, "999"),
            (999.6, "1.00k"),
            (1_000.0, "1.00k"),
            (30_000.0, "30.0k"),
            (299_960.0, "300k"),
            (999_949.0, "1.00M"),
            (4e11, "400G"),
            (1.5e12, "1.50T"),
        ] {
            assert_eq!(short(number), expected, "{number}");
        }
    }

    #[test]
    fn estimates_say_how_sure_they_are() {
        for (least, most, expected) in [
            (0.0, 0.0, "~0"),
            (29_000.0, 30_000.0, "~30.0k"),
            (10_000.0, 30_000.0, "~10.0k..30.0k"),
            (0.0, 4.0, "~0..4"),
        ] {
            assert_eq!(about(least, most), expected);
        }
        assert_eq!(for_each(500.0, true), "500/key");
        assert_eq!(for_each(500.0, false), "500");
    }

    #[test]
    fn spans_have_one_unit() {
        for (milliseconds, expected) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (9_990, "9.9 s"),
            (10_500, "10 s"),
            (125_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(span(milliseconds), expected, "{milliseconds}");
        }
    }
}
