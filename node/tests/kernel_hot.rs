//! Keys with leased buckets in the kernel: what they are given, what they fall to, and that nobody
//! inherits from another.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::net::IpAddr;

use kernel_support::{
    TestHost, Wire, amount, frames, limit, policy,
    upgrade::{Build, Loaded},
    wait_for,
};
use weir_model::{
    Amount, HotKey, Limit, LimitId, Nanos, PolicyVersion, Revision, Units,
    hot::MAX_HOT_KEYS,
    policy::{Key, Promise},
    prefix::Prefix,
};
use weir_node::dataplane::{self, Dataplane, GrantRequest, InstallOutcome};

/// What every key may spend of its other bucket, at once; a token comes in each 1,000 s.
const COLD: usize = 10;
const FRACTION_BITS: u8 = 20;
const SECOND: u64 = 1_000_000_000;

fn units(tokens: u64) -> u64 {
    tokens << FRACTION_BITS
}

fn by_source(promise: Promise) -> Limit {
    let mut limit = limit("clients");
    limit.promise = promise;
    limit.per = Some(Key::default());
    limit.scale.fraction_bits = FRACTION_BITS;
    limit.smallest_burst = Units(units(1));
    limit.budget = amount(units(1) / 100, units(1_000));
    limit.floor = amount(units(1) / 1_000, units(COLD as u64));
    limit
}

fn address(number: u8) -> IpAddr {
    [198, 18, 7, number].into()
}

fn by(number: u8) -> Vec<u8> {
    frames::udp(
        address(number),
        "198.18.0.2".parse().unwrap(),
        (4_000, 53),
        60,
    )
}

fn key(limit: &Limit, number: u8) -> HotKey {
    HotKey::new(limit, Prefix::containing(address(number), 32).unwrap())
}

fn activate(dataplane: &mut Dataplane, limit: &Limit, version: u64) {
    let policy = policy([limit.clone()]);
    dataplane.activate(&policy, PolicyVersion(version)).unwrap();
}

fn grant(dataplane: &mut Dataplane, id: LimitId, amount: Amount, floor: Amount, expires: Nanos) {
    let request = GrantRequest {
        limit: id,
        amount,
        floor,
        expires,
    };
    let outcome = dataplane.install(&[request]).unwrap();
    let is_installed = matches!(outcome[..], [InstallOutcome::Installed { .. }]);
    assert!(is_installed, "{outcome:?}");
}

/// Fills a bucket by the test's clock, and lets nothing more come in.
fn fill(dataplane: &mut Dataplane, id: LimitId, tokens: u64, now: &mut Nanos) {
    let full = amount(units(tokens), units(tokens));
    grant(dataplane, id, full, Amount::ZERO, Nanos::NEVER);
    *now = Nanos(now.0 + 2 * SECOND);
    dataplane.set_test_clock(*now).unwrap();
    let still = amount(0, units(tokens));
    grant(dataplane, id, still, Amount::ZERO, Nanos::NEVER);
}

fn passed(dataplane: &Dataplane, number: u8, packets: usize) -> usize {
    let frame = by(number);
    (0..packets)
        .filter(|_| dataplane.run_frame(&frame).unwrap())
        .count()
}

/// A host with this limit, by a clock that stands still.
fn on_host(promise: Promise, test: impl FnOnce(&mut Dataplane, &Limit, &mut Nanos) + Send) {
    TestHost::run(|host| {
        let mut dataplane = host.load_detached();
        let mut now = Nanos(1 << 40);
        dataplane.set_test_clock(now).unwrap();
        let limit = by_source(promise);
        activate(&mut dataplane, &limit, 1);
        test(&mut dataplane, &limit, &mut now);
    });
}

#[test]
fn a_slot_that_another_key_gets_carries_nothing_over() {
    on_host(Promise::Elastic, |dataplane, limit, now| {
        // Every slot has had a key with tokens left, and one that is ahead of its clock.
        let many: Vec<HotKey> = (0..MAX_HOT_KEYS as u32)
            .map(|number| {
                let source = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
                HotKey::new(limit, Prefix::containing(source, 32).unwrap())
            })
            .collect();
        dataplane.set_hot_keys(&many).unwrap();
        for key in &many {
            let full = amount(units(50), units(50));
            grant(dataplane, key.id, full, Amount::ZERO, Nanos::NEVER);
        }
        *now = Nanos(now.0 + 2 * SECOND);
        dataplane.set_test_clock(*now).unwrap();
        let held = dataplane.held(many[7].id).unwrap().unwrap();
        assert_eq!(held.unspent, Units(units(50)));

        let one = key(limit, 1);
        dataplane.set_hot_keys(&[one]).unwrap();
        assert!(dataplane.hot_keys().eq([one]));
        let held = dataplane.held(one.id).unwrap().unwrap();
        assert_eq!((held.unspent, held.amount), (Units(0), Amount::ZERO));
        assert_eq!(passed(dataplane, 1, 20), 0, "no grant yet");
        fill(dataplane, one.id, 5, now);
        assert_eq!(passed(dataplane, 1, 20), 5);
        let counted = dataplane.count(one.id).unwrap().unwrap();
        assert_eq!(
            (counted.offered_tokens(), counted.admitted_tokens()),
            (40, 5)
        );

        // It comes back, to the slot that it had: as new as any other.
        for keys in [&[][..], &[one]] {
            dataplane.set_hot_keys(keys).unwrap();
        }
        assert_eq!(
            dataplane.count(one.id).unwrap().unwrap().offered_tokens(),
            0
        );
        assert_eq!(passed(dataplane, 1, 20), 0);
        assert_eq!(dataplane.held(many[7].id).unwrap(), None);
    });
}

#[test]
fn more_keys_than_there_are_slots_change_nothing() {
    on_host(Promise::Strict, |dataplane, limit, _| {
        let many: Vec<HotKey> = (0..=MAX_HOT_KEYS as u32)
            .map(|number| {
                let source = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
                HotKey::new(limit, Prefix::containing(source, 32).unwrap())
            })
            .collect();
        dataplane.set_hot_keys(&many[1..3]).unwrap();
        dataplane.set_hot_keys(&many).unwrap_err();
        assert_eq!(dataplane.hot_keys().count(), 2);
        dataplane.set_hot_keys(&many[1..]).unwrap();
        assert_eq!(dataplane.hot_keys().count(), MAX_HOT_KEYS);
    });
}

#[test]
fn keys_of_a_limit_that_leaves_or_is_another_are_hot_no_more() {
    on_host(Promise::Elastic, |dataplane, limit, now| {
        let one = key(limit, 1);
        dataplane.set_hot_keys(&[one]).unwrap();
        fill(dataplane, one.id, 5, now);

        // Of another rate, it is the same limit; and beside another, too.
        let mut faster = limit.clone();
        faster.budget.rate.0 *= 2;
        activate(dataplane, &faster, 2);
        assert!(dataplane.hot_keys().eq([one]));
        assert_eq!(passed(dataplane, 1, 20), 5, "its rule knows of it");

        let mut other = limit.clone();
        other.revision = Revision(9);
        activate(dataplane, &other, 3);
        assert_eq!(dataplane.hot_keys().count(), 0);
        assert_eq!(passed(dataplane, 1, 20), COLD);

        // What is said of a key that the policy does not have is not done.
        dataplane.set_hot_keys(&[key(&other, 1)]).unwrap();
        let mut strange = key(&other, 2);
        strange.limit = LimitId::of("nobody");
        let mut wide = key(&other, 3);
        wide.key = Prefix::containing(address(3), 24).unwrap();
        let kept = key(&other, 1);
        dataplane.set_hot_keys(&[strange, kept, wide]).unwrap();
        assert!(dataplane.hot_keys().eq([kept]));
        dataplane.activate(&policy([]), PolicyVersion(4)).unwrap();
        assert_eq!(dataplane.hot_keys().count(), 0);
    });
}

#[test]
fn a_policy_that_is_ready_knows_of_keys_that_became_hot_meanwhile() {
    on_host(Promise::Elastic, |dataplane, limit, now| {
        let ready = policy([limit.clone(), kernel_support::stingy(1_000)]);
        let prepared = dataplane.prepare(&ready, PolicyVersion(2)).unwrap();
        let one = key(limit, 1);
        dataplane.set_hot_keys(&[one]).unwrap();
        fill(dataplane, one.id, 5, now);
        dataplane.activate_prepared(&ready, prepared).unwrap();
        *now = Nanos(now.0 + 2 * SECOND);
        dataplane.set_test_clock(*now).unwrap();
        assert_eq!(passed(dataplane, 1, 20), 5);
    });
}

/// On a wire, by the boot clock: what arrives behind the program.
struct Behind {
    far: Wire,
    near: Wire,
}

impl Behind {
    /// How many of so many packets arrive.
    fn arrived(&self, dataplane: &Dataplane, number: u8, packets: u64) -> usize {
        let limit = LimitId::of("clients");
        let offered = || dataplane.count(limit).unwrap().unwrap().offered_tokens();
        let before = offered();
        let frame = by(number);
        for _ in 0..packets {
            self.far.send(&frame);
        }
        wait_for("packets to be decided", || offered() >= before + packets);
        self.near.drain()
    }
}

fn on_wire(promise: Promise, test: impl FnOnce(&TestHost, Dataplane, &Limit, &Behind) + Send) {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        let limit = by_source(promise);
        activate(&mut dataplane, &limit, 1);
        let wires = Behind {
            far: Wire::open("far"),
            near: Wire::open("near"),
        };
        test(host, dataplane, &limit, &wires);
    });
}

/// As [`fill`], by the boot clock.
fn fill_in_time(dataplane: &mut Dataplane, id: LimitId, tokens: u64, floor: Amount, until: Nanos) {
    let full = amount(units(100 * tokens), units(tokens));
    grant(dataplane, id, full, floor, until);
    wait_for("a full bucket", || {
        dataplane.held(id).unwrap().unwrap().unspent == Units(units(tokens))
    });
    let still = amount(0, units(tokens));
    grant(dataplane, id, still, floor, until);
}

#[test]
fn a_strict_key_gets_its_grant_and_its_share_and_no_more() {
    on_wire(Promise::Strict, |_, mut dataplane, limit, wires| {
        let one = key(limit, 1);
        dataplane.set_hot_keys(&[one]).unwrap();
        fill_in_time(&mut dataplane, one.id, 50, Amount::ZERO, Nanos::NEVER);
        assert_eq!(wires.arrived(&dataplane, 1, 500), 50 + COLD);
        assert_eq!(wires.arrived(&dataplane, 2, 500), COLD, "another key");
        let counted = dataplane.count(one.id).unwrap().unwrap();
        assert_eq!(
            (counted.offered_tokens(), counted.admitted_tokens()),
            (500, 50 + COLD as u64)
        );
    });
}

#[test]
fn an_elastic_key_falls_to_its_floor_with_nobody_there_and_a_restart_changes_nothing() {
    on_wire(Promise::Elastic, |host, mut dataplane, limit, wires| {
        let one = key(limit, 1);
        dataplane.set_hot_keys(&[one]).unwrap();
        let expires = Nanos(dataplane::now().0 + SECOND);
        let floor = amount(units(20), units(4));
        fill_in_time(&mut dataplane, one.id, 50, floor, expires);
        let arrived = wires.arrived(&dataplane, 1, 500);
        if dataplane::now() < expires {
            assert_eq!(arrived, 50, "held to its grant");
        }
        // Nobody installs anything from here on, and the daemon is another one.
        let counted = dataplane.count(one.id).unwrap().unwrap();
        drop(dataplane);
        let dataplane = host.load(&host.options(&["near"])).unwrap();
        assert!(dataplane.hot_keys().eq([one]));
        assert_eq!(dataplane.count(one.id).unwrap().unwrap(), counted);
        wait_for("the end of the lease", || dataplane::now() > expires);
        let held = || dataplane.held(one.id).unwrap().unwrap();
        assert_eq!((held().floor, held().expires), (floor, expires));
        wait_for("its floor's burst", || held().unspent == floor.burst);
        let begin = dataplane::now();
        let arrived = wires.arrived(&dataplane, 1, 200) as u64;
        let nanos = dataplane::now().0 - begin.0;
        let allowed = 4 + (20 * nanos).div_ceil(SECOND);
        assert!((4..=allowed).contains(&arrived), "{arrived} of {allowed}");
        assert!(held().floor == floor);
        assert_eq!(wires.arrived(&dataplane, 2, 100), COLD, "another key");
    });
}

#[test]
fn a_key_that_is_hot_no_more_is_one_like_any_other() {
    on_wire(Promise::Elastic, |_, mut dataplane, limit, wires| {
        let keys = [1, 2].map(|number| key(limit, number));
        dataplane.set_hot_keys(&keys).unwrap();
        for key in &keys {
            fill_in_time(&mut dataplane, key.id, 5, Amount::ZERO, Nanos::NEVER);
        }
        assert_eq!(wires.arrived(&dataplane, 1, 100), 5);
        dataplane.set_hot_keys(&keys[1..]).unwrap();
        assert_eq!(wires.arrived(&dataplane, 1, 100), COLD);
        assert_eq!(wires.arrived(&dataplane, 2, 100), 5, "still hot");
        assert_eq!(dataplane.count(keys[0].id).unwrap(), None);
        dataplane.set_hot_keys(&[]).unwrap();
        assert_eq!(wires.arrived(&dataplane, 2, 100), COLD);
    });
}

/// As it is in a data plane of either layout.
fn hot_keys(loaded: &Loaded) -> Vec<HotKey> {
    match loaded {
        Loaded::Own(dataplane) => dataplane.hot_keys().collect(),
        Loaded::Other(dataplane) => dataplane.hot_keys().collect(),
    }
}

/// What a key was offered and given since it is hot.
fn counted(loaded: &Loaded, id: LimitId) -> (u64, u64) {
    match loaded {
        Loaded::Own(dataplane) => {
            let count = dataplane.count(id).unwrap().unwrap();
            (count.offered_tokens(), count.admitted_tokens())
        }
        Loaded::Other(dataplane) => {
            let count = dataplane.count(id).unwrap().unwrap();
            (count.offered_tokens(), count.admitted_tokens())
        }
    }
}

fn passes(loaded: &Loaded, number: u8, packets: usize) -> usize {
    let frame = by(number);
    (0..packets).filter(|_| loaded.passes(&frame)).count()
}

/// With the same table, and with one of another size, of which keyed limits are closed meanwhile.
#[test]
fn another_layout_goes_on_with_hot_keys() {
    let first = Build::own(128, 1 << 14);
    for next in [Build::other(128, 1 << 14), Build::own(256, 1 << 16)] {
        TestHost::run(|host| {
            host.wire("near", "far");
            let limit = by_source(Promise::Elastic);
            let the_policy = policy([limit.clone()]);
            let mut loaded = first.load(&first.options(host, None)).unwrap();
            loaded.activate(&the_policy);
            let keys = [1, 2, 3].map(|number| key(&limit, number));
            let Loaded::Own(dataplane) = &mut loaded else {
                panic!("{loaded:?}")
            };
            dataplane.set_hot_keys(&keys).unwrap();
            for key in &keys[..2] {
                fill_in_time(dataplane, key.id, 50, Amount::ZERO, Nanos::NEVER);
            }
            // One whose slot is still its former key's.
            dataplane.set_hot_keys(&keys[..2]).unwrap();
            let kept = hot_keys(&loaded);
            assert_eq!(passes(&loaded, 1, 8), 8);
            assert_eq!(passes(&loaded, 2, 100), 50);
            drop(loaded);

            let loaded = next.load(&next.options(host, Some(the_policy))).unwrap();
            assert_eq!(hot_keys(&loaded), kept, "{next:?}");
            assert_eq!(passes(&loaded, 1, 100), 42, "{next:?}");
            assert_eq!(passes(&loaded, 2, 100), 0, "{next:?}");
            assert_eq!(passes(&loaded, 3, 100), COLD, "{next:?}");
            assert_eq!(counted(&loaded, keys[0].id), (108, 50));
            drop(loaded);

            // And back, with a policy to which the keys are none any more.
            let mut other = limit;
            other.revision = Revision(9);
            let other = first.options(host, Some(policy([other])));
            let loaded = first.load(&other).unwrap();
            assert!(hot_keys(&loaded).is_empty());
            assert_eq!(passes(&loaded, 1, 100), COLD);
        });
    }
}
