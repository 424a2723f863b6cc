//! What limits do once their grant has ended.

#![allow(clippy::unwrap_used)]

mod support;

use support::{Host, any, host::START, udp};
use weir_abi::{InstallRequest, InstallStatus, LimitCounters, OnExpiry, Operation, Reason, Rule};
use weir_limiter::multiplier;

const SECOND: u64 = 1_000_000_000;

fn on_expiry(what: OnExpiry) -> Rule {
    Rule {
        on_expiry: what as u8,
        ..any()
    }
}

/// Grants 100 a second for one second, with a burst of 10; then a floor of 5 a second, burst 2.
fn grant(host: &Host, slot: u32) {
    let request = InstallRequest {
        operation: Operation::Grant as u16,
        rate_multiplier: multiplier(100),
        burst: 10,
        floor_multiplier: multiplier(5),
        floor_burst: 2,
        expires_ns: host.now + SECOND,
        ..InstallRequest::default()
    };
    assert_eq!(host.install(slot, request), InstallStatus::Installed);
}

/// A host with a grant on its first limit, at the grant's last nanosecond, its burst full.
fn before_the_end(rules: impl IntoIterator<Item = (Rule, u64)>) -> Host {
    let mut host = Host::new(rules);
    grant(&host, 0);
    host.now = START + SECOND - 1;
    host
}

#[test]
fn floor_goes_on_with_the_floor() {
    let mut host = before_the_end([(on_expiry(OnExpiry::Floor), 0)]);
    assert_eq!(host.passed(&udp(53), 3), 3);
    host.now += 1;
    assert_eq!(host.passed(&udp(53), 10), 2);
    // What comes in is rounded down, at so low a rate by 2 %.
    host.now += SECOND / 5 + 10_000_000;
    assert_eq!(host.passed(&udp(53), 10), 1);
    let counted = host.counted(0);
    assert_eq!(counted.over_limit.packets, 17);
    assert_eq!(counted.closed.packets + counted.failed_open.packets, 0);
}

#[test]
fn closed_drops_everything_at_the_very_nanosecond() {
    let mut host = before_the_end([(on_expiry(OnExpiry::Closed), 0), (any(), 100)]);
    assert_eq!(host.passed(&udp(53), 12), 10);
    assert_eq!(host.decide(&udp(53)), Reason::OverLimit);
    host.now += 1;
    for _ in 0..5 {
        assert_eq!(host.decide(&udp(53)), Reason::Closed);
    }
    let [closed, other] = [host.counted(0), host.counted(1)];
    assert_eq!((closed.closed.packets, closed.closed.tokens), (5, 5));
    assert_eq!(closed.over_limit.packets, 3);
    assert_eq!(other.refused_elsewhere.packets, 8);
    assert_eq!(other.passed.packets, 10);
    let totals = host.totals();
    assert_eq!(totals.by_reason[Reason::Closed as usize].packets, 5);
    // A new grant opens it, with what has come in since.
    grant(&host, 0);
    host.now += SECOND / 100 + 1_000_000;
    assert_eq!(host.passed(&udp(53), 5), 1);
}

#[test]
fn open_passes_everything_and_charges_nothing() {
    let mut host = before_the_end([(on_expiry(OnExpiry::Open), 0), (any(), 30)]);
    assert_eq!(host.passed(&udp(53), 11), 10);
    host.now += 1;
    // The other limit holds: of its 30, ten are spent.
    assert_eq!(host.passed(&udp(53), 50), 20);
    let [open, other] = [host.counted(0), host.counted(1)];
    assert_eq!(open.failed_open.packets, 20);
    assert_eq!(open.passed.packets, 30);
    assert_eq!(open.over_limit.packets, 1);
    assert_eq!(open.refused_elsewhere.packets, 30);
    assert_eq!(other.over_limit.packets, 30);
    assert_eq!(other.failed_open.packets, 0);
}

#[test]
fn shadow_mode_drops_nothing_however_it_ends() {
    let shadow = |what| Rule {
        shadow: 1,
        ..on_expiry(what)
    };
    let after = |what| {
        let mut host = before_the_end([(shadow(what), 0)]);
        host.now += 1;
        assert_eq!(host.passed(&udp(53), 10), 10);
        host.counted(0)
    };
    let floor = after(OnExpiry::Floor);
    assert_eq!((floor.passed.packets, floor.would_drop.packets), (10, 8));
    let closed = after(OnExpiry::Closed);
    assert_eq!((closed.passed.packets, closed.would_drop.packets), (10, 10));
    let open = after(OnExpiry::Open);
    assert_eq!((open.passed.packets, open.failed_open.packets), (10, 10));
    for counted in [floor, closed, open] {
        assert_eq!(counted.over_limit.packets + counted.closed.packets, 0);
    }
    assert_eq!(open.would_drop.packets + closed.failed_open.packets, 0);
}

#[test]
fn a_limit_without_a_grant_does_what_it_does_without_one() {
    for (what, reason) in [
        (OnExpiry::Floor, Reason::OverLimit),
        (OnExpiry::Closed, Reason::Closed),
        (OnExpiry::Open, Reason::Admitted),
    ] {
        let host = Host::new([(on_expiry(what), 0)]);
        let create = InstallRequest {
            operation: Operation::Create as u16,
            ..InstallRequest::default()
        };
        assert_eq!(host.install(0, create), InstallStatus::Installed);
        assert_eq!(host.decide(&udp(53)), reason, "{what:?}");
        let counted = host.counted(0);
        let expected = match what {
            OnExpiry::Floor => counted.over_limit,
            OnExpiry::Closed => counted.closed,
            OnExpiry::Open => counted.failed_open,
        };
        assert_eq!(expected.packets, 1, "{what:?}");
        let once = LimitCounters {
            passed: counted.passed,
            over_limit: counted.over_limit,
            closed: counted.closed,
            failed_open: counted.failed_open,
            ..LimitCounters::default()
        };
        assert_eq!(counted, once, "{what:?}");
    }
}
