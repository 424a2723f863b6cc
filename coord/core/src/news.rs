//! What a node's report need not say.
//!
//! Most limits see the same traffic from one tick to the next. Whoever has followed a node's reports
//! so far [expects](Meter::expects) the counters that the same rates lead to, so a row is left out
//! while that is right: a change is said once, for it is measured from the report before, whatever that
//! left out. Both ends do the same arithmetic on the same rows, each in its own units: they
//! differ by what those round, which is far less than what is taken for expected.
//!
//! Where a row is lost on the way its receiver is wrong until the next one. So this belongs to one
//! stream, behind the last place where the sender drops a report, and is begun anew with it. Two
//! things can still become of a row that was sent, and neither is known here: a receiver whose inbox
//! is full drops the report, and a leader looks at no row of another policy than its own. So each row
//! is sent from time to time even so: the cost is a demand that is up to 1.6 s old. Streams begin all at
//! once when another leads; the first of these times is another one for each row, lest all rows of a
//! fleet come back in the same tick ever after.

use alloc::collections::BTreeMap;
use core::time::Duration;

use weir_model::{
    Amount, LimitId, Nanos, NodeId, PolicyVersion, Scale, Term,
    message::{LimitReport, Report, Token},
};

use crate::{demand::Meter, timing::Timing};

/// The longest time for which a row is left out.
pub(crate) const LONGEST_SILENCE: Duration = Duration::from_millis(1_600);
/// So many parts of it does the first silence of a row have, by what the row is about.
const PHASES: u64 = 8;
/// A grant that has changed by less than this part is no news.
const HELD_DIVISOR: u64 = 16;
/// The units of rates here: they only have to be fine enough to count tokens.
const SCALE: Scale = Scale { fraction_bits: 10 };
/// Limits that are followed. Beyond it nothing is left out; a report has no more rows.
const MAX_FOLLOWED: usize = 8_192;

/// Leaves out what a report need not say.
#[derive(Clone, Debug, Default)]
pub struct Omission {
    policy: PolicyVersion,
    term: Term,
    rows: BTreeMap<LimitId, Told>,
    /// When, and in which life, the report before was made.
    last: Option<Token>,
}

/// What was last said of a limit.
#[derive(Clone, Debug)]
struct Told {
    meter: Meter,
    row: LimitReport,
    /// What the report before counted, whether it said so or not.
    dropped: u64,
    /// For how long it may be left out.
    silence: Duration,
}

impl Omission {
    /// The same report, less the rows that say nothing new. In the others a grant that has changed
    /// while it suffices is as it was last said.
    #[must_use]
    pub fn shorten(&mut self, mut report: Report) -> Report {
        let at = report.token.at;
        // A leader of another term has followed nothing yet, also where the stream is the same.
        let is_another = report.policy != self.policy || report.promised != self.term;
        if is_another || self.rows.len() > MAX_FOLLOWED {
            self.policy = report.policy;
            self.term = report.promised;
            self.rows.clear();
        }
        let before = self.last.replace(report.token);
        // After a silence a leader counts anew, and so in another life.
        let goes_on = |last: &Token| {
            last.incarnation == report.token.incarnation && at - last.at <= Timing::DEFAULT.stale()
        };
        let before = before.filter(goes_on).map(|last| last.at);
        if before.is_none() {
            self.rows.clear();
        }
        let node = report.node;
        report.limits.retain_mut(|row| {
            let first_silence = first_silence(node, row.limit);
            self.is_news(row, first_silence, before, at)
        });
        report
    }

    fn is_news(
        &mut self,
        row: &mut LimitReport,
        first_silence: Duration,
        before: Option<Nanos>,
        at: Nanos,
    ) -> bool {
        // What was never granted is not reported in each tick, so nothing is expected of it.
        if row.expires == Nanos::ZERO {
            self.rows.remove(&row.limit);
            return true;
        }
        let Some(before) = before.filter(|before| *before < at) else {
            self.rows.remove(&row.limit);
            self.tell(*row, first_silence, None, at);
            return true;
        };
        let Some(told) = self.rows.get_mut(&row.limit) else {
            self.tell(*row, first_silence, None, at);
            return true;
        };
        let is_dropping = row.dropped > told.dropped;
        told.dropped = row.dropped;
        let told_at = told.meter.last_at().unwrap_or(Nanos::ZERO);
        let is_old = at - told_at >= told.silence;
        let was_on_floor = told.row.expires <= told_at;
        let is_on_floor = row.expires <= at;
        let holds_news = is_old
            || is_on_floor != was_on_floor
            || (is_dropping && is_another(row.held, told.row.held));
        // What is dropped makes a demand of what is held, so a beginning and an end are news.
        let was_dropping = told.meter.rates().dropped.0 > 0;
        let is_expected =
            is_dropping == was_dropping && told.meter.expects(at, at - before, row, SCALE);
        if is_expected && !holds_news {
            return false;
        }
        if !holds_news {
            row.held = told.row.held;
        }
        self.tell(*row, first_silence, Some(before), at);
        if is_old && let Some(told) = self.rows.get_mut(&row.limit) {
            told.silence = LONGEST_SILENCE;
        }
        true
    }

    fn tell(&mut self, row: LimitReport, first_silence: Duration, quiet: Option<Nanos>, at: Nanos) {
        let told = self.rows.entry(row.limit).or_insert_with(|| Told {
            meter: Meter::default(),
            row,
            dropped: row.dropped,
            silence: first_silence,
        });
        told.meter.observe_after(quiet, at, &row, SCALE);
        told.row = row;
    }
}

/// One of [`PHASES`] parts of the longest silence, by multiplicative hashing (Knuth, The Art of Computer
/// Programming 3, 6.4).
fn first_silence(node: NodeId, limit: LimitId) -> Duration {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let node = node.0.as_u128();
    let about = limit.0 ^ (node as u64) ^ ((node >> 64) as u64);
    let phase = (about.wrapping_mul(GOLDEN_RATIO) >> 32) % PHASES;
    let part = LONGEST_SILENCE.as_nanos() as u64 / PHASES;
    Duration::from_nanos(part * (phase + 1))
}

fn is_another(held: Amount, told: Amount) -> bool {
    held.rate.0.abs_diff(told.rate.0) > held.rate.0.max(told.rate.0) / HELD_DIVISOR
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use weir_model::{Incarnation, UnitsPerSecond, message::Position};

    use super::*;

    const TICK: u64 = 100_000_000;

    /// A node that reports one limit each tick, and who follows it.
    struct Stream {
        omission: Omission,
        /// The leader's.
        meter: Meter,
        heard: Option<Nanos>,
        term: Term,
        life: Incarnation,
        at: Nanos,
        row: LimitReport,
    }

    impl Stream {
        fn new() -> Self {
            Self {
                omission: Omission::default(),
                meter: Meter::default(),
                heard: None,
                term: Term(1),
                life: Incarnation(1),
                at: Nanos(TICK),
                row: LimitReport {
                    limit: LimitId(1),
                    expires: Nanos::NEVER,
                    ..LimitReport::default()
                },
            }
        }

        /// A tick passes in which so much arrives, of which so much is dropped; whether it is said.
        fn tick(&mut self, offered: u64, dropped: u64) -> bool {
            self.at = Nanos(self.at.0 + TICK);
            self.row.offered += offered;
            self.row.admitted += offered - dropped;
            self.row.dropped += dropped;
            let report = Report {
                node: NodeId::from_u128(1),
                token: Token {
                    incarnation: self.life,
                    at: self.at,
                },
                promised: self.term,
                seen: Position::default(),
                policy: PolicyVersion(1),
                prepared: PolicyVersion(1),
                abstains: false,
                limits: vec![self.row],
                heavy: Vec::new(),
            };
            let rows = self.omission.shorten(report).limits;
            for row in &rows {
                self.meter.observe_after(self.heard, self.at, row, SCALE);
            }
            self.heard = Some(self.at);
            !rows.is_empty()
        }

        fn ticks(&mut self, ticks: usize, offered: u64, dropped: u64) -> usize {
            let said: Vec<bool> = (0..ticks).map(|_| self.tick(offered, dropped)).collect();
            said.into_iter().filter(|said| *said).count()
        }

        /// The leader takes another term, and follows everybody anew.
        fn take_term(&mut self, term: Term) {
            self.term = term;
            self.meter = Meter::default();
            self.heard = None;
        }

        fn offered(&self) -> u64 {
            self.meter.rates().offered.0 >> SCALE.fraction_bits
        }
    }

    #[test]
    fn what_goes_on_is_said_from_time_to_time() {
        let mut stream = Stream::new();
        stream.ticks(3, 1_000, 0);
        assert_eq!(stream.ticks(160, 1_000, 0), 10, "once in sixteen ticks");
        assert_eq!(stream.offered(), 10_000);
    }

    #[test]
    fn a_leader_of_another_term_is_told_anew_on_the_same_stream() {
        let mut stream = Stream::new();
        stream.ticks(10, 1_000, 500);
        stream.take_term(Term(2));
        assert_eq!(stream.ticks(2, 1_000, 500), 2);
        assert_eq!(stream.offered(), 10_000);
    }

    #[test]
    fn what_begins_at_once_is_not_repeated_at_once() {
        let silences: Vec<Duration> = (0..1_000)
            .map(|limit| first_silence(NodeId::from_u128(7), LimitId(limit)))
            .collect();
        for part in 1..=8 {
            let silence = Duration::from_millis(200 * part);
            let rows = silences.iter().filter(|one| **one == silence).count();
            assert!((60..=190).contains(&rows), "{rows} rows after {silence:?}");
        }
    }

    #[test]
    fn a_jump_is_said_at_once_and_followed_at_once() {
        let mut stream = Stream::new();
        stream.ticks(10, 1_000, 0);
        assert!(stream.tick(5_000, 0));
        assert_eq!(
            stream.offered(),
            50_000,
            "and not the average since the last row"
        );
        assert_eq!(stream.ticks(5, 5_000, 0), 0, "and once");
        assert_eq!(stream.offered(), 50_000);
        assert!(stream.tick(0, 0));
        assert_eq!(stream.offered(), 0);
    }

    /// Whoever follows counts anew then, and needs two rows for a rate.
    #[test]
    fn after_a_silence_or_in_another_life_each_row_is_said_twice() {
        let mut stream = Stream::new();
        stream.ticks(10, 1_000, 0);
        // As much as ever arrives in it.
        stream.at = Nanos(stream.at.0 + 5 * TICK);
        stream.row.offered += 5_000;
        stream.row.admitted += 5_000;
        assert_eq!(stream.ticks(2, 1_000, 0), 2);
        stream.ticks(10, 1_000, 0);
        stream.life = Incarnation(2);
        assert_eq!(stream.ticks(2, 1_000, 0), 2);
    }

    #[test]
    fn what_creeps_is_said_once_it_adds_up() {
        let mut stream = Stream::new();
        stream.ticks(10, 1_000, 0);
        let said = stream.ticks(12, 1_004, 0);
        assert!((1..=6).contains(&said), "{said}");
        assert!(
            stream.offered().abs_diff(10_040) <= 40,
            "{}",
            stream.offered()
        );
    }

    #[test]
    fn the_first_drop_and_the_last_are_said() {
        let mut stream = Stream::new();
        stream.ticks(10, 1_000, 0);
        assert!(stream.tick(1_000, 1));
        assert_eq!(stream.ticks(3, 1_000, 1), 0);
        assert!(stream.tick(1_000, 0));
    }

    #[test]
    fn a_grant_is_said_where_it_does_not_suffice() {
        let mut stream = Stream::new();
        stream.ticks(10, 1_000, 0);
        stream.row.held.rate = UnitsPerSecond(5);
        assert!(!stream.tick(1_000, 0));
        stream.ticks(2, 1_000, 100);
        stream.row.held.rate = UnitsPerSecond(10);
        assert!(stream.tick(1_000, 100));
        stream.row.expires = Nanos(1);
        assert!(stream.tick(1_000, 100), "and its end");
    }

    #[test]
    fn another_policy_and_what_was_never_granted_are_said() {
        let mut stream = Stream::new();
        stream.row.expires = Nanos::ZERO;
        assert_eq!(stream.ticks(5, 1_000, 0), 5);
        stream.row.expires = Nanos::NEVER;
        stream.ticks(5, 1_000, 0);
        stream.omission.policy = PolicyVersion(0);
        assert!(stream.tick(1_000, 0));
    }
}
