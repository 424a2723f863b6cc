//! Where a version of the policy comes from: who asked for it, who confirmed it, and what it repeats.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use weir_model::PolicyVersion;

/// Most bytes of an author's name.
pub const AUTHOR_BYTES_MAX: usize = 128;

/// Who asked for a change, for people: nothing is decided by it.
///
/// A name is 1 to [`AUTHOR_BYTES_MAX`] bytes, and has no character that a terminal would obey or
/// that changes how what stands around it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Author {
    name: String,
    is_certified: bool,
}

/// Why that is no author's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthorError {
    /// Too short or too long.
    #[error("an author's name has 1 to {AUTHOR_BYTES_MAX} bytes, and not {0}")]
    Length(usize),
    /// What cannot be seen.
    #[error("an author's name has no control characters, and not {0:?}")]
    Control(char),
}

impl Author {
    /// Somebody whose certificate says `name`.
    ///
    /// # Errors
    ///
    /// [`AuthorError`].
    pub fn certified(name: &str) -> Result<Self, AuthorError> {
        Self::checked(name, true)
    }

    /// Somebody who says `name` of themselves.
    ///
    /// # Errors
    ///
    /// [`AuthorError`].
    pub fn claimed(name: &str) -> Result<Self, AuthorError> {
        Self::checked(name, false)
    }

    fn checked(name: &str, is_certified: bool) -> Result<Self, AuthorError> {
        if !(1..=AUTHOR_BYTES_MAX).contains(&name.len()) {
            return Err(AuthorError::Length(name.len()));
        }
        if let Some(found) = name.chars().find(|found| is_unseen(*found)) {
            return Err(AuthorError::Control(found));
        }
        Ok(Self {
            name: name.to_owned(),
            is_certified,
        })
    }

    /// What people call them.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a certificate says so.
    #[must_use]
    pub const fn is_certified(&self) -> bool {
        self.is_certified
    }
}

/// Controls, and what Unicode has to hide, join and turn text around: its standard annex 9, and the
/// general category Cf where it is more than accents.
fn is_unseen(found: char) -> bool {
    found.is_control()
        || matches!(
            found,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// An author as they are written down.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    certified: bool,
}

impl TryFrom<Stored> for Author {
    type Error = AuthorError;

    fn try_from(stored: Stored) -> Result<Self, AuthorError> {
        Self::checked(&stored.name, stored.certified)
    }
}

impl From<Author> for Stored {
    fn from(author: Author) -> Self {
        Self {
            name: author.name,
            certified: author.is_certified,
        }
    }
}

/// Where a version comes from. Of versions that were stored before this was written down, nothing is
/// known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Who asked for it. `None` if they did not say, and if a change was not confirmed in time: then
    /// nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
    /// The version whose document it repeats; 0 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<PolicyVersion>,
    /// Who ended its trial. `None` if it had none or still has, and if they did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<Author>,
}

impl Origin {
    pub(super) fn is_known(&self) -> bool {
        *self != Self::default()
    }

    /// What is written down. If it was not written by Weir, or by one that knew more, nothing is
    /// known: it is for people alone.
    pub(super) fn read(data: &[u8]) -> Self {
        serde_json::from_slice(data).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_can_be_seen() {
        for name in [
            "ada",
            "ada@laptop.example.net",
            "Åsa Öberg",
            &"a".repeat(128),
        ] {
            let author = Author::claimed(name).expect(name);
            assert_eq!((author.name(), author.is_certified()), (name, false));
        }
        assert_eq!(Author::claimed(""), Err(AuthorError::Length(0)));
        let long = "a".repeat(129);
        assert_eq!(Author::certified(&long), Err(AuthorError::Length(129)));
        for hidden in [
            '\n', '\0', '\x1b', '\u{7f}', '\u{9b}', '\u{202e}', '\u{200b}', '\u{2028}',
        ] {
            let name = format!("ada{hidden}root");
            assert_eq!(Author::certified(&name), Err(AuthorError::Control(hidden)));
        }
    }

    #[test]
    fn what_is_written_down_is_read_again() {
        let whole = Origin {
            author: Some(Author::certified("ada").expect("a name")),
            restores: Some(PolicyVersion(3)),
            confirmed_by: Some(Author::claimed("grace").expect("a name")),
        };
        let nothing = Origin::default();
        for origin in [&whole, &nothing] {
            let data = serde_json::to_vec(origin).expect("JSON");
            assert_eq!(Origin::read(&data), *origin);
        }
        assert!(whole.is_known() && !nothing.is_known());
        let text = serde_json::to_string(&whole).expect("JSON");
        let expected = concat!(
            r#"{"author":{"name":"ada","certified":true},"restores":3,"#,
            r#""confirmed_by":{"name":"grace","certified":false}}"#
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn other_records_say_nothing_or_what_is_known_of_them() {
        for other in [
            "",
            "7",
            "[]",
            r#"{"author":{"name":"","certified":true}}"#,
            r#"{"author":{"name":"a\u001b[2J","certified":false}}"#,
            r#"{"restores":-1}"#,
        ] {
            assert_eq!(Origin::read(other.as_bytes()), Origin::default(), "{other}");
        }
        let later = br#"{"restores":2,"ticket":"A-1"}"#;
        assert_eq!(Origin::read(later).restores, Some(PolicyVersion(2)));
    }
}
