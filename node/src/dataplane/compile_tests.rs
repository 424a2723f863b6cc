//! Compiled tables against going through the policy, limit by limit.

use std::net::IpAddr;

use proptest::prelude::*;
use weir_model::{
    Amount, Cost, Scale, Units,
    policy::{Match, PortRange, Promise},
};

use super::*;

const CAPACITY: Capacity = Capacity {
    slots: maps::DEFAULT_SLOTS as u32,
    key_seed: 1,
    gives: true,
};

fn limit(name: &str, to: Vec<Prefix>, from: Vec<Prefix>) -> Limit {
    Limit {
        name: name.to_owned(),
        id: LimitId::of(name),
        revision: Revision(0),
        matches: Match {
            to,
            from,
            ..Match::default()
        },
        cost: Cost::Packets,
        scale: Scale::default(),
        budget: Amount::ZERO,
        floor: Amount::ZERO,
        smallest_burst: Units(1),
        promise: Promise::Strict,
        mode: Mode::Enforce,
        per: None,
        overhead_bytes: 0,
        quic: false,
        is_divisible: true,
        excess: None,
        on_expiry: policy::OnExpiry::Floor,
    }
}

fn policy(limits: Vec<Limit>) -> Policy {
    Policy {
        limits: limits.into(),
        ..Policy::default()
    }
}

/// The entry of the longest prefix, as a trie finds it.
fn longest<T: Copy>(entries: &[(Prefix, T)], address: IpAddr) -> Option<T> {
    let host = host(address);
    let covering = entries.iter().filter(|(prefix, _)| prefix.contains(host));
    covering
        .max_by_key(|(prefix, _)| prefix.length())
        .map(|(_, value)| *value)
}

fn host(address: IpAddr) -> Prefix {
    Prefix::containing(address, if address.is_ipv4() { 32 } else { 128 }).unwrap()
}

/// Few bits vary, so that prefixes nest and addresses hit.
fn address() -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), 0..32_u32).prop_map(|(v4, bits)| {
        if v4 {
            IpAddr::from((0xc000_0200 | bits << 3).to_be_bytes())
        } else {
            IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(bits)).to_be_bytes())
        }
    })
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let length = prop_oneof![Just(0_u8), 24..=32_u8, 120..=128_u8];
    (address(), length).prop_filter_map("longer than the address", |(address, length)| {
        Prefix::containing(address, length)
    })
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let prefixes = || prop::collection::vec(prefix(), 0..4);
    let one = (prefixes(), prefixes());
    prop::collection::vec(one, 0..=maps::RULES_PER_SERVICE).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(number, (to, from))| limit(&format!("limit-{number}"), to, from))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_address_has_the_limits_whose_prefixes_cover_it(
        limits in limits(),
        addresses in prop::collection::vec(address(), 20),
    ) {
        let policy = policy(limits);
        let tables = compile(&policy, CAPACITY).unwrap();
        for address in addresses {
            let within = |prefixes: &[Prefix]| {
                prefixes.is_empty() || prefixes.iter().any(|one| one.contains(host(address)))
            };
            let found = longest(&tables.destinations, address);
            let found = found.map_or(&[][..], |service| &tables.services[service]);
            let expected: Vec<usize> = (0..policy.limits.len())
                .filter(|limit| within(&policy.limits[*limit].matches.to))
                .collect();
            prop_assert_eq!(found, &expected[..]);

            let bits = longest(&tables.sources, address).unwrap_or(0);
            for (limit, (_, _, rule)) in policy.limits.iter().zip(&tables.rules) {
                let is_in = match rule.source_set {
                    0 => true,
                    set => bits >> (set - 1) & 1 == 1,
                };
                prop_assert_eq!(is_in, within(&limit.matches.from));
            }
        }
    }
}

#[test]
fn too_many_limits_for_an_address_are_named() {
    let everywhere = |number| limit(&format!("limit-{number}"), Vec::new(), Vec::new());
    let mut limits: Vec<Limit> = (0..8).map(everywhere).collect();
    assert!(compile(&policy(limits.clone()), CAPACITY).is_ok());
    limits.push(limit(
        "ninth",
        vec!["192.0.2.0/24".parse().unwrap()],
        Vec::new(),
    ));
    let error = compile(&policy(limits), CAPACITY).unwrap_err().to_string();
    assert!(
        error.contains("9 limits apply to 192.0.2.0/24, and at most 8 can"),
        "{error}"
    );
    assert!(
        error.contains("limit-0") && error.contains("ninth"),
        "{error}"
    );
}

#[test]
fn too_many_port_ranges_are_refused() {
    let mut many = limit("ports", Vec::new(), Vec::new());
    many.matches.ports = (0..9)
        .map(|number| PortRange {
            first: number * 10,
            last: number * 10 + 1,
        })
        .collect();
    let error = compile(&policy(vec![many]), CAPACITY)
        .unwrap_err()
        .to_string();
    assert!(error.contains("limit ports has 9 port ranges"), "{error}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let one_each = |number: u32| {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        limit(
            &number.to_string(),
            vec![host(address)],
            vec![host(address)],
        )
    };
    let error = compile(&policy((0..65).map(one_each).collect()), CAPACITY)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the policy has 65 different source lists, and at most 64 fit"
    );
    let error = compile(&policy((0..4_097).map(one_each).collect()), CAPACITY)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "the policy has 4097 limits, and at most 4096 fit");
}

#[test]
fn equal_lists_of_limits_are_one_service() {
    let to = (0..200_u32).map(|number| host(IpAddr::from((0x0a00_0000 + number).to_be_bytes())));
    let tables = compile(
        &policy(vec![limit("many", to.collect(), Vec::new())]),
        CAPACITY,
    )
    .unwrap();
    assert_eq!((tables.services.len(), tables.destinations.len()), (1, 200));
}
