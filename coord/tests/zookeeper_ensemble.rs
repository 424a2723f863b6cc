//! Three servers that vanish one by one, that pause, and that cannot be reached.

mod support;

use support::{Node, SESSION, SHORT_SESSION, envelope, observer_of, server, settings, stored_term};
use weir_coord::{
    testing::{Ensemble, Fault, Options, Proxy},
    zookeeper::Event,
};
use weir_coord_core::{commit::StoreOutcome, record::TermRecord};
use weir_model::Incarnation;
use zookeeper_client::Client;

fn ensemble() -> Ensemble {
    Ensemble::start(3, &Options::default()).expect("three ZooKeeper servers")
}

/// A node that leads the fleet.
async fn leader(servers: &str) -> (Node, Incarnation, TermRecord) {
    let mut node = Node::spawn(1, settings(servers, SESSION));
    let incarnation = node.registered().await;
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await;
    (node, incarnation, term)
}

/// Stores until it is known to be stored: what is unknown may be tried again, what is fenced not.
async fn store(node: &mut Node, term: &TermRecord, generation: u64) {
    loop {
        match node.store(envelope(term.term, generation, 3)).await {
            StoreOutcome::Committed => return,
            StoreOutcome::Fenced => panic!("fenced out of its own term"),
            StoreOutcome::Unknown => {}
        }
    }
}

/// Through all of it the node is in its first life, and in its term.
async fn assert_unchanged(node: &Node, client: &Client, life: Incarnation, term: &TermRecord) {
    assert_eq!(stored_term(client).await, *term);
    let registered = Event::Registered { incarnation: life };
    assert_eq!(node.times_seen(&registered), 1);
    assert!(!node.saw(&Event::SessionExpired));
}

#[tokio::test]
async fn servers_that_vanish_one_by_one_end_neither_session_nor_term() {
    let mut ensemble = ensemble();
    let servers = ensemble.connect_string();
    let (mut node, life, term) = leader(&servers).await;
    // The last one is the ensemble's leader: it is elected anew meanwhile.
    for (generation, server) in (1..).zip(0..3) {
        ensemble.kill(server);
        store(&mut node, &term, generation).await;
        ensemble.restart(server).expect("a server");
        ensemble.wait_until_serving(server).expect("a quorum");
    }
    let led = ensemble.leader().expect("a leader");
    ensemble.kill(led);
    store(&mut node, &term, 9).await;
    let client = observer_of(&servers).await;
    assert_unchanged(&node, &client, life, &term).await;
}

#[tokio::test]
async fn servers_that_pause_one_by_one_are_left() {
    let ensemble = ensemble();
    let servers = ensemble.connect_string();
    let (mut node, life, term) = leader(&servers).await;
    for (generation, server) in (1..).zip(0..3) {
        ensemble.server(server).pause().expect("a server");
        store(&mut node, &term, generation).await;
        ensemble.server(server).resume().expect("a server");
        ensemble.wait_until_serving(server).expect("a quorum");
    }
    let client = observer_of(&servers).await;
    assert_unchanged(&node, &client, life, &term).await;
}

#[tokio::test]
async fn who_is_cut_off_from_one_server_after_the_other_goes_on() {
    let ensemble = ensemble();
    let mut proxies = Vec::new();
    for server in 0..3 {
        let server = ensemble.server(server).connect_string();
        proxies.push(Proxy::start(server).await.expect("a proxy"));
    }
    let servers: Vec<String> = proxies.iter().map(Proxy::connect_string).collect();
    let (mut node, life, term) = leader(&servers.join(",")).await;
    for (generation, proxy) in (1..).zip(&proxies) {
        proxy.set(Fault::BlackHole);
        store(&mut node, &term, generation).await;
        proxy.set(Fault::None);
    }
    let client = observer_of(&ensemble.connect_string()).await;
    assert_unchanged(&node, &client, life, &term).await;
}

/// The session is over when the quorum is back; the term is not, for nobody else took it.
#[tokio::test]
async fn a_lost_quorum_ends_the_session_and_not_the_term() {
    let mut ensemble = ensemble();
    let servers = ensemble.connect_string();
    let mut node = Node::spawn(1, settings(&servers, SHORT_SESSION));
    let first = node.registered().await;
    node.until_event(Event::Standing).await;
    let term = node.take_over(0).await;
    for server in [0, 1] {
        ensemble.kill(server);
    }
    node.until_event(Event::Disconnected).await;
    let outcome = node.store(envelope(term.term, 1, 3)).await;
    assert_eq!(outcome, StoreOutcome::Unknown, "nobody could say");
    node.until_event(Event::SessionExpired).await;
    for server in [0, 1] {
        ensemble.restart(server).expect("a server");
    }
    node.until_event(Event::Connected).await;
    let second = node.registered().await;
    assert!(second > first, "{second:?} after {first:?}");
    store(&mut node, &term, 2).await;
}

#[tokio::test]
async fn a_fleet_lives_below_a_chroot() {
    let server = server();
    let client = Client::connector()
        .connect(&server.connect_string())
        .await
        .expect("a client");
    for parent in ["/some", "/some/where"] {
        client.create(parent, b"", &support::open()).await.unwrap();
    }
    let servers = format!("{}/some/where", server.connect_string());
    let (mut node, _, term) = leader(&servers).await;
    store(&mut node, &term, 1).await;
    let below = client.check_stat("/some/where/weir/test/term").await;
    assert!(below.unwrap().is_some());
    assert!(client.check_stat("/weir").await.unwrap().is_none());
}
