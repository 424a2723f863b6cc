//! The limiter's corpus of frames through the kernel's own test-run: verdict, reason and counts.

#![allow(clippy::unwrap_used)]

mod kernel_support;

#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../ebpf/limiter/tests/support/corpus.rs"]
mod corpus;

use std::path::Path;

use corpus::{Fixture, LIMITS, read_all};
use kernel_support::{TestHost, limit, policy, udp_limit};
use weir_abi::{Reason, Totals};
use weir_model::{
    Cost, Limit, Nanos, PolicyVersion,
    policy::{Fragments, PortRange, Protocol, TcpFlags},
};
use weir_node::dataplane::Dataplane;

/// A test-run takes no less than an Ethernet header.
const SHORTEST: usize = 14;

fn frames() -> Vec<Fixture> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ebpf/limiter/tests/corpus");
    let mut frames = read_all(&corpus);
    frames.retain(|frame| frame.bytes.len() >= SHORTEST);
    frames
}

/// The limits that fixtures name. No grant is ever installed, so their buckets are empty.
fn named(name: &str) -> Limit {
    let mut named = limit(name);
    match name {
        "dns" => named = udp_limit(name, &[], &[(53, 53)]),
        "web" => {
            named.matches.protocol = Protocol::Tcp;
            named.matches.ports = vec![PortRange {
                first: 443,
                last: 443,
            }];
        }
        "syn" => named.cost = Cost::Connections,
        "quic" => {
            named.cost = Cost::Connections;
            named.quic = true;
        }
        "icmp" => named.matches.protocol = Protocol::Icmp,
        "reset" => {
            const RESET: u8 = 0x04;
            named.matches.protocol = Protocol::Tcp;
            named.matches.tcp_flags = TcpFlags {
                mask: RESET,
                value: RESET,
            };
        }
        "fragments" => named.matches.fragments = Fragments::Only,
        "all" => {}
        other => panic!("no limit {other}"),
    }
    named
}

/// Why the kernel let a frame pass or dropped it: the one reason that was counted.
fn reason(dataplane: &Dataplane, frame: &Fixture) -> Reason {
    let before = dataplane.counters().unwrap().totals;
    let passes = dataplane.run_frame(&frame.bytes).unwrap();
    let after = dataplane.counters().unwrap().totals;
    let counted = |totals: &Totals, reason: Reason| totals.by_reason[reason as usize];
    let since = |reason: &Reason| {
        let (now, then) = (counted(&after, *reason), counted(&before, *reason));
        now.packets - then.packets == 1 && now.bytes - then.bytes == frame.bytes.len() as u64
    };
    let mut reasons = Reason::ALL.iter().filter(|reason| since(reason));
    let reason = *reasons.next().unwrap();
    assert_eq!(reasons.next(), None, "{}", frame.name);
    assert_eq!(after.received.packets, before.received.packets + 1);
    assert_eq!(passes, reason.passes(), "{}", frame.name);
    reason
}

#[test]
fn the_kernel_decides_about_the_corpus_as_it_must() {
    TestHost::run(|host| {
        let frames = frames();
        let mut dataplane = host.load_detached();
        dataplane.set_test_clock(Nanos(1 << 40)).unwrap();
        for (version, name) in (1..).zip(["all"].iter().chain(&LIMITS)) {
            let policy = policy([named(name)]);
            dataplane.activate(&policy, PolicyVersion(version)).unwrap();
            for frame in &frames {
                let reason = reason(&dataplane, frame);
                let applies = *name == "all" || frame.limits.iter().any(|limit| limit == name);
                let expected = match frame.reason.as_str() {
                    "over_limit" if !applies => "no_match",
                    other => other,
                };
                assert_eq!(reason.name(), expected, "{} under {name}", frame.name);
                assert!(*name != "all" || reason.passes() == frame.passes);
            }
        }
    });
}
