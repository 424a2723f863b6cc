//! What traffic does.

use weir_sim::dice::Dice;

use super::{OVERLOAD, UTILISED, flood, isolated};
use crate::{
    scenario::{
        declared::Declared,
        expect::Expect,
        ground::{Needs, alone, even, ms},
    },
    stage::{Fault, Script, Who},
};

pub(in crate::scenario) fn demand_step(_: u64) -> Declared {
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
pub(in crate::scenario) fn rebalance_storm(seed: u64) -> Declared {
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

pub(in crate::scenario) fn flows(_: u64) -> Declared {
    Declared {
        needs: Needs {
            flows: 2,
            ..Needs::ORDINARY
        },
        script: flood(12_000)
            .fault(ms(3_000), ms(1_000), Fault::Killed(Who::Leader))
            .fault(ms(7_000), ms(2_500), isolated(Who::Follower(0))),
        expects: vec![UTILISED, Expect::Flows, Expect::FlowsUse(0.3)],
    }
}

/// Beside the flood, a source that sends each host less than it gives a source, and all of them three times
/// what a source may; one under a strict limit, one under an elastic one. The leader dies in the middle.
pub(in crate::scenario) fn hot_keys(_: u64) -> Declared {
    let hosts = 4;
    Declared {
        needs: Needs {
            hosts,
            keys: true,
            ..Needs::ORDINARY
        },
        script: Script::default()
            .phase("even flood, hot sources", even(hosts, 1.2), ms(13_000))
            .fault(ms(5_000), ms(1_000), Fault::Killed(Who::Leader)),
        expects: vec![
            UTILISED,
            Expect::StrictKey,
            Expect::ElasticKey,
            Expect::KeysUse(0.9),
            Expect::NobodyElseFalls,
        ],
    }
}
