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
        let mut text = String::new();
        let read = match self {
            Self::File(path) => {
                fs::File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text))
            }
            Self::StandardInput => {
                let input = io::stdin().lock();
                input.take(most + 1).read_to_string(&mut text)
            }
        };
        match read {
            Ok(bytes) if bytes as u64 > most => Err(SourceError::TooLarge { name, most }),
            Ok(_) => Ok(text),
            Err(error) => Err(SourceError::Unreadable { name, error }),
        }
    }
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
