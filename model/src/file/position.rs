//! From byte offsets to what editors show.

use std::vec::Vec;

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
pub(super) struct LineIndex<'t> {
    text: &'t str,
    /// Byte offsets, ascending; the first is 0.
    starts: Vec<usize>,
}

impl<'t> LineIndex<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: core::iter::once(0).chain(after_newlines).collect(),
        }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub(super) fn position(&self, byte: usize) -> (u32, u32) {
        let byte = self.text.floor_char_boundary(byte.min(self.text.len()));
        let line = self.starts.partition_point(|start| *start <= byte);
        let column = self.text[self.starts[line - 1]..byte].chars().count() + 1;
        (saturating(line), saturating(column))
    }
}

fn saturating(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let index = LineIndex::of("ab\nµx\n\n");
        for (byte, expected) in [
            (0, (1, 1)),
            (2, (1, 3)),
            (3, (2, 1)),
            (4, (2, 1)), // inside the two bytes of µ
            (5, (2, 2)),
            (7, (3, 1)),
            (8, (4, 1)),
            (99, (4, 1)),
        ] {
            assert_eq!(index.position(byte), expected, "byte {byte}");
        }
        assert_eq!(LineIndex::of("").position(0), (1, 1));
    }
}
