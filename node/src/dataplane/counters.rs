//! What the kernel counted, summed over CPUs. Everything is cumulative.

use std::collections::HashMap;

use aya::maps::MapError;
use weir_abi::{LimitCounters, Reason, Tally, TokenTally, Totals, maps};
use weir_model::LimitId;

use super::{
    error::DataplaneError,
    maps::{Maps, map_error},
};

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

/// What layouts before this one counted: it does not change any more.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    totals: Totals,
    limits: HashMap<u32, LimitCounters>,
}

impl Inherited {
    pub(crate) fn read(kernel: &Maps) -> Result<Self, DataplaneError> {
        let totals = kernel.inherited_totals.get(&0, 0);
        let totals = totals.map_err(map_error(maps::INHERITED_TOTALS))?.0;
        let limits = kernel.inherited_counters.iter();
        let limits = limits.map(|entry| entry.map(|(slot, counters)| (slot, counters.0)));
        let limits = limits.collect::<Result<_, MapError>>();
        Ok(Self {
            totals,
            limits: limits.map_err(map_error(maps::INHERITED_COUNTERS))?,
        })
    }

    pub(crate) const fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(crate) fn of(&self, slot: u32) -> Option<&LimitCounters> {
        self.limits.get(&slot)
    }

    /// The slot becomes another limit's.
    pub(crate) fn forget(&mut self, kernel: &mut Maps, slot: u32) -> Result<(), DataplaneError> {
        if self.limits.remove(&slot).is_some() {
            let removed = kernel.inherited_counters.remove(&slot);
            removed.map_err(map_error(maps::INHERITED_COUNTERS))?;
        }
        Ok(())
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
        ..LimitCounters::default()
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
