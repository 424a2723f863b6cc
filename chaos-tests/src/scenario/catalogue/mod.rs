//! The declared scenarios: what is done to which fleet, and what has to hold. Pure.
//!
//! Times are chosen so that every fault has a calm stretch before it and, after it, one that is long
//! enough to judge the recovery by.

mod ensemble;
mod leaders;
mod load;
mod network;
mod operation;
mod random;

use std::time::Duration;

pub(super) use self::ensemble::{
    ensemble_leader_killed, everything_lost, quorum_lost, session_expires, slow_disk,
};
pub(super) use self::leaders::{
    leader_gone, leader_killed, leader_killed_often, leader_storm, minority_partition,
    short_pauses, stale_holder, stalled_leader,
};
pub(super) use self::load::{demand_step, flows, hot_keys, rebalance_storm};
pub(super) use self::network::{
    follower_cut, host_lost, join, lost_and_repeated_reports, one_way, reboot, slow_network,
    ten_join,
};
pub(super) use self::operation::{
    clock_jump, drained, full_ring, leader_removed, no_descriptors, policy_change,
    unconfirmed_change, upgrade,
};
pub(super) use self::random::random;
use super::{
    expect::Expect,
    ground::{Needs, RATE, even, ms},
};
use crate::{
    fleet::Timing,
    stage::{Fault, Party, Script, Who},
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

/// From a fault until every kernel that it cut off is on its floor: one lease.
fn on_floor() -> Duration {
    Timing::default().lease
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

fn skewed(first: usize) -> Vec<f64> {
    let mut rates = vec![RATE * 1.4, RATE * 0.4, RATE * 0.2];
    rates.rotate_right(first);
    rates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Declared, Kind, SCENARIOS};

    #[test]
    fn every_script_ends_after_its_faults_and_fits_its_fleet() {
        for scenario in &SCENARIOS {
            let (Kind::Declared(declare) | Kind::Repeated(declare)) = scenario.kind else {
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
