//! What this host saw of each limit over the last minutes: for those who ask why, and for replays.
//!
//! Counters of a limit are read once a second, some limits with each tick. Of what stays the same
//! only the span grows, so that a limit without traffic costs next to nothing.

use std::collections::{BTreeMap, VecDeque};

use weir_abi::{LimitCounters, TokenTally};
use weir_model::{Limit, LimitId, Nanos, Policy, Revision};
use weir_proto::admin::v1;

use super::{enforcement::Enforcement, view::View};
use crate::{
    dataplane::{self, LimitCount},
    serve::TimeLine,
};

/// Limits that are followed: the first of the policy. Of others nothing is remembered.
const LIMITS_FOLLOWED: usize = 1_024;
/// Limits that are read in one tick, at most: all of them within a second.
const LIMITS_PER_TICK: usize = 128;
/// The pause from the beginning of one round through them to the next.
const ROUND_NANOS: u64 = 1_000_000_000;
/// Spans that are remembered of a limit, 16 bytes each: ten minutes of traffic that changes each
/// second, more of traffic that does not. The oldest goes.
const SPANS: usize = 600;
/// Whole minutes that are remembered of a limit. The oldest goes.
const MINUTES: usize = 10;
const MINUTE_NANOS: u64 = 60_000_000_000;

const _: () = assert!(LIMITS_PER_TICK * 10 >= LIMITS_FOLLOWED);

/// The last minutes of all limits that are followed.
#[derive(Debug, Default)]
pub(super) struct Past {
    limits: BTreeMap<LimitId, LimitPast>,
    next: usize,
    began: Option<Nanos>,
}

/// One limit's.
#[derive(Debug, Default)]
struct LimitPast {
    revision: Revision,
    last: Option<(Nanos, LimitCounters)>,
    spans: VecDeque<Span>,
    minutes: VecDeque<Minute>,
}

/// A time with the same traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    seconds: f32,
    /// Tokens per second.
    offered: f32,
}

/// A minute of the boot clock.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    number: u64,
    seconds: f64,
    offered: u64,
    admitted: u64,
    share_least: f64,
    share_most: f64,
    /// Packets, by [`REASONS`].
    dropped: [u64; REASONS.len()],
}

/// What a limit has counted for one reason.
type Count = fn(&LimitCounters) -> TokenTally;

/// Why a limit drops, or would have.
const REASONS: [(&str, Count); 5] = [
    ("over_limit", |counters| counters.over_limit),
    ("closed", |counters| counters.closed),
    ("contended", |counters| counters.contended),
    ("refused_elsewhere", |counters| counters.refused_elsewhere),
    ("would_drop", |counters| counters.would_drop),
];

impl Past {
    /// Reads what is to be read in this tick.
    pub(super) fn tick(&mut self, enforcement: &Enforcement, now: Nanos) {
        let Some((_, policy)) = enforcement.policy() else {
            return;
        };
        let followed = &policy.limits[..policy.limits.len().min(LIMITS_FOLLOWED)];
        let turn = self.turn(followed.len(), now);
        if turn.start == 0 && !turn.is_empty() {
            self.limits.retain(|id, _| policy.limit(*id).is_some());
        }
        let ids: Vec<LimitId> = followed[turn.clone()]
            .iter()
            .map(|limit| limit.id)
            .collect();
        // Where counters cannot be read the daemon says so elsewhere.
        let counted = enforcement.dataplane().count_all(&ids).unwrap_or_default();
        for (limit, counted) in followed[turn].iter().zip(counted) {
            let Some(counted) = counted else {
                continue;
            };
            let share = if limit.is_leased() {
                enforcement.held_of(limit).effective(now).rate
            } else {
                limit.floor.rate
            };
            let share = limit.scale.tokens_per_second(share);
            self.observe(limit, &counted, share, now);
        }
    }

    fn turn(&mut self, length: usize, now: Nanos) -> std::ops::Range<usize> {
        if self.next >= length {
            let is_over = |began: Nanos| now.0.saturating_sub(began.0) >= ROUND_NANOS;
            if !self.began.is_none_or(is_over) {
                return 0..0;
            }
            self.next = 0;
        }
        if self.next == 0 {
            self.began = Some(now);
        }
        let from = self.next;
        self.next = length.min(from + LIMITS_PER_TICK);
        from..self.next
    }

    fn observe(&mut self, limit: &Limit, counted: &LimitCount, share: f64, now: Nanos) {
        let past = self.limits.entry(limit.id).or_default();
        if past.revision != limit.revision {
            *past = LimitPast {
                revision: limit.revision,
                ..LimitPast::default()
            };
        }
        past.observe(counted, share, now);
    }
}

impl LimitPast {
    fn observe(&mut self, counted: &LimitCount, share: f64, now: Nanos) {
        let counters = counted.counters;
        let Some((at, before)) = self.last.replace((now, counters)) else {
            return;
        };
        let before = LimitCount {
            counters: before,
            ..*counted
        };
        // Counters that went back belong to another life of the maps.
        let offered = counted
            .offered_tokens()
            .checked_sub(before.offered_tokens());
        let (Some(offered), true) = (offered, now > at) else {
            return;
        };
        let seconds = (now.0 - at.0) as f64 / 1e9;
        self.push(Span {
            seconds: seconds as f32,
            offered: (offered as f64 / seconds) as f32,
        });
        let minute = self.minute(now.0 / MINUTE_NANOS, share);
        minute.seconds += seconds;
        minute.offered += offered;
        minute.admitted += counted
            .admitted_tokens()
            .saturating_sub(before.admitted_tokens());
        minute.share_least = minute.share_least.min(share);
        minute.share_most = minute.share_most.max(share);
        for (dropped, (_, of)) in minute.dropped.iter_mut().zip(REASONS) {
            let since = of(&counters)
                .packets
                .saturating_sub(of(&before.counters).packets);
            *dropped += since;
        }
    }

    fn push(&mut self, span: Span) {
        if let Some(last) = self.spans.back_mut()
            && last.offered == span.offered
        {
            last.seconds += span.seconds;
            return;
        }
        if self.spans.len() == SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back(span);
    }

    fn minute(&mut self, number: u64, share: f64) -> &mut Minute {
        if self.minutes.back().is_none_or(|last| last.number != number) {
            if self.minutes.len() == MINUTES {
                self.minutes.pop_front();
            }
            self.minutes.push_back(Minute {
                number,
                share_least: share,
                share_most: share,
                ..Minute::default()
            });
        }
        self.minutes.back_mut().expect("one was just put there")
    }

    /// Latest first, as of `now`.
    fn told(&self, now: Nanos) -> Vec<v1::PastMinute> {
        let this = now.0 / MINUTE_NANOS;
        let minutes = self.minutes.iter().rev();
        minutes.map(|minute| minute.told(this)).collect()
    }
}

impl Minute {
    fn told(&self, this: u64) -> v1::PastMinute {
        let per_second = |tokens: u64| tokens as f64 / self.seconds.max(f64::MIN_POSITIVE);
        let dropped = self.dropped.iter().zip(REASONS);
        let dropped = dropped.filter(|(packets, _)| **packets > 0);
        v1::PastMinute {
            minutes_ago: this
                .saturating_sub(self.number)
                .try_into()
                .unwrap_or(u32::MAX),
            share_least: self.share_least,
            share_most: self.share_most,
            offered: per_second(self.offered),
            admitted: per_second(self.admitted),
            dropped: dropped
                .map(|(packets, (reason, _))| v1::DroppedFor {
                    reason: reason.to_owned(),
                    packets: *packets,
                })
                .collect(),
        }
    }
}

impl View<'_> {
    /// The last minutes of a limit on this host, latest first.
    pub(super) fn past_of(&self, limit: &Limit, now: Nanos) -> Vec<v1::PastMinute> {
        let past = self.past.limits.get(&limit.id);
        past.map(|past| past.told(now)).unwrap_or_default()
    }

    /// The same with each second of them; `None` if there is no such limit, or it is not followed.
    pub(super) fn time_line(&self, limit: &str) -> Option<TimeLine> {
        let mut limits = self.policy().limits.iter();
        let past = self
            .past
            .limits
            .get(&limits.find(|known| known.name == limit)?.id)?;
        let spans = past.spans.iter();
        Some(TimeLine {
            spans: spans.map(|span| (span.seconds, span.offered)).collect(),
            minutes: past.told(dataplane::now()),
        })
    }

    /// What was offered to each limit on this host.
    pub(super) fn demand(&self) -> v1::DemandReply {
        let policy: &Policy = self.policy();
        let limits = policy.limits.iter().filter_map(|limit| {
            let past = self.past.limits.get(&limit.id)?;
            Some(v1::LimitDemand {
                limit: limit.name.clone(),
                unit: v1::Unit::from(limit.cost).into(),
                seconds: past.spans.iter().map(|span| span.seconds).collect(),
                offered: past.spans.iter().map(|span| span.offered).collect(),
            })
        });
        let left_out = policy.limits.len().saturating_sub(LIMITS_FOLLOWED);
        v1::DemandReply {
            node: Some(self.this_node()),
            policy_version: self.enforcement.policy_version().0,
            limits: limits.collect(),
            left_out: left_out.try_into().unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn counted(admitted: u64, over: u64) -> LimitCount {
        let mut counters = LimitCounters::default();
        counters.passed.tokens = admitted;
        counters.passed.packets = admitted;
        counters.over_limit.tokens = over;
        counters.over_limit.packets = over;
        LimitCount {
            limit: LimitId::of("a"),
            counters,
        }
    }

    #[test]
    fn minutes_say_what_was_dropped_for_which_reason() {
        let mut past = LimitPast::default();
        for second in 0..=90_u64 {
            let share = if second < 30 { 5.0 } else { 8.0 };
            past.observe(
                &counted(10 * second, 3 * second),
                share,
                Nanos(second * SECOND),
            );
        }
        let told = past.told(Nanos(90 * SECOND));
        let ago: Vec<u32> = told.iter().map(|minute| minute.minutes_ago).collect();
        assert_eq!(ago, [0, 1]);
        assert_eq!((told[1].share_least, told[1].share_most), (5.0, 8.0));
        assert!((told[1].offered - 13.0).abs() < 1e-9 && (told[1].admitted - 10.0).abs() < 1e-9);
        let dropped = |reason: &str, packets| v1::DroppedFor {
            reason: reason.to_owned(),
            packets,
        };
        assert_eq!(told[1].dropped, [dropped("over_limit", 59 * 3)]);
        assert_eq!(told[0].dropped, [dropped("over_limit", 31 * 3)]);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_stays_the_same_is_one_span() {
        let mut past = LimitPast::default();
        for second in 0..10_000_u64 {
            past.observe(&counted(7 * second, 0), 5.0, Nanos(second * SECOND));
        }
        assert_eq!(past.spans.len(), 1);
        assert_eq!(past.minutes.len(), MINUTES);
        let mut admitted = 0;
        for second in 10_000..20_000_u64 {
            admitted += second;
            past.observe(&counted(70_000 + admitted, 0), 5.0, Nanos(second * SECOND));
        }
        assert_eq!(past.spans.len(), SPANS);
        let last = past.spans.back().expect("there are some");
        assert_eq!((last.seconds, last.offered), (1.0, 19_999.0));
    }

    #[test]
    fn counters_that_go_back_are_no_traffic() {
        let mut past = LimitPast::default();
        past.observe(&counted(1_000, 0), 5.0, Nanos(SECOND));
        past.observe(&counted(10, 0), 5.0, Nanos(2 * SECOND));
        assert!(past.spans.is_empty());
        past.observe(&counted(20, 0), 5.0, Nanos(3 * SECOND));
        assert_eq!(past.spans.len(), 1);
    }

    #[test]
    fn all_limits_have_their_turn_within_a_second() {
        let mut past = Past::default();
        let tick = |number: u64| Nanos(number * SECOND / 10);
        let turns: Vec<_> = (0..10).map(|number| past.turn(300, tick(number))).collect();
        assert_eq!(turns[..3], [0..128, 128..256, 256..300]);
        assert!(turns[3..].iter().all(std::ops::Range::is_empty));
        assert_eq!(past.turn(300, tick(10)), 0..128);
        let mut past = Past::default();
        let read: usize = (0..10)
            .map(|number| past.turn(LIMITS_FOLLOWED, tick(number)).len())
            .sum();
        assert_eq!(read, LIMITS_FOLLOWED);
        assert_eq!(Past::default().turn(0, tick(0)), 0..0);
    }
}
