//! What a host enforces while policies change, with a kernel and a file of its own.

#![allow(clippy::unwrap_used)]

mod remembering;

use std::{ffi::CString, io, path::Path, thread, time::Duration};

use aya::maps::{LpmTrie, MapData, lpm_trie::Key};
use weir_abi::maps;

use weir_model::{
    Generation,
    message::{Commit, Propose, Token},
    prefix::Prefix,
};

use super::*;
use crate::dataplane::{AttachMode, Clock, LoadOptions, Sizes, detach, load};

const GROUP: &str = "test";
const NODE: NodeId = NodeId::from_u128(7);
const LASTING: Duration = Duration::from_secs(3_600);

/// Takes the programs away, and the file system that they are pinned in.
struct Host {
    directory: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        let bpffs = self.directory.path().join("bpf");
        let _ = detach(&bpffs, GROUP);
        let path = CString::new(bpffs.to_str().unwrap_or_default()).unwrap_or_default();
        // SAFETY: a string that ends in a zero.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Runs `test` on a host without interfaces; what it remembers is in the directory.
fn on_host(test: impl FnOnce(&Path, Enforcement) + Send) {
    thread::scope(|scope| {
        let on_host = scope.spawn(|| {
            // SAFETY: no pointers; only this thread leaves.
            let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            let error = io::Error::last_os_error();
            assert_eq!(left, 0, "kernel tests need root: {error}");
            let host = Host {
                directory: tempfile::tempdir().unwrap(),
            };
            let directory = host.directory.path();
            let dataplane = load(&LoadOptions {
                interfaces: Vec::new(),
                group: GROUP.to_owned(),
                bpffs: directory.join("bpf"),
                mode: AttachMode::Native,
                management: Vec::new(),
                clock: Clock::Boot,
                sizes: Sizes::default(),
                policy: None,
            });
            let memory = Memory::open(&directory.join("state"), NODE, "test").unwrap();
            test(
                directory,
                Enforcement::new(NODE, dataplane.unwrap(), memory),
            );
        });
        if let Err(panic) = on_host.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn document(limits: &[(&str, &str, &str)]) -> String {
    let limits = limits.iter().map(|(name, rate, destinations)| {
        format!(
            "[[limit]]\nname = \"{name}\"\nrate = \"{rate} packets/s\"\nfloor = \"10%\"\n{destinations}\n"
        )
    });
    let limits: String = limits.collect();
    format!("version = 1\n[fleet]\nmax_members = 2\n{limits}")
}

fn floors_of(policy: &Policy) -> BTreeMap<LimitId, Floor> {
    let floor = |limit: &Limit| {
        let floor = Floor {
            cost: limit.cost,
            scale: limit.scale,
            amount: limit.floor,
        };
        (limit.id, floor)
    };
    policy.limits.iter().map(floor).collect()
}

/// A policy gives two limits other units. One has a lease, which is carried; the other has its floor alone,
/// and a bucket that is new and holds nothing.
#[test]
fn a_lease_that_is_carried_leaves_the_floors_of_other_limits_remembered() {
    on_host(|_, mut enforcement| {
        let before = document(&[("leased", "4000", ""), ("idle", "4000", "")]);
        let after = document(&[("leased", "2000", ""), ("idle", "2000", "")]);
        let [first, second] = [&before, &after].map(|text| weir_model::file::parse(text).unwrap());
        enforcement.memory.set_floors(floors_of(&first));
        enforcement.set_policy(PolicyVersion(1), &before);
        enforcement.set_alone();
        let [leased, idle] = ["leased", "idle"].map(LimitId::of);
        let lease = Grant {
            limit: leased,
            amount: first.limit(leased).unwrap().budget,
            floor: first.limit(leased).unwrap().floor,
            expires: dataplane::now() + LASTING,
        };
        enforcement.install(&[lease], None);

        enforcement.set_policy(PolicyVersion(2), &after);
        let carried = enforcement.held_of(second.limit(leased).unwrap());
        assert_eq!(carried.amount, second.limit(leased).unwrap().budget);
        assert_eq!(carried.expires, lease.expires);
        let floor = second.limit(idle).unwrap().floor;
        assert_ne!(floor, Amount::ZERO);
        let held = enforcement.held_of(second.limit(idle).unwrap());
        assert_eq!((held.floor, held.amount), (floor, floor));
        let remembered = enforcement.memory.floors();
        assert_eq!(remembered, &floors_of(&second));
    });
}

/// The document that is to be ready next does not fit into the kernel, and lies there in part. A leader begins
/// with the one that was ready before.
#[test]
fn a_policy_that_is_ready_is_enforced_whole_after_another_one_failed_to_be() {
    on_host(|directory, mut enforcement| {
        let to = |network: &str| format!("to = [{network}]");
        let first = document(&[("one", "10", &to("\"198.18.1.0/24\""))]);
        let second = document(&[("two", "20", &to("\"198.18.2.0/24\""))]);
        let many: Vec<String> = (0..8)
            .map(|number| format!("\"198.18.{}.0/24\"", 100 + number))
            .collect();
        let third = document(&[("three", "30", &to(&many.join(",")))]);
        enforcement.set_policy(PolicyVersion(1), &first);
        enforcement.begin_life(Incarnation(1), Term(1), Duration::ZERO);

        // Prefixes of no policy leave room for a few.
        let pins = directory.join("bpf/weir").join(GROUP);
        let layout = std::fs::read_dir(pins).unwrap().next().unwrap().unwrap();
        let destinations = MapData::from_pin(layout.path().join(maps::DESTINATIONS4)).unwrap();
        let destinations = aya::maps::Map::from_map_data(destinations).unwrap();
        let mut destinations: LpmTrie<MapData, [u8; 8], u32> = destinations.try_into().unwrap();
        let strange = |number: u32| {
            let mut data = [0xff; 8];
            data[4..].copy_from_slice(&number.to_be_bytes());
            Key::new(64, data)
        };
        for number in 4..maps::PREFIXES as u32 {
            destinations.insert(&strange(number), 0, 0).unwrap();
        }
        let two = enforcement.make_ready(PolicyVersion(2), &second).unwrap();
        assert_eq!(enforcement.follower().unwrap().prepared(), PolicyVersion(2));
        enforcement.make_ready(PolicyVersion(3), &third);
        assert_eq!(enforcement.follower().unwrap().prepared(), PolicyVersion(2));

        enforcement.enforce(PolicyVersion(2));
        assert_eq!(enforcement.policy_version(), PolicyVersion(2));
        let known: Vec<LimitId> = enforcement.dataplane.limits().collect();
        assert_eq!(known, [two.limits[0].id]);
        // Nothing is granted of it: its packets are dropped, and others pass.
        let passes = |network: u8| {
            let frame = udp_to([198, 18, network, 1]);
            enforcement.dataplane.run_frame(&frame).unwrap()
        };
        assert!(!passes(2), "the limit of the policy in force applies");
        assert!(passes(1), "that of the one before does not");
        assert!(
            (100..108).all(passes),
            "that of the one that failed does not"
        );
    });
}

/// Of a strict keyed limit a host gives its part as long as it is a member, and stops before it
/// acknowledges that nothing is its own. It remembers that.
#[test]
fn who_is_no_member_gives_keys_nothing_and_who_leaves_stops_before_it_answers() {
    on_host(|directory, mut enforcement| {
        let text = "version = 1\n[fleet]\nmax_members = 2\n[[limit]]\nname = \"sources\"\n\
                    per = {}\npromise = \"strict\"\nrate = \"400k packets/s\"\n[[limit]]\nname = \"elastic\"\n\
                    per = {}\npromise = \"elastic\"\nto = [\"198.18.2.0/24\"]\n\
                    rate = \"40 packets/s\"\n";
        let frame = udp_to([198, 18, 1, 1]);
        let passes = |enforcement: &Enforcement| enforcement.dataplane.run_frame(&frame).unwrap();
        enforcement.set_policy(PolicyVersion(1), text);
        enforcement.begin_life(Incarnation(1), Term(1), Duration::ZERO);
        assert!(!passes(&enforcement), "it is no member yet");

        let record = MemberRecord {
            node: NODE,
            name: "node".to_owned(),
            weight: 1,
            floors: Vec::new(),
            is_drained: false,
            is_powered_off: false,
        };
        enforcement.set_member(Some(&record));
        assert!(passes(&enforcement), "it is one");

        let leaves = propose(1, Duration::ZERO);
        let mut answers = Vec::new();
        enforcement.receive(leaves, |answer| answers.push(answer));
        let acknowledges = |answer: &FromNode| matches!(answer, FromNode::Ack(ack) if ack.holds);
        assert!(answers.iter().any(acknowledges), "{answers:?}");
        assert!(!passes(&enforcement), "nothing is its own");
        // The roster has it still, and is read once more.
        enforcement.set_member(Some(&record));
        assert!(!passes(&enforcement));

        // It starts again, without ZooKeeper, and then with it.
        let Enforcement { dataplane, .. } = enforcement;
        let memory = Memory::open(&directory.join("state"), NODE, "test").unwrap();
        let mut enforcement = Enforcement::new(NODE, dataplane, memory);
        assert!(!passes(&enforcement));
        enforcement.begin_life(Incarnation(2), Term(1), Duration::ZERO);
        enforcement.set_member(Some(&record));
        assert!(!passes(&enforcement));

        // The operator has changed their mind: another leader grants it its part.
        enforcement.receive(propose(2, LASTING), |_| {});
        assert!(!passes(&enforcement), "not before the commit");
        enforcement.receive(
            ToNode::Commit(Commit {
                position: position(2),
            }),
            |_| {},
        );
        assert!(passes(&enforcement));
        let Enforcement { dataplane, .. } = enforcement;
        let memory = Memory::open(&directory.join("state"), NODE, "test").unwrap();
        let mut enforcement = Enforcement::new(NODE, dataplane, memory);
        assert!(passes(&enforcement), "a member that starts again goes on");
        enforcement.set_member(None);
        assert!(!passes(&enforcement));
    });
}

const fn position(generation: u64) -> Position {
    Position {
        term: Term(1),
        generation: Generation(generation),
    }
}

/// A policy with room for more members gives each a smaller part of an elastic key's excess.
#[test]
fn a_hot_key_has_the_floor_of_the_policy_in_force() {
    on_host(|_, mut enforcement| {
        let [before, after] = [2, 8].map(|members| {
            format!(
                "version = 1\n[fleet]\nmax_members = {members}\n[[limit]]\nname = \"each\"\nper = {{ source_v4 = 32, source_v6 = 64 }}\n\
                 rate = \"4000 packets/s\"\npromise = \"elastic\"\nexcess = \"10%\"\n"
            )
        });
        let [first, second] = [&before, &after].map(|text| weir_model::file::parse(text).unwrap());
        enforcement.set_policy(PolicyVersion(1), &before);
        enforcement.set_alone();
        let each = first.limit(LimitId::of("each")).unwrap();
        let source = Prefix::containing([198, 18, 0, 1].into(), 32).unwrap();
        let key = HotKey::new(each, source);
        let [large, small] = [&first, &second].map(|policy| policy.hot_limit(&key).unwrap());
        assert!(small.floor != large.floor && small.floor.fits(large.floor));
        assert_eq!(small.revision, large.revision);
        assert_eq!(small.scale, large.scale);
        enforcement.hot_wanted = Some(vec![key]);
        let lease = Grant {
            limit: key.id,
            amount: each.budget,
            floor: large.floor,
            expires: dataplane::now() + LASTING,
        };
        enforcement.install(&[lease], None);
        assert_eq!(enforcement.held_of(&large), lease);

        enforcement.set_policy(PolicyVersion(2), &after);
        let floor = small.floor;
        assert_eq!(enforcement.held_of(&small), Grant { floor, ..lease });

        // As if the kernel had refused that.
        assert_eq!(enforcement.put(&[lease]), Some(vec![lease]));
        enforcement.is_lowered = false;
        enforcement.install(&[], None);
        assert_eq!(enforcement.held_of(&small), Grant { floor, ..lease });
        assert!(enforcement.is_lowered);
    });
}

fn propose(generation: u64, lease: Duration) -> ToNode {
    ToNode::Propose(Propose {
        position: position(generation),
        leader: NodeId::from_u128(8),
        policy: PolicyVersion(1),
        anchor: Token {
            incarnation: Incarnation(generation),
            at: dataplane::now(),
        },
        lease,
        rows: weir_model::rows::Rows::default(),
        hot: Some(Vec::new()),
        register: None,
    })
}

/// A UDP datagram without content.
fn udp_to(destination: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0x02; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    frame.extend([198, 18, 0, 9]);
    frame.extend(destination);
    frame.extend([0x12, 0x34, 0x00, 0x35, 0, 8, 0, 0]);
    frame.resize(60, 0);
    frame
}
