//! The rows of a proposal, shared by who makes them and who sends them.

use alloc::vec::Vec;
use core::{
    hash::{Hash, Hasher},
    ops::Deref,
};

use crate::message::{Row, Shared};

/// The rows of a [`Propose`](crate::message::Propose): all of them, for a message is a whole state.
///
/// Whoever makes one proposal after the other knows which rows each of them changes. Whoever sends
/// them would have to compare all of both to find out; so rows may say it. That is no part of what
/// they are: it makes no difference between two of them.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    all: Shared<Vec<Row>>,
    /// Of two rows of one leader that have the same number every row is the same; 0 is no number.
    number: u64,
    news: Option<News>,
}

/// The rows that are others than those of an earlier proposal.
#[derive(Clone, Debug)]
struct News {
    /// The number of those.
    since: u64,
    /// By their places, in ascending order.
    changed: Vec<u32>,
}

impl Rows {
    /// Rows to which their leader gives a number, larger than any before in its term.
    #[must_use]
    pub const fn numbered(number: u64, all: Shared<Vec<Row>>) -> Self {
        Self {
            all,
            number,
            news: None,
        }
    }

    /// The same rows, which are those of number `since` but for the ones at the places `changed`, in
    /// ascending order.
    #[must_use]
    pub fn since(self, since: u64, changed: Vec<u32>) -> Self {
        let news = Some(News { since, changed });
        Self { news, ..self }
    }

    /// The places of the rows that may be others than in `before`, of the same leader in the same
    /// term: all the rest are the same. `None` if that is not known.
    #[must_use]
    pub fn changed(&self, before: &Self) -> Option<&[u32]> {
        if Shared::ptr_eq(&self.all, &before.all) {
            return Some(&[]);
        }
        let is_base = |news: &&News| before.number != 0 && news.since == before.number;
        let news = self.news.as_ref().filter(is_base)?;
        Some(&news.changed)
    }

    /// To be changed: a copy, if others have them too.
    pub fn to_mut(&mut self) -> &mut Vec<Row> {
        (self.number, self.news) = (0, None);
        Shared::make_mut(&mut self.all)
    }
}

impl Deref for Rows {
    type Target = [Row];

    fn deref(&self) -> &[Row] {
        &self.all
    }
}

impl From<Vec<Row>> for Rows {
    fn from(rows: Vec<Row>) -> Self {
        Self {
            all: Shared::new(rows),
            ..Self::default()
        }
    }
}

impl FromIterator<Row> for Rows {
    fn from_iter<I: IntoIterator<Item = Row>>(rows: I) -> Self {
        rows.into_iter().collect::<Vec<Row>>().into()
    }
}

impl PartialEq for Rows {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Rows {}

impl Hash for Rows {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.all.hash(state);
    }
}
