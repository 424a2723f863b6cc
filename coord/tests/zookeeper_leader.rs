//! Terms, and what is written under them, against a real server and a bad network.

mod support;

use support::{
    DEADLINE, Node, SESSION, SHORT_SESSION, envelope, id, member, observer, server, settings,
    stored_envelope, stored_term, take_over, until,
};
use weir_coord::{
    testing::{Fault, Proxy, request},
    zookeeper::{Event, Refusal, RosterError, TakeOver, TakeOverFailure},
};
use weir_coord_core::{commit::StoreOutcome, record::MemberRecord};
use weir_model::{Generation, Term};

#[tokio::test]
async fn a_new_term_is_above_what_is_stored_and_what_was_promised() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    assert_eq!(node.take_over(0).await.term, Term(1));
    assert_eq!(node.take_over(7).await.term, Term(8));
    assert_eq!(node.take_over(3).await.term, Term(9));
    let observer = observer(&server).await;
    assert_eq!(stored_term(&observer).await.leader, Some(id(1)));
}

#[tokio::test]
async fn no_term_is_taken_twice() {
    const ROUNDS: usize = 20;
    let server = server();
    let mut nodes = Vec::new();
    for number in 1..=3 {
        let mut node = Node::spawn(number, settings(&server.connect_string(), SESSION));
        let place = if number == 1 {
            Event::Standing
        } else {
            Event::NotStanding {
                after: (number == 2).then(|| id(1)),
            }
        };
        node.until_event(place).await;
        nodes.push(node);
    }
    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        for node in &nodes {
            node.keeper
                .take_over(support::take_over(node.number, 0))
                .unwrap();
        }
        for node in &mut nodes {
            let answer = node.until("an answer", |event| match event {
                Event::TakenOver { record, .. } => Some(Some(record.term)),
                Event::TakeOverFailed {
                    reason: TakeOverFailure::Outrun,
                } => Some(None),
                Event::TakeOverFailed { reason } => panic!("{reason}"),
                _ => None,
            });
            taken.extend(answer.await);
        }
    }
    taken.sort();
    let before = taken.len();
    taken.dedup();
    assert_eq!(taken.len(), before, "a term was taken twice: {taken:?}");
    assert!(before >= ROUNDS, "of those that race one wins");
    let observer = observer(&server).await;
    assert_eq!(stored_term(&observer).await.term, *taken.last().unwrap());
}

#[tokio::test]
async fn a_deposed_leader_is_fenced_and_its_successor_inherits() {
    let server = server();
    let mut old = Node::spawn(1, settings(&server.connect_string(), SESSION));
    old.until_event(Event::Standing).await;
    let term = old.take_over(0).await.term;
    let last = envelope(term, 2, 3);
    assert_eq!(
        old.store(envelope(term, 1, 3)).await,
        StoreOutcome::Committed
    );
    assert_eq!(old.store(last.clone()).await, StoreOutcome::Committed);
    assert_eq!(old.admit(member(1)).await, StoreOutcome::Committed);

    let mut new = Node::spawn(2, settings(&server.connect_string(), SESSION));
    new.until_not_standing().await;
    new.keeper.take_over(support::take_over(2, 0)).unwrap();
    let (record, inherited, roster) = new.taken_over().await;
    assert_eq!(record.term, term.next());
    assert_eq!(inherited, Some(last.clone()));
    assert_eq!(roster.members, [member(1)]);

    // The fence refuses each by itself; after a refused store nothing would be sent any more.
    assert_eq!(old.admit(member(2)).await, StoreOutcome::Fenced);
    let observer = observer(&server).await;
    let members = observer.list_children("/roster").await.unwrap();
    assert_eq!(members, [id(1).to_string()]);
    assert_eq!(old.store(envelope(term, 3, 3)).await, StoreOutcome::Fenced);
    // An envelope of a term that is not its own is not even sent.
    assert_eq!(
        old.store(envelope(record.term, 4, 3)).await,
        StoreOutcome::Fenced
    );
    assert_eq!(stored_envelope(&observer).await, last);
    assert_eq!(
        new.store(envelope(record.term, 1, 3)).await,
        StoreOutcome::Committed
    );
}

#[tokio::test]
async fn a_store_that_arrives_after_another_take_over_changes_nothing() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut old = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    old.until_event(Event::Standing).await;
    let term = old.take_over(0).await.term;
    let last = envelope(term, 1, 3);
    assert_eq!(old.store(last.clone()).await, StoreOutcome::Committed);
    let mut new = Node::spawn(2, settings(&server.connect_string(), SESSION));
    new.until_not_standing().await;

    proxy.set_at(request::MULTI, Fault::HoldRequests);
    old.keeper.store(envelope(term, 2, 3)).unwrap();
    proxy.until(Fault::HoldRequests).await;
    // From here on the successor goes by what it read: nobody may add to that.
    let inherited = new.take_over_and_inherit().await;
    assert_eq!(inherited, Some(last.clone()));

    proxy.set(Fault::None);
    assert_eq!(old.stored(Generation(2)).await, StoreOutcome::Fenced);
    let observer = observer(&server).await;
    assert_eq!(stored_envelope(&observer).await, last);
}

#[tokio::test]
async fn a_store_that_nobody_waits_for_any_more_changes_nothing_either() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut old = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    old.until_event(Event::Standing).await;
    let term = old.take_over(0).await.term;
    let last = envelope(term, 1, 3);
    assert_eq!(old.store(last.clone()).await, StoreOutcome::Committed);
    let mut new = Node::spawn(2, settings(&server.connect_string(), SESSION));

    proxy.set_at(request::MULTI, Fault::HoldRequests);
    assert_eq!(old.store(envelope(term, 2, 3)).await, StoreOutcome::Unknown);
    old.until_event(Event::SessionExpired).await;
    new.until_event(Event::Standing).await;
    assert_eq!(new.take_over_and_inherit().await, Some(last.clone()));

    proxy.set(Fault::None);
    old.registered().await;
    assert_eq!(old.store(envelope(term, 3, 3)).await, StoreOutcome::Fenced);
    let observer = observer(&server).await;
    assert_eq!(stored_envelope(&observer).await, last);
}

#[tokio::test]
async fn a_black_hole_is_an_unknown_outcome_and_the_next_store_finds_out() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;
    let first = envelope(term, 1, 3);
    assert_eq!(node.store(first.clone()).await, StoreOutcome::Committed);

    proxy.set_at(request::MULTI, Fault::BlackHole);
    assert_eq!(
        node.store(envelope(term, 2, 3)).await,
        StoreOutcome::Unknown
    );
    let observer = observer(&server).await;
    assert_eq!(stored_envelope(&observer).await, first);
    // While nothing is known, nothing is sent, and it is said so.
    assert_eq!(
        node.store(envelope(term, 3, 3)).await,
        StoreOutcome::Unknown
    );

    proxy.set(Fault::None);
    node.until_event(Event::Connected).await;
    let last = envelope(term, 4, 3);
    assert_eq!(node.store(last.clone()).await, StoreOutcome::Committed);
    assert_eq!(stored_envelope(&observer).await, last);
}

#[tokio::test]
async fn a_store_that_came_through_unanswered_is_not_mistaken_for_a_rival() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;

    proxy.set_at(request::MULTI, Fault::LoseReplies);
    assert_eq!(
        node.store(envelope(term, 1, 3)).await,
        StoreOutcome::Unknown
    );
    let observer = observer(&server).await;
    assert_eq!(stored_envelope(&observer).await.generation, Generation(1));

    proxy.set(Fault::None);
    node.until_event(Event::Connected).await;
    assert_eq!(
        node.store(envelope(term, 2, 3)).await,
        StoreOutcome::Committed
    );
    assert_eq!(stored_envelope(&observer).await.generation, Generation(2));
}

#[tokio::test]
async fn an_older_store_that_comes_late_does_not_undo_a_newer_one() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;
    assert_eq!(
        node.store(envelope(term, 1, 3)).await,
        StoreOutcome::Committed
    );
    // As a store of its own would that it had given up.
    let observer = observer(&server).await;
    let late = serde_json::to_vec(&envelope(term, 2, 3)).unwrap();
    support::overwrite(&observer, "/envelope", &late).await;
    // The version is not what it left: a definite no, but no fence.
    assert_eq!(
        node.store(envelope(term, 3, 3)).await,
        StoreOutcome::Unknown
    );
    assert_eq!(stored_envelope(&observer).await.generation, Generation(2));
    assert_eq!(
        node.store(envelope(term, 4, 3)).await,
        StoreOutcome::Committed
    );
    assert_eq!(stored_envelope(&observer).await.generation, Generation(4));
}

#[tokio::test]
async fn a_take_over_that_went_unanswered_is_read_again_and_accepted() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;

    proxy.set_at(request::MULTI, Fault::LoseReplies);
    node.keeper.take_over(support::take_over(1, 4)).unwrap();
    until("the term is written", async || {
        stored_term(&observer).await.term == Term(5)
    })
    .await;
    proxy.set(Fault::None);
    let (record, ..) = node.taken_over().await;
    assert_eq!(record, stored_term(&observer).await);
    assert_eq!(record.term, Term(5));
    assert_eq!(
        node.store(envelope(Term(5), 1, 3)).await,
        StoreOutcome::Committed
    );
}

#[tokio::test]
async fn a_take_over_that_was_lost_is_not_accepted() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    node.until_event(Event::Standing).await;

    proxy.set_at(request::MULTI, Fault::BlackHole);
    node.keeper.take_over(support::take_over(1, 4)).unwrap();
    proxy.until(Fault::BlackHole).await;
    proxy.set(Fault::None);
    let reason = node.take_over_failed().await;
    assert!(matches!(reason, TakeOverFailure::Unknown(_)), "{reason}");
    assert_eq!(
        node.store(envelope(Term(5), 1, 3)).await,
        StoreOutcome::Fenced
    );
    assert_eq!(node.take_over(0).await.term, Term(1));
}

#[tokio::test]
async fn a_take_over_that_was_held_and_outrun_is_not_accepted() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut slow = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    slow.until_event(Event::Standing).await;
    let mut quick = Node::spawn(2, settings(&server.connect_string(), SESSION));
    quick.until_not_standing().await;

    proxy.set_at(request::MULTI, Fault::HoldRequests);
    slow.keeper.take_over(support::take_over(1, 0)).unwrap();
    proxy.until(Fault::HoldRequests).await;
    let record = quick.take_over(0).await;
    proxy.set(Fault::None);
    assert_eq!(slow.take_over_failed().await, TakeOverFailure::Outrun);
    let observer = observer(&server).await;
    assert_eq!(stored_term(&observer).await, record);
}

#[tokio::test]
async fn a_paused_server_delays_and_loses_nothing() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), 2 * DEADLINE));
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;
    server.pause().unwrap();
    node.keeper.store(envelope(term, 1, 3)).unwrap();
    server.resume().unwrap();
    assert_eq!(node.stored(Generation(1)).await, StoreOutcome::Committed);
}

#[tokio::test]
async fn nothing_is_taken_over_from_an_envelope_that_cannot_be_read() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    support::overwrite(&observer, "/envelope", b"{\"term\":").await;
    node.keeper.take_over(support::take_over(1, 0)).unwrap();
    let reason = node.take_over_failed().await;
    let TakeOverFailure::Refused(Refusal::Malformed { znode, .. }) = reason else {
        panic!("{reason}");
    };
    assert_eq!(znode, "/envelope");
    assert_eq!(
        node.store(envelope(Term(1), 1, 3)).await,
        StoreOutcome::Fenced
    );
}

#[tokio::test]
async fn an_admission_is_seen_by_all_and_repeating_it_does_no_harm() {
    let server = server();
    let mut leader = Node::spawn(1, settings(&server.connect_string(), SESSION));
    leader.until_event(Event::Standing).await;
    assert_eq!(leader.admit(member(2)).await, StoreOutcome::Fenced);
    leader.take_over(0).await;
    let mut other = Node::spawn(2, settings(&server.connect_string(), SESSION));
    assert_eq!(leader.admit(member(2)).await, StoreOutcome::Committed);
    let first = other.until_members(&[member(2)]).await;
    assert_eq!(leader.admit(member(2)).await, StoreOutcome::Committed);
    assert_eq!(leader.admit(member(1)).await, StoreOutcome::Committed);
    let second = other.until_members(&[member(1), member(2)]).await;
    assert!(second > first);

    let mut heavier = member(2);
    heavier.weight = 3;
    assert_eq!(leader.admit(heavier.clone()).await, StoreOutcome::Committed);
    assert!(other.until_members(&[member(1), heavier]).await > second);
}

#[tokio::test]
async fn an_admission_that_went_unanswered_is_read_again() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut leader = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    leader.until_event(Event::Standing).await;
    leader.take_over(0).await;
    proxy.set_at(request::MULTI, Fault::LoseReplies);
    leader.keeper.admit(member(2)).unwrap();
    let observer = observer(&server).await;
    until("the member is there", async || {
        observer
            .list_children("/roster")
            .await
            .is_ok_and(|members| members.len() == 1)
    })
    .await;
    proxy.set(Fault::None);
    assert_eq!(leader.admitted(member(2)).await, StoreOutcome::Committed);
    until("the lock is free", async || {
        observer
            .list_children("/locks/roster")
            .await
            .is_ok_and(|places| places.is_empty())
    })
    .await;
}

/// A member leaves under the fence and the lock; an operator's word needs no leader, and no leader
/// takes it back.
#[tokio::test]
async fn a_removal_is_seen_by_all_and_needs_the_term_in_force() {
    let server = server();
    let mut old = Node::spawn(1, settings(&server.connect_string(), SESSION));
    old.until_event(Event::Standing).await;
    old.take_over(0).await;
    let mut other = Node::spawn(2, settings(&server.connect_string(), SESSION));
    other.until_not_standing().await;
    for number in [1, 2] {
        assert_eq!(old.admit(member(number)).await, StoreOutcome::Committed);
    }
    other.until_members(&[member(1), member(2)]).await;
    other.keeper.remove(id(2)).unwrap();
    assert_eq!(removed(&mut other, 2).await, StoreOutcome::Fenced);

    let nobody = other.keeper.power_off(id(9)).await;
    assert_eq!(nobody, Err(RosterError::NoSuchMember(id(9))));
    assert_eq!(other.keeper.power_off(id(2)).await, Ok(()));
    let off = MemberRecord {
        is_powered_off: true,
        ..member(2)
    };
    old.until_members(&[member(1), off.clone()]).await;
    let drained = MemberRecord {
        is_drained: true,
        ..member(2)
    };
    assert_eq!(old.admit(drained).await, StoreOutcome::Committed);
    let both = MemberRecord {
        is_drained: true,
        ..off
    };
    other.until_members(&[member(1), both]).await;

    for _ in 0..2 {
        old.keeper.remove(id(2)).unwrap();
        assert_eq!(removed(&mut old, 2).await, StoreOutcome::Committed);
    }
    other.until_members(&[member(1)]).await;
    other.take_over(0).await;
    old.keeper.remove(id(1)).unwrap();
    assert_eq!(removed(&mut old, 1).await, StoreOutcome::Fenced);
}

async fn removed(node: &mut Node, number: u128) -> StoreOutcome {
    node.until("removal", |event| match event {
        Event::Removed { node, outcome, .. } if node == id(number) => Some(outcome),
        _ => None,
    })
    .await
}

/// Voters that have no power, by the operator's word, do not keep a fleet from being led.
#[tokio::test]
async fn voters_without_power_are_left_out_of_the_next_term() {
    let server = server();
    let mut leader = Node::spawn(1, settings(&server.connect_string(), SESSION));
    leader.until_event(Event::Standing).await;
    leader.take_over(0).await;
    for number in [1, 2, 3] {
        assert_eq!(leader.admit(member(number)).await, StoreOutcome::Committed);
    }
    let how = TakeOver {
        voters: Some(vec![id(1), id(2), id(3)]),
        ..take_over(1, 0)
    };
    leader.keeper.take_over(how).unwrap();
    assert_eq!(leader.taken_over().await.0.voters, [id(1), id(2), id(3)]);
    let same = leader.take_over(0).await;
    assert_eq!(same.voters, [id(1), id(2), id(3)], "silence is no reason");
    for number in [2, 3] {
        leader.keeper.power_off(id(number)).await.unwrap();
    }
    let record = leader.take_over(0).await;
    assert_eq!(record.voters, [id(1)]);
    assert_eq!(
        record.former,
        [[id(1), id(2), id(3)]],
        "they are waited for, or W is"
    );
}

/// The answer to the write that drops former voters is lost, and ZooKeeper is away for longer than it is
/// waited for. It was applied, so `term` is at another version; the term is this leader's as before.
#[tokio::test]
async fn a_leader_that_does_not_hear_that_former_voters_were_dropped_can_still_write() {
    const ATTEMPTS: usize = 10;
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await.term;
    let observer = observer(&server).await;
    proxy.set_at(request::MULTI, Fault::LoseReplies);
    node.keeper.drop_former(term, false).unwrap();
    until("it is written", async || {
        !stored_term(&observer).await.is_voted
    })
    .await;
    // One command is performed after the other: now it has been given up.
    let outcome = node.store(envelope(term, 1, 1)).await;
    assert_eq!(outcome, StoreOutcome::Unknown);
    proxy.set(Fault::None);
    let mut outcomes = Vec::new();
    for _ in 0..ATTEMPTS {
        outcomes.push(node.admit(member(1)).await);
        if outcomes.ends_with(&[StoreOutcome::Committed]) {
            return;
        }
    }
    assert_eq!(stored_term(&observer).await.leader, Some(id(1)));
    panic!("its own term, and it cannot write under it: {outcomes:?}");
}
