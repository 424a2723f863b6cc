//! The lock recipe against a real server and a bad network.

mod support;

use std::time::Duration;

use support::{DEADLINE, Node, SESSION, SHORT_SESSION, observer, server, settings, until};
use weir_coord::{
    testing::{Fault, Proxy, request},
    zookeeper::{Event, LockError, LockName},
};
use zookeeper_client::Client;

const NAME: LockName = LockName::Policy;

async fn places(client: &Client) -> usize {
    client
        .list_children("/locks/policy")
        .await
        .expect("a lock")
        .len()
}

#[tokio::test]
async fn it_is_handed_over_in_order_with_growing_numbers() {
    const CONTENDERS: usize = 4;
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let held = node.keeper.lock(NAME, DEADLINE).await.unwrap();
    let mut last = held.fencing();
    let (sender, mut order) = tokio::sync::mpsc::channel(CONTENDERS);
    for contender in 0..CONTENDERS {
        let (keeper, sender) = (node.keeper.clone(), sender.clone());
        tokio::spawn(async move {
            let guard = keeper.lock(NAME, DEADLINE).await.unwrap();
            sender.send((contender, guard.fencing())).await.unwrap();
            guard.release().await;
        });
        // So that they queue up in this order.
        until("it queues", async || {
            places(&observer).await == contender + 2
        })
        .await;
    }
    assert!(order.try_recv().is_err(), "the lock is still held");
    held.release().await;
    for contender in 0..CONTENDERS {
        let (who, fencing) = order.recv().await.unwrap();
        assert_eq!(who, contender);
        assert!(fencing > last);
        last = fencing;
    }
    until("it is free", async || places(&observer).await == 0).await;
}

#[tokio::test]
async fn a_contender_that_gives_up_leaves_nothing_and_blocks_nobody() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let held = node.keeper.lock(NAME, DEADLINE).await.unwrap();

    // One is cancelled, another's patience ends.
    let keeper = node.keeper.clone();
    let cancelled = tokio::spawn(async move { keeper.lock(NAME, DEADLINE).await });
    until("it queues", async || places(&observer).await == 2).await;
    cancelled.abort();
    let patience = Duration::from_millis(50);
    let late = node.keeper.lock(NAME, patience).await.err();
    assert_eq!(late, Some(LockError::Timeout { patience }));
    until("only the holder is left", async || {
        places(&observer).await == 1
    })
    .await;

    drop(held);
    node.keeper
        .lock(NAME, DEADLINE)
        .await
        .unwrap()
        .release()
        .await;
    assert_eq!(places(&observer).await, 0);
}

#[tokio::test]
async fn cancelling_while_the_creation_is_unanswered_leaks_nothing() {
    const ROUNDS: usize = 5;
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    // Its session outlasts the wait, so that nothing vanishes by its end.
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), 2 * DEADLINE));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    for fault in [Fault::LoseReplies, Fault::HoldRequests]
        .into_iter()
        .cycle()
        .take(2 * ROUNDS)
    {
        proxy.set_at(request::CREATE, fault);
        let keeper = node.keeper.clone();
        let cancelled = tokio::spawn(async move { keeper.lock(NAME, DEADLINE).await });
        proxy.until(fault).await;
        if fault == Fault::LoseReplies {
            until("it is there", async || places(&observer).await == 1).await;
        }
        cancelled.abort();
        assert!(cancelled.await.is_err());
        proxy.set(Fault::None);
        until("it is gone", async || places(&observer).await == 0).await;
        node.keeper
            .lock(NAME, DEADLINE)
            .await
            .unwrap()
            .release()
            .await;
    }
    assert!(!node.saw(&Event::SessionExpired));
}

#[tokio::test]
async fn a_creation_that_went_unanswered_is_found_again_and_holds() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), 2 * DEADLINE));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    proxy.set_at(request::CREATE, Fault::LoseReplies);
    let keeper = node.keeper.clone();
    let taken = tokio::spawn(async move { keeper.lock(NAME, DEADLINE).await });
    until("it is there", async || places(&observer).await == 1).await;
    proxy.set(Fault::None);
    let guard = taken.await.unwrap().unwrap();
    assert_eq!(places(&observer).await, 1);
    guard.release().await;
    assert_eq!(places(&observer).await, 0);
}

#[tokio::test]
async fn the_end_of_the_holders_session_hands_it_over() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut gone = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    gone.until_event(Event::Standing).await;
    let old = gone.keeper.lock(NAME, DEADLINE).await.unwrap();
    let mut next = Node::spawn(2, settings(&server.connect_string(), SESSION));
    next.until_not_standing().await;
    proxy.set(Fault::BlackHole);
    let new = next.keeper.lock(NAME, DEADLINE).await.unwrap();
    assert!(new.fencing() > old.fencing());
}

/// Sequence numbers start again with their parent; the number that is handed out does not.
#[tokio::test]
async fn a_directory_that_was_made_anew_hands_out_larger_numbers_still() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let first = node.keeper.lock(NAME, DEADLINE).await.unwrap();
    let before = first.fencing();
    first.release().await;
    observer.delete("/locks/policy", None).await.unwrap();
    observer
        .create("/locks/policy", b"", &support::open())
        .await
        .unwrap();
    let second = node.keeper.lock(NAME, DEADLINE).await.unwrap();
    assert!(
        second.fencing() > before,
        "{} after {before}",
        second.fencing()
    );
    let place = observer.list_children("/locks/policy").await.unwrap();
    assert!(place[0].ends_with("0000000000"), "{place:?}");
    second.release().await;
}

/// A queue of contenders is woken one by one: each watches the one before it, and nobody else.
#[tokio::test]
async fn each_contender_watches_its_predecessor_alone() {
    const CONTENDERS: usize = 4;
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let held = node.keeper.lock(NAME, DEADLINE).await.unwrap();
    let mut waiting = Vec::new();
    for contender in 0..CONTENDERS {
        let keeper = node.keeper.clone();
        waiting.push(tokio::spawn(async move {
            keeper.lock(NAME, DEADLINE).await.unwrap().release().await;
        }));
        until("it queues", async || {
            places(&observer).await == contender + 2
        })
        .await;
    }
    let watched = || {
        let watches = server.ask("wchp").unwrap_or_default();
        let paths = watches
            .lines()
            .filter(|line| line.contains("/locks/policy"));
        paths.map(str::to_owned).collect::<Vec<_>>()
    };
    until("all watch", async || watched().len() == CONTENDERS).await;
    let mut paths = watched();
    paths.sort();
    paths.dedup();
    assert_eq!(
        paths.len(),
        CONTENDERS,
        "no two watch the same place: {paths:?}"
    );
    assert!(
        paths.iter().all(|path| path.contains("-n-")),
        "nobody watches the directory: {paths:?}"
    );
    held.release().await;
    for contender in waiting {
        contender.await.unwrap();
    }
}
