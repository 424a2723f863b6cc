//! Any faults, at any times.

use weir_sim::dice::Dice;

use super::{OVERLOAD, UTILISED, isolated, skewed};
use crate::{
    scenario::{
        declared::Declared,
        ground::{Needs, alone, even, ms},
    },
    stage::{Fault, Party, Script, Server, Who},
};

/// Any faults at any times: only what is always promised is expected, and that the fleet is well when
/// all is over.
pub(in crate::scenario) fn random(seed: u64) -> Declared {
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
