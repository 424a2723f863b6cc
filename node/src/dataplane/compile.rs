//! From a policy to tables: which limits apply to each destination prefix.
//!
//! The kernel finds the longest prefix of a destination and looks no further, so each prefix's
//! entry lists the limits of all prefixes that cover it, too. The same goes for sources.

use std::collections::{BTreeMap, BTreeSet};

use weir_abi::{Cost, KeyLine, OnExpiry, PolicyRecord, PortRange, Protocol, Rule, maps};
use weir_model::{
    LimitId, Policy, Revision,
    policy::{self, Fragments, Limit, Mode, Promise},
    prefix::Prefix,
};

use super::error::DataplaneError;

/// What a data plane brings along that a policy does not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Slots for limits.
    pub(crate) slots: u32,
    /// See [`maps::KEY_SEED`].
    pub(crate) key_seed: u64,
    /// Whether keys of strict limits have this host's part of their budget; else only what is leased.
    pub(crate) gives: bool,
}

/// A policy as tables. Limits are referred to by their index in `rules`.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// A bucket's identity and its rule, for each limit.
    pub(crate) rules: Vec<(LimitId, Revision, Rule)>,
    /// Different lists of limits.
    pub(crate) services: Vec<Vec<usize>>,
    /// Which service each destination prefix has.
    pub(crate) destinations: Vec<(Prefix, usize)>,
    /// Which source sets each source prefix is in, as bits.
    pub(crate) sources: Vec<(Prefix, u64)>,
}

/// Compiles a policy.
///
/// # Errors
///
/// If it does not fit the maps; the error names the limits.
pub(crate) fn compile(policy: &Policy, capacity: Capacity) -> Result<Tables, DataplaneError> {
    bounded("limits", policy.limits.len(), capacity.slots as usize / 2)?;
    let sets = source_sets(policy);
    bounded("different source lists", sets.len(), maps::SOURCE_SETS)?;
    let rules = policy
        .limits
        .iter()
        .map(|limit| {
            let rule = rule(limit, &sets, capacity)?;
            Ok((limit.id, limit.revision, rule))
        })
        .collect::<Result<_, DataplaneError>>()?;
    let (services, destinations) = services(policy)?;
    let sources = sources(&sets);
    // Two policies share the tries while one takes over from the other.
    bounded(
        "destination prefixes",
        destinations.len(),
        maps::PREFIXES / 2,
    )?;
    bounded("source prefixes", sources.len(), maps::PREFIXES / 2)?;
    bounded("services", services.len(), maps::SERVICES_PER_SIDE)?;
    Ok(Tables {
        rules,
        services,
        destinations,
        sources,
    })
}

fn bounded(what: &'static str, found: usize, most: usize) -> Result<(), DataplaneError> {
    if found <= most {
        return Ok(());
    }
    Err(DataplaneError::TooLarge { what, found, most })
}

/// The different lists of source prefixes, each a set with a number.
fn source_sets(policy: &Policy) -> Vec<BTreeSet<Prefix>> {
    let sets: BTreeSet<BTreeSet<Prefix>> = policy
        .limits
        .iter()
        .map(|limit| limit.matches.from.iter().copied().collect())
        .filter(|set: &BTreeSet<Prefix>| !set.is_empty())
        .collect();
    sets.into_iter().collect()
}

fn rule(
    limit: &Limit,
    sets: &[BTreeSet<Prefix>],
    capacity: Capacity,
) -> Result<Rule, DataplaneError> {
    let ranges = &limit.matches.ports;
    if ranges.len() > maps::PORT_RANGES_PER_RULE {
        return Err(DataplaneError::TooManyPortRanges {
            limit: limit.name.clone(),
            found: ranges.len(),
            most: maps::PORT_RANGES_PER_RULE,
        });
    }
    let mut ports = [PortRange::default(); maps::PORT_RANGES_PER_RULE];
    for (place, range) in ports.iter_mut().zip(ranges) {
        *place = PortRange {
            first: range.first,
            last: range.last,
        };
    }
    let from: BTreeSet<Prefix> = limit.matches.from.iter().copied().collect();
    let source_set = sets.iter().position(|set| *set == from);
    Ok(Rule {
        limit: limit.id.0,
        source_set: source_set.map_or(0, |number| number as u16 + 1),
        overhead_bytes: limit.overhead_bytes,
        protocol: match limit.matches.protocol {
            policy::Protocol::Any => Protocol::Any,
            policy::Protocol::Tcp => Protocol::Tcp,
            policy::Protocol::Udp => Protocol::Udp,
            policy::Protocol::Icmp => Protocol::Icmp,
        } as u8,
        cost: match limit.cost {
            policy::Cost::Packets => Cost::Packets,
            policy::Cost::Bits => Cost::Bits,
            policy::Cost::Connections => Cost::Connections,
        } as u8,
        fraction_bits: limit.scale.fraction_bits,
        shadow: u8::from(limit.mode == Mode::Shadow),
        on_expiry: match limit.on_expiry {
            policy::OnExpiry::Floor => OnExpiry::Floor,
            policy::OnExpiry::Closed => OnExpiry::Closed,
            policy::OnExpiry::Open => OnExpiry::Open,
        } as u8,
        tcp_flags: [limit.matches.tcp_flags.mask, limit.matches.tcp_flags.value],
        fragments_only: u8::from(limit.matches.fragments == Fragments::Only),
        quic: u8::from(limit.quic),
        port_ranges: ranges.len() as u8,
        ports,
        ..keyed(limit, capacity)
    })
}

/// What a keyed limit's rule says of keys; nothing for any other limit.
fn keyed(limit: &Limit, capacity: Capacity) -> Rule {
    let (Some(key), Some(amount)) = (limit.per, limit.key_amount()) else {
        return Rule::default();
    };
    let pace = Pace::of(amount, limit.scale);
    let smallest = pace.cost_ns(limit.smallest_burst.0 >> limit.scale.fraction_bits);
    // As much as the packets cost that it is to hold, each rounded up.
    let tokens = amount.burst.0 >> limit.scale.fraction_bits;
    let burst = match limit.cost {
        policy::Cost::Packets | policy::Cost::Connections => tokens.saturating_mul(pace.cost_ns(1)),
        policy::Cost::Bits => pace.cost_ns(tokens),
    };
    let is_given = capacity.gives || limit.promise != Promise::Strict;
    let mask6 = u128::MAX.unbounded_shl(128 - u32::from(key.source_v6));
    let mask6 = mask6.to_be_bytes();
    let revision = limit.revision.regardless_of_scale();
    Rule {
        keyed: 1,
        hot_alone: u32::from(limit.promise == Promise::Elastic),
        key_shift: pace.shift,
        key_interval: pace.interval,
        // A bucket that never holds what a packet costs.
        key_burst_ns: if is_given {
            burst.max(smallest).min(KeyLine::MAX_DEBT_NS)
        } else {
            0
        },
        key_seed: weir_limiter::key_seed(capacity.key_seed, limit.id.0, u64::from(revision.0)),
        key_mask4: u32::MAX
            .unbounded_shl(32 - u32::from(key.source_v4))
            .to_be(),
        key_mask6: std::array::from_fn(|word| {
            let bytes = &mask6[4 * word..4 * word + 4];
            u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
        }),
        ..Rule::default()
    }
}

/// A rate in nanoseconds.
struct Pace {
    /// Nanoseconds a token times 2^`shift`, rounded up, so that no key is ever too fast.
    interval: u64,
    shift: u8,
}

impl Pace {
    /// A packet costs less than 2^20 tokens; with an interval of this many bits the product fits
    /// a word.
    const INTERVAL_BITS: u32 = 43;
    const MAX_SHIFT: u32 = 32;

    fn of(amount: weir_model::Amount, scale: weir_model::Scale) -> Self {
        const NANOS: u128 = 1_000_000_000;
        let rate = u128::from(amount.rate.0.max(1));
        let token = NANOS << scale.fraction_bits;
        let whole = token.div_ceil(rate);
        let bits = u128::BITS - whole.leading_zeros();
        let shift = Self::INTERVAL_BITS
            .saturating_sub(bits)
            .min(Self::MAX_SHIFT);
        let saturated = |wide: u128| u64::try_from(wide).unwrap_or(u64::MAX);
        Self {
            interval: saturated((token << shift).div_ceil(rate)),
            shift: shift as u8,
        }
    }

    fn cost_ns(&self, tokens: u64) -> u64 {
        let cost = (u128::from(tokens) * u128::from(self.interval)).div_ceil(1 << self.shift);
        u64::try_from(cost).unwrap_or(u64::MAX)
    }
}

/// What a side's record says of its services: destinations need no search where all of a family
/// have the same, or none has one.
pub(crate) fn known_services(destinations: &[(Prefix, usize)]) -> [u32; 2] {
    [true, false].map(|is_v4| {
        let of_family = |(prefix, _): &&(Prefix, usize)| prefix.address().is_ipv4() == is_v4;
        let mut own = destinations.iter().filter(of_family);
        match (own.next(), own.next()) {
            (None, _) => 0,
            (Some((prefix, number)), None) if prefix.length() == 0 => *number as u32 + 1,
            _ => PolicyRecord::SEARCH,
        }
    })
}

/// The prefixes of all addresses.
pub(crate) fn everywhere() -> [Prefix; 2] {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ]
    .map(|address| Prefix::containing(address, 0).expect("0 bits fit any address"))
}

type Services = (Vec<Vec<usize>>, Vec<(Prefix, usize)>);

fn services(policy: &Policy) -> Result<Services, DataplaneError> {
    let mut of_prefix: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
    for (index, limit) in policy.limits.iter().enumerate() {
        let to = if limit.matches.to.is_empty() {
            everywhere().to_vec()
        } else {
            limit.matches.to.clone()
        };
        for prefix in to {
            of_prefix.entry(prefix).or_default().push(index);
        }
    }
    let mut numbers: BTreeMap<Vec<usize>, usize> = BTreeMap::new();
    let mut services = Vec::new();
    let mut destinations = Vec::new();
    for (prefix, mut limits) in flatten(of_prefix) {
        limits.sort_unstable();
        limits.dedup();
        // Keyed limits are asked first: the last one is charged at once, and aggregate limits are
        // those that all CPUs charge.
        limits.sort_by_key(|limit| policy.limits[*limit].per.is_none());
        if limits.len() > maps::RULES_PER_SERVICE {
            return Err(DataplaneError::TooManyRules {
                prefix: prefix.to_string(),
                limits: limits
                    .iter()
                    .map(|limit| policy.limits[*limit].name.clone())
                    .collect(),
                most: maps::RULES_PER_SERVICE,
            });
        }
        let number = *numbers.entry(limits.clone()).or_insert_with(|| {
            services.push(limits);
            services.len() - 1
        });
        destinations.push((prefix, number));
    }
    Ok((services, destinations))
}

fn sources(sets: &[BTreeSet<Prefix>]) -> Vec<(Prefix, u64)> {
    let mut of_prefix: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
    for (number, set) in sets.iter().enumerate() {
        for prefix in set {
            of_prefix.entry(*prefix).or_default().push(number);
        }
    }
    flatten(of_prefix)
        .into_iter()
        .map(|(prefix, sets)| {
            let bits = sets.into_iter().fold(0, |bits, number| bits | 1 << number);
            (prefix, bits)
        })
        .collect()
}

/// Gives each prefix what all prefixes that cover it have as well.
///
/// Each prefix looks its covering ones up, by the lengths that occur at all.
pub(crate) fn flatten(own: BTreeMap<Prefix, Vec<usize>>) -> BTreeMap<Prefix, Vec<usize>> {
    let lengths: BTreeSet<u8> = own.keys().map(|prefix| prefix.length()).collect();
    own.keys()
        .map(|prefix| {
            let inherited = lengths
                .range(..=prefix.length())
                .filter_map(|length| Prefix::containing(prefix.address(), *length))
                .filter_map(|covering| own.get(&covering))
                .flatten()
                .copied()
                .collect();
            (*prefix, inherited)
        })
        .collect()
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
