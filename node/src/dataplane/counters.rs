//! What the kernel counted, summed over CPUs. Everything is cumulative.

use weir_abi::{LimitCounters, Reason, Tally, TokenTally, Totals};
use weir_model::LimitId;

/// All counters at one moment. Packets go on meanwhile, so that sums may be a packet or two apart
/// until traffic stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// What happened to all packets: `received` is the sum over reasons.
    pub totals: Totals,
    /// What happened by each limit of the policy in force.
    pub limits: Vec<LimitCount>,
}

/// What happened to the packets that a limit applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitCount {
    /// Which limit.
    pub limit: LimitId,
    /// By what became of them, since its bucket was made.
    pub counters: LimitCounters,
}

const PASSED: &str = "passed";
const DROPPED: &str = "dropped";

impl Counters {
    /// Packets to which no limit applied: verdict, reason, count. Labels are bounded.
    pub fn unlimited(&self) -> impl Iterator<Item = (&'static str, &'static str, Tally)> + '_ {
        Reason::ALL
            .into_iter()
            .filter(|reason| !reason.is_of_limits())
            .map(|reason| {
                let verdict = if reason.passes() { PASSED } else { DROPPED };
                (verdict, reason.name(), self.of(reason))
            })
    }

    /// How many packets had this reason.
    #[must_use]
    pub const fn of(&self, reason: Reason) -> Tally {
        self.totals.by_reason[reason as usize]
    }
}

impl LimitCount {
    /// Tokens that arrived.
    #[must_use]
    pub const fn offered_tokens(&self) -> u64 {
        let counters = &self.counters;
        counters.passed.tokens
            + counters.over_limit.tokens
            + counters.closed.tokens
            + counters.contended.tokens
            + counters.refused_elsewhere.tokens
    }

    /// Tokens that passed.
    #[must_use]
    pub const fn admitted_tokens(&self) -> u64 {
        self.counters.passed.tokens
    }

    /// Tokens that this limit dropped.
    #[must_use]
    pub const fn dropped_tokens(&self) -> u64 {
        let counters = &self.counters;
        counters.over_limit.tokens + counters.closed.tokens + counters.contended.tokens
    }

    /// Verdict, reason, count: each packet in one of them. Labels are bounded.
    pub fn by_verdict(&self) -> impl Iterator<Item = (&'static str, &'static str, TokenTally)> {
        let counters = self.counters;
        [
            (
                PASSED,
                "admitted",
                minus(
                    minus(counters.passed, counters.would_drop),
                    counters.failed_open,
                ),
            ),
            (PASSED, "would_drop", counters.would_drop),
            (PASSED, "failed_open", counters.failed_open),
            (DROPPED, "closed", counters.closed),
            (DROPPED, "over_limit", counters.over_limit),
            (DROPPED, "contended", counters.contended),
            (DROPPED, "refused_elsewhere", counters.refused_elsewhere),
        ]
        .into_iter()
    }
}

/// A part is counted after the whole, so a reading in between may find it larger.
const fn minus(whole: TokenTally, part: TokenTally) -> TokenTally {
    TokenTally {
        packets: whole.packets.saturating_sub(part.packets),
        bytes: whole.bytes.saturating_sub(part.bytes),
        tokens: whole.tokens.saturating_sub(part.tokens),
    }
}

pub(crate) fn sum_limit<'a>(cpus: impl Iterator<Item = &'a LimitCounters>) -> LimitCounters {
    cpus.fold(LimitCounters::default(), |sum, one| LimitCounters {
        passed: plus(sum.passed, one.passed),
        over_limit: plus(sum.over_limit, one.over_limit),
        contended: plus(sum.contended, one.contended),
        refused_elsewhere: plus(sum.refused_elsewhere, one.refused_elsewhere),
        would_drop: plus(sum.would_drop, one.would_drop),
        failed_open: plus(sum.failed_open, one.failed_open),
        closed: plus(sum.closed, one.closed),
        table_pressure: sum.table_pressure + one.table_pressure,
        charged_in_vain: sum.charged_in_vain + one.charged_in_vain,
        reserved: 0,
    })
}

pub(crate) fn sum_totals<'a>(cpus: impl Iterator<Item = &'a Totals>) -> Totals {
    cpus.fold(Totals::default(), |mut sum, one| {
        add(&mut sum.received, one.received);
        sum.events_lost += one.events_lost;
        for (sum, one) in sum.by_reason.iter_mut().zip(one.by_reason) {
            add(sum, one);
        }
        sum
    })
}

const fn plus(a: TokenTally, b: TokenTally) -> TokenTally {
    TokenTally {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        tokens: a.tokens + b.tokens,
    }
}

const fn add(sum: &mut Tally, one: Tally) {
    sum.packets += one.packets;
    sum.bytes += one.bytes;
}
