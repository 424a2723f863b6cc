//! What a review of the design warned of: each trap is sprung on purpose, and nothing breaks. Where
//! a rule can be switched off, the same trap without it does break something: it has teeth.

use std::{collections::BTreeSet, time::Duration};

use weir_coord_core::rules::Mutation;
use weir_model::PolicyVersion;
use weir_sim::{Broken, Pattern, Settings, World, mutation::KernelFault};

fn world(seed: u64, nodes: usize, pattern: Pattern, broken: Option<Broken>) -> World {
    World::new(Settings {
        pattern: Some(pattern),
        broken,
        ..Settings::calm(seed, nodes, 600)
    })
}

/// A host that does not lead.
fn other(world: &World) -> usize {
    let leader = world.leader().expect("there is one");
    (leader + 1) % world.hosts.len()
}

/// Nothing gets out of these places, nor in.
fn isolate(world: &mut World, places: &[usize], until_ms: u64) {
    let until = world.instant(until_ms);
    let places: BTreeSet<usize> = places.iter().copied().collect();
    world.network.cut(places, true, true, until);
}

/// Plays a trap from many seeds: never a violation with all rules, and at least one without this.
fn has_teeth(broken: Broken, seeds: u64, trap: impl Fn(u64, Option<Broken>) -> World) {
    for seed in 1..=seeds {
        trap(seed, None).assert_kept();
    }
    let is_found = |seed| trap(seed, Some(broken)).judge.violation.is_some();
    assert!((1..=seeds).any(is_found), "{} is not found", broken.name());
}

const fn rule(mutation: Mutation) -> Broken {
    Broken::Rule(mutation)
}

#[test]
fn a_burst_that_does_not_expire_is_spent_twice() {
    let broken = Broken::Kernel(KernelFault::BurstOutlivesLease);
    let scenario = weir_sim::directed::scenario(broken).expect("it is written down");
    has_teeth(broken, 5, scenario);
}

#[test]
fn a_grant_that_is_renewed_does_not_refill_its_bucket() {
    let trap = |seed, broken| {
        let mut world = world(seed, 5, Pattern::Moving, broken);
        world.run_until_ms(12_000);
        world
    };
    has_teeth(Broken::Kernel(KernelFault::GrantRefills), 2, trap);
}

/// A leader that is cut off with one host goes on proposing to it, and commits nothing.
#[test]
fn a_proposal_renews_nothing() {
    let trap = |seed, broken| {
        let mut world = world(seed, 7, Pattern::Steady, broken);
        world.run_until_ms(10_000);
        let leader = world.leader().expect("there is one");
        let with = other(&world);
        isolate(&mut world, &[leader, with], 25_000);
        world.run_until_ms(20_000);
        world
    };
    has_teeth(rule(Mutation::RenewAtPropose), 3, trap);
}

/// The voters change, and the leader of the new term dies before it has done anything.
#[test]
fn the_voters_before_a_take_over_that_died_half_way_are_asked() {
    let trap = |seed, broken| {
        let mut world = world(seed, 7, Pattern::Skewed, broken);
        world.run_until_ms(3_000 + 40 * seed);
        // Whoever leads dies, as long as voters are still being chosen, and the next one too.
        for _ in 0..6 {
            if let Some(leader) = world.leader() {
                world.kill(leader, false, Duration::from_secs(4));
            }
            world.run_until_ms(world.elapsed_ms() + 560);
        }
        world.run_until_ms(14_000);
        world
    };
    for seed in 1..=40 {
        trap(seed, None).assert_kept();
    }
}

/// A budget is halved, and floors are cut, while a host is out of reach: until it is back, the old
/// budget is what is promised.
#[test]
fn a_cut_is_not_promised_before_a_host_that_is_cut_off_knows() {
    let trap = |seed, broken| {
        let mut world = world(seed, 7, Pattern::Steady, broken);
        world.settings.policies = true;
        world.is_sudden = seed % 2 == 0;
        world.run_until_ms(8_000);
        world.write_policy();
        world.run_until_ms(11_000);
        let cut_off = other(&world);
        isolate(&mut world, &[cut_off], 20_000);
        world.run_until_ms(11_100);
        world.write_policy();
        world.run_until_ms(19_000);
        world
    };
    has_teeth(rule(Mutation::CutUnacknowledged), 4, |seed, broken| {
        let mut world = trap(seed, broken);
        if broken.is_none() {
            let leader = world.leader().expect("there is one");
            let daemon = world.hosts[leader].daemon.as_ref().expect("it leads");
            let leads = daemon.leader.as_ref().expect("it leads");
            assert_eq!(leads.policy_version(), PolicyVersion(3));
            assert_eq!(leads.pending().count(), 1, "the one that is cut off");
            assert!(!leads.is_promised(world.policy.limits[0].id));
        }
        world.run_until_ms(30_000);
        if broken.is_none() {
            assert_eq!(
                world.judge.cuts, 3,
                "every limit's new budget is promised at last"
            );
        }
        world
    });
}

/// Nobody is out of reach: the new budget holds one lease after it is in force.
#[test]
fn a_cut_is_promised_within_a_lease() {
    for seed in 1..=10 {
        let mut world = world(seed, 9, Pattern::Steady, None);
        world.settings.policies = true;
        world.is_sudden = seed % 2 == 0;
        world.run_until_ms(8_000);
        world.write_policy();
        world.run_until_ms(10_000);
        world.write_policy();
        world.run_until_ms(12_000);
        world.assert_kept();
        assert_eq!(world.judge.cuts, 3, "seed {seed}");
        world.run_until_ms(20_000);
        world.assert_kept();
    }
}

/// The leader dies around the moment at which a newcomer is written to the roster.
#[test]
fn a_join_just_before_a_take_over_is_reckoned_with() {
    let trap = |seed, broken| {
        let mut world = world(seed, 5, Pattern::Steady, broken);
        // Floors of some weight.
        world.settings.policies = true;
        world.is_sudden = true;
        world.run_until_ms(6_000);
        world.write_policy();
        world.run_until_ms(8_000);
        let newcomer = other(&world);
        let node = world.hosts[newcomer].id;
        world.removals.insert(newcomer, false);
        while world
            .zookeeper
            .roster
            .iter()
            .any(|member| member.node == node)
        {
            world.run_until_ms(world.elapsed_ms() + 1);
            assert!(world.elapsed_ms() < 12_000, "it is removed");
        }
        world.run_until_ms(10_000);
        world.kill(newcomer, false, Duration::from_millis(50));
        while !world
            .zookeeper
            .roster
            .iter()
            .any(|member| member.node == node)
        {
            world.run_until_ms(world.elapsed_ms() + 1);
            assert!(world.elapsed_ms() < 14_000, "it is let in again");
            if world.judge.violation.is_some() {
                return world;
            }
        }
        let leader = world.leader().expect("there is one");
        if leader != newcomer {
            world.kill(leader, seed % 2 == 0, Duration::from_secs(5));
        }
        world.run_until_ms(20_000);
        world
    };
    for mutation in [Mutation::AdmitWithoutRoom, Mutation::AdmitBeforeCommitted] {
        has_teeth(rule(mutation), 12, trap);
    }
}

/// A host that is out of reach is to be removed: nobody is given its floors before it is back and
/// has given them up.
#[test]
fn a_living_node_is_removed_once_it_has_given_up_its_floors() {
    let trap = |seed, broken| {
        let mut world = world(seed, 5, Pattern::Steady, broken);
        world.settings.policies = true;
        world.is_sudden = true;
        world.run_until_ms(6_000);
        world.write_policy();
        world.run_until_ms(9_000);
        let leaves = other(&world);
        let node = world.hosts[leaves].id;
        isolate(&mut world, &[leaves], 18_000);
        world.removals.insert(leaves, false);
        world.run_until_ms(17_000);
        if broken.is_none() {
            let is_member = |world: &World| {
                world
                    .zookeeper
                    .roster
                    .iter()
                    .any(|member| member.node == node)
            };
            assert!(is_member(&world), "it has not been asked");
            assert!(world.rate(0, leaves) > 0.0, "it has its floor");
            world.run_until_ms(22_000);
            assert!(!is_member(&world), "it has given up its floors");
            assert!(world.rate(0, leaves) == 0.0, "it has nothing");
        }
        world
    };
    has_teeth(rule(Mutation::RemoveUnacknowledged), 3, trap);
}

/// The operator's word that hosts have no power lets a fleet go on that has lost most of its voters.
#[test]
fn a_majority_of_voters_that_is_lost_for_good_is_done_without() {
    for seed in 1..=5 {
        let mut world = world(seed, 3, Pattern::Steady, None);
        world.run_until_ms(8_000);
        let leader = world.leader().expect("there is one");
        let lost = [leader, (leader + 1) % 3];
        for host in lost {
            world.kill(host, true, Duration::from_secs(1_000));
            world.hosts[host].is_powered = false;
        }
        world.run_until_ms(16_000);
        let survivor = (leader + 2) % 3;
        assert_eq!(world.leader(), None, "one of three decides nothing");
        for host in lost {
            world.removals.insert(host, true);
        }
        world.run_until_ms(30_000);
        world.assert_kept();
        assert_eq!(world.leader(), Some(survivor));
        assert_eq!(world.zookeeper.roster.len(), 1);
        assert!(
            world.rate(0, survivor) > 2_900.0,
            "{}",
            world.rate(0, survivor)
        );
    }
}

/// What the servers hold is minutes old: the term, the roster and the candidates.
#[test]
fn zookeeper_restored_from_a_backup_breaks_no_promise() {
    for seed in 1..=10 {
        let mut world = world(seed, 5, Pattern::Steady, None);
        world.run_until_ms(7_000);
        let backup = world.zookeeper.clone();
        let leader = world.leader().expect("there is one");
        world.kill(leader, false, Duration::from_secs(2));
        world.run_until_ms(14_000);
        world.zookeeper = backup;
        world.tell_watchers();
        let killed = world.leader().unwrap_or(0);
        world.kill(killed, false, Duration::from_secs(2));
        world.run_until_ms(30_000);
        world.assert_kept();
    }
}

/// A daemon is stopped between any two of its steps, for longer than a lease.
#[test]
fn a_grant_that_was_slept_on_is_born_expired() {
    let trap = |seed, broken| {
        let mut world = world(1, 5, Pattern::Moving, broken);
        world.run_until_ms(9_000);
        let stopped = other(&world);
        world.run_until_ms(9_000 + 13 * seed);
        // What is on its way to it arrives after it has gone on.
        let until = world.instant(13_000);
        world.network.hold(stopped, until);
        world.run_until_ms(16_000);
        world
    };
    has_teeth(rule(Mutation::AnchorAtReceipt), 40, trap);
}

/// A host is out of reach right after a commit: its lease ends before the leader counts it as
/// ended.
#[test]
fn a_lease_runs_from_a_token_that_the_leader_held() {
    let trap = |seed, broken| {
        let mut world = world(1, 5, Pattern::Moving, broken);
        world.run_until_ms(9_000);
        let cut_off = other(&world);
        world.run_until_ms(9_000 + 7 * seed);
        isolate(&mut world, &[cut_off], 20_000);
        world.run_until_ms(13_000);
        world
    };
    has_teeth(rule(Mutation::AnchorAtAcknowledgement), 40, trap);
}

/// One packet a second on a host that is renewed five times as often, ten minutes long: neither above the budget nor starved.
#[test]
fn a_very_slow_limit_does_not_starve() {
    let mut world = World::new(Settings {
        pattern: Some(Pattern::Steady),
        slow: true,
        ..Settings::calm(1, 1, 6_600)
    });
    world.run_until_ms(10_000);
    let before = world.admitted(2);
    world.run_until_ms(610_000);
    world.assert_kept();
    let admitted = world.admitted(2) - before;
    assert!((585..=602).contains(&admitted), "{admitted} of 600");
}

/// Of each run that is written down, the promise is kept with all rules, and broken without one.
#[test]
fn what_is_seldom_met_is_written_down() {
    for broken in Broken::all() {
        if let Some(scenario) = weir_sim::directed::scenario(broken) {
            has_teeth(broken, 30, scenario);
        }
    }
}

/// A fleet that changes from votes to writes and back, host by host: each new leader commits in the
/// other way than the one that it takes over from, which may still be alive.
#[test]
fn leaders_that_commit_in_different_ways_inherit_from_each_other() {
    for seed in 1..=20 {
        let mut world = world(seed, 5, Pattern::Skewed, None);
        let mut now_ms = 10_000;
        world.run_until_ms(now_ms);
        for turn in 0..6 {
            let leader = world.leader().expect("there is one");
            world.settings.by_zookeeper = turn % 2 == 0;
            let away = Duration::from_millis(700 + 400 * turn);
            if seed % 2 == 0 {
                world.kill(leader, false, away);
            } else {
                world.pause(leader, away + Duration::from_secs(1));
            }
            now_ms += 6_000;
            world.run_until_ms(now_ms);
            world.assert_kept();
            let gap = world.now - world.judge.figures.last_commit;
            assert!(
                gap < Duration::from_secs(1),
                "seed {seed}, turn {turn}: {gap:?}"
            );
        }
    }
}
