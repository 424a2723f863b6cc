//! What happens to hosts and to the network between them.

use super::{BACK_TICKS, UTILISED, flood, isolated, on_floor};
use crate::{
    scenario::{
        declared::Declared,
        expect::{Edge, Expect},
        ground::{Needs, RATE, even, ms},
    },
    stage::{Fault, Party, Script, Who},
};

/// For less than a lease, then for two of them.
pub(in crate::scenario) fn follower_cut(_: u64) -> Declared {
    Declared::on(
        flood(15_000)
            .fault(ms(2_500), ms(1_200), isolated(Who::Follower(0)))
            .fault(ms(6_000), ms(4_500), isolated(Who::Follower(0))),
        vec![
            UTILISED,
            Expect::OnFloor(1, on_floor()),
            Expect::Back(0, BACK_TICKS),
            Expect::Back(1, BACK_TICKS),
            Expect::NobodyElseFalls,
            Expect::LeaderChanges(0, 0),
        ],
    )
}

pub(in crate::scenario) fn host_lost(_: u64) -> Declared {
    Declared::on(
        flood(11_500).fault(ms(2_500), ms(4_500), Fault::LinkDown(Who::Follower(0))),
        vec![
            UTILISED,
            Expect::Back(0, BACK_TICKS),
            Expect::NobodyElseFalls,
        ],
    )
}

pub(in crate::scenario) fn one_way(_: u64) -> Declared {
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

pub(in crate::scenario) fn lost_and_repeated_reports(_: u64) -> Declared {
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
pub(in crate::scenario) fn slow_network(_: u64) -> Declared {
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

pub(in crate::scenario) fn reboot(_: u64) -> Declared {
    Declared::on(
        flood(13_000).fault(ms(2_500), ms(3_000), Fault::PoweredOff(Who::Follower(0))),
        vec![UTILISED, Expect::NobodyElseFalls],
    )
}

pub(in crate::scenario) fn join(_: u64) -> Declared {
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

pub(in crate::scenario) fn ten_join(_: u64) -> Declared {
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
