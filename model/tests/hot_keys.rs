//! What a hot key is to whoever divides budgets.

#![cfg(feature = "file")]
#![allow(clippy::unwrap_used)]

use weir_model::{Amount, HotKey, LimitId, Policy, Units, UnitsPerSecond, file, prefix::Prefix};

fn policy(promise: &str, members: u32) -> Policy {
    let text = format!(
        "version = 1\n[fleet]\nmax_members = {members}\n[[limit]]\nname = \"clients\"\n\
         per = {{}}\nrate = \"500 packets/s\"\nburst = \"1k packets\"\npromise = \"{promise}\"\n"
    );
    file::parse(&text).unwrap()
}

fn key(policy: &Policy) -> HotKey {
    let key = Prefix::containing([198, 18, 0, 7].into(), 32).unwrap();
    HotKey::new(&policy.limits[0], key)
}

fn times(amount: Amount, count: u64) -> Amount {
    Amount {
        rate: UnitsPerSecond(amount.rate.0 * count),
        burst: Units(amount.burst.0 * count),
    }
}

/// Whatever becomes hot where: all that hosts give a key, and its page, are not more than the limit.
#[test]
fn cold_shares_and_the_page_of_a_strict_key_are_its_budget() {
    for members in [2, 3, 64, 499] {
        let policy = policy("strict", members);
        let limit = &policy.limits[0];
        let page = policy.hot_limit(&key(&policy)).unwrap();
        let cold = times(limit.key_amount().unwrap(), members.into());
        assert!(cold.saturating_add(page.budget).fits(limit.budget));
        assert!(times(page.budget, 2).rate.0 + 1 >= limit.budget.rate.0);
        assert_eq!((page.floor, page.scale), (Amount::ZERO, limit.scale));
        assert!(page.is_leased() && page.id == key(&policy).id);
        assert_eq!(page.name, "clients[198.18.0.7/32]");
    }
}

#[test]
fn the_floors_of_an_elastic_key_are_its_excess() {
    let policy = policy("elastic", 64);
    let limit = &policy.limits[0];
    let page = policy.hot_limit(&key(&policy)).unwrap();
    let floors = times(page.floor, 64);
    assert_eq!(page.budget, limit.budget.saturating_add(floors));
    assert!(floors.rate.0 <= limit.budget.rate.0 / 10);
    assert!(floors.rate.0 + 64 > limit.budget.rate.0 / 10);
    assert_eq!(page.floor.burst, limit.smallest_burst);
}

#[test]
fn what_is_not_merged_has_no_hot_keys() {
    for (promise, members) in [("local", 64), ("strict", 1), ("elastic", 1)] {
        let policy = policy(promise, members);
        assert_eq!(policy.hot_limit(&key(&policy)), None, "{promise} {members}");
    }
    let policy = policy("strict", 64);
    let other = HotKey {
        id: LimitId(key(&policy).id.0 ^ 1),
        ..key(&policy)
    };
    assert_eq!(policy.hot_limit(&other), None, "of another limit");
    let shorter = Prefix::containing([198, 18, 0, 7].into(), 24).unwrap();
    let shorter = HotKey::new(&policy.limits[0], shorter);
    assert_eq!(policy.hot_limit(&shorter), None, "of another length");
}

/// What is held of a key in old units counts against its budget in new ones.
#[test]
fn a_limit_whose_units_change_has_the_same_hot_keys() {
    let before = policy("strict", 64);
    let after = |from: &str, to: &str| {
        let text = "version = 1\n[[limit]]\nname = \"clients\"\nper = {}\n\
                    rate = \"500 packets/s\"\npromise = \"strict\"\n";
        file::parse(&text.replace(from, to)).unwrap()
    };
    for after in [after("500 ", "100k "), after("500 packets", "1 Gbit")] {
        assert_ne!(before.limits[0].revision, after.limits[0].revision);
        assert_eq!(key(&before), key(&after));
        let page = after.hot_limit(&key(&before)).unwrap();
        assert_eq!(page.scale, after.limits[0].scale);
    }
}

/// Identities of hot keys are apart from those of names.
#[test]
fn names_that_hash_to_keys_are_refused() {
    let mut names = (0..1_000_000).map(|number| format!("limit-{number}"));
    let name = names.find(|name| LimitId::of(name).is_key()).unwrap();
    let text = format!("version = 1\n[[limit]]\nname = \"{name}\"\nrate = \"500 packets/s\"\n");
    let problems = file::check(&text).problems;
    let expected = format!(
        "3:8: error: the hash of \"{name}\" is one of those that are kept for single keys; choose \
         another name; one in 65,536 is like this"
    );
    assert_eq!(problems[0].to_string(), expected);
    assert!(key(&policy("strict", 64)).id.is_key());
}
