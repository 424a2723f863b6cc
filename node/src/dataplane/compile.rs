//! From a policy to tables: which limits apply to each destination prefix.
//!
//! The kernel finds the longest prefix of a destination and looks no further, so each prefix's
//! entry lists the limits of all prefixes that cover it, too. The same goes for sources.

use std::collections::{BTreeMap, BTreeSet};

use weir_abi::{Cost, PortRange, Protocol, Rule, maps};
use weir_model::{
    LimitId, Policy, Revision,
    policy::{self, Limit, Mode},
    prefix::Prefix,
};

use super::error::DataplaneError;

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
pub(crate) fn compile(policy: &Policy) -> Result<Tables, DataplaneError> {
    bounded("limits", policy.limits.len(), maps::SLOTS / 2)?;
    let sets = source_sets(policy);
    bounded("different source lists", sets.len(), maps::SOURCE_SETS)?;
    let rules = policy
        .limits
        .iter()
        .map(|limit| Ok((limit.id, limit.revision, rule(limit, &sets)?)))
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

fn rule(limit: &Limit, sets: &[BTreeSet<Prefix>]) -> Result<Rule, DataplaneError> {
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
        source_set: source_set.map_or(0, |number| number as u32 + 1),
        overhead_bytes: 0,
        protocol: match limit.matches.protocol {
            policy::Protocol::Any => Protocol::Any,
            policy::Protocol::Tcp => Protocol::Tcp,
            policy::Protocol::Udp => Protocol::Udp,
            policy::Protocol::Icmp => Protocol::Icmp,
        } as u8,
        cost: match limit.cost {
            policy::Cost::Packets => Cost::Packets,
            policy::Cost::Bits => Cost::Bits,
        } as u8,
        fraction_bits: limit.scale.fraction_bits,
        shadow: u8::from(limit.mode == Mode::Shadow),
        port_ranges: ranges.len() as u32,
        ports,
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
