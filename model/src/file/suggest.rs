//! "Did you mean …?"

use std::{string::String, vec::Vec};

/// The candidate that a slip of the finger turns into `word`, if there is one.
pub(super) fn closest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // A third of the letters may be wrong: "rat" is "rate", "cat" is nothing.
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, delete, replace or swap with their neighbour (the restricted
/// Damerau-Levenshtein distance), ignoring case, and taking `-` for `_`.
fn distance(from: &str, to: &str) -> usize {
    let [from, to] = [from, to].map(letters);
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = Vec::with_capacity(above.len());
        current.push(row + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != other);
            let mut best = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && from[row - 1] == *other && to[column - 1] == *letter;
            if swapped {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = core::mem::replace(&mut above, current);
    }
    above[to.len()]
}

fn letters(word: &str) -> Vec<char> {
    let word: String = word.to_lowercase();
    word.chars()
        .map(|letter| if letter == '-' { '_' } else { letter })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_strangers_are_not() {
        let keys = ["name", "rate", "burst", "ports", "proto", "on_expiry"];
        for (word, expected) in [
            ("rat", Some("rate")),
            ("raet", Some("rate")),
            ("brust", Some("burst")),
            ("port", Some("ports")),
            ("protocol", None),
            ("on-expiry", Some("on_expiry")),
            ("ON_EXPIRY", Some("on_expiry")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(closest(word, keys), expected, "{word}");
        }
    }

    #[test]
    fn distance_is_what_the_textbook_says() {
        for (from, to, expected) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("ca", "ac", 1),
            ("abcd", "acbd", 1),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
