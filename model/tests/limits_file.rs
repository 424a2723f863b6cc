//! Limits files that are good, and what they mean.

use std::time::Duration;

use proptest::{option, prelude::*, sample::select};
use weir_model::{
    Amount, Cost, LimitId, Policy, Units, UnitsPerSecond,
    file::{self, Severity},
    policy::{FleetSettings, Mode, PortRange, Promise, Protocol},
};

fn read(text: &str) -> Policy {
    file::parse(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

#[test]
fn every_key_means_what_the_language_says() {
    let policy = read(include_str!("fixtures/fleet.toml"));
    assert_eq!(policy.fleet.max_members, 16);
    let [dns, web, ping] = &policy.limits[..] else {
        panic!("{policy:#?}")
    };

    assert_eq!((dns.name.as_str(), dns.id), ("dns", LimitId::of("dns")));
    assert_eq!(
        dns.matches.to,
        [
            "192.0.2.53".parse().unwrap(),
            "2001:db8::53".parse().unwrap()
        ]
    );
    assert_eq!(dns.matches.from, ["198.51.100.0/24".parse().unwrap()]);
    assert_eq!(dns.matches.protocol, Protocol::Udp);
    let ports = [(53, 53), (8000, 8099)].map(|(first, last)| PortRange { first, last });
    assert_eq!(dns.matches.ports, ports);
    assert_eq!(
        (dns.cost, dns.promise, dns.mode),
        (Cost::Packets, Promise::Strict, Mode::Enforce)
    );
    let budget = Amount {
        rate: dns.scale.rate(100_000, Duration::from_secs(1)).unwrap(),
        burst: dns.scale.units(20_000).unwrap(),
    };
    let floor = Amount {
        rate: UnitsPerSecond(budget.rate.0 / 200),
        burst: Units(budget.burst.0 / 200),
    };
    assert_eq!((dns.budget, dns.floor), (budget, floor));
    assert!(dns.is_divisible);

    assert_eq!((web.cost, web.mode), (Cost::Bits, Mode::Shadow));
    assert_eq!(web.scale.tokens_per_second(web.budget.rate), 1e9);
    assert_eq!(web.scale.tokens(web.budget.burst), 1e8);
    assert_eq!(web.scale.tokens(web.smallest_burst), 12_144.0);

    assert_eq!(ping.matches.protocol, Protocol::Icmp);
    assert!(ping.matches.to.is_empty());
    assert_eq!((ping.promise, ping.floor), (Promise::Local, ping.budget));
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let policy = read(include_str!("fixtures/demo.toml"));
    assert_eq!(policy.fleet, FleetSettings::default());
    let limit = &policy.limits[0];
    assert_eq!(limit.scale.tokens_per_second(limit.budget.rate), 30_000.0);
    assert_eq!(limit.scale.tokens(limit.budget.burst), 3_000.0);
    // 1 % of the rate between 64 members.
    assert_eq!(limit.floor.rate.0, limit.budget.rate.0 / 6_400);
    assert_eq!(
        (limit.promise, limit.mode),
        (Promise::Strict, Mode::Enforce)
    );
}

#[test]
fn what_is_good_has_no_warnings() {
    for text in [
        include_str!("../../deploy/examples/limits.toml"),
        include_str!("../../deploy/compose/config/limits.toml"),
        include_str!("../../deploy/examples/one-host/limits.toml"),
        include_str!("fixtures/fleet.toml"),
        include_str!("fixtures/demo.toml"),
    ] {
        assert_eq!(file::check(text).problems, []);
    }
}

#[test]
fn examples_of_fleets_have_no_errors() {
    for text in [
        include_str!("../../deploy/examples/five-hosts/limits.toml"),
        include_str!("../../deploy/examples/fifty-hosts/limits.toml"),
    ] {
        assert!(file::check(text).value.is_some(), "{text}");
    }
}

#[test]
fn an_unchanged_limit_keeps_its_revision() {
    let revision = |rate: &str, burst: &str| {
        let text = format!(
            "version = 1\n[[limit]]\nname = \"a\"\nrate = \"{rate}\"\nburst = \"{burst}\"\n"
        );
        read(&text).limits[0].revision
    };
    let before = revision("10k packets/s", "2k packets");
    assert_eq!(before, revision("10k packets/s", "1k packets"));
    assert_eq!(before, revision("11k packets/s", "2k packets"));
    assert_ne!(before, revision("10 kbit/s", "20 kbit"), "another cost");
    assert_ne!(
        before,
        revision("10M packets/s", "2M packets"),
        "another scale"
    );
}

/// Doubtful, not wrong: the policy stands, and each warning has its place.
#[test]
fn doubts_are_warnings() {
    for (text, expected) in [
        (
            "version = 1\n",
            "1:1: warning: the file has no [[limit]]: it would lift every limit",
        ),
        (
            "version = 1\n[[limit]]\nname = \"a\"\nrate = \"1 Mbit/s\"\nproto = \"icmp\"\n",
            "4:8: warning: a burst of 100000 bits cannot be split between 64 members with at least \
             12144 bits each: the limit moves whole, to one host at a time, and no member has a floor",
        ),
        (
            "version = 1\n[[limit]]\nname = \"a\"\nrate = \"10k packets/s\"\nfloor = \"1.5%\"\n\
             proto = \"icmp\"\n",
            "5:9: warning: the floors of 64 members reserve 96 % of the rate, which idle members \
             strand",
        ),
        (
            "version = 1\n[[limit]]\nname = \"a\"\nrate = \"10k packets/s\"\n\
             to = [\"192.0.2.0/24\", \"192.0.2.9\"]\n",
            "5:23: warning: 192.0.2.9/32 is already covered by 192.0.2.0/24; remove it",
        ),
        (
            "version = 1\n[[limit]]\nname = \"a\"\nrate = \"10k packets/s\"\n\
             from = [\"192.0.2.9\", \"192.0.2.9/32\"]\n",
            "5:22: warning: 192.0.2.9/32 is already covered by 192.0.2.9/32; remove it",
        ),
    ] {
        let outcome = file::check(text);
        let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [expected], "{text}");
        assert_eq!(outcome.problems[0].severity, Severity::Warning);
        assert!(outcome.value.is_some(), "{text}");
    }
}

#[test]
fn overlapping_and_adjacent_ports_become_one_range() {
    let policy = read(
        "version = 1\n[[limit]]\nname = \"a\"\nrate = \"1k packets/s\"\nproto = \"tcp\"\n\
         ports = [443, \"80-90\", 91, \"85-100\", 65535, \"65000-65535\"]\n",
    );
    let expected =
        [(80, 100), (443, 443), (65_000, 65_535)].map(|(first, last)| PortRange { first, last });
    assert_eq!(policy.limits[0].matches.ports, expected);
}

/// Eight limits for one address are allowed, however their prefixes nest, and any number for
/// different ones.
#[test]
fn rules_are_counted_by_address() {
    let mut text = String::from("version = 1\n");
    for index in 0..8 {
        let length = 8 * (index % 4) + 8;
        let base = ["10.0.0.0", "10.1.0.0", "10.1.2.0", "10.1.2.3"][index % 4];
        text += &format!(
            "[[limit]]\nname = \"l{index}\"\nrate = \"1k packets/s\"\nto = [\"{base}/{length}\"]\n"
        );
    }
    for index in 0..100 {
        text += &format!(
            "[[limit]]\nname = \"other{index}\"\nrate = \"1k packets/s\"\n\
             to = [\"192.0.2.{index}\"]\n"
        );
    }
    assert_eq!(read(&text).limits.len(), 108);
}

/// A limit as its author thinks of it.
#[derive(Clone, Debug)]
struct Wish {
    to: Vec<[u8; 3]>,
    ports: Option<(&'static str, Vec<u16>)>,
    rate: u64,
    prefix: (&'static str, u64),
    unit: (&'static str, Cost, u64),
    period: (&'static str, u64),
    burst: Option<u64>,
    promise: Option<(&'static str, Promise)>,
    mode: Option<(&'static str, Mode)>,
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        prop::collection::vec(any::<[u8; 3]>(), 0..4),
        option::of((
            select(vec!["udp", "tcp"]),
            prop::collection::vec(any::<u16>(), 1..4),
        )),
        1_u64..1_000,
        select(vec![("", 1), ("k", 1_000), ("M", 1_000_000)]),
        select(vec![
            ("packets", Cost::Packets, 1),
            ("bit", Cost::Bits, 1),
            ("byte", Cost::Bits, 8),
        ]),
        select(vec![("s", 1), ("min", 60), ("h", 3_600)]),
        option::of(12_144_u64..1_000_000_000),
        option::of(select(vec![
            ("strict", Promise::Strict),
            ("local", Promise::Local),
        ])),
        option::of(select(vec![
            ("enforce", Mode::Enforce),
            ("shadow", Mode::Shadow),
        ])),
    )
        .prop_map(
            |(to, ports, rate, prefix, unit, period, burst, promise, mode)| Wish {
                to,
                ports,
                rate,
                prefix,
                unit,
                period,
                burst,
                promise,
                mode,
            },
        )
}

fn written(name: &str, wish: &Wish) -> String {
    let mut text = format!("[[limit]]\nname = \"{name}\"\n");
    let (prefix, unit, period) = (wish.prefix.0, wish.unit.0, wish.period.0);
    text += &format!("rate = \"{}{prefix} {unit}/{period}\"\n", wish.rate);
    if !wish.to.is_empty() {
        let to: Vec<String> = wish
            .to
            .iter()
            .map(|[a, b, c]| format!("{a}.{b}.{c}.0/24"))
            .collect();
        text += &format!("to = {to:?}\n");
    }
    if let Some((protocol, ports)) = &wish.ports {
        text += &format!("proto = \"{protocol}\"\nports = {ports:?}\n");
    }
    if let Some(burst) = wish.burst {
        text += &format!("burst = \"{burst} {unit}\"\n");
    }
    if let Some((promise, _)) = wish.promise {
        text += &format!("promise = \"{promise}\"\n");
    }
    if let Some((mode, _)) = wish.mode {
        text += &format!("mode = \"{mode}\"\n");
    }
    text
}

proptest! {
    /// What is written is what is read.
    #[test]
    fn reading_inverts_writing(wishes in prop::collection::vec(wish(), 1..3)) {
        let mut text = String::from("version = 1\n");
        for (index, wish) in wishes.iter().enumerate() {
            text += &written(&format!("limit-{index}"), wish);
        }
        let policy = match file::parse(&text) {
            Ok(policy) => policy,
            Err(problems) => {
                // An hourly rate with a huge burst is the one refusal that these can meet.
                let all = problems.iter().all(|problem| problem.message.contains("proportion"));
                prop_assert!(all, "{text}\n{problems:#?}");
                return Ok(());
            }
        };
        for (index, (limit, wish)) in policy.limits.iter().zip(&wishes).enumerate() {
            prop_assert_eq!(&limit.name, &format!("limit-{index}"));
            let (_, cost, bits) = wish.unit;
            prop_assert_eq!(limit.cost, cost);
            let tokens = wish.rate * wish.prefix.1 * bits;
            let period = Duration::from_secs(wish.period.1);
            prop_assert_eq!(Some(limit.budget.rate), limit.scale.rate(tokens, period));
            if let Some(burst) = wish.burst {
                prop_assert_eq!(Some(limit.budget.burst), limit.scale.units(burst * bits));
            }
            prop_assert_eq!(limit.promise, wish.promise.map_or(Promise::Strict, |(_, it)| it));
            prop_assert_eq!(limit.mode, wish.mode.map_or(Mode::Enforce, |(_, it)| it));
            for port in wish.ports.iter().flat_map(|(_, ports)| ports) {
                let covered = limit.matches.ports.iter().any(|range| (range.first..=range.last).contains(port));
                prop_assert!(covered, "{port}");
            }
            for [a, b, c] in &wish.to {
                let prefix = format!("{a}.{b}.{c}.0/24").parse().unwrap();
                prop_assert!(limit.matches.to.contains(&prefix));
            }
        }
    }

    /// No text, however broken, stops the reader; and it never accepts what it complained about.
    #[test]
    fn any_text_is_read_or_refused_with_places(
        text in "(version = 1\n)?(\\[\\[limit\\]\\]\n)?([a-z]{1,6} ?= ?[\"\\[{0-9a-z.%/ µ]{0,12}[\"\\]}]?\n){0,6}",
    ) {
        let outcome = file::check(&text);
        let errors = outcome.problems.iter().filter(|problem| problem.severity == Severity::Error);
        prop_assert_eq!(outcome.value.is_none(), errors.count() > 0);
        let lines = u32::try_from(text.lines().count()).unwrap() + 1;
        for problem in &outcome.problems {
            prop_assert!((1..=lines).contains(&problem.line) && problem.column >= 1);
            prop_assert!(!problem.to_string().contains('\n'));
        }
    }
}
