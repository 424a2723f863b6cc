//! Real packets on real interfaces: what passes is counted by the receiver.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::net::IpAddr;

use kernel_support::{TestHost, Wire, amount, frames, limit, policy, stingy, udp, wait_for};
use weir_abi::Reason;
use weir_model::{Amount, LimitId, Nanos, PolicyVersion, Scale, policy::PortRange};
use weir_node::dataplane::{self, GrantRequest, InstallOutcome, LoadError, ManagementEntry};

#[test]
fn packets_are_limited_and_management_passes_first() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut options = host.options(&["near"]);
        options.management = vec![ManagementEntry {
            ports: vec![PortRange {
                first: 22,
                last: 22,
            }],
            from: vec!["198.18.0.0/15".parse().unwrap()],
        }];
        let mut dataplane = host.load(&options).unwrap();
        let mut strict = limit("nothing");
        strict.budget = amount(1, 1);
        dataplane
            .activate(&policy([strict]), PolicyVersion(1))
            .unwrap();
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        let source: IpAddr = "198.18.0.1".parse().unwrap();
        let stranger: IpAddr = "203.0.113.1".parse().unwrap();
        let destination: IpAddr = "198.18.0.2".parse().unwrap();
        let ssh = frames::tcp(source, destination, (40_000, 22));
        let answer = frames::tcp(source, destination, (22, 40_000));
        let spoofed = frames::tcp(stranger, destination, (40_000, 22));
        for _ in 0..100 {
            for frame in [&udp(53), &ssh, &spoofed, &answer, &frames::arp()] {
                far.send(frame);
            }
        }
        let counted = || dataplane.counters().unwrap();
        wait_for("500 packets", || counted().totals.received.packets == 500);
        let counted = counted();
        kernel_support::host::check_totals(&counted.totals);
        assert_eq!(counted.of(Reason::Management).packets, 200);
        assert_eq!(counted.of(Reason::NotIp).packets, 100);
        assert_eq!(counted.of(Reason::OverLimit).packets, 200);
        assert_eq!(counted.limits[0].offered_tokens(), 200);
        assert_eq!(counted.limits[0].dropped_tokens(), 200);
        // The receiver counts for itself.
        assert_eq!(near.drain(), 300);
    });
}

#[test]
fn the_kernel_falls_to_the_floor_without_any_process() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        dataplane
            .activate(&policy([limit("leased")]), PolicyVersion(1))
            .unwrap();
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        let end = Nanos(dataplane::now().0 + 200_000_000);
        let request = GrantRequest {
            limit: LimitId::of("leased"),
            amount: amount(1_000_000, 100_000),
            floor: amount(100, 5),
            expires: end,
        };
        dataplane.install(&[request]).unwrap();
        drop(dataplane);

        let frame = udp(53);
        let send_until = |until: Nanos| {
            let (mut sent, begin) = (0, dataplane::now());
            while dataplane::now() < until {
                far.send(&frame);
                sent += 1;
            }
            (sent, (dataplane::now() - begin).as_secs_f64())
        };
        send_until(Nanos(end.0 + 10_000_000));
        near.drain();
        let (sent, seconds) = send_until(Nanos(end.0 + 510_000_000));
        let passed = near.drain();
        let most = 100.0 * seconds + 5.0;
        assert!(sent > 1_000, "only {sent} were sent");
        assert!(passed as f64 <= most, "{passed} passed, {most} may");
        assert!(
            passed as f64 >= 100.0 * seconds * 0.9 - 1.0,
            "{passed} passed in {seconds} s"
        );
    });
}

#[test]
fn packets_are_enforced_through_a_restart() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let options = host.options(&["near"]);
        let mut dataplane = host.load(&options).unwrap();
        dataplane
            .activate(&policy([limit("closed")]), PolicyVersion(1))
            .unwrap();
        let (far, near) = (Wire::open("far"), Wire::open("near"));
        let frame = udp(53);
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut daemon = Some(dataplane);
        let sent = std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0_u64;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    far.send(&frame);
                    sent += 1;
                }
                sent
            });
            for _ in 0..5 {
                drop(daemon.take());
                daemon = Some(host.load(&options).unwrap());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            sender.join().unwrap()
        });
        let dataplane = daemon.unwrap();
        let received = || dataplane.counters().unwrap().totals.received.packets;
        wait_for("all packets", || received() == sent);
        // Nothing was granted, so nothing may have passed at any moment.
        assert!(sent > 1_000, "only {sent} were sent");
        assert_eq!(near.drain(), 0);
    });
}

#[test]
fn cpus_and_installer_together_admit_no_more_than_was_granted() {
    const MILLIS: u64 = 300;
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        // Each install rounds down to a unit, so units are fine.
        let mut shared = limit("shared");
        shared.scale = Scale { fraction_bits: 20 };
        dataplane
            .activate(&policy([shared]), PolicyVersion(1))
            .unwrap();
        let near = Wire::open("near");
        let begin = dataplane::now();
        let end = Nanos(begin.0 + MILLIS * 1_000_000);
        let send = || {
            let far = Wire::open_in("far", host.namespace());
            let frame = udp(53);
            let mut sent = 0_u64;
            while dataplane::now() < end {
                far.send(&frame);
                sent += 1;
            }
            sent
        };
        let (sent, installed) = std::thread::scope(|scope| {
            let senders = [scope.spawn(send), scope.spawn(send)];
            let mut installed = 0_u64;
            while dataplane::now() < end {
                // Rates of 20,000 and 40,000 take turns, with bursts that grow and shrink.
                let request = GrantRequest {
                    limit: LimitId::of("shared"),
                    amount: amount(
                        20_000 << 20 << (installed & 1),
                        2_000 << 20 << (installed & 1),
                    ),
                    floor: Amount::ZERO,
                    expires: Nanos::NEVER,
                };
                dataplane.install(&[request]).unwrap();
                installed += 1;
            }
            let sent: u64 = senders.map(|sender| sender.join().unwrap()).iter().sum();
            (sent, installed)
        });
        let received = || dataplane.counters().unwrap().totals.received.packets;
        wait_for("all packets", || received() == sent);
        let seconds = (dataplane::now() - begin).as_secs_f64();
        let counted = dataplane.counters().unwrap();
        kernel_support::host::check_totals(&counted.totals);
        let passed = near.drain() as f64;
        assert_eq!(passed, counted.limits[0].admitted_tokens() as f64);
        assert_eq!(counted.limits[0].offered_tokens(), sent);
        assert!(installed > 1_000, "only {installed} installs");
        assert!(
            passed <= 40_000.0 * seconds + 4_000.0,
            "{passed} in {seconds} s"
        );
        assert!(
            sent as f64 > 45_000.0 * seconds,
            "{sent} offered in {seconds} s are too few"
        );
        assert!(passed >= 10_000.0 * seconds, "{passed} in {seconds} s");
    });
}

#[test]
fn interfaces_share_their_limits() {
    TestHost::run(|host| {
        host.wire("near", "far");
        host.wire("near2", "far2");
        let mut dataplane = host.load(&host.options(&["near", "near2"])).unwrap();
        dataplane
            .activate(&policy([stingy(10)]), PolicyVersion(1))
            .unwrap();
        // A bucket starts empty: wait until it has gained all that it can hold.
        let full = || {
            dataplane
                .held(LimitId::of("stingy"))
                .unwrap()
                .unwrap()
                .unspent
                .0
                == 10
        };
        wait_for("a full bucket", full);
        let (near, near2) = (Wire::open("near"), Wire::open("near2"));
        let wires = [Wire::open("far"), Wire::open("far2")];
        let begin = dataplane::now();
        for round in 0..100 {
            wires[round % 2].send(&udp(53));
        }
        let received = || dataplane.counters().unwrap().totals.received.packets;
        wait_for("100 packets", || received() == 100);
        let gained = 10.0 * (dataplane::now() - begin).as_secs_f64() + 1.0;
        let passed = near.drain() + near2.drain();
        assert!((10..=10 + gained as usize).contains(&passed), "{passed}");
    });
}

#[test]
fn grants_are_installed_without_any_privilege() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut dataplane = host.load(&host.options(&["near"])).unwrap();
        dataplane
            .activate(&policy([limit("leased")]), PolicyVersion(1))
            .unwrap();
        let options = host.options(&["near"]);
        std::thread::scope(|scope| {
            let unprivileged = scope.spawn(|| {
                become_nobody();
                let error = host.load(&options).unwrap_err();
                assert!(matches!(error, LoadError::Privileges { .. }), "{error}");
                assert!(error.to_string().contains("CAP_BPF"), "{error}");
                let request = GrantRequest {
                    limit: LimitId::of("leased"),
                    amount: amount(5, 5),
                    floor: Amount::ZERO,
                    expires: Nanos::NEVER,
                };
                let outcomes = dataplane.install(&[request]).unwrap();
                assert!(matches!(outcomes[..], [InstallOutcome::Installed { .. }]));
                let held = dataplane.held(request.limit).unwrap().unwrap();
                assert_eq!(held.amount, request.amount);
                assert_eq!(dataplane.counters().unwrap().limits.len(), 1);
                let version = PolicyVersion(2);
                dataplane.activate(&policy([stingy(1)]), version).unwrap();
                assert_eq!(dataplane.active_policy(), version);
            });
            if let Err(panic) = unprivileged.join() {
                std::panic::resume_unwind(panic);
            }
        });
    });
}

/// This thread gives up root, and with it every capability.
fn become_nobody() {
    const NOBODY: libc::c_long = 65_534;
    // SAFETY: no pointers. The bare calls change this thread alone, unlike the C library's.
    unsafe {
        assert_eq!(
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY),
            0
        );
        assert_eq!(
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
            0
        );
    }
}
