//! The limits language: text in, a [`Policy`] or every problem at once out.
//!
//! [`check`] reads a limits file in three steps. `document` turns the text into tables and values
//! that know their place; `syntax` and `matching` turn each `[[limit]]` into a checked text;
//! `compile` and `keyed` give it a scale, a budget and a floor, or an `objection`; `policy` looks
//! at all limits together. No step stops at the first problem.
//!
//! The first step, with [`quantity`] and [`Problem`], serves other files of the same style too.

mod compile;
mod conflict;
pub mod document;
mod keyed;
mod matching;
mod network;
mod objection;
mod overlap;
mod policy;
mod position;
mod problem;
pub mod quantity;
mod revision;
mod suggest;
mod syntax;

use std::vec::Vec;

pub use document::{Document, Table, Value};
pub use problem::{Complaint, Problem, Severity};

use crate::policy::Policy;

/// The version of the language, the file's `version`.
pub const LANGUAGE_VERSION: u64 = 1;

/// Most `to`, and most `from`, prefixes of one limit.
pub const MAX_PREFIXES_PER_LIMIT: usize = 1_024;
/// Most different `to` prefixes of one file. A data plane that holds two policies while it changes
/// from one to the other needs room for twice as many; so it does for sources.
pub const MAX_DESTINATION_PREFIXES: usize = 131_072;
/// Most different `from` prefixes of one file: what its lists can hold.
pub const MAX_SOURCE_PREFIXES: usize = MAX_SOURCE_LISTS * MAX_PREFIXES_PER_LIMIT;
/// Most different `from` lists of one file.
pub const MAX_SOURCE_LISTS: usize = 64;

const _: () = assert!(MAX_SOURCE_PREFIXES == 65_536);
/// Most port ranges of one limit, after overlapping and adjacent ones are merged.
pub const MAX_PORT_RANGES: usize = 8;

/// What reading a file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// What the file means; `None` if a problem is an error.
    pub value: Option<T>,
    /// Errors and warnings, in the order of the file.
    pub problems: Vec<Problem>,
}

impl<T> Outcome<T> {
    /// The value, or the problems that are errors.
    ///
    /// # Errors
    ///
    /// The errors, at least one, in the order of the file. Warnings are left out.
    pub fn into_result(self) -> Result<T, Vec<Problem>> {
        let Self { value, problems } = self;
        value.ok_or_else(|| {
            problems
                .into_iter()
                .filter(|problem| problem.severity == Severity::Error)
                .collect()
        })
    }
}

/// Reads a limits file.
///
/// # Errors
///
/// Every problem that keeps it from being put in force, in the order of the file.
pub fn parse(text: &str) -> Result<Policy, Vec<Problem>> {
    check(text).into_result()
}

/// Reads a limits file, and says what is doubtful about it too.
#[must_use]
pub fn check(text: &str) -> Outcome<Policy> {
    let document = Document::parse(text);
    let policy = policy::read(document.root());
    document.finish(policy)
}
