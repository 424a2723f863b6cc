//! This host's own rates of every limit, read a little with each tick.
//!
//! To read all counters of a policy of 65,536 limits takes longer than a tick. So those that the
//! protocol is about are read each tick, and of the others so many, each at most once a second;
//! with more than ten times as many, less often.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use weir_coord_core::demand::{Meter, Rates};
use weir_model::{HotKey, LimitId, Nanos, Policy, message::LimitReport};
use weir_proto::MAX_ROWS;

use super::observation::Recurring;
use crate::dataplane::{DataplaneError, LimitCount};

/// Limits without a lease whose counters are read in one tick, at most: some milliseconds.
const LIMITS_PER_TICK: usize = 1_024;
/// And at least, also where a report has no room for them.
const FEWEST_LIMITS_PER_TICK: usize = 64;
/// The pause from the beginning of one round through them to the next.
const ROUND: Duration = Duration::from_secs(1);
/// After so many rounds without traffic, a limit is not reported any more. Reports may be lost, and
/// whoever missed the last would believe in the rate before it for ever.
const QUIET_ROUNDS: u8 = 8;

/// The rates, and whose turn it is.
#[derive(Debug)]
pub(super) struct OwnRates {
    leased: Vec<LimitId>,
    others: Vec<LimitId>,
    turn: Turn,
    meters: BTreeMap<LimitId, Own>,
    hot_meters: BTreeMap<LimitId, Meter>,
    reading_fails: Recurring,
}

#[derive(Debug, Default)]
struct Own {
    meter: Meter,
    quiet_rounds: u8,
}

impl OwnRates {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            leased: Vec::new(),
            others: Vec::new(),
            turn: Turn::default(),
            meters: BTreeMap::new(),
            hot_meters: BTreeMap::new(),
            reading_fails: Recurring::new("counters could not be read"),
        }
    }

    /// Another policy is in force.
    pub(super) fn set_policy(&mut self, policy: &Policy) {
        let (leased, others) = policy.limits.iter().partition(|limit| limit.is_leased());
        let ids = |limits: Vec<&weir_model::Limit>| limits.iter().map(|limit| limit.id).collect();
        self.leased = ids(leased);
        self.others = ids(others);
        self.turn = Turn::default();
        self.meters
            .retain(|limit, _| policy.limit(*limit).is_some());
    }

    /// The rates between the two latest readings, of a limit or of a hot key.
    pub(super) fn of(&self, limit: LimitId) -> Rates {
        let own = self.meters.get(&limit).map(|own| &own.meter);
        let meter = own.or_else(|| self.hot_meters.get(&limit));
        meter.map(Meter::rates).unwrap_or_default()
    }

    /// Reads what is to be read in this tick, and returns what is to be reported: all limits with a
    /// lease, all hot keys, and those of the others whose turn it is and that have traffic. These are
    /// left out where a report has no room for them.
    pub(super) fn read(
        &mut self,
        policy: &Policy,
        hot: &[HotKey],
        now: Nanos,
        count: impl Fn(&[LimitId]) -> Result<Vec<Option<LimitCount>>, DataplaneError>,
    ) -> Vec<LimitReport> {
        let leased = std::mem::take(&mut self.leased);
        let mut reports = self.read_limits(policy, &leased, true, now, &count);
        self.leased = leased;
        reports.extend(self.read_hot(policy, hot, now, &count));
        let room = MAX_ROWS.saturating_sub(reports.len());
        let others = std::mem::take(&mut self.others);
        let turn = self.turn.next(others.len(), room, now);
        reports.extend(self.read_limits(policy, &others[turn], false, now, &count));
        self.others = others;
        reports.truncate(MAX_ROWS);
        reports
    }

    fn read_hot(
        &mut self,
        policy: &Policy,
        hot: &[HotKey],
        now: Nanos,
        count: impl Fn(&[LimitId]) -> Result<Vec<Option<LimitCount>>, DataplaneError>,
    ) -> Vec<LimitReport> {
        let mut meters = std::mem::take(&mut self.hot_meters);
        let mut reports = Vec::with_capacity(hot.len());
        let ids: Vec<LimitId> = hot.iter().map(|key| key.id).collect();
        let counted = self.reading_fails.note(count(&ids)).unwrap_or_default();
        for (key, counted) in hot.iter().zip(counted) {
            let (Some(counted), Some(limit)) = (counted, policy.limit(key.limit)) else {
                continue;
            };
            let report = report_of(&counted);
            let mut meter = meters.remove(&key.id).unwrap_or_default();
            meter.observe(now, &report, limit.scale);
            self.hot_meters.insert(key.id, meter);
            reports.push(report);
        }
        reports
    }

    fn read_limits(
        &mut self,
        policy: &Policy,
        ids: &[LimitId],
        is_leased: bool,
        now: Nanos,
        count: impl Fn(&[LimitId]) -> Result<Vec<Option<LimitCount>>, DataplaneError>,
    ) -> Vec<LimitReport> {
        let mut reports = Vec::with_capacity(ids.len());
        let counted = self.reading_fails.note(count(ids)).unwrap_or_default();
        for (&id, counted) in ids.iter().zip(counted) {
            let (Some(counted), Some(limit)) = (counted, policy.limit(id)) else {
                continue;
            };
            let report = report_of(&counted);
            let own = self.meters.entry(id).or_default();
            own.meter.observe(now, &report, limit.scale);
            own.quiet_rounds = if own.meter.rates() == Rates::default() {
                own.quiet_rounds.saturating_add(1)
            } else {
                0
            };
            if is_leased || own.quiet_rounds <= QUIET_ROUNDS {
                reports.push(report);
            }
        }
        reports
    }
}

fn report_of(counted: &LimitCount) -> LimitReport {
    LimitReport {
        limit: counted.limit,
        offered: counted.offered_tokens(),
        admitted: counted.admitted_tokens(),
        dropped: counted.dropped_tokens(),
        ..LimitReport::default()
    }
}

/// A round through a list, a part of it with each tick.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    next: usize,
    began: Option<Nanos>,
}

impl Turn {
    /// What is to be read now, of so many: as many as there is room for, but some in any case.
    fn next(&mut self, length: usize, room: usize, now: Nanos) -> Range<usize> {
        let is_new = self.next >= length;
        if is_new && self.began.is_some_and(|began| now - began < ROUND) {
            return 0..0;
        }
        if is_new || self.began.is_none() {
            self.began = Some(now);
            self.next = 0;
        }
        let from = self.next;
        self.next = length.min(from + room.clamp(FEWEST_LIMITS_PER_TICK, LIMITS_PER_TICK));
        from..self.next
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use weir_abi::LimitCounters;

    use super::*;

    const TICK: u64 = 100_000_000;

    fn counted(limit: LimitId, packets: u64) -> LimitCount {
        let mut counters = LimitCounters::default();
        counters.passed.tokens = packets;
        LimitCount { limit, counters }
    }

    /// The same count of each of these.
    fn each(limits: &[LimitId], packets: u64) -> Vec<Option<LimitCount>> {
        let counted = limits.iter().map(|limit| Some(counted(*limit, packets)));
        counted.collect()
    }

    #[test]
    fn a_round_takes_a_second_or_as_many_ticks_as_it_needs() {
        let mut turn = Turn::default();
        let turns: Vec<_> = (0..12)
            .map(|tick| turn.next(1_500, MAX_ROWS, Nanos(tick * TICK)))
            .collect();
        assert_eq!(turns[..2], [0..1_024, 1_024..1_500]);
        assert!(turns[2..10].iter().all(Range::is_empty), "{turns:?}");
        assert_eq!(turns[10..], [0..1_024, 1_024..1_500]);

        let mut turn = Turn::default();
        let read: usize = (0..64)
            .map(|tick| turn.next(65_536, MAX_ROWS, Nanos(tick * TICK)).len())
            .sum();
        assert_eq!(read, 65_536);
        assert_eq!(
            turn.next(65_536, MAX_ROWS, Nanos(64 * TICK)),
            0..1_024,
            "and anew"
        );
        assert_eq!(Turn::default().next(1_500, 100, Nanos(0)), 0..100);
        assert_eq!(Turn::default().next(1_500, 0, Nanos(0)), 0..64);
        assert_eq!(Turn::default().next(0, MAX_ROWS, Nanos(0)), 0..0);
    }

    const DOCUMENT: &str = "version = 1\n\
        [[limit]]\nname = \"leased\"\nrate = \"100 packets/s\"\n\
        [[limit]]\nname = \"local\"\nrate = \"100 packets/s\"\npromise = \"local\"\n";

    #[test]
    fn leased_limits_are_read_each_tick_and_others_once_a_second() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let mut rates = OwnRates::new();
        rates.set_policy(&policy);
        let reads = RefCell::new(BTreeMap::<LimitId, usize>::new());
        for tick in 0..30 {
            rates.read(&policy, &[], Nanos(tick * TICK), |limits| {
                for limit in limits {
                    *reads.borrow_mut().entry(*limit).or_default() += 1;
                }
                Ok(each(limits, tick * 100))
            });
        }
        let reads = reads.into_inner();
        assert_eq!(reads[&LimitId::of("leased")], 30);
        assert_eq!(reads[&LimitId::of("local")], 3);
        for limit in &policy.limits {
            let rate = rates.of(limit.id).offered;
            let rate = limit.scale.tokens_per_second(rate);
            assert!((rate - 1_000.0).abs() < 1.0, "{}: {rate}", limit.name);
        }
    }

    #[test]
    fn a_report_has_room_for_what_is_leased_and_for_hot_keys() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let (leased, local) = (LimitId::of("leased"), LimitId::of("local"));
        let key = weir_model::prefix::Prefix::containing([198, 18, 0, 1].into(), 32).unwrap();
        let hot = |number: usize| HotKey {
            id: LimitId(u64::MAX - number as u64),
            limit: leased,
            key,
        };
        let hot: Vec<HotKey> = (0..MAX_ROWS - 1).map(hot).collect();
        let reported = |hot: &[HotKey]| -> Vec<LimitId> {
            let mut rates = OwnRates::new();
            rates.set_policy(&policy);
            let reports = rates.read(&policy, hot, Nanos(TICK), |limits| Ok(each(limits, 1)));
            reports.iter().map(|report| report.limit).collect()
        };
        let wanted = |hot: &[HotKey]| -> Vec<LimitId> {
            [leased]
                .into_iter()
                .chain(hot.iter().map(|key| key.id))
                .collect()
        };
        let (few, all) = (&hot[1..], &hot[..]);
        assert_eq!(reported(few), [wanted(few), vec![local]].concat());
        assert_eq!(reported(all), wanted(all), "one more would be refused");
    }

    #[test]
    fn what_has_no_traffic_is_not_reported_for_ever() {
        let policy = weir_model::file::parse(DOCUMENT).unwrap();
        let mut rates = OwnRates::new();
        rates.set_policy(&policy);
        let local = LimitId::of("local");
        let mut reported = Vec::new();
        for second in 0..1_000_u64 {
            // 50 packets in the first 20 s.
            let packets = 50 * second.min(20);
            let now = Nanos(second * 10 * TICK);
            let reports = rates.read(&policy, &[], now, |limits| Ok(each(limits, packets)));
            assert_eq!(reports[0].limit, LimitId::of("leased"));
            if reports.iter().any(|report| report.limit == local) {
                reported.push(second);
            }
        }
        assert!(reported.len() >= 20 + usize::from(QUIET_ROUNDS));
        let last = *reported.last().unwrap();
        assert!((20..900).contains(&last), "reported until {last} s");
        assert_eq!(reported.len() as u64, last + 1, "without a gap");
    }
}
