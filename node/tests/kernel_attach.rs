//! Attaching: what is refused, what survives, what is left behind (nothing).

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{fs, path::Path};

use kernel_support::{TestHost, Wire, amount, ip, limit, policy, stingy, udp, upgrade, wait_for};
use weir_abi::maps;
use weir_model::{LimitId, Nanos, PolicyVersion, policy::PortRange};
use weir_node::dataplane::{
    self, AttachMode, GrantRequest, InstallOutcome, LoadError, LoadOptions, ManagementEntry,
};

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
        for management in [Vec::new(), ssh()] {
            let options = LoadOptions {
                management,
                ..host.options(&["near", "lo"])
            };
            let error = host.load(&options).unwrap_err();
            assert!(matches!(error, LoadError::NativeRefused { .. }), "{error}");
            assert_eq!(program_id("near"), id);
        }
        let second = host.load(&host.options(&["near"])).unwrap();
        assert_eq!(second.active_policy(), PolicyVersion(3));
    });
}

fn ssh() -> Vec<ManagementEntry> {
    let ports = vec![PortRange {
        first: 22,
        last: 22,
    }];
    let from = Vec::new();
    vec![ManagementEntry { ports, from }]
}

#[test]
fn a_restart_takes_the_programs_that_are_there_if_they_are_the_same() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let load = |management: &[ManagementEntry]| {
            let options = LoadOptions {
                management: management.to_vec(),
                ..host.options(&["near"])
            };
            let loaded = host.load(&options).unwrap();
            (program_id("near"), loaded)
        };
        let (first, mut dataplane) = load(&[]);
        let mut leased = limit("leased");
        leased.budget = amount(1_000, 1_000);
        dataplane
            .activate(&policy([leased]), PolicyVersion(1))
            .unwrap();
        drop(dataplane);

        // Nothing is verified again, and grants go through the program that was there.
        let (second, mut dataplane) = load(&[]);
        assert_eq!(second, first);
        let request = GrantRequest {
            limit: LimitId::of("leased"),
            amount: amount(1_000, 1_000),
            floor: amount(0, 0),
            expires: Nanos(dataplane::now().0 + 60_000_000_000),
        };
        let outcomes = dataplane.install(&[request]).unwrap();
        assert!(matches!(outcomes[..], [InstallOutcome::Installed { .. }]));
        drop(dataplane);

        // Another allow-list is frozen in maps of another program.
        let (third, dataplane) = load(&ssh());
        assert_ne!(third, second);
        drop(dataplane);
        assert_eq!(load(&ssh()).0, third);

        // Whoever pins other programs makes void what is written beside them.
        let pins = host.bpffs().join("weir/test");
        let layout = fs::read_dir(pins).unwrap().next().unwrap().unwrap().path();
        fs::remove_file(layout.join("sweep")).unwrap();
        assert_ne!(load(&ssh()).0, third);
    });
}

/// A map that somebody takes away, or puts in the place of another, is not the one that the pinned programs
/// run over: whoever took those would write one map, and packets would be decided by another.
#[test]
fn programs_that_run_over_other_maps_than_are_pinned_are_not_taken() {
    TestHost::run(|host| {
        host.wire("near", "far");
        let options = host.options(&["near"]);
        let others = LoadOptions {
            group: "others".to_owned(),
            ..host.options(&["far"])
        };
        drop(host.load(&options).unwrap());
        drop(host.load(&others).unwrap());
        let layout = |group: &str| {
            let group = host.bpffs().join("weir").join(group);
            fs::read_dir(group).unwrap().next().unwrap().unwrap().path()
        };
        let (own, other) = (layout("test"), layout("others"));
        for (map, replacement) in [
            (maps::LIMITS, Some(other.join(maps::LIMITS))),
            (maps::SIDE, Some(other.join(maps::SIDE))),
            // The tables of one program alone.
            (maps::RULES, Some(other.join(maps::RULES))),
            (maps::KEYS, None),
        ] {
            let before = program_id("near");
            drop(host.load(&options).unwrap());
            assert_eq!(program_id("near"), before, "before {map} is another");
            fs::remove_file(own.join(map)).unwrap();
            if let Some(replacement) = &replacement {
                fs::rename(replacement, own.join(map)).unwrap();
            }
            let mut dataplane = host.load(&options).unwrap();
            assert_ne!(program_id("near"), before, "{map} is another");
            // What is written is what packets meet.
            let mut open = limit("open");
            open.budget = amount(1_000, 1_000);
            dataplane
                .activate(&policy([open, stingy(7)]), PolicyVersion(1))
                .unwrap();
            let request = GrantRequest {
                limit: LimitId::of("open"),
                amount: amount(1_000, 1_000),
                floor: amount(0, 0),
                expires: Nanos(dataplane::now().0 + 60_000_000_000),
            };
            dataplane.install(&[request]).unwrap();
            let held = dataplane.held(LimitId::of("open")).unwrap().unwrap();
            assert_eq!(held.amount, amount(1_000, 1_000), "{map}");
        }
        let _ = dataplane::detach(&options.bpffs, "others");
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
        let layout =
            upgrade::Build::own(options.sizes.limit_slots, options.sizes.key_slots).layout();
        let layout = options.bpffs.join("weir/test").join(layout);
        let (map, other) = (layout.join("SIDE"), layout.join("POLICIES"));
        fs::remove_file(&map).unwrap();
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
