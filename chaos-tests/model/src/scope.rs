//! What is explored: how many of everything, and what may go wrong.

use std::{fmt, time::Duration};

use weir_coord_core::{rules::Rules, timing::Timing};
use weir_model::{
    Amount, Cost, Limit, LimitId, Nanos, NodeId, Policy, PolicyVersion, Revision, Scale, Units,
    UnitsPerSecond,
    policy::{FleetSettings, Match, Mode, OnExpiry, Promise},
};

/// Most hosts in a scope.
pub const HOSTS_MAX: usize = 4;
/// Most terms in a scope.
pub const LEADERS_MAX: usize = 4;

/// The version of a policy, by its place in [`Scope::policies`].
#[must_use]
pub const fn version(index: u8) -> PolicyVersion {
    PolicyVersion(index as u64 + 1)
}

/// The place of a version in [`Scope::policies`].
#[must_use]
pub const fn place_of(version: PolicyVersion) -> u8 {
    version.0.saturating_sub(1) as u8
}

/// Where a scope begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// The first leader has divided the budget, and nothing is under way.
    Settled,
    /// And every host has the second policy ready.
    PolicyReady,
    /// And all have acknowledged it, but ZooKeeper has not been told yet.
    PolicyUnwritten,
    /// All but the last host have answered a proposal of the first leader, and then promised the term of the
    /// second, which has begun.
    Deposed,
}

/// What one limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The whole limit: the same number of tokens as rate and as burst.
    pub budget: u64,
    /// What is reserved for each member, likewise.
    pub floor: u64,
    /// The units: at most as fine as [`FINEST`]. A limit whose units change has another bucket.
    pub scale: Scale,
}

/// In these units amounts of all policies are compared.
pub const FINEST: Scale = Scale { fraction_bits: 4 };

/// Bounds of one exploration. Beyond them nothing is said.
#[derive(Clone, Debug)]
pub struct Scope {
    /// What it is called.
    pub name: &'static str,
    /// What it is about, for people.
    pub about: &'static str,
    /// Where it begins.
    pub begins: Begins,
    /// How many hosts there are.
    pub hosts: u8,
    /// How many of them, the first ones, are members in the beginning.
    pub members: u8,
    /// The voters of the first term, and what later terms may choose: indices of hosts.
    pub voters: &'static [&'static [u8]],
    /// How many terms there may be, the first included. Each has a leader that lives for ever.
    pub leaders: u8,
    /// For how many steps of the clock it goes on.
    pub steps: u8,
    /// How far the clock goes in a step.
    pub pace: Pace,
    /// How many daemons may crash and start again, their kernels going on.
    pub restarts: u8,
    /// How many hosts may lose power: the kernel's leases are gone, its floors are on disk.
    pub reboots: u8,
    /// How many sessions may end under a living daemon, which goes on in a new life.
    pub sessions: u8,
    /// How many messages may arrive twice.
    pub duplicates: u8,
    /// How many messages may be under way at once from one leader to one host, or back; a further
    /// one takes the place of the oldest.
    pub capacity: u8,
    /// A daemon may stop between deciding and installing.
    pub pauses: bool,
    /// Reports may be late.
    pub late_reports: bool,
    /// Answers may be late. Otherwise they arrive at once, or not at all.
    pub late_answers: bool,
    /// Hosts may read `term`, and be fenced by that.
    pub reads_term: bool,
    /// How often the hungry host may be another one.
    pub shifts: u8,
    /// The limit, in the first policy and in those that may come after it.
    pub policies: &'static [Terms],
    /// How many members may be removed, or lose power for good and be removed.
    pub removals: u8,
    /// Whether the limit is divided between hosts, or moves whole.
    pub is_divisible: bool,
    /// Whether outcomes of writes to ZooKeeper may be unknown.
    pub unknown_outcomes: bool,
    /// Whether hosts that are no members ask to become some.
    pub joins: bool,
    /// Whether a lowered budget has to be kept from when all have acknowledged it, and not only from
    /// when ZooKeeper has it as well: true as long as voters do not forget.
    pub promises_early: bool,
    /// Whether the budget alone is watched (I1), and not what it rests on.
    pub budget_only: bool,
    /// Which rules hold.
    pub rules: Rules,
}

/// The times of every scope.
pub const TIMING: Timing = Timing::DEFAULT;
/// When a scope begins.
const EPOCH: Nanos = Nanos(100_000_000_000);

/// When a host's clock begins that was switched on meanwhile.
const BOOT: Nanos = Nanos(1_000_000_000);

/// How many steps of the clock a lease lasts. A leader stops when it has committed nothing for half a
/// lease: steps of half a lease or more would leave no old leader alive. It makes another proposal
/// after a quarter: only in shorter steps does it remind of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// So many.
    pub steps_per_lease: u8,
}

impl Pace {
    /// As coarse as makes sense: most of what can go wrong needs few steps.
    pub const THIRDS: Self = Self { steps_per_lease: 3 };
    /// Fine enough for reminders.
    pub const SIXTHS: Self = Self { steps_per_lease: 6 };

    /// What a host's clock shows.
    #[must_use]
    pub fn host_clock(self, step: u8) -> Nanos {
        EPOCH + self.passed(TIMING.lease, step)
    }

    /// What a host's clock shows so many steps after it was switched on.
    #[must_use]
    pub fn boot_clock(self, steps: u8) -> Nanos {
        BOOT + self.passed(TIMING.lease, steps)
    }

    /// What a leader's clock shows. It is as fast as the protocol allows for, so that W, by this
    /// clock, is a lease by the hosts' clocks, and not a moment more.
    #[must_use]
    pub fn leader_clock(self, step: u8) -> Nanos {
        EPOCH + self.passed(TIMING.wait(), step)
    }

    fn passed(self, lease: Duration, steps: u8) -> Duration {
        lease * u32::from(steps) / u32::from(self.steps_per_lease)
    }
}

/// The identity of a host.
#[must_use]
pub const fn node(index: u8) -> NodeId {
    NodeId::from_u128(index as u128 + 1)
}

/// Which host this is.
#[must_use]
pub fn index_of(node: NodeId) -> u8 {
    u8::try_from(node.0.as_u128() - 1).expect("identities are made from indices")
}

impl Scope {
    /// Three hosts that all vote, two leaders, one token that moves whole, and nothing that goes
    /// wrong but delay, loss and reordering.
    pub const SMALL: Self = Self {
        name: "small",
        about: "one token that moves, no floors",
        begins: Begins::Settled,
        hosts: 3,
        members: 3,
        voters: &[&[0, 1, 2]],
        leaders: 2,
        steps: 3,
        pace: Pace::THIRDS,
        restarts: 0,
        reboots: 0,
        sessions: 0,
        duplicates: 0,
        capacity: 1,
        pauses: false,
        late_reports: false,
        late_answers: false,
        reads_term: false,
        shifts: 0,
        policies: &[Terms {
            budget: 1,
            floor: 0,
            scale: Scale { fraction_bits: 0 },
        }],
        removals: 0,
        is_divisible: false,
        unknown_outcomes: false,
        joins: false,
        promises_early: false,
        budget_only: false,
        rules: Rules::ALL,
    };

    /// The voters of a choice.
    #[must_use]
    pub fn voter_set(&self, choice: u8) -> Vec<NodeId> {
        let set = self.voters[usize::from(choice)];
        set.iter().copied().map(node).collect()
    }

    /// A limits document.
    #[must_use]
    pub fn policy(&self, index: u8) -> Policy {
        Policy {
            fleet: FleetSettings {
                max_members: self.hosts.into(),
                ..FleetSettings::default()
            },
            limits: vec![self.limit(self.policies[usize::from(index)])].into(),
        }
    }

    /// The limit, as these terms have it.
    #[must_use]
    pub fn limit(&self, terms: Terms) -> Limit {
        Limit {
            name: String::new(),
            id: LIMIT,
            revision: Revision(1),
            matches: Match::default(),
            per: None,
            cost: Cost::Packets,
            overhead_bytes: 0,
            quic: false,
            scale: terms.scale,
            budget: amount(terms.budget, terms.scale),
            floor: amount(terms.floor, terms.scale),
            smallest_burst: amount(1, terms.scale).burst,
            is_divisible: self.is_divisible,
            promise: Promise::Strict,
            excess: None,
            on_expiry: OnExpiry::Floor,
            mode: Mode::Enforce,
        }
    }

    /// The limit, by a policy of this version.
    #[must_use]
    pub fn limit_of(&self, version: PolicyVersion) -> Limit {
        self.limit(self.policies[usize::from(place_of(version))])
    }

    /// The largest budget of these policies, in the [`FINEST`] units.
    #[must_use]
    pub fn largest_budget(&self, policies: std::ops::RangeInclusive<u8>) -> Amount {
        let budgets = policies.map(|index| self.policies[usize::from(index)].budget);
        amount(budgets.max().unwrap_or(0), FINEST)
    }

    /// The most by which a book may be above a budget for rounding alone, in the [`FINEST`] units: a
    /// leader that goes on from coarser units has rounded up what each host may hold.
    #[must_use]
    pub fn rounding(&self) -> Amount {
        let bits = self.policies.iter().map(|terms| terms.scale.fraction_bits);
        let coarsest = bits.clone().min().unwrap_or(0);
        let unit = 1 << (FINEST.fraction_bits - coarsest);
        let all = if bits.max() == Some(coarsest) {
            0
        } else {
            u64::from(self.hosts) * (unit - 1)
        };
        Amount {
            rate: UnitsPerSecond(all),
            burst: Units(all),
        }
    }
}

/// The one limit.
pub const LIMIT: LimitId = LimitId(1);

/// So many tokens a second, and so many at once.
#[must_use]
pub const fn amount(tokens: u64, scale: Scale) -> Amount {
    let units = tokens << scale.fraction_bits;
    Amount {
        rate: UnitsPerSecond(units),
        burst: Units(units),
    }
}

/// Rate and burst in tokens, of an amount in the [`FINEST`] units.
#[must_use]
pub fn tokens(amount: Amount) -> String {
    let (rate, burst) = (
        FINEST.tokens_per_second(amount.rate),
        FINEST.tokens(amount.burst),
    );
    format!("{rate}/{burst}")
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} hosts, {} of them members, {} leaders, {} steps of a {}th of a lease, {} restarts, {} \
             reboots, {} new sessions, {} duplicates, {} moves of traffic, {} policies, {} \
             removals, {} messages under way each way",
            self.about,
            self.hosts,
            self.members,
            self.leaders,
            self.steps,
            self.pace.steps_per_lease,
            self.restarts,
            self.reboots,
            self.sessions,
            self.duplicates,
            self.shifts,
            self.policies.len(),
            self.removals,
            self.capacity,
        )?;
        let perhaps = [
            (self.pauses, "pauses"),
            (self.late_reports, "late reports"),
            (self.late_answers, "late answers"),
            (self.reads_term, "reads of `term`"),
            (self.joins, "joins"),
            (self.unknown_outcomes, "unknown outcomes of writes"),
        ];
        perhaps
            .iter()
            .filter(|(is_so, _)| *is_so)
            .try_for_each(|(_, what)| write!(f, ", {what}"))
    }
}
