//! What happens to leaders, and to daemons that hold much.

use super::{
    BACK_TICKS, LEADER_RECOVERY, OVERLOAD, UTILISED, flood, isolated, on_floor, reused, skewed,
};
use crate::{
    scenario::{
        declared::Declared,
        expect::{Edge, Expect},
        ground::{Needs, alone, even, ms},
    },
    stage::{Fault, Script, Who},
};

pub(in crate::scenario) fn minority_partition(_: u64) -> Declared {
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
pub(in crate::scenario) fn stalled_leader(_: u64) -> Declared {
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

/// It stops in the instant in which the demand moves: it has answered everything so far, and is asked
/// next to give back what it holds.
pub(in crate::scenario) fn stale_holder(_: u64) -> Declared {
    let hosts = Needs::ORDINARY.hosts;
    let stopped = Fault::Paused(Who::Follower(0));
    Declared::on(
        Script::default()
            .phase("to one follower", alone(hosts, 0, OVERLOAD), ms(2_700))
            .phase("even flood", even(hosts, 2.0 * OVERLOAD), ms(8_800))
            .fault(ms(2_700), ms(3_800), stopped)
            .leader_last(),
        vec![UTILISED, Expect::NobodyElseFalls],
    )
}

pub(in crate::scenario) fn leader_killed(_: u64) -> Declared {
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

/// Short, since it is repeated: the calm that it begins with is that which the fleet settled in.
pub(in crate::scenario) fn leader_killed_often(_: u64) -> Declared {
    Declared::on(
        flood(7_000).fault(ms(1_000), ms(1_000), Fault::Killed(Who::Leader)),
        vec![
            UTILISED,
            Expect::Recovery(Edge::Begin, LEADER_RECOVERY),
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(1, 2),
        ],
    )
}

pub(in crate::scenario) fn leader_gone(_: u64) -> Declared {
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

pub(in crate::scenario) fn leader_storm(_: u64) -> Declared {
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

pub(in crate::scenario) fn short_pauses(_: u64) -> Declared {
    Declared::on(
        flood(11_000)
            .fault(ms(2_000), ms(900), Fault::Paused(Who::Follower(0)))
            .fault(ms(4_500), ms(900), Fault::Paused(Who::Leader)),
        vec![UTILISED],
    )
}
