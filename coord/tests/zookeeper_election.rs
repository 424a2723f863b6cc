//! Registration and candidacy against a real server.

mod support;

use std::collections::BTreeSet;

use support::{Node, SESSION, SHORT_SESSION, id, observer, server, settings, stored_term, until};
use weir_coord::{
    testing::{Fault, Options, Proxy, ZooKeeperServer, request},
    zookeeper::{Event, Refusal, TakeOverFailure},
};
use weir_model::Term;
use zookeeper_client::Client;

async fn candidacies(client: &Client) -> Vec<String> {
    let mut names = client
        .list_children("/election")
        .await
        .expect("an election");
    names.sort_by_key(|name| {
        name.rsplit_once('-')
            .map(|(_, sequence)| sequence.to_owned())
    });
    names
}

fn is_of(name: &str, number: u128) -> bool {
    name.starts_with(&id(number).to_string())
}

#[tokio::test]
async fn one_stands_and_the_next_follows_when_its_session_ends() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut first = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    first.until_event(Event::Standing).await;
    assert_eq!(first.take_over(0).await.term, Term(1));
    let mut second = Node::spawn(2, settings(&server.connect_string(), SESSION));
    second.until_not_standing().await;

    proxy.set(Fault::BlackHole);
    second.until_event(Event::Standing).await;
    let record = second.take_over(0).await;
    assert_eq!((record.term, record.leader), (Term(2), Some(id(2))));

    proxy.set(Fault::None);
    let seen = first
        .until("the new term", |event| match event {
            Event::Term { record, .. } if record.term > Term(1) => Some(record),
            _ => None,
        })
        .await;
    assert_eq!(seen, record);
    first.until_not_standing().await;
}

#[tokio::test]
async fn of_those_that_initialise_at_once_one_wins_and_all_go_on() {
    const NODES: u128 = 5;
    let server = server();
    let spawn = |number| Node::spawn(number, settings(&server.connect_string(), SESSION));
    let mut nodes: Vec<Node> = (1..=NODES).map(spawn).collect();
    let mut incarnations = BTreeSet::new();
    for node in &mut nodes {
        incarnations.insert(node.registered().await);
    }
    assert_eq!(incarnations.len(), nodes.len());
    let observer = observer(&server).await;
    until("all are candidates", async || {
        candidacies(&observer).await.len() == nodes.len()
    })
    .await;
    assert_eq!(stored_term(&observer).await.term, Term(0));
    let mut standing = 0;
    for node in &mut nodes {
        let stands = node.until("a place", |event| match event {
            Event::Standing => Some(true),
            Event::NotStanding { .. } => Some(false),
            _ => None,
        });
        standing += usize::from(stands.await);
    }
    assert_eq!(standing, 1);
}

#[tokio::test]
async fn each_candidate_watches_its_predecessor_alone() {
    const NODES: u128 = 4;
    let server = server();
    let mut nodes = Vec::new();
    for number in 1..=NODES {
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
    // A path, and below it the sessions that watch it.
    let watches = server.ask("wchp").unwrap();
    let mut watchers: Vec<(String, usize)> = Vec::new();
    for line in watches.lines() {
        match (line.strip_prefix('\t'), watchers.last_mut()) {
            (Some(_), Some((_, count))) => *count += 1,
            _ if line.starts_with('/') => watchers.push((line.to_owned(), 0)),
            _ => {}
        }
    }
    watchers.retain(|(path, _)| path.contains("/election"));
    watchers.sort_by_key(|(path, _)| path.rsplit_once('-').map(|(_, tail)| tail.to_owned()));
    let counts: Vec<usize> = watchers.iter().map(|(_, count)| *count).collect();
    // The first watches itself, in case somebody deletes it, and each other the one before it.
    assert_eq!(counts, [2, 1, 1], "{watchers:?}");
    assert!(
        watchers.iter().all(|(path, _)| path.contains("-n-")),
        "{watchers:?}"
    );
}

#[tokio::test]
async fn a_candidacy_whose_creation_went_unanswered_is_found_again() {
    let server = server();
    // The fleet exists, so that the candidacy is the node's only single creation.
    Node::spawn(9, settings(&server.connect_string(), SESSION))
        .close_when_registered()
        .await;
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    proxy.set_at(request::CREATE, Fault::LoseReplies);
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    let observer = observer(&server).await;
    until("the candidacy is there", async || {
        candidacies(&observer).await.len() == 1
    })
    .await;
    let before = candidacies(&observer).await;
    assert!(is_of(&before[0], 1));

    proxy.set(Fault::None);
    node.until_event(Event::Standing).await;
    assert_eq!(candidacies(&observer).await, before);
}

#[tokio::test]
async fn a_second_life_replaces_the_first_at_once() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut first_life = Node::spawn(1, settings(&proxy.connect_string(), SESSION));
    let first = first_life.registered().await;
    first_life.until_event(Event::Standing).await;
    let mut rival = Node::spawn(2, settings(&server.connect_string(), SESSION));
    rival.until_not_standing().await;

    proxy.set(Fault::HoldRequests);
    let mut second_life = Node::spawn(1, settings(&server.connect_string(), SESSION));
    assert!(second_life.registered().await > first);
    second_life.until_not_standing().await;
    rival.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let names = candidacies(&observer).await;
    assert!(
        names.len() == 2 && is_of(&names[0], 2) && is_of(&names[1], 1),
        "{names:?}"
    );

    // The first life hears of it, and does not fight for the name.
    proxy.set(Fault::None);
    let displaced = Event::Refused(Refusal::Displaced { node: id(1) });
    first_life
        .until_all(&[displaced, Event::NotStanding { after: None }])
        .await;
    first_life
        .keeper
        .take_over(support::take_over(1, 0))
        .unwrap();
    assert_eq!(
        first_life.take_over_failed().await,
        TakeOverFailure::NoCandidacy
    );
    // In this many requests it could have made another candidacy, and deleted its successor's.
    for _ in 0..10 {
        first_life.keeper.history().await.unwrap();
    }
    assert_eq!(candidacies(&observer).await, names);
}

#[tokio::test]
async fn an_expired_session_registers_and_stands_anew() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    let first = node.registered().await;
    node.until_event(Event::Standing).await;

    proxy.set(Fault::BlackHole);
    node.until_event(Event::Disconnected).await;
    node.until_event(Event::SessionExpired).await;
    proxy.set(Fault::None);
    assert!(node.registered().await > first);
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let names = candidacies(&observer).await;
    assert!(names.len() == 1 && is_of(&names[0], 1), "{names:?}");
}

#[tokio::test]
async fn a_server_that_comes_late_is_waited_for() {
    let mut server = ZooKeeperServer::stopped(Options::default()).unwrap();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Disconnected).await;
    server.restart().unwrap();
    node.until_event(Event::Connected).await;
    node.until_event(Event::Standing).await;

    // A crash of the server is no end of the session.
    server.kill();
    node.until_event(Event::Disconnected).await;
    server.restart().unwrap();
    node.until_event(Event::Connected).await;
    assert_eq!(node.take_over(0).await.term, Term(1));
    assert!(!node.saw(&Event::SessionExpired));
}

#[tokio::test]
async fn who_resigns_goes_to_the_end_of_the_queue() {
    let server = server();
    let mut first = Node::spawn(1, settings(&server.connect_string(), SESSION));
    first.until_event(Event::Standing).await;
    let mut second = Node::spawn(2, settings(&server.connect_string(), SESSION));
    second.until_not_standing().await;
    first.keeper.resign();
    first.until_not_standing().await;
    second.until_event(Event::Standing).await;
    second.keeper.resign();
    first.until_event(Event::Standing).await;
}

#[tokio::test]
async fn the_only_candidate_that_resigns_stands_anew() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    node.keeper.resign();
    node.until_event(Event::Standing).await;
    let observer = observer(&server).await;
    let names = candidacies(&observer).await;
    assert!(
        names.len() == 1 && names[0].ends_with("-n-0000000001"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_missing_term_is_not_made_again() {
    let server = server();
    let mut node = Node::spawn(1, settings(&server.connect_string(), SESSION));
    node.until_event(Event::Standing).await;
    assert_eq!(node.take_over(40).await.term, Term(41));
    let observer = observer(&server).await;
    observer.delete("/term", None).await.unwrap();

    let missing = Refusal::TermMissing {
        root: "/weir/test".to_owned(),
    };
    node.until_event(Event::Refused(missing.clone())).await;
    node.until_not_standing().await;
    node.keeper.take_over(support::take_over(1, 41)).unwrap();
    let reason = node.take_over_failed().await;
    assert_eq!(reason, TakeOverFailure::Refused(missing.clone()));

    let mut newcomer = Node::spawn(2, settings(&server.connect_string(), SESSION));
    newcomer.registered().await;
    newcomer.until_event(Event::Refused(missing)).await;
    assert!(
        candidacies(&observer)
            .await
            .iter()
            .all(|name| !is_of(name, 2))
    );
    assert_eq!(observer.check_stat("/term").await.unwrap(), None);

    // The operator's word is enough.
    let restored = br#"{"term":50,"leader":null,"address":"","voters":[],"roster_version":0}"#;
    observer
        .create("/term", restored, &support::open())
        .await
        .unwrap();
    newcomer.until_event(Event::Accepted).await;
    node.until_event(Event::Standing).await;
    assert_eq!(node.take_over(0).await.term, Term(51));
}

#[tokio::test]
async fn a_fleet_that_vanished_is_not_initialised_again_by_those_who_knew_it() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut node = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    node.until_event(Event::Standing).await;
    proxy.set(Fault::BlackHole);
    node.until_event(Event::SessionExpired).await;
    let observer = observer(&server).await;
    until("the ephemerals are gone", async || {
        candidacies(&observer).await.is_empty()
    })
    .await;
    for path in [
        "/term",
        "/envelope",
        "/policy/current",
        "/policy",
        "/locks/roster",
        "/locks/policy",
        "/locks",
        "/live",
        "/roster",
        "/election",
    ] {
        until("it is deleted", async || {
            observer.delete(path, None).await.is_ok()
        })
        .await;
    }
    let top = observer.clone().chroot("/").unwrap();
    top.delete("/weir/test", None).await.unwrap();

    proxy.set(Fault::None);
    let missing = Refusal::TermMissing {
        root: "/weir/test".to_owned(),
    };
    node.until_event(Event::Refused(missing)).await;
    assert_eq!(top.check_stat("/weir/test").await.unwrap(), None);
}

#[tokio::test]
async fn a_clean_end_leaves_no_ephemeral() {
    let server = server();
    // It would last beyond the deadline of every wait.
    let long = 2 * support::DEADLINE;
    let mut node = Node::spawn(1, settings(&server.connect_string(), long));
    node.until_event(Event::Standing).await;
    node.close().await;
    let observer = observer(&server).await;
    assert_eq!(candidacies(&observer).await, [""; 0]);
    assert_eq!(observer.list_children("/live").await.unwrap(), [""; 0]);
}
