//! Rule 6, *take-over*: promises are those of voters. Somebody else's is none, nor is the register that
//! comes with it: whoever says so could hide what nodes hold, or make up what nobody does.

#![allow(clippy::unwrap_used)]

mod fleet;
mod limits;
mod node;
#[allow(dead_code, reason = "other tests need the rest")]
mod rivals;

use std::time::Duration;

use rivals::{FIRST, NO_VOTER, SECOND, TIMING, World, id, the_limit};
use weir_coord_core::{leader::Input, record::EnvelopeRecord};
use weir_model::{
    Amount, Generation, Incarnation, PolicyVersion, Term,
    message::{FromNode, Promise, Token},
    register::{LimitEnvelope, NodeEnvelope},
};

/// All of the budget is in use by the first leader's grants; then the second one takes over, and the liar
/// is the first to answer it.
fn taken_over(register: EnvelopeRecord) -> World {
    let mut world = World::new();
    world.begin();
    world.cut = vec![FIRST];
    world.take_over();
    let lie = FromNode::Promise(Promise {
        node: id(NO_VOTER),
        token: Token {
            incarnation: Incarnation(1),
            at: world.now,
        },
        term: Term(2),
        abstains: false,
        register: Some(register),
    });
    world.tell(SECOND, Input::FromNode(lie));
    assert!(world.leaders[&SECOND].is_preparing());
    world.tick(SECOND);
    assert!(!world.leaders[&SECOND].is_preparing());
    world
}

/// Newer than what any voter has.
fn made_up() -> EnvelopeRecord {
    EnvelopeRecord {
        term: Term(1),
        generation: Generation(u64::MAX),
        lease: TIMING.lease,
        policy: PolicyVersion(1),
        nodes: Vec::new(),
    }
}

#[test]
fn a_register_of_no_voter_hides_nothing() {
    let mut world = taken_over(made_up());
    for _ in 0..30 {
        world.expect_no_more_than_the_budget();
        world.next_tick(SECOND);
    }
}

#[test]
fn a_register_of_no_voter_keeps_no_budget_for_ever() {
    let everything = LimitEnvelope {
        limit: the_limit().id,
        scale: the_limit().scale,
        amount: the_limit().budget,
        floor: Amount::ZERO,
    };
    let mut world = taken_over(EnvelopeRecord {
        lease: Duration::from_secs(1 << 32),
        nodes: vec![NodeEnvelope {
            node: id(99),
            limits: vec![everything],
        }],
        ..made_up()
    });
    for _ in 0..100 {
        world.next_tick(SECOND);
    }
    let budget = the_limit().budget.rate.0;
    let in_use = world.in_use();
    assert!(
        in_use > budget / 2,
        "{} % of the budget",
        in_use * 100 / budget
    );
}

#[test]
fn a_policy_that_no_voter_has_heard_of_stops_nobody() {
    let mut world = taken_over(EnvelopeRecord {
        policy: PolicyVersion(u64::MAX),
        ..made_up()
    });
    for _ in 0..100 {
        world.next_tick(SECOND);
    }
    let committed = world.leaders[&SECOND].committed();
    assert!(committed > Generation(0), "nothing is proposed");
}
