//! Policy documents against a real server and a bad network.

mod support;

use std::time::Duration;

use support::{Node, SESSION, observer, server, settings, until};
use weir_coord::{
    testing::{Fault, Proxy, request},
    trial::Trial,
    zookeeper::{Event, InForce, Keeper, NO_LIMITS, PolicyError, Publication, RECORD_BYTES_MAX},
};
use weir_coord_core::{commit::StoreOutcome, record::PolicyRecord};
use weir_model::PolicyVersion;

/// How many members a policy has room for.
const PLACES: u32 = 8;
const NONE: PolicyVersion = PolicyVersion(0);
const FIRST: PolicyVersion = PolicyVersion(1);
const SECOND: PolicyVersion = PolicyVersion(2);

async fn until_policy(node: &mut Node, wanted: PolicyVersion) -> String {
    node.until("policy", |event| match event {
        Event::Policy { version, document } if version == wanted => Some(document),
        _ => None,
    })
    .await
}

/// Stores a document and puts it in force, as if all nodes had it ready at once.
async fn put_in_force(
    keeper: &Keeper,
    publication: Publication,
) -> Result<PolicyVersion, PolicyError> {
    let version = keeper.publish(publication).await?;
    keeper.activate(version, PLACES).await
}

async fn leader(servers: &str) -> Node {
    let mut leader = Node::spawn(1, settings(servers, SESSION));
    leader.until_event(Event::Standing).await;
    leader.take_over(0).await;
    leader
}

#[tokio::test]
async fn a_document_comes_into_force_if_the_expected_one_is() {
    let server = server();
    let mut leader = leader(&server.connect_string()).await;
    let mut other = Node::spawn(2, settings(&server.connect_string(), SESSION));
    let keeper = leader.keeper.clone();

    assert_eq!(
        put_in_force(&keeper, Publication::new("one", NONE)).await,
        Ok(FIRST)
    );
    assert_eq!(until_policy(&mut leader, FIRST).await, "one");
    assert_eq!(until_policy(&mut other, FIRST).await, "one");
    let conflict = PolicyError::Conflict {
        expected: NONE,
        current: FIRST,
    };
    assert_eq!(
        put_in_force(&keeper, Publication::new("lost", NONE)).await,
        Err(conflict)
    );
    assert_eq!(
        put_in_force(&keeper, Publication::new("two", FIRST)).await,
        Ok(SECOND)
    );
    assert_eq!(until_policy(&mut other, SECOND).await, "two");

    let history = other.keeper.history().await.unwrap();
    let history: Vec<_> = history.iter().map(|e| (e.version, e.is_in_force)).collect();
    assert_eq!(history, [(SECOND, true), (FIRST, false)]);
    assert_eq!(other.keeper.document(FIRST).await.as_deref(), Ok("one"));
    let missing = PolicyVersion(9);
    assert_eq!(
        other.keeper.document(missing).await,
        Err(PolicyError::NoSuchVersion(missing))
    );
}

#[tokio::test]
async fn of_two_that_publish_at_once_one_wins() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let keeper = leader.keeper.clone();
    let (one, two) = tokio::join!(
        put_in_force(&keeper, Publication::new("one", NONE)),
        put_in_force(&keeper, Publication::new("two", NONE))
    );
    let won = [&one, &two].iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn only_the_leader_of_the_term_in_force_publishes() {
    let server = server();
    let old = leader(&server.connect_string()).await;
    let mut new = Node::spawn(2, settings(&server.connect_string(), SESSION));
    let published = put_in_force(&new.keeper, Publication::new("never", NONE)).await;
    assert_eq!(published, Err(PolicyError::NotLeader));
    new.until_not_standing().await;
    new.take_over(0).await;
    let published = put_in_force(&old.keeper, Publication::new("late", NONE)).await;
    assert_eq!(published, Err(PolicyError::NotLeader));
    assert!(
        put_in_force(&new.keeper, Publication::new("one", NONE))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_document_that_no_znode_can_hold_is_not_sent() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let bytes = RECORD_BYTES_MAX + 1;
    let published = put_in_force(&leader.keeper, Publication::new("x".repeat(bytes), NONE)).await;
    assert_eq!(published, Err(PolicyError::TooLarge { bytes }));
    let largest = "x".repeat(RECORD_BYTES_MAX);
    assert_eq!(
        put_in_force(&leader.keeper, Publication::new(largest, NONE)).await,
        Ok(FIRST)
    );
}

#[tokio::test]
async fn a_creation_that_went_unanswered_puts_nothing_in_force_and_its_number_is_not_given_again() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let leader = leader(&proxy.connect_string()).await;
    let observer = observer(&server).await;
    let keeper = leader.keeper.clone();
    proxy.set_at(request::MULTI, Fault::LoseReplies);
    let first =
        tokio::spawn(async move { put_in_force(&keeper, Publication::new("one", NONE)).await });
    until("the document is there", async || {
        observer
            .check_stat("/policy/v_0000000001")
            .await
            .is_ok_and(|stat| stat.is_some())
    })
    .await;
    proxy.set(Fault::None);
    let first = first.await.unwrap();
    assert!(matches!(first, Err(PolicyError::Refused(_))), "{first:?}");
    assert_eq!(
        put_in_force(&leader.keeper, Publication::new("two", NONE)).await,
        Ok(SECOND)
    );
    until("the lock is free", async || {
        observer
            .list_children("/locks/policy")
            .await
            .is_ok_and(|places| places.is_empty())
    })
    .await;
}

#[tokio::test]
async fn an_older_document_is_never_taken_after_a_newer_one() {
    let server = server();
    let mut leader = leader(&server.connect_string()).await;
    let keeper = leader.keeper.clone();
    put_in_force(&keeper, Publication::new("one", NONE))
        .await
        .unwrap();
    put_in_force(&keeper, Publication::new("two", FIRST))
        .await
        .unwrap();
    until_policy(&mut leader, SECOND).await;
    let older = Event::Policy {
        version: FIRST,
        document: "one".to_owned(),
    };
    let before = leader.times_seen(&older);
    let observer = observer(&server).await;
    support::overwrite(&observer, "/policy/current", b"1").await;
    until("it has been read", async || {
        server
            .ask("wchp")
            .is_ok_and(|watches| watches.contains("/policy/current"))
    })
    .await;
    // Whatever was told of it comes before this answer.
    assert_eq!(
        leader.admit(support::member(1)).await,
        StoreOutcome::Committed
    );
    assert_eq!(leader.times_seen(&older), before);
    let third = put_in_force(&keeper, Publication::new("three", FIRST))
        .await
        .unwrap();
    assert_eq!(third, PolicyVersion(3));
    assert_eq!(until_policy(&mut leader, third).await, "three");
}

/// What waits to be confirmed, once it is this or nothing.
async fn until_trial(node: &mut Node, wanted: Option<PolicyVersion>) -> Option<Trial> {
    node.until("trial", |event| match event {
        Event::Trial(trial) if trial.map(|trial| trial.version) == wanted => Some(trial),
        _ => None,
    })
    .await
}

async fn until_next(node: &mut Node, wanted: PolicyVersion) -> String {
    node.until("next policy", |event| match event {
        Event::NextPolicy { version, document } if version == wanted => Some(document),
        _ => None,
    })
    .await
}

fn on_trial(document: &str, expected: PolicyVersion) -> Publication {
    Publication {
        trial: Some(Duration::from_secs(60)),
        ..Publication::new(document, expected)
    }
}

#[tokio::test]
async fn a_change_on_trial_is_seen_by_all_and_stays_when_it_is_confirmed() {
    let server = server();
    let mut leader = leader(&server.connect_string()).await;
    let mut other = Node::spawn(2, settings(&server.connect_string(), SESSION));
    let keeper = leader.keeper.clone();
    put_in_force(&keeper, Publication::new("one", NONE))
        .await
        .unwrap();
    assert_eq!(keeper.confirm(None).await, Err(PolicyError::NoTrial));
    assert_eq!(
        put_in_force(&keeper, on_trial("two", FIRST)).await,
        Ok(SECOND)
    );
    let expected = Trial {
        version: SECOND,
        fallback: FIRST,
        left_ms: 60_000,
    };
    for node in [&mut leader, &mut other] {
        assert_eq!(until_trial(node, Some(SECOND)).await, Some(expected));
    }
    let refused = put_in_force(&keeper, Publication::new("three", SECOND)).await;
    assert_eq!(refused, Err(PolicyError::OnTrial(SECOND)));
    let wrong = keeper.confirm(Some(FIRST)).await;
    assert!(
        matches!(wrong, Err(PolicyError::Conflict { .. })),
        "{wrong:?}"
    );
    assert_eq!(keeper.confirm(Some(SECOND)).await, Ok(SECOND));
    until_trial(&mut other, None).await;
    assert_eq!(keeper.expire(SECOND).await, Err(PolicyError::NoTrial));
    let in_force = InForce {
        version: SECOND,
        before: FIRST,
        next: None,
        places: Some(PLACES),
    };
    assert_eq!(keeper.in_force().await, Ok(in_force));
}

/// The leader that brought the change is gone, and so is the machine of whoever asked for it: what
/// is left of the time is in ZooKeeper, and the next leader goes back.
#[tokio::test]
async fn a_change_that_nobody_confirms_is_taken_back_by_the_next_leader() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let keeper = leader.keeper.clone();
    put_in_force(&keeper, Publication::new("one", NONE))
        .await
        .unwrap();
    put_in_force(&keeper, on_trial("two", FIRST)).await.unwrap();
    let noted = Trial {
        version: SECOND,
        fallback: FIRST,
        left_ms: 12_345,
    };
    assert_eq!(keeper.note(noted).await, Ok(SECOND));
    drop(keeper);
    leader.close().await;

    let mut next = Node::spawn(2, settings(&server.connect_string(), SESSION));
    next.until_all(&[Event::Standing, Event::Trial(Some(noted))])
        .await;
    assert_eq!(
        next.keeper.expire(SECOND).await,
        Err(PolicyError::NotLeader),
        "who does not lead changes nothing"
    );
    next.take_over(0).await;
    let third = PolicyVersion(3);
    assert_eq!(next.keeper.expire(SECOND).await, Ok(third));
    let restored = Event::NextPolicy {
        version: third,
        document: "one".to_owned(),
    };
    next.until_all(&[Event::Trial(None), restored]).await;
    assert_eq!(next.keeper.activate(third, PLACES).await, Ok(third));
    assert_eq!(until_policy(&mut next, third).await, "one");
    assert_eq!(next.keeper.confirm(None).await, Err(PolicyError::NoTrial));
}

#[tokio::test]
async fn of_a_confirmation_and_the_end_of_the_time_one_wins() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let mut current = NONE;
    for round in 0..5 {
        let keeper = leader.keeper.clone();
        let version = put_in_force(&keeper, on_trial("one", current))
            .await
            .unwrap();
        let confirming = leader.keeper.clone();
        let (expired, confirmed) = tokio::join!(
            keeper.expire(version),
            tokio::spawn(async move { confirming.confirm(None).await })
        );
        let confirmed = confirmed.unwrap();
        if let Ok(restored) = expired {
            keeper.activate(restored, PLACES).await.unwrap();
        }
        assert_ne!(
            expired.is_ok(),
            confirmed.is_ok(),
            "{round}: {expired:?} {confirmed:?}"
        );
        current = keeper.in_force().await.unwrap().version;
        assert_eq!(current == version, confirmed.is_ok());
    }
}

#[tokio::test]
async fn a_first_policy_that_nobody_confirms_leaves_none() {
    let server = server();
    let mut leader = leader(&server.connect_string()).await;
    let keeper = leader.keeper.clone();
    put_in_force(&keeper, on_trial("one", NONE)).await.unwrap();
    assert_eq!(keeper.expire(FIRST).await, Ok(SECOND));
    assert_eq!(keeper.activate(SECOND, PLACES).await, Ok(SECOND));
    assert_eq!(until_policy(&mut leader, SECOND).await, NO_LIMITS);
}

/// Rule 12: a document is seen by all before it is in force, and comes into force under the fence.
#[tokio::test]
async fn a_document_is_prepared_by_all_before_it_is_in_force() {
    let server = server();
    let mut old = leader(&server.connect_string()).await;
    let mut other = Node::spawn(2, settings(&server.connect_string(), SESSION));
    other.until_not_standing().await;
    let keeper = old.keeper.clone();
    put_in_force(&keeper, Publication::new("one", NONE))
        .await
        .unwrap();
    assert_eq!(
        keeper.publish(Publication::new("two", FIRST)).await,
        Ok(SECOND)
    );
    for node in [&mut old, &mut other] {
        assert_eq!(until_next(node, SECOND).await, "two");
    }
    assert_eq!(keeper.in_force().await.unwrap().version, FIRST);
    assert_eq!(
        other.keeper.activate(SECOND, PLACES).await,
        Err(PolicyError::NotLeader),
        "who does not lead puts nothing in force"
    );
    // The leader dies before it has written so; its successor does.
    other.take_over(0).await;
    assert_eq!(
        keeper.activate(SECOND, PLACES).await,
        Err(PolicyError::NotLeader)
    );
    assert_eq!(other.keeper.activate(SECOND, PLACES).await, Ok(SECOND));
    assert_eq!(until_policy(&mut old, SECOND).await, "two");
    assert_eq!(
        other.keeper.activate(FIRST, PLACES).await,
        Ok(SECOND),
        "versions only grow"
    );
    assert_eq!(other.keeper.in_force().await.unwrap().next, None);
}

#[tokio::test]
async fn one_that_is_to_come_keeps_others_out_unless_it_is_given_up() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let keeper = leader.keeper.clone();
    assert_eq!(keeper.publish(on_trial("one", NONE)).await, Ok(FIRST));
    let refused = keeper.publish(Publication::new("two", NONE)).await;
    assert_eq!(refused, Err(PolicyError::Pending(FIRST)));
    let instead = Publication {
        ends_trial: true,
        ..Publication::new("two", NONE)
    };
    assert_eq!(keeper.publish(instead).await, Ok(SECOND));
    assert_eq!(keeper.activate(SECOND, PLACES).await, Ok(SECOND));
    let in_force = keeper.in_force().await.unwrap();
    assert_eq!(
        (in_force.version, in_force.before, in_force.next),
        (SECOND, NONE, None)
    );
    assert_eq!(keeper.confirm(None).await, Err(PolicyError::NoTrial));
}

/// What a leader is told when it takes over.
async fn until_taken_over(node: &mut Node) -> PolicyRecord {
    node.until("take-over", |event| match event {
        Event::TakenOver { in_force, .. } => Some(in_force),
        Event::TakeOverFailed { reason } => panic!("the take-over failed: {reason}"),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn the_next_leader_hears_for_how_many_members_there_is_room() {
    let server = server();
    let mut first = leader(&server.connect_string()).await;
    let mut second = Node::spawn(2, settings(&server.connect_string(), SESSION));
    let publication = Publication::new("one", NONE);
    let version = first.keeper.publish(publication).await.unwrap();
    assert_eq!(first.keeper.activate(version, 2).await, Ok(FIRST));
    let small = PolicyRecord {
        version: FIRST,
        places: Some(2),
    };
    first.until_event(Event::PolicyRecord(small)).await;
    second.until_not_standing().await;
    second.begin_take_over();
    assert_eq!(until_taken_over(&mut second).await, small);

    // Who leads no more writes nothing; there is never less of one version.
    let written = first.keeper.activate(FIRST, 8).await;
    assert_eq!(written, Err(PolicyError::NotLeader));
    assert_eq!(second.keeper.activate(FIRST, 8).await, Ok(FIRST));
    let large = PolicyRecord {
        places: Some(8),
        ..small
    };
    first.until_event(Event::PolicyRecord(large)).await;
    assert_eq!(second.keeper.activate(FIRST, 3).await, Ok(FIRST));
    first.begin_take_over();
    assert_eq!(until_taken_over(&mut first).await, large);

    // More room is no other policy: what was in force before is still what was before.
    let in_force = first.keeper.in_force().await.unwrap();
    assert_eq!((in_force.before, in_force.next), (NONE, None));
}

/// As an older version writes it, as nobody does, and as if somebody had deleted it.
#[tokio::test]
async fn a_record_that_says_less_or_nothing_stops_no_leader() {
    let server = server();
    let mut first = leader(&server.connect_string()).await;
    let observer = observer(&server).await;
    let older = br#"{"version":7,"before":6}"#;
    let known = PolicyRecord {
        version: PolicyVersion(7),
        places: None,
    };
    for (data, found) in [
        (older.as_slice(), known),
        (b"nonsense".as_slice(), PolicyRecord::UNKNOWN),
    ] {
        observer
            .set_data("/policy/current", data, None)
            .await
            .unwrap();
        first.begin_take_over();
        assert_eq!(until_taken_over(&mut first).await, found);
    }
    observer.delete("/policy/current", None).await.unwrap();
    first.begin_take_over();
    assert_eq!(until_taken_over(&mut first).await, PolicyRecord::UNKNOWN);
}

/// ZooKeeper was restored from a backup, and a host remembers what is not there.
#[tokio::test]
async fn a_document_that_is_not_there_is_not_in_force() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let written = leader.keeper.activate(SECOND, PLACES).await;
    assert!(
        matches!(written, Err(PolicyError::Refused(_))),
        "{written:?}"
    );
    assert_eq!(leader.keeper.in_force().await.unwrap().version, NONE);
}

/// So was this one; but whoever leads has the document that is in force, and saw one that was to come.
#[tokio::test]
async fn a_document_that_was_lost_is_stored_again_and_its_number_is_given_to_no_other() {
    let server = server();
    let mut leader = leader(&server.connect_string()).await;
    let keeper = leader.keeper.clone();
    let [fifth, sixth] = [5, 6].map(PolicyVersion);
    keeper.remember(sixth, "six");
    keeper.remember(fifth, "five");
    assert_eq!(keeper.activate(fifth, PLACES).await, Ok(fifth));
    assert_eq!(keeper.in_force().await.unwrap().version, fifth);
    assert_eq!(until_policy(&mut leader, fifth).await, "five");
    for (expected, version) in [
        (fifth, PolicyVersion(7)),
        (PolicyVersion(7), PolicyVersion(8)),
    ] {
        let published = put_in_force(&keeper, Publication::new("another", expected)).await;
        assert_eq!(published, Ok(version));
    }
    assert_eq!(keeper.document(fifth).await.as_deref(), Ok("five"));
}
