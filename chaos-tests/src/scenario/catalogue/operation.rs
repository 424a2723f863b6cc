//! What operators and machines do: upgrades, changes, clocks, limits of a process.

use super::{OVERLOAD, UTILISED, flood, on_floor, reused};
use crate::{
    scenario::{
        declared::Declared,
        expect::{Edge, Expect},
        ground::{Needs, RATE, even, ms},
    },
    stage::{Fault, Script, Who},
};

/// One host after the other, the leader last. An operator waits W after a daemon is up before the next:
/// until then it abstains as a voter, and two of three that do are no majority.
pub(in crate::scenario) fn upgrade(_: u64) -> Declared {
    let upgraded = |script: Script, at, who| script.fault(ms(at), ms(100), Fault::Upgraded(who));
    let script = upgraded(flood(15_000), 2_000, Who::Follower(0));
    let script = upgraded(script, 5_500, Who::Follower(1));
    let script = upgraded(script, 9_000, Who::Leader);
    Declared::on(
        script,
        vec![UTILISED, Expect::NeverUnder(0.9, 300), Expect::NobodyFalls],
    )
}

pub(in crate::scenario) fn policy_change(_: u64) -> Declared {
    let lower = (RATE / 2.0) as u64;
    Declared::on(
        flood(13_000)
            .fault(ms(2_500), ms(1_000), Fault::Rate(lower))
            .fault(ms(8_000), ms(1_000), Fault::Rate(RATE as u64)),
        vec![
            UTILISED,
            Expect::BudgetAfter(0, RATE / 2.0),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(in crate::scenario) fn unconfirmed_change(_: u64) -> Declared {
    let trial = Fault::Trial {
        rate: (RATE / 2.0) as u64,
        within: ms(3_000),
    };
    Declared::on(
        flood(12_000).fault(ms(2_500), ms(4_500), trial),
        vec![
            UTILISED,
            Expect::BudgetAfter(0, RATE / 2.0),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(in crate::scenario) fn drained(_: u64) -> Declared {
    Declared::on(
        flood(12_000).fault(ms(2_500), ms(4_000), Fault::Drained(Who::Follower(0))),
        vec![
            UTILISED,
            Expect::OnFloor(0, ms(1_500)),
            Expect::Recovery(Edge::Begin, ms(1_500)),
            Expect::NobodyElseFalls,
        ],
    )
}

/// Whoever leads is asked to let go of its own membership, and of the lead with it.
pub(in crate::scenario) fn leader_removed(_: u64) -> Declared {
    let hosts = 4;
    Declared {
        needs: Needs {
            hosts,
            ..Needs::ORDINARY
        },
        script: Script::default()
            .phase("even flood", even(hosts, OVERLOAD), ms(13_000))
            .fault(ms(2_500), ms(500), Fault::Removed(Who::Leader)),
        expects: vec![
            UTILISED,
            Expect::GivenBack(0, on_floor()),
            Expect::Recovery(Edge::Begin, reused()),
            Expect::LeaderChanges(1, 2),
            Expect::NobodyElseFalls,
        ],
    }
}

pub(in crate::scenario) fn clock_jump(_: u64) -> Declared {
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
            Expect::NobodyFalls,
            Expect::LeaderChanges(0, 0),
            Expect::Fair(0.99),
        ],
    }
}

pub(in crate::scenario) fn no_descriptors(_: u64) -> Declared {
    Declared::on(
        flood(10_000)
            .fault(ms(2_000), ms(4_000), Fault::NoDescriptors(Who::Leader))
            .fault(ms(2_500), ms(3_500), Fault::NoDescriptors(Who::Follower(0))),
        vec![UTILISED, Expect::NoMissedTick, Expect::LeaderChanges(0, 0)],
    )
}

/// Nobody reads the ring of a daemon that is stopped. It was told to sample every packet of the little that
/// there was, so that the flood that comes then fills it at once; what finds no room is counted.
pub(in crate::scenario) fn full_ring(_: u64) -> Declared {
    let flooded = vec![RATE * 5.0, RATE / 2.0, RATE / 2.0];
    Declared::on(
        Script::default()
            .phase("next to nothing", vec![RATE / 20.0; 3], ms(2_500))
            .phase("mostly to one", flooded, ms(8_000))
            .fault(ms(2_300), ms(1_800), Fault::Paused(Who::Host(0))),
        vec![UTILISED, Expect::RingFull(0)],
    )
}
