//! What was last proposed to a member, whole, as it is sent.

use alloc::vec::Vec;

use weir_model::{
    message::{Row, Shared},
    prefetch::{AT_ONCE, fetch},
    rows::Rows,
};

use crate::book::Entry;

/// The rows of the latest proposal to a member.
///
/// They are in two copies that take turns: while whoever sends has the one, the other is brought up to
/// date by what has changed, which is far less than a copy.
#[derive(Clone, Debug)]
pub(super) struct LatestRows {
    latest: Shared<Vec<Row>>,
    /// The number of `latest`: no other rows of this leader have it.
    number: u64,
    before: Option<Before>,
}

/// The copy that was the latest before.
#[derive(Clone, Debug)]
struct Before {
    rows: Shared<Vec<Row>>,
    number: u64,
    /// The places, in order, at which the latest copy is another one.
    changed: Vec<u32>,
}

impl LatestRows {
    /// What the book says was proposed last.
    pub(super) fn new(number: u64, rows: Vec<Row>) -> Self {
        Self {
            latest: Shared::new(rows),
            number,
            before: None,
        }
    }

    /// The next proposal, by the rows that it changes, each of them once.
    pub(super) fn change(&mut self, number: u64, mut changes: Vec<(usize, Entry)>) {
        if changes.is_empty() {
            return;
        }
        let (mut changed, mut spare) = (Vec::new(), None);
        if let Some(before) = self.before.take() {
            spare = up_to_date(before.rows, &before.changed, &self.latest);
            changed = before.changed;
        }
        let mut next = spare.unwrap_or_else(|| Shared::new(Vec::clone(&self.latest)));
        let rows = Shared::get_mut(&mut next).expect("nobody else has it");
        changes.sort_unstable_by_key(|(place, _)| *place);
        changed.clear();
        for some in changes.chunks(AT_ONCE) {
            fetch(some.iter().map(|(place, _)| rows[*place].amount.rate.0));
            for (place, entry) in some {
                rows[*place].amount = entry.amount;
                rows[*place].floor = entry.floor;
                changed.push(u32::try_from(*place).expect("no proposal has so many rows"));
            }
        }
        self.before = Some(Before {
            rows: core::mem::replace(&mut self.latest, next),
            number: core::mem::replace(&mut self.number, number),
            changed,
        });
    }

    /// As they are sent.
    pub(super) fn rows(&self) -> Rows {
        let rows = Rows::numbered(self.number, self.latest.clone());
        match &self.before {
            Some(before) => rows.since(before.number, before.changed.clone()),
            None => rows,
        }
    }
}

/// `None` if somebody still sends that copy: it stays as it is.
fn up_to_date(
    mut copy: Shared<Vec<Row>>,
    changed: &[u32],
    latest: &[Row],
) -> Option<Shared<Vec<Row>>> {
    let rows = Shared::get_mut(&mut copy)?;
    for some in changed.chunks(AT_ONCE) {
        let places = || some.iter().map(|place| *place as usize);
        fetch(places().map(|place| rows[place].amount.rate.0 ^ latest[place].amount.rate.0));
        for place in places() {
            rows[place] = latest[place];
        }
    }
    Some(copy)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use weir_model::{Amount, UnitsPerSecond};

    use super::*;

    fn entry(rate: u64) -> Entry {
        Entry {
            amount: Amount {
                rate: UnitsPerSecond(rate),
                ..Amount::ZERO
            },
            floor: Amount::ZERO,
        }
    }

    fn rates(rows: &Rows) -> Vec<u64> {
        rows.iter().map(|row| row.amount.rate.0).collect()
    }

    #[test]
    fn what_was_sent_stays_and_what_is_said_to_have_changed_has() {
        let mut latest = LatestRows::new(1, vec![Row::default(); 3]);
        // Whoever sends keeps the one before, and now and then an older one.
        let mut sent = vec![latest.rows()];
        let mut expected = vec![vec![0, 0, 0]];
        for number in 2..20 {
            let place = number as usize % 2 + 1;
            let mut rates_now = expected.last().unwrap().clone();
            (rates_now[place], rates_now[0]) = (number, 7 * number);
            latest.change(number, vec![(place, entry(number)), (0, entry(7 * number))]);
            let rows = latest.rows();
            let before = sent.last().unwrap();
            assert_eq!(rows.changed(before), Some(&[0, place as u32][..]));
            assert_eq!(rows.changed(&rows.clone()), Some(&[][..]));
            if sent.len() > 1 {
                assert_eq!(rows.changed(&sent[sent.len() - 2]), None, "it is older");
            }
            if number % 5 == 0 {
                sent.remove(0);
                expected.remove(0);
            }
            sent.push(rows);
            expected.push(rates_now);
            assert_eq!(sent.iter().map(rates).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_proposal_that_changes_nothing_is_the_one_before() {
        let mut latest = LatestRows::new(1, vec![Row::default(); 2]);
        latest.change(2, vec![(1, entry(5))]);
        let first = latest.rows();
        latest.change(3, Vec::new());
        assert_eq!(latest.rows().changed(&first), Some(&[][..]));
        latest.change(4, vec![(0, entry(6))]);
        assert_eq!(latest.rows().changed(&first), Some(&[0][..]));
        assert_eq!(rates(&latest.rows()), [6, 5]);
        let unknown = Rows::from(vec![Row::default(); 2]);
        assert_eq!(latest.rows().changed(&unknown), None);
    }
}
