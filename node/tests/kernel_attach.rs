//! Attaching: what is refused, what survives, what is left behind (nothing).

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{fs, net::IpAddr, path::Path};

use kernel_support::{TestHost, Wire, amount, frames, ip, limit, policy, wait_for};
use weir_abi::Reason;
use weir_model::{
    Amount, LimitId, Nanos, PolicyVersion, Scale,
    policy::{PortRange, Promise},
};
use weir_node::dataplane::{
    self, AttachMode, GrantRequest, InstallOutcome, LoadError, LoadOptions, ManagementEntry,
};

fn udp(port: u16) -> Vec<u8> {
    let source: IpAddr = "198.18.0.1".parse().unwrap();
    let destination: IpAddr = "198.18.0.2".parse().unwrap();
    frames::udp(source, destination, (4_000, port), 60)
}

/// A limit that every packet counts for, and that admits `burst` at once and then nothing.
fn stingy(burst: u64) -> weir_model::Limit {
    let mut limit = limit("stingy");
    limit.promise = Promise::Local;
    limit.budget = amount(burst, burst);
    limit
}

/// What is in a directory, and below; without what the kernel puts into each BPF file system.
fn tree(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "debug")
        {
            continue;
        }
        found.push(path.display().to_string());
        found.extend(tree(&path));
    }
    found
}

fn has_program(interface: &str) -> bool {
    let output = std::process::Command::new("ip")
        .args(["link", "show", interface])
        .output();
    String::from_utf8_lossy(&output.unwrap().stdout).contains("xdp")
}

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
fn a_restart_adopts_what_is_pinned() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let options = host.options(&["near"]);
        let mut first = host.load(&options).unwrap();
        let mut leased = limit("leased");
        leased.budget = amount(1_000, 1_000);
        first
            .activate(&policy([stingy(7), leased]), PolicyVersion(42))
            .unwrap();
        let expires = Nanos(dataplane::now().0 + 60_000_000_000);
        let request = GrantRequest {
            limit: LimitId::of("leased"),
            amount: amount(1_000, 1_000),
            floor: amount(3, 2),
            expires,
        };
        first.install(&[request]).unwrap();
        let far = Wire::open("far");
        far.send(&udp(53));
        wait_for("a packet", || {
            first.counters().unwrap().totals.received.packets == 1
        });
        let before = first.counters().unwrap();
        drop(first);

        // Enforcement goes on without a daemon.
        assert!(has_program("near"));
        far.send(&udp(53));
        let mut second = host.load(&options).unwrap();
        wait_for("another packet", || {
            second.counters().unwrap().totals.received.packets == 2
        });
        assert_eq!(second.active_policy(), PolicyVersion(42));
        assert_eq!(second.limits().count(), before.limits.len());
        let held = second.held(LimitId::of("leased")).unwrap().unwrap();
        assert_eq!(held.amount, amount(1_000, 1_000));
        assert_eq!((held.floor, held.expires), (amount(3, 2), expires));
        // Limits are known by name, before any policy is read again.
        let outcomes = second.install(&[request]).unwrap();
        assert!(matches!(
            outcomes[..],
            [InstallOutcome::Installed { renewed: true, .. }]
        ));
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
fn a_second_daemon_is_refused_and_told_by_whom() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let options = host.options(&["near"]);
        let dataplane = host.load(&options).unwrap();
        let error = host.load(&options).unwrap_err();
        assert!(matches!(error, LoadError::AlreadyRunning { .. }), "{error}");
        let process = std::process::id().to_string();
        assert!(error.to_string().contains(&process), "{error}");
        assert!(matches!(
            dataplane::detach(&options.bpffs, &options.group).unwrap_err(),
            LoadError::AlreadyRunning { .. }
        ));
        drop(dataplane);
        assert!(host.load(&options).is_ok());
    });
}

#[test]
fn another_group_is_named_and_left_alone() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let others = LoadOptions {
            group: "others".to_owned(),
            ..host.options(&["near"])
        };
        drop(host.load(&others).unwrap());
        let error = host.load(&host.options(&["near"])).unwrap_err();
        assert!(matches!(error, LoadError::OtherGroup { .. }), "{error}");
        assert!(error.to_string().contains("in the group others"), "{error}");
        let left: Vec<_> = tree(&host.bpffs());
        assert!(left.iter().all(|path| !path.contains("/test")), "{left:?}");
        assert!(has_program("near"));
        let detached = dataplane::detach(&others.bpffs, &others.group).unwrap();
        assert_eq!(detached, ["near"]);
    });
}

#[test]
fn another_program_is_named_and_left_alone() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let others = LoadOptions {
            group: "others".to_owned(),
            ..host.options(&["far"])
        };
        let other = host.load(&others).unwrap();
        // The far end's program, put on the near end the old way, without a link. Then it is a
        // stranger's, for nothing of Weir's is pinned for it any more.
        let id = program_id("far");
        ip_attach(&id);
        drop(other);
        dataplane::detach(&others.bpffs, &others.group).unwrap();
        let error = host.load(&host.options(&["near"])).unwrap_err();
        assert!(matches!(error, LoadError::OtherProgram { .. }), "{error}");
        let named = format!("near already has the XDP program weir_xdp (id {id})");
        assert!(error.to_string().contains(&named), "{error}");
        assert_eq!(program_id("near"), id);
        // What the message says to do helps.
        ip(&["link", "set", "dev", "near", "xdp", "off"]);
        host.load(&host.options(&["near"])).unwrap();
    });
}

#[test]
fn a_failed_restart_leaves_the_old_program_in_place() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let mut first = host.load(&host.options(&["near"])).unwrap();
        first
            .activate(&policy([stingy(7)]), PolicyVersion(3))
            .unwrap();
        drop(first);
        let id = program_id("near");
        let error = host.load(&host.options(&["near", "lo"])).unwrap_err();
        assert!(matches!(error, LoadError::NativeRefused { .. }), "{error}");
        assert_eq!(program_id("near"), id);
        let second = host.load(&host.options(&["near"])).unwrap();
        assert_eq!(second.active_policy(), PolicyVersion(3));
        assert_ne!(program_id("near"), id);
    });
}

#[test]
fn an_interface_that_is_configured_no_more_is_set_free() {
    TestHost::run(|host| {
        host.wire("near", "far");
        drop(host.load(&host.options(&["near", "far"])).unwrap());
        assert!(has_program("far"));
        drop(host.load(&host.options(&["near"])).unwrap());
        assert!(has_program("near") && !has_program("far"));
    });
}

#[test]
fn a_place_where_no_bpffs_can_be_is_named() {
    TestHost::run(|host| {
        let file = host.bpffs();
        fs::write(&file, "").unwrap();
        let error = host.load(&host.options(&[])).unwrap_err();
        assert!(matches!(error, LoadError::BpfFileSystem { .. }), "{error}");
        let command = format!("mount -t bpf bpf {}", file.display());
        assert!(error.to_string().contains(&command), "{error}");
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

fn program_id(interface: &str) -> String {
    let output = std::process::Command::new("ip")
        .args(["link", "show", interface])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let (_, rest) = text.split_once("prog/xdp id ").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn ip_attach(id: &str) {
    let output = std::process::Command::new("bpftool")
        .args(["net", "attach", "xdpdrv", "id", id, "dev", "near"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_interface_without_native_mode_is_refused_and_nothing_is_left() {
    TestHost::run(|host| {
        host.wire("near", "far");
        // The first one can, the second one cannot: both must be free afterwards.
        let options = host.options(&["near", "lo"]);
        let error = host.load(&options).unwrap_err();
        let LoadError::NativeRefused { interface, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(interface, "lo");
        assert!(error.to_string().contains("--xdp-mode generic"), "{error}");
        assert!(!has_program("near"));
        assert_eq!(tree(&host.bpffs()), [""; 0]);

        let generic = LoadOptions {
            mode: AttachMode::Generic,
            ..host.options(&["lo"])
        };
        drop(host.load(&generic).unwrap());
        assert!(has_program("lo"));
        let native = host.load(&host.options(&["lo"])).unwrap_err();
        assert!(matches!(native, LoadError::OtherMode { .. }), "{native}");
        assert!(has_program("lo"));
        dataplane::detach(&generic.bpffs, &generic.group).unwrap();
        assert!(!has_program("lo"));
    });
}

#[test]
fn a_missing_interface_is_named_with_those_there_are() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let error = host.load(&host.options(&["eth7"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("eth7") && text.contains("near"), "{text}");
        assert_eq!(tree(&host.bpffs()), [""; 0]);
    });
}

#[test]
fn an_interface_that_was_made_again_is_attached_again() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let options = host.options(&["near"]);
        drop(host.load(&options).unwrap());
        ip(&["link", "del", "near"]);
        host.wire("near", "far");
        assert!(!has_program("near"));
        drop(host.load(&options).unwrap());
        assert!(has_program("near"));
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
fn detaching_leaves_nothing() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let options = host.options(&["near"]);
        drop(host.load(&options).unwrap());
        assert!(!tree(&options.bpffs).is_empty());
        let detached = dataplane::detach(&options.bpffs, &options.group).unwrap();
        assert_eq!(detached, ["near"]);
        assert!(!has_program("near"));
        assert_eq!(tree(&options.bpffs), [""; 0]);
        assert_eq!(
            dataplane::detach(&options.bpffs, &options.group).unwrap(),
            [""; 0]
        );
    });
}

#[test]
fn a_pinned_map_of_another_shape_is_refused() {
    TestHost::run(|host| {
        let options = host.options(&[]);
        drop(host.load(&options).unwrap());
        let map = options.bpffs.join("weir/test/v1/SIDE");
        fs::remove_file(&map).unwrap();
        let other = options.bpffs.join("weir/test/v1/POLICIES");
        let output = std::process::Command::new("bpftool")
            .args([
                "map",
                "pin",
                "pinned",
                other.to_str().unwrap(),
                map.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let error = host.load(&options).unwrap_err();
        assert!(matches!(error, LoadError::OtherLayout { .. }), "{error}");
        assert!(
            error.to_string().contains("1 entries of 4 + 8 bytes"),
            "{error}"
        );
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
