//! One policy taking over from another under a flood.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use kernel_support::{TestHost, Wire, frames, policy, udp_limit, wait_for};
use weir_model::{Policy, PolicyVersion};

const SWAPS: u64 = 100;
const SENDERS: usize = 2;

/// Two policies by which the frame passes, and of which every mixture drops it.
///
/// By the first, its destination has the limit `one`, which is for another port. By the second it
/// has the limit `other`, which is for another port too. With the destinations of one policy and
/// the rules of the other, the limit found is for this port; and none of them was granted anything.
fn policies() -> [Policy; 2] {
    let limits = |one: (&str, u16), other: (&str, u16)| {
        policy([
            udp_limit("one", &[one.0], &[(one.1, one.1)]),
            udp_limit("other", &[other.0], &[(other.1, other.1)]),
        ])
    };
    let (here, elsewhere) = ("198.18.0.2/32", "198.18.0.3/32");
    [
        limits((here, 53), (elsewhere, 54)),
        limits((elsewhere, 54), (here, 53)),
    ]
}

fn frame(destination: &str, port: u16) -> Vec<u8> {
    let source = "198.18.0.1".parse().unwrap();
    frames::udp(source, destination.parse().unwrap(), (4_000, port), 60)
}

#[test]
fn no_packet_sees_half_of_two_policies() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        let policies = policies();
        dataplane.activate(&policies[0], PolicyVersion(1)).unwrap();
        let passing = frame("198.18.0.2", 54);
        let done = AtomicBool::new(false);
        let send = || {
            let far = Wire::open_in("far", host.namespace());
            let mut sent = 0_u64;
            while !done.load(Ordering::Relaxed) {
                far.send(&passing);
                sent += 1;
            }
            sent
        };
        let sent: u64 = thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(send)).collect();
            for swap in 1..=SWAPS {
                let next = &policies[(swap % 2) as usize];
                dataplane.activate(next, PolicyVersion(swap + 1)).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .sum()
        });
        let totals = || dataplane.counters().unwrap().totals;
        wait_for("all packets", || totals().received.packets == sent);
        assert!(sent > 10 * SWAPS, "only {sent} were sent");
        let passed = totals().by_reason[weir_abi::Reason::NoMatch as usize].packets;
        assert_eq!(passed, sent, "{:?}", totals());

        // Either policy does drop what it is for.
        for (version, policy) in (SWAPS + 2..).zip(&policies) {
            dataplane.activate(policy, PolicyVersion(version)).unwrap();
            assert!(!dataplane.run_frame(&frame("198.18.0.2", 53)).unwrap());
            assert!(!dataplane.run_frame(&frame("198.18.0.3", 54)).unwrap());
        }
    });
}
