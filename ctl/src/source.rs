//! A file of the command line, or standard input.

use std::{
    convert::Infallible,
    fmt, fs,
    io::{self, Read as _},
    path::PathBuf,
    str::FromStr,
};

use thiserror::Error;

/// The largest limits file of a fleet: what a znode can hold, with room for its headers.
pub(crate) const MAX_FLEET_BYTES: u64 = 1_000_000;
/// The largest limits file at all: 65,536 limits take 12 MB.
pub(crate) const MAX_BYTES: u64 = 64_000_000;

/// Where a text comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input, `-`.
    StandardInput,
}

/// Why a source could not be read.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    #[error("{name}: {error}")]
    Unreadable { name: String, error: io::Error },
    #[error("{name}:{line}: byte {byte} of this line is not UTF-8; is this a text file?")]
    NoText {
        name: String,
        line: usize,
        byte: usize,
    },
    #[error("{name}: larger than {most} bytes{}", reason(.most))]
    TooLarge { name: String, most: u64 },
}

const fn reason(most: &u64) -> &'static str {
    if *most == MAX_FLEET_BYTES {
        ", more than ZooKeeper can hold"
    } else {
        ""
    }
}

impl Source {
    /// The whole text, of at most so many bytes.
    pub(crate) fn read(&self, most: u64) -> Result<String, SourceError> {
        let name = self.to_string();
        let mut bytes = Vec::new();
        let read = match self {
            Self::File(path) => {
                fs::File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
            }
            Self::StandardInput => io::stdin().lock().take(most + 1).read_to_end(&mut bytes),
        };
        match read {
            Ok(bytes) if bytes as u64 > most => Err(SourceError::TooLarge { name, most }),
            Ok(_) => text(name, bytes),
            Err(error) => Err(SourceError::Unreadable { name, error }),
        }
    }
}

fn text(name: String, bytes: Vec<u8>) -> Result<String, SourceError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let begin = good.iter().rposition(|byte| *byte == b'\n');
        SourceError::NoText {
            name,
            line: 1 + good.iter().filter(|byte| **byte == b'\n').count(),
            byte: good.len() - begin.map_or(0, |begin| begin + 1) + 1,
        }
    })
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "-" => Self::StandardInput,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::StandardInput => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_found() {
        for (bytes, place) in [
            (&b"\xff"[..], "a:1: byte 1 "),
            (b"version\nname \x80", "a:2: byte 6 "),
            (b"\n\n\xc3", "a:3: byte 1 "),
        ] {
            let error = text(String::from("a"), bytes.to_vec()).unwrap_err();
            assert!(error.to_string().starts_with(place), "{error}");
        }
        assert_eq!(text(String::from("a"), b"ok".to_vec()).unwrap(), "ok");
    }
}
