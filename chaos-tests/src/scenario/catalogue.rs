//! The declared scenarios: what is done to which fleet, and what has to hold. Pure.
//!
//! Times are chosen so that every fault has a calm stretch before it and, after it, one that is long
//! enough to judge the recovery by.

use std::time::Duration;

use weir_sim::dice::Dice;

use super::{
    declared::Declared,
    expect::{Edge, Expect},
    ground::{Needs, RATE, alone, even, ms},
};
use crate::{
    fleet::Timing,
    stage::{Fault, Party, Script, Server, Who},
};

/// Offered traffic, as a multiple of the rate.
const OVERLOAD: f64 = 2.5;
/// The bar for the time from a leader's death to full use.
const LEADER_RECOVERY: Duration = ms(2_500);
const UTILISED: Expect = Expect::Utilisation(0.97);
const BACK_TICKS: f64 = 5.0;

fn flood(length: u64) -> Script {
    Script::default().phase(
        "even flood",
        even(Needs::ORDINARY.hosts, OVERLOAD),
        ms(length),
    )
}

/// From the beginning of a fault until every kernel that it cut off is on its floor: one lease, and a
/// tick for what was granted just before.
fn on_floor() -> Duration {
    let timing = Timing::default();
    timing.lease + 2 * timing.tick
}

/// From a fault until others have the budget of whom it cut off: a take-over, W, some ticks.
fn reused() -> Duration {
    Timing::default().recovery()
}

const fn isolated(who: Who) -> Fault {
    Fault::Cut {
        from: Party::Host(who),
        to: Party::Everybody,
        both: true,
    }
}

pub(super) fn minority_partition(_: u64) -> Declared {
    Declared::on(
        flood(11_500).fault(ms(2_500), ms(5_000), isolated(Who::Leader)),
        vec![
            UTILISED,
            Expect::Recovery(Edge::Begin, reused()),
            Expect::OnFloor(0, on_floor()),
            Expect::Back(0, BACK_TICKS),
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(1, 2),
        ],
    )
}

/// The demand moves while the old leader is stopped, so that its leases are stale in both senses.
pub(super) fn stalled_leader(_: u64) -> Declared {
    let hosts = Needs::ORDINARY.hosts;
    Declared::on(
        Script::default()
            .phase("70/20/10", skewed(0), ms(3_000))
            .phase("10/70/20", skewed(1), ms(3_500))
            .phase("even flood", even(hosts, OVERLOAD), ms(4_500))
            .fault(ms(2_500), ms(4_500), Fault::Paused(Who::Leader)),
        vec![
            UTILISED,
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(1, 2),
        ],
    )
}

fn skewed(first: usize) -> Vec<f64> {
    let mut rates = vec![RATE * 1.4, RATE * 0.4, RATE * 0.2];
    rates.rotate_right(first);
    rates
}

/// It stops at once before the demand moves: nobody has missed it yet.
pub(super) fn stale_holder(_: u64) -> Declared {
    let hosts = Needs::ORDINARY.hosts;
    let stopped = Fault::Paused(Who::Follower(0));
    Declared::on(
        Script::default()
            .phase("to one follower", alone(hosts, 0, OVERLOAD), ms(2_700))
            .phase("even flood", even(hosts, 2.0 * OVERLOAD), ms(8_800))
            .fault(ms(2_670), ms(3_800), stopped)
            .leader_last(),
        vec![UTILISED, Expect::NobodyElseFalls],
    )
}

pub(super) fn clock_jump(_: u64) -> Declared {
    let day = 86_400;
    let script = flood(11_000)
        .fault(ms(2_000), ms(3_000), Fault::WallClock(Who::Leader, day))
        .fault(
            ms(3_000),
            ms(3_000),
            Fault::WallClock(Who::Follower(0), -day),
        )
        .fault(
            ms(4_000),
            ms(4_000),
            Fault::WallClock(Who::Follower(1), 3_600),
        )
        .fault(ms(6_000), ms(2_000), Fault::WallClock(Who::Leader, -3_600));
    Declared {
        needs: Needs {
            wall_clocks: true,
            ..Needs::ORDINARY
        },
        script,
        expects: vec![
            Expect::Utilisation(0.97),
            Expect::NoMissedTick,
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(0, 0),
            Expect::Fair(0.99),
        ],
    }
}

pub(super) fn lost_and_repeated_reports(_: u64) -> Declared {
    let rough = Fault::Rough {
        lost: 15,
        repeated: 25,
        reset: 40,
    };
    Declared::on(
        flood(13_000).fault(ms(2_000), ms(6_000), rough),
        vec![UTILISED, Expect::Recovery(Edge::End, ms(3_000))],
    )
}

/// Up to three ticks there and back; then a leader dies in the middle of it.
pub(super) fn slow_network(_: u64) -> Declared {
    let slow = Fault::Slow {
        delay: ms(60),
        jitter: ms(80),
    };
    Declared::on(
        flood(15_000).fault(ms(2_000), ms(7_000), slow).fault(
            ms(4_500),
            ms(1_000),
            Fault::Killed(Who::Leader),
        ),
        vec![UTILISED],
    )
}

pub(super) fn demand_step(_: u64) -> Declared {
    let hosts = Needs::ORDINARY.hosts;
    let low = 0.25;
    Declared::on(
        Script::default()
            .phase("a quarter", even(hosts, low), ms(2_500))
            .phase("ten times as much", even(hosts, 10.0 * low), ms(2_500))
            .phase("a quarter again", even(hosts, low), ms(2_000))
            .phase(
                "ten times, one host",
                alone(hosts, 1, 10.0 * low),
                ms(2_500),
            ),
        vec![UTILISED, Expect::Convergence(3.0), Expect::NoMissedTick],
    )
}

/// Faster than shares can follow, in an order that the seed draws.
pub(super) fn rebalance_storm(seed: u64) -> Declared {
    let hosts = Needs::ORDINARY.hosts;
    let mut dice = Dice::new(seed);
    let mut script = flood(1_500);
    let mut host = 0;
    for _ in 0..24 {
        host = (host + 1 + dice.index(hosts - 1)) % hosts;
        let length = ms(150 + dice.roll(250));
        script = script.phase("", alone(hosts, host, OVERLOAD), length);
    }
    let script = script.phase("even flood", even(hosts, OVERLOAD), ms(3_000));
    Declared::on(script, vec![UTILISED, Expect::NoMissedTick])
}

pub(super) fn leader_killed(_: u64) -> Declared {
    Declared::on(
        flood(9_000).fault(ms(2_500), ms(1_000), Fault::Killed(Who::Leader)),
        vec![
            UTILISED,
            Expect::Recovery(Edge::Begin, LEADER_RECOVERY),
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(1, 2),
        ],
    )
}

pub(super) fn leader_gone(_: u64) -> Declared {
    Declared::on(
        flood(11_500).fault(ms(2_500), ms(5_000), Fault::Killed(Who::Leader)),
        vec![
            UTILISED,
            Expect::Recovery(Edge::Begin, reused()),
            Expect::OnFloor(0, on_floor()),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(super) fn leader_storm(_: u64) -> Declared {
    let mut script = flood(16_000);
    for number in 0..5 {
        let fault = if number % 2 == 0 {
            Fault::Killed(Who::Leader)
        } else {
            Fault::Paused(Who::Leader)
        };
        script = script.fault(ms(2_000 + 2_000 * number), ms(1_200), fault);
    }
    Declared::on(script, vec![Expect::LeaderChanges(3, 12), UTILISED])
}

pub(super) fn short_pauses(_: u64) -> Declared {
    Declared::on(
        flood(11_000)
            .fault(ms(2_000), ms(900), Fault::Paused(Who::Follower(0)))
            .fault(ms(4_500), ms(900), Fault::Paused(Who::Leader)),
        vec![UTILISED],
    )
}

pub(super) fn host_lost(_: u64) -> Declared {
    Declared::on(
        flood(11_500).fault(ms(2_500), ms(4_500), Fault::LinkDown(Who::Follower(0))),
        vec![
            UTILISED,
            Expect::Back(0, BACK_TICKS),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(super) fn one_way(_: u64) -> Declared {
    let cut = |from, to| Fault::Cut {
        from,
        to,
        both: false,
    };
    let leader = Party::Host(Who::Leader);
    Declared::on(
        flood(17_000)
            .fault(ms(2_000), ms(3_500), cut(leader, Party::OtherHosts))
            .fault(ms(9_500), ms(3_500), cut(Party::OtherHosts, leader)),
        vec![UTILISED],
    )
}

/// Longer than its session lasts.
pub(super) fn session_expires(_: u64) -> Declared {
    let cut = Fault::Cut {
        from: Party::Host(Who::Leader),
        to: Party::Servers,
        both: true,
    };
    Declared::on(
        flood(11_000).fault(ms(2_000), ms(5_000), cut),
        vec![UTILISED, Expect::NobodyElseFalls],
    )
}

pub(super) fn ensemble_leader_killed(_: u64) -> Declared {
    unnoticed(flood(11_000).fault(ms(2_000), ms(3_000), Fault::ServersKilled(Server::Leader)))
}

pub(super) fn quorum_lost(_: u64) -> Declared {
    unnoticed(flood(12_000).fault(ms(2_000), ms(6_000), Fault::ServersPaused(Server::Majority)))
}

/// What a server whose disk answers late looks like from outside: it stands still, over and over.
pub(super) fn slow_disk(_: u64) -> Declared {
    let mut script = flood(10_000);
    for number in 0..12 {
        let fault = Fault::ServersPaused(Server::Leader);
        script = script.fault(ms(2_000 + 500 * number), ms(300), fault);
    }
    unnoticed(script)
}

fn unnoticed(script: Script) -> Declared {
    Declared::on(
        script,
        vec![
            UTILISED,
            Expect::NoMissedTick,
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(0, 0),
            Expect::Fair(0.99),
        ],
    )
}

/// Full use is reckoned from the quorum's return.
pub(super) fn everything_lost(_: u64) -> Declared {
    Declared::on(
        flood(14_000)
            .fault(ms(2_200), ms(1_000), Fault::Killed(Who::Leader))
            .fault(ms(2_000), ms(6_000), Fault::ServersPaused(Server::Majority)),
        vec![
            Expect::OnFloor(0, on_floor() + ms(400)),
            Expect::BackOnceConnected(0, 10.0),
        ],
    )
}

/// One host after the other, the leader last.
pub(super) fn upgrade(_: u64) -> Declared {
    let upgraded = |script: Script, at, who| script.fault(ms(at), ms(100), Fault::Upgraded(who));
    let script = upgraded(flood(13_000), 2_000, Who::Follower(0));
    let script = upgraded(script, 4_500, Who::Follower(1));
    let script = upgraded(script, 7_000, Who::Leader);
    Declared::on(
        script,
        vec![
            UTILISED,
            Expect::NeverUnder(0.9, 1_000),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(super) fn policy_change(_: u64) -> Declared {
    let lower = (RATE / 2.0) as u64;
    Declared::on(
        flood(13_000)
            .fault(ms(2_500), ms(1_000), Fault::Rate(lower))
            .fault(ms(8_000), ms(1_000), Fault::Rate(RATE as u64)),
        vec![Expect::BudgetAfter(0, RATE / 2.0)],
    )
}

pub(super) fn unconfirmed_change(_: u64) -> Declared {
    let trial = Fault::Trial {
        rate: (RATE / 2.0) as u64,
        within: ms(3_000),
    };
    Declared::on(
        flood(12_000).fault(ms(2_500), ms(4_500), trial),
        vec![UTILISED],
    )
}

pub(super) fn drained(_: u64) -> Declared {
    Declared::on(
        flood(12_000).fault(ms(2_500), ms(4_000), Fault::Drained(Who::Follower(0))),
        vec![
            Expect::OnFloor(0, ms(1_500)),
            Expect::Recovery(Edge::Begin, ms(1_500)),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(super) fn reboot(_: u64) -> Declared {
    Declared::on(
        flood(13_000).fault(ms(2_500), ms(3_000), Fault::PoweredOff(Who::Follower(0))),
        vec![UTILISED, Expect::NobodyElseFalls],
    )
}

pub(super) fn no_descriptors(_: u64) -> Declared {
    Declared::on(
        flood(10_000)
            .fault(ms(2_000), ms(4_000), Fault::NoDescriptors(Who::Leader))
            .fault(ms(2_500), ms(3_500), Fault::NoDescriptors(Who::Follower(0))),
        vec![UTILISED, Expect::NoMissedTick, Expect::LeaderChanges(0, 0)],
    )
}

/// Nobody reads the ring of a daemon that is stopped: it fills, and what finds no room is counted.
pub(super) fn full_ring(_: u64) -> Declared {
    let rates = vec![RATE * 5.0, RATE, RATE];
    Declared::on(
        Script::default()
            .phase("mostly to one", rates, ms(9_000))
            .fault(ms(2_000), ms(1_800), Fault::Paused(Who::Host(0))),
        vec![UTILISED],
    )
}

pub(super) fn join(_: u64) -> Declared {
    let hosts = 4;
    let three = vec![RATE, RATE, RATE, 0.0];
    Declared {
        needs: Needs {
            hosts,
            waiting: 1,
            ..Needs::ORDINARY
        },
        script: Script::default()
            .phase("to three", three, ms(6_500))
            .phase("to all four", even(hosts, 3.0), ms(4_500))
            .fault(ms(2_000), ms(1_000), Fault::Joined),
        expects: vec![UTILISED, Expect::Fair(0.99)],
    }
}

pub(super) fn ten_join(_: u64) -> Declared {
    let hosts = 12;
    let mut two = vec![0.0; hosts];
    two[..2].fill(RATE);
    Declared {
        needs: Needs {
            hosts,
            waiting: 10,
            ..Needs::ORDINARY
        },
        script: Script::default()
            .phase("to two", two, ms(14_000))
            .phase("to all twelve", even(hosts, 3.0), ms(6_000))
            .fault(ms(2_000), ms(1_000), Fault::Joined),
        expects: vec![UTILISED],
    }
}

pub(super) fn flows(_: u64) -> Declared {
    Declared {
        needs: Needs {
            flows: 2,
            ..Needs::ORDINARY
        },
        script: flood(12_000)
            .fault(ms(3_000), ms(1_000), Fault::Killed(Who::Leader))
            .fault(ms(7_000), ms(2_500), isolated(Who::Follower(0))),
        expects: vec![UTILISED, Expect::Flows, Expect::FlowsUse(0.5)],
    }
}

/// Any faults at any times: only what is always promised is expected, and that the fleet is well when
/// all is over.
pub(super) fn random(seed: u64) -> Declared {
    let mut dice = Dice::new(seed);
    let length = 30_000;
    let hosts = Needs::ORDINARY.hosts;
    let mut script = Script::default();
    let mut left = length - 8_000;
    while left > 0 {
        let stretch = (1_000 + dice.roll(5_000)).min(left);
        left -= stretch;
        let rates = match dice.roll(3) {
            0 => alone(hosts, dice.index(hosts), OVERLOAD),
            1 => skewed(dice.index(hosts)),
            _ => even(hosts, OVERLOAD),
        };
        script = script.phase("", rates, ms(stretch));
    }
    script = script.phase("even flood", even(hosts, OVERLOAD), ms(8_000));
    for _ in 0..4 + dice.roll(5) {
        let begins = 1_000 + dice.roll(length - 15_000);
        let lasts = 200 + dice.roll(5_000);
        let fault = random_fault(&mut dice);
        script = script.fault(ms(begins), ms(lasts), fault);
    }
    Declared::on(script, vec![UTILISED])
}

fn random_fault(dice: &mut Dice) -> Fault {
    let who = match dice.roll(3) {
        0 => Who::Leader,
        1 => Who::Follower(0),
        _ => Who::Follower(1),
    };
    let server = match dice.roll(3) {
        0 => Server::Leader,
        1 => Server::Follower,
        _ => Server::Majority,
    };
    let cut = |from, to, both| Fault::Cut { from, to, both };
    match dice.roll(15) {
        0..=2 => Fault::Killed(who),
        3 | 4 => Fault::Paused(who),
        5 => Fault::Upgraded(who),
        6 => Fault::LinkDown(who),
        7 => isolated(who),
        8 => cut(Party::Host(who), Party::OtherHosts, dice.one_in(2)),
        9 => cut(Party::OtherHosts, Party::Host(who), false),
        10 => cut(Party::Host(who), Party::Servers, dice.one_in(2)),
        11 => Fault::Rough {
            lost: 5 + dice.roll(20) as u8,
            repeated: dice.roll(30) as u8,
            reset: dice.roll(50) as u16,
        },
        12 => Fault::ServersPaused(server),
        13 => Fault::Slow {
            delay: ms(dice.roll(80)),
            jitter: ms(1 + dice.roll(100)),
        },
        _ => Fault::PoweredOff(who),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Kind, SCENARIOS};

    #[test]
    fn every_script_ends_after_its_faults_and_fits_its_fleet() {
        for scenario in &SCENARIOS {
            let Kind::Declared(declare) = scenario.kind else {
                continue;
            };
            for seed in 0..50 {
                let Declared { needs, script, .. } = declare(seed);
                assert!(script.length < ms(40_000), "{}", scenario.name);
                for (time, action) in &script.actions {
                    assert!(*time < script.length, "{} {action:?}", scenario.name);
                    if let crate::stage::Action::Shape { rates, .. } = action {
                        assert_eq!(rates.len(), needs.hosts, "{}", scenario.name);
                    }
                }
            }
        }
    }

    #[test]
    fn a_seed_is_a_script() {
        assert_eq!(random(7).script, random(7).script);
        assert_ne!(random(7).script, random(8).script);
    }
}
