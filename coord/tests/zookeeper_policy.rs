//! Policy documents against a real server and a bad network.

mod support;

use support::{Node, SESSION, observer, server, settings, until};
use weir_coord::{
    testing::{Fault, Proxy, request},
    zookeeper::{Event, PolicyError, RECORD_BYTES_MAX},
};
use weir_coord_core::commit::StoreOutcome;
use weir_model::PolicyVersion;

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

    assert_eq!(keeper.publish("one".to_owned(), NONE).await, Ok(FIRST));
    assert_eq!(until_policy(&mut leader, FIRST).await, "one");
    assert_eq!(until_policy(&mut other, FIRST).await, "one");
    let conflict = PolicyError::Conflict {
        expected: NONE,
        current: FIRST,
    };
    assert_eq!(keeper.publish("lost".to_owned(), NONE).await, Err(conflict));
    assert_eq!(keeper.publish("two".to_owned(), FIRST).await, Ok(SECOND));
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
        keeper.publish("one".to_owned(), NONE),
        keeper.publish("two".to_owned(), NONE)
    );
    let won = [&one, &two].iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn only_the_leader_of_the_term_in_force_publishes() {
    let server = server();
    let old = leader(&server.connect_string()).await;
    let mut new = Node::spawn(2, settings(&server.connect_string(), SESSION));
    let published = new.keeper.publish("never".to_owned(), NONE).await;
    assert_eq!(published, Err(PolicyError::NotLeader));
    new.until_not_standing().await;
    new.take_over(0).await;
    let published = old.keeper.publish("late".to_owned(), NONE).await;
    assert_eq!(published, Err(PolicyError::NotLeader));
    assert!(new.keeper.publish("one".to_owned(), NONE).await.is_ok());
}

#[tokio::test]
async fn a_document_that_no_znode_can_hold_is_not_sent() {
    let server = server();
    let leader = leader(&server.connect_string()).await;
    let bytes = RECORD_BYTES_MAX + 1;
    let published = leader.keeper.publish("x".repeat(bytes), NONE).await;
    assert_eq!(published, Err(PolicyError::TooLarge { bytes }));
    let largest = "x".repeat(RECORD_BYTES_MAX);
    assert_eq!(leader.keeper.publish(largest, NONE).await, Ok(FIRST));
}

#[tokio::test]
async fn a_creation_that_went_unanswered_puts_nothing_in_force_and_its_number_is_not_given_again() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let leader = leader(&proxy.connect_string()).await;
    let observer = observer(&server).await;
    let keeper = leader.keeper.clone();
    proxy.set_at(request::MULTI, Fault::LoseReplies);
    let first = tokio::spawn(async move { keeper.publish("one".to_owned(), NONE).await });
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
        leader.keeper.publish("two".to_owned(), NONE).await,
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
    keeper.publish("one".to_owned(), NONE).await.unwrap();
    keeper.publish("two".to_owned(), FIRST).await.unwrap();
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
    let third = keeper.publish("three".to_owned(), FIRST).await.unwrap();
    assert_eq!(third, PolicyVersion(3));
    assert_eq!(until_policy(&mut leader, third).await, "three");
}
