//! What happens to ZooKeeper, and to those who need it.

use super::{UTILISED, flood, on_floor};
use crate::{
    scenario::{declared::Declared, expect::Expect, ground::ms},
    stage::{Fault, Party, Script, Server, Who},
};

/// Longer than its session lasts.
pub(in crate::scenario) fn session_expires(_: u64) -> Declared {
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

pub(in crate::scenario) fn ensemble_leader_killed(_: u64) -> Declared {
    unnoticed(flood(11_000).fault(ms(2_000), ms(3_000), Fault::ServersKilled(Server::Leader)))
}

pub(in crate::scenario) fn quorum_lost(_: u64) -> Declared {
    unnoticed(flood(12_000).fault(ms(2_000), ms(6_000), Fault::ServersPaused(Server::Majority)))
}

/// What a server whose disk answers late looks like from outside: it stands still, over and over.
pub(in crate::scenario) fn slow_disk(_: u64) -> Declared {
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

/// The quorum first, the leader while it has none: leases run out from the leader's death on.
pub(in crate::scenario) fn everything_lost(_: u64) -> Declared {
    Declared::on(
        flood(14_000)
            .fault(ms(2_000), ms(6_000), Fault::ServersPaused(Server::Majority))
            .fault(ms(2_200), ms(1_000), Fault::Killed(Who::Leader)),
        vec![
            Expect::AllOnFloor(1, on_floor()),
            Expect::FullOnceQuorum(10.0),
            UTILISED,
        ],
    )
}
