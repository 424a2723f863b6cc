//! Each bar is met by a fleet that does as it should, and missed by one that does not.

use super::*;
use crate::stage::{Event, HostRecord, LeaderSeen, Said, Server, Who};

const LENGTH: u64 = 16_000;
/// Packets per bin: a third of the rate each, and what is offered.
const SHARE: u32 = 4;
const OFFERED: u32 = 10;
const FOLLOWER: usize = 1;

/// Three hosts under an even flood that each admit a third, of which the first leads.
fn fleet() -> Recording {
    let host = |name: &str| HostRecord {
        name: name.to_owned(),
        offered: Series::new(0, vec![OFFERED; LENGTH as usize]),
        admitted: Series::new(0, vec![SHARE; LENGTH as usize]),
        ..HostRecord::default()
    };
    let said = |bin| Said {
        bin,
        ..Said::default()
    };
    Recording {
        hosts: ["a", "b", "c"].map(host).to_vec(),
        events: vec![Event {
            bin: 0,
            what: Happening::Shaped {
                label: String::new(),
                rates: vec![f64::from(OFFERED) * 1e3; 3],
            },
        }],
        leaders: vec![LeaderSeen {
            bin: 0,
            term: 1,
            name: "a".to_owned(),
        }],
        said: vec![(0..=LENGTH).step_by(200).map(said).collect(); 3],
        end: LENGTH,
        ..Recording::default()
    }
}

fn hit(mut recording: Recording, fault: &Fault, hosts: &[usize], bins: Range<Bin>) -> Recording {
    let episode = recording.events.len();
    let servers = if fault.is_of_servers() {
        vec![0, 1]
    } else {
        Vec::new()
    };
    recording.events.push(Event {
        bin: bins.start,
        what: Happening::Began {
            episode,
            fault: fault.clone(),
            hosts: hosts.to_vec(),
            servers,
            done: bins.start,
        },
    });
    recording.events.push(Event {
        bin: bins.end,
        what: Happening::Ended {
            episode,
            fault: fault.clone(),
            hosts: hosts.to_vec(),
            // It takes a tenth of a second to undo it.
            begun: bins.end - 100,
        },
    });
    recording.events.sort_by_key(|event| event.bin);
    recording
}

/// So many packets per thousand bins at a host, from when to when.
fn admit(recording: &mut Recording, host: usize, per_second: u64, bins: Range<Bin>) {
    let admitted = &recording.hosts[host].admitted;
    let count = |bin: Bin| {
        if bins.contains(&bin) {
            ((bin + 1) * per_second / 1_000 - bin * per_second / 1_000) as u32
        } else {
            admitted.at(bin)
        }
    };
    recording.hosts[host].admitted = Series::new(0, (0..LENGTH).map(count).collect());
}

/// What does not hold.
fn missed(recording: &Recording, expected: &[Expect]) -> Vec<String> {
    let (_, findings) = judge(recording, &ground::limit(), &Timing::default(), expected);
    let missed = findings.into_iter().filter(|found| !found.holds());
    missed.map(|found| found.what).collect()
}

const NONE: [&str; 0] = [];
const FLOOR: u64 = 240;
const LEASE: Duration = Duration::from_secs(2);

#[test]
fn a_fleet_at_its_budget_meets_every_bar_of_calm() {
    let bars = [
        Expect::Utilisation(0.97),
        Expect::NoMissedTick,
        Expect::NobodyElseFalls,
        Expect::Fair(0.99),
        Expect::LeaderChanges(0, 0),
    ];
    assert_eq!(missed(&fleet(), &bars), NONE);
    let mut slow = fleet();
    admit(&mut slow, 0, 3_000, 0..LENGTH);
    assert_eq!(
        missed(&slow, &bars),
        [figure::UTILISATION, "fairness (Jain)"]
    );
    let mut fast = fleet();
    admit(&mut fast, 0, 5_000, 0..LENGTH);
    assert!(missed(&fast, &bars).contains(&figure::OVER_ADMISSION.to_owned()));
}

#[test]
fn a_daemon_that_is_not_heard_proves_nothing() {
    let bars = [Expect::NoMissedTick, Expect::NobodyElseFalls];
    for silence in [0..=2_400, 13_600..=LENGTH, 0..=LENGTH] {
        let mut recording = fleet();
        recording.said[2].retain(|said| !silence.contains(&said.bin));
        assert_eq!(missed(&recording, &bars).len(), 2, "{silence:?}");
    }
    let mut recording = fleet();
    recording.said[2]
        .iter_mut()
        .skip(40)
        .for_each(|said| said.gaps = 1);
    assert_eq!(missed(&recording, &bars), ["missed ticks"]);
}

#[test]
fn a_host_that_is_cut_off_falls_within_its_lease() {
    let cut = Fault::LinkDown(Who::Follower(0));
    let bars = [Expect::OnFloor(0, LEASE)];
    let with = |fell: Bin, rate: u64| {
        let mut recording = hit(fleet(), &cut, &[FOLLOWER], 2_000..7_000);
        admit(&mut recording, FOLLOWER, rate, fell..7_000);
        missed(&recording, &bars)
    };
    assert_eq!(with(3_900, FLOOR), NONE);
    assert_eq!(
        with(4_200, FLOOR),
        [
            "the hosts that were hit have fallen to their floors",
            "the hosts that were hit are on their floors"
        ],
        "two ticks late"
    );
    assert_eq!(
        with(3_900, 0),
        ["the hosts that were hit are on their floors"]
    );
    assert_eq!(with(9_000, FLOOR).len(), 2, "never");
}

/// The quorum at 2,000 to 8,000, the leader at 2,200; floors from 4,000 on.
fn everything_lost(all_fall: bool, quorum: Bin, full: Bin) -> Vec<String> {
    let no_quorum = Fault::ServersPaused(Server::Majority);
    let recording = hit(fleet(), &no_quorum, &[], 2_000..8_000);
    let mut recording = hit(recording, &Fault::Killed(Who::Leader), &[0], 2_200..3_200);
    for host in 0..2 + usize::from(all_fall) {
        admit(&mut recording, host, FLOOR, 4_000..full);
    }
    let serves = |bin: Bin| (bin, bin < 2_000 || bin >= quorum);
    recording.served = vec![(0..LENGTH).step_by(50).map(serves).collect(); 3];
    let bars = [Expect::AllOnFloor(1, LEASE), Expect::FullOnceQuorum(10.0)];
    missed(&recording, &bars)
}

#[test]
fn full_use_is_reckoned_from_when_the_servers_have_a_quorum() {
    assert_eq!(everything_lost(true, 8_400, 9_300), NONE);
    let late = everything_lost(true, 8_400, 9_600);
    assert_eq!(late.len(), 2, "both use and shares: {late:?}");
    let never = everything_lost(true, 90_000, 9_300);
    assert_eq!(never.len(), 2, "nobody saw a quorum: {never:?}");
    let one_goes_on = everything_lost(false, 8_400, 9_300);
    assert!(
        one_goes_on[0].starts_with("all hosts have fallen"),
        "{one_goes_on:?}"
    );
}

#[test]
fn a_ring_that_was_not_full_is_found() {
    let paused = hit(fleet(), &Fault::Paused(Who::Host(0)), &[0], 2_000..3_800);
    let bars = [Expect::RingFull(0)];
    assert_eq!(missed(&paused, &bars).len(), 1, "nothing was lost");
    let mut full = paused.clone();
    full.said[0]
        .iter_mut()
        .skip(20)
        .for_each(|said| said.events_lost = 5_000);
    assert_eq!(missed(&full, &bars), NONE);
    let mut elsewhere = paused.clone();
    elsewhere.said[1]
        .iter_mut()
        .skip(20)
        .for_each(|said| said.events_lost = 5_000);
    assert_eq!(
        missed(&elsewhere, &bars).len(),
        1,
        "at a host that read its ring"
    );
    full.said[0].clear();
    assert_eq!(missed(&full, &bars).len(), 1, "nobody asked");
    assert_eq!(missed(&fleet(), &bars).len(), 1, "nobody was stopped");
}

#[test]
fn a_lower_rate_is_the_budget_and_is_used() {
    let bars = [Expect::BudgetAfter(0, 6_000.0), Expect::Utilisation(0.97)];
    let with = |rate: u64| {
        let mut recording = hit(fleet(), &Fault::Rate(6_000), &[], 3_000..3_500);
        for host in 0..3 {
            admit(&mut recording, host, rate / 3, 4_000..LENGTH);
        }
        missed(&recording, &bars)
    };
    assert_eq!(with(6_000), NONE);
    assert_eq!(with(3_000), [figure::UTILISATION]);
    assert_eq!(
        with(12_000),
        ["never above the new budget, from one lease on"]
    );
}

#[test]
fn a_rate_on_trial_is_the_budget_while_it_lasts() {
    let trial = Fault::Trial {
        rate: 6_000,
        within: Duration::from_secs(4),
    };
    let bars = [Expect::BudgetAfter(0, 6_000.0), Expect::Utilisation(0.97)];
    let with = |rate: u64, back: Bin| {
        let mut recording = hit(fleet(), &trial, &[], 3_000..8_000);
        for host in 0..3 {
            admit(&mut recording, host, rate / 3, 3_500..back);
        }
        missed(&recording, &bars)
    };
    assert_eq!(with(6_000, 8_000), NONE);
    assert_eq!(
        with(12_000, 8_000),
        ["never above the new budget, from one lease on"]
    );
    assert_eq!(with(6_000, LENGTH), [figure::UTILISATION], "it stays");
}

#[test]
fn an_upgrade_is_noticed_in_any_window() {
    let upgraded = hit(fleet(), &Fault::Upgraded(Who::Leader), &[0], 3_000..3_100);
    let bars = [Expect::NeverUnder(0.9, 300)];
    let with = |hole: Range<Bin>| {
        let mut recording = upgraded.clone();
        admit(&mut recording, 0, 0, hole);
        missed(&recording, &bars)
    };
    assert_eq!(with(0..0), NONE);
    assert_eq!(
        with(4_000..4_050),
        NONE,
        "a twentieth of a second of one host"
    );
    assert_eq!(with(4_000..4_200), ["the least of any window"]);
}

#[test]
fn hot_sources_have_their_rate_and_no_more() {
    let bars = [Expect::StrictKey, Expect::ElasticKey, Expect::KeysUse(0.9)];
    let with = |strict: u32, elastic: u32| {
        let mut recording = fleet();
        // Of two a bin over the fleet, the first host has all.
        let key = |packets| Series::new(0, vec![packets; LENGTH as usize]);
        recording.hosts[0].keys = vec![key(strict), key(elastic)];
        recording.hosts[1].keys = vec![key(0), key(0)];
        missed(&recording, &bars)
    };
    assert_eq!(with(2, 2), NONE);
    assert_eq!(with(3, 2), ["the strict source, never above its rate"]);
    assert_eq!(
        with(2, 3),
        ["the elastic source, once merged, never above its excess"]
    );
    assert_eq!(with(2, 1), ["the elastic source, the least of any second"]);
    assert_eq!(with(1, 2), ["the strict source, the least of any second"]);
    assert_eq!(missed(&fleet(), &bars).len(), 4, "no source was counted");
}

#[test]
fn who_was_removed_admits_nothing() {
    let removed = hit(fleet(), &Fault::Removed(Who::Leader), &[0], 3_000..3_500);
    let bars = [Expect::GivenBack(0, LEASE)];
    let mut recording = removed.clone();
    admit(&mut recording, 0, 0, 4_900..LENGTH);
    assert_eq!(missed(&recording, &bars), NONE);
    admit(&mut recording, 0, FLOOR, 9_000..9_100);
    assert_eq!(missed(&recording, &bars).len(), 1);
    assert_eq!(missed(&removed, &bars).len(), 1);
    assert_eq!(missed(&fleet(), &bars).len(), 1, "nobody was removed");
}

#[test]
fn shares_are_back_from_when_the_undoing_begins() {
    let cut = hit(
        fleet(),
        &Fault::LinkDown(Who::Follower(0)),
        &[FOLLOWER],
        2_000..7_100,
    );
    let bars = [Expect::Back(0, 5.0)];
    let with = |back: Bin| {
        let mut recording = cut.clone();
        admit(&mut recording, FOLLOWER, FLOOR, 4_000..back);
        missed(&recording, &bars)
    };
    assert_eq!(with(7_450), NONE);
    assert_eq!(
        with(7_700),
        ["shares are back after the fault"],
        "six ticks after 7,000"
    );
    assert_eq!(with(LENGTH).len(), 1);
}

#[test]
fn where_all_were_hit_nobody_else_is_left_to_show_anything() {
    let mut recording = fleet();
    for (host, begin) in [(0, 2_000), (1, 5_000), (2, 8_000)] {
        let upgraded = Fault::Upgraded(Who::Host(host));
        recording = hit(recording, &upgraded, &[host], begin..begin + 200);
    }
    let else_falls = ["other hosts that fell to their floors"];
    assert_eq!(missed(&recording, &[Expect::NobodyElseFalls]), else_falls);
    assert_eq!(missed(&recording, &[Expect::NobodyFalls]), NONE);
    recording.said[1]
        .iter_mut()
        .skip(30)
        .for_each(|said| said.falls = 1);
    let falls = ["hosts that fell to their floors"];
    assert_eq!(missed(&recording, &[Expect::NobodyFalls]), falls);
}
