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

    /// The line of a byte, from 1.
    pub(super) fn line(&self, byte: usize) -> u32 {
        saturating(self.starts.partition_point(|start| *start <= byte))
    }

    /// Lines and columns of bytes that ascend, both from 1; columns count characters. One pass over
    /// the text, however long a line is.
    pub(super) fn positions(
        &self,
        bytes: impl IntoIterator<Item = usize>,
    ) -> impl Iterator<Item = (u32, u32)> {
        // A byte whose column is known.
        let (mut known, mut known_column) = (0, 1);
        bytes.into_iter().map(move |byte| {
            let byte = self.text.floor_char_boundary(byte.min(self.text.len()));
            let line = self.starts.partition_point(|start| *start <= byte);
            let start = self.starts[line - 1];
            if !(start..=byte).contains(&known) {
                (known, known_column) = (start, 1);
            }
            known_column += self.text[known..byte].chars().count();
            known = byte;
            (saturating(line), saturating(known_column))
        })
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
        let table = [
            (0, (1, 1)),
            (1, (1, 2)),
            (2, (1, 3)),
            (3, (2, 1)),
            (4, (2, 1)), // inside the two bytes of µ
            (5, (2, 2)),
            (7, (3, 1)),
            (8, (4, 1)),
            (99, (4, 1)),
        ];
        let together: Vec<_> = index.positions(table.map(|(byte, _)| byte)).collect();
        assert_eq!(together, table.map(|(_, expected)| expected));
        for (byte, expected) in table {
            let alone: Vec<_> = index.positions([byte]).collect();
            assert_eq!(alone, [expected], "byte {byte}");
            assert_eq!(index.line(byte), expected.0, "byte {byte}");
        }
        assert_eq!(LineIndex::of("").positions([0]).next(), Some((1, 1)));
    }
}
