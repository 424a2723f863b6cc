//! From one layout of maps to another: nothing is spent twice, counted twice, or forgotten,
//! wherever it is cut short.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{fs, net::IpAddr, os::unix::process::ExitStatusExt as _};

use kernel_support::{
    TestHost, Wire, amount, frames, ip, policy, udp_limit,
    upgrade::{self, Build, Counted, Loaded, VERSION},
    wait_for,
};
use weir_model::{
    Amount, Limit, LimitId, Nanos, Policy, Scale,
    policy::{Key, OnExpiry, Promise},
};
use weir_node::dataplane::{self, GrantRequest, LoadError, LoadOptions, Step};

const SMALL: Build = Build::own(128, 1 << 14);
const LARGE: Build = Build::own(256, 1 << 16);
const LATER: Build = Build::other(128, 1 << 14);

/// Limits with a number of tokens that never changes but by packets. More than one call of the
/// install program takes.
const EXACT: u8 = 40;
const TOKENS: u64 = 3;
/// So few in such tables that two of them share a slot, for their hashes are alike, once in a
/// million runs.
const SOURCES: u8 = 6;
/// Tokens of each source, which take a quarter of an hour to come in again.
const OF_SOURCE: u64 = 6;
/// The last two bytes of a destination.
type Place = [u8; 2];
/// Where the exact limits are, one on each address.
const EXACT_NET: u8 = 1;
/// Where a limit is that fails open.
const OPEN: Place = [2, 1];
const LEASED: Place = [2, 2];
/// Where the limit by source is.
const KEYED: Place = [2, 3];
const LOCAL: Place = [2, 4];
const UNFUNDED: Place = [2, 5];
/// Where no limit is.
const FREE: Place = [9, 9];

fn exact(index: u8) -> String {
    format!("exact-{index}")
}

fn at(name: &str, place: Place) -> Limit {
    let [net, host] = place;
    udp_limit(name, &[&format!("198.18.{net}.{host}/32")], &[])
}

fn the_policy() -> Policy {
    let mut limits: Vec<Limit> = (0..EXACT)
        .map(|index| at(&exact(index), [EXACT_NET, index]))
        .collect();
    let mut open = at("open", OPEN);
    open.on_expiry = OnExpiry::Open;
    let mut keyed = at("keyed", KEYED);
    keyed.promise = Promise::Local;
    keyed.per = Some(Key::default());
    keyed.scale = Scale { fraction_bits: 10 };
    keyed.budget = amount(1, OF_SOURCE << 10);
    keyed.floor = keyed.budget;
    keyed.smallest_burst = weir_model::Units(1 << 10);
    limits.extend([open, at("leased", LEASED), keyed]);
    policy(limits)
}

fn from_to(source: u8, place: Place) -> Vec<u8> {
    let source: IpAddr = [198, 18, 7, source].into();
    let destination = [198, 18, place[0], place[1]].into();
    frames::udp(source, destination, (4_000, 53), 60)
}

fn to(place: Place) -> Vec<u8> {
    from_to(0, place)
}

fn to_exact(index: u8) -> Vec<u8> {
    to([EXACT_NET, index])
}

fn from_source(source: u8) -> Vec<u8> {
    from_to(source, KEYED)
}

/// Puts the policy in force, fills the exact buckets, and spends one token of each.
fn begin(host: &TestHost, build: Build) -> Spent {
    let mut loaded = build.load(&build.options(host, None)).unwrap();
    loaded.activate(&the_policy());
    let mut grants: Vec<GrantRequest> = (0..EXACT)
        .map(|index| grant(&exact(index), amount(1 << 40, TOKENS), Nanos::NEVER))
        .collect();
    install(&mut loaded, &grants);
    for grant in &mut grants {
        // What has come in stays, and nothing more comes.
        grant.amount.rate = amount(0, 0).rate;
    }
    let leased = GrantRequest {
        floor: amount(3, 2),
        ..grant(
            "leased",
            amount(1_000, 100),
            Nanos(dataplane::now().0 + 600_000_000_000),
        )
    };
    let ended = grant(
        "open",
        amount(1_000, 100),
        Nanos(dataplane::now().0 + 1_000_000),
    );
    grants.extend([leased, ended]);
    install(&mut loaded, &grants);
    wait_for("the end of a grant", || {
        dataplane::now().0 > ended.expires.0
    });
    let mut spent = Spent {
        held: loaded.held("leased"),
        ..Spent::default()
    };
    spent.spend(&loaded, 1);
    assert_eq!(spent.exact, [1; EXACT as usize]);
    assert_eq!(spent.keyed, [1; SOURCES as usize]);
    spent
}

fn grant(limit: &str, amount: Amount, expires: Nanos) -> GrantRequest {
    GrantRequest {
        limit: LimitId::of(limit),
        amount,
        floor: Amount::ZERO,
        expires,
    }
}

fn install(loaded: &mut Loaded, grants: &[GrantRequest]) {
    use weir_other_dataplane::dataplane as other;
    match loaded {
        Loaded::Own(dataplane) => drop(dataplane.install(grants).unwrap()),
        Loaded::Other(dataplane) => {
            let grants: Vec<_> = grants
                .iter()
                .map(|grant| other::GrantRequest {
                    limit: grant.limit,
                    amount: grant.amount,
                    floor: grant.floor,
                    expires: grant.expires,
                })
                .collect();
            drop(dataplane.install(&grants).unwrap());
        }
    }
}

/// What has passed so far.
#[derive(Debug, Default)]
struct Spent {
    frames: u64,
    offered: u64,
    offered_by_source: u64,
    exact: Vec<u64>,
    keyed: Vec<u64>,
    held: String,
}

impl Spent {
    /// Offers some packets to each bucket through the program that is loaded.
    fn spend(&mut self, loaded: &Loaded, packets: u64) {
        self.exact.resize(EXACT as usize, 0);
        self.keyed.resize(SOURCES as usize, 0);
        for _ in 0..packets {
            for index in 0..EXACT {
                let passed = loaded.passes(&to_exact(index));
                self.exact[index as usize] += u64::from(passed);
            }
            for source in 0..SOURCES {
                let passed = loaded.passes(&from_source(source));
                self.keyed[source as usize] += u64::from(passed);
            }
        }
        self.offered += packets;
        self.offered_by_source += packets * u64::from(SOURCES);
        self.frames += packets * (u64::from(EXACT) + u64::from(SOURCES));
    }

    /// Offers one packet to each through the program that is attached, whichever that is. Returns
    /// whether the limit that fails open let one pass.
    fn spend_on_wire(&mut self, far: &Wire, near: &Wire) -> bool {
        for index in 0..EXACT {
            far.send(&to_exact(index));
        }
        for source in 0..SOURCES {
            far.send(&from_source(source));
        }
        far.send(&to(OPEN));
        // What comes behind comes last.
        far.send(&to(FREE));
        let mut failed_open = false;
        let mut is_last = false;
        wait_for("the last packet", || {
            while let Some(frame) = near.receive() {
                match [frame[32], frame[33]] {
                    [EXACT_NET, index] => self.exact[usize::from(index)] += 1,
                    KEYED => self.keyed[usize::from(frame[29])] += 1,
                    OPEN => failed_open = true,
                    place => is_last = place == FREE,
                }
            }
            is_last
        });
        self.offered += 1;
        self.offered_by_source += u64::from(SOURCES);
        self.frames += u64::from(EXACT) + u64::from(SOURCES) + 2;
        failed_open
    }

    /// Spends all that is left, and looks whether it is what there should be.
    fn check(mut self, loaded: &Loaded, what: &str) {
        assert_eq!(loaded.active_policy(), VERSION, "{what}");
        self.spend(loaded, TOKENS + OF_SOURCE);
        assert_eq!(self.exact, [TOKENS; EXACT as usize], "{what}");
        assert_eq!(self.keyed, [OF_SOURCE; SOURCES as usize], "{what}");
        assert_eq!(loaded.received(), self.frames, "{what}");
        let counted = Counted {
            offered: self.offered,
            passed: TOKENS,
        };
        for index in 0..EXACT {
            assert_eq!(loaded.counted(&exact(index)), counted, "{what}");
        }
        let keyed = Counted {
            offered: self.offered_by_source,
            passed: OF_SOURCE * u64::from(SOURCES),
        };
        assert_eq!(loaded.counted("keyed"), keyed, "{what}");
        assert_eq!(loaded.held("leased"), self.held, "{what}");
        assert!(loaded.passes(&to(OPEN)), "{what}");
    }
}

/// The directories of the group.
fn layouts(host: &TestHost) -> Vec<String> {
    let entries = fs::read_dir(host.bpffs().join("weir/test")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn an_upgrade_takes_everything_along() {
    for (from, to) in [(SMALL, LATER), (LATER, LARGE), (LARGE, SMALL)] {
        TestHost::run(|host| {
            host.wire("near", "far");
            let (far, near) = (Wire::open("far"), Wire::open("near"));
            let mut spent = begin(host, from);
            let loaded = to.load(&to.options(host, Some(the_policy()))).unwrap();
            assert_eq!(layouts(host), [to.layout()]);
            assert!(spent.spend_on_wire(&far, &near));
            spent.check(&loaded, &format!("{from:?} to {to:?}"));
        });
    }
}

/// The other process of these tests.
#[test]
#[ignore = "started by the others"]
fn another_process() {
    upgrade::be_started(the_policy());
}

fn killed_after(step: Step, from: Build, to: Build, next: Build) {
    let what = format!("{from:?} to {to:?}, killed after {step:?}, then {next:?}");
    TestHost::run(|host| {
        host.wire("near", "far");
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        let mut spent = begin(host, from);
        let options = to.options(host, Some(the_policy()));
        let mut child = upgrade::start(&options, to, Some(step));
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        // A table that is shared is not copied.
        let is_reached = step != Step::Keys || from.key_slots != to.key_slots;
        assert_eq!(
            status.signal(),
            is_reached.then_some(libc::SIGKILL),
            "{what}"
        );

        // Whatever is in force now spends what there is, or nothing.
        let failed_open = spent.spend_on_wire(&far, &near);
        if matches!(step, Step::FirstLink | Step::Links) {
            assert!(!failed_open, "{what}");
            assert_eq!(spent.exact, [1; EXACT as usize], "{what}");
        }
        let loaded = next.load(&next.options(host, Some(the_policy()))).unwrap();
        assert_eq!(layouts(host), [next.layout()], "{what}");
        assert!(spent.spend_on_wire(&far, &near), "{what}");
        spent.check(&loaded, &what);
    });
}

#[test]
fn whoever_is_killed_is_continued() {
    for step in Step::ALL {
        killed_after(step, SMALL, LATER, LATER);
        killed_after(step, LARGE, SMALL, SMALL);
    }
}

#[test]
fn whoever_is_killed_is_continued_by_the_version_before() {
    for step in Step::ALL {
        killed_after(step, SMALL, LATER, SMALL);
        killed_after(step, SMALL, LARGE, LATER);
    }
}

#[test]
fn another_version_does_not_start_without_the_policy() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut spent = begin(host, LATER);
        let error = dataplane::load(&SMALL.options(host, None)).unwrap_err();
        assert!(matches!(error, LoadError::UnknownPolicy { .. }), "{error}");
        assert!(error.to_string().contains("--detach"), "{error}");
        let small = LoadOptions {
            sizes: dataplane::Sizes {
                limit_slots: 64,
                key_slots: SMALL.key_slots,
            },
            ..SMALL.options(host, Some(the_policy()))
        };
        let error = dataplane::load(&small).unwrap_err();
        assert!(matches!(error, LoadError::PolicyRefused { .. }), "{error}");
        // Nothing has changed.
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        assert_eq!(layouts(host), [LATER.layout()]);
        assert!(spent.spend_on_wire(&far, &near));
        let loaded = LATER.load(&LATER.options(host, None)).unwrap();
        spent.check(&loaded, "the later version again");
    });
}

#[test]
fn without_the_policy_sizes_stay_as_they_are() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let spent = begin(host, SMALL);
        let loaded = LARGE.load(&LARGE.options(host, None)).unwrap();
        assert_eq!(layouts(host), [SMALL.layout()]);
        spent.check(&loaded, "sizes as they were");
    });
}

#[test]
fn a_layout_that_cannot_be_asked_is_left_alone() {
    for missing in ["install", "COUNTERS", "KEYS", "weir_xdp"] {
        TestHost::run(|host| {
            host.wire("near", "far");
            let mut spent = begin(host, SMALL);
            let layout = host.bpffs().join("weir/test").join(SMALL.layout());
            fs::remove_file(layout.join(missing)).unwrap();
            let error = dataplane::load(&LARGE.options(host, Some(the_policy()))).unwrap_err();
            assert!(matches!(error, LoadError::CannotTakeOver { .. }), "{error}");
            assert!(error.to_string().contains(missing), "{error}");
            assert_eq!(layouts(host), [SMALL.layout()]);
            let (far, near) = (Wire::open("far"), Wire::open("near"));
            spent.spend_on_wire(&far, &near);
            assert_eq!(spent.exact, [2; EXACT as usize]);
            // What the message says to do helps.
            dataplane::detach(&host.bpffs(), "test").unwrap();
            LARGE.load(&LARGE.options(host, None)).unwrap();
        });
    }
}

#[test]
fn an_interface_that_refuses_undoes_a_handover() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut spent = begin(host, SMALL);
        let mut options = LATER.options(host, Some(the_policy()));
        options.interfaces.push("lo".to_owned());
        let error = LATER.load(&options).unwrap_err();
        assert!(error.contains("--xdp-mode generic"), "{error}");
        assert_eq!(layouts(host), [SMALL.layout()]);
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        assert!(spent.spend_on_wire(&far, &near));
        let loaded = SMALL.load(&SMALL.options(host, None)).unwrap();
        spent.check(&loaded, "back again");
    });
}

#[test]
fn limits_that_the_old_layout_did_not_have_are_as_new() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let spent = begin(host, SMALL);
        let mut limits: Vec<Limit> = the_policy().limits.to_vec();
        let mut local = at("local", LOCAL);
        local.promise = Promise::Local;
        local.budget = amount(1 << 30, 5);
        limits.extend([local, at("unfunded", UNFUNDED)]);
        let extended = policy(limits);
        let mut loaded = LARGE
            .load(&LARGE.options(host, Some(extended.clone())))
            .unwrap();
        // A daemon puts its policy in force when it starts.
        assert!(!loaded.passes(&to(LOCAL)));
        loaded.activate(&extended);
        wait_for("a grant", || loaded.passes(&to(LOCAL)));
        assert!(!loaded.passes(&to(UNFUNDED)));
        assert!(
            loaded.held("unfunded").contains("Nanos(0)"),
            "{}",
            loaded.held("unfunded")
        );
        drop(spent);
    });
}

#[test]
fn an_interface_that_is_gone_keeps_nobody_from_upgrading() {
    TestHost::run(|host| {
        host.wire("near", "far");
        begin(host, SMALL);
        ip(&["link", "del", "near"]);
        host.wire("near", "far");
        LATER
            .load(&LATER.options(host, Some(the_policy())))
            .unwrap();
        assert_eq!(layouts(host), [LATER.layout()]);
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        far.send(&to(FREE));
        wait_for("a packet", || near.receive().is_some());
    });
}
