//! Whom a node follows that cannot ask ZooKeeper.

mod support;

use std::time::Duration;

use futures::FutureExt as _;
use support::{DEADLINE, Node, SESSION, address, id, live, member, server, settings, until};
use tokio::{net::TcpListener, time::timeout};
use tonic::transport::Server;
use weir_coord::{
    fleet::{CommitBy, Fleet, Host},
    grpc::{self, AttachService, Inbound, Security, Streams, Whereabouts},
    testing::{Fault, Proxy},
    zookeeper::{self, Event},
};
use weir_coord_core::{
    commit::StoreOutcome,
    follower::{Birth, Follower},
    rules::Rules,
    timing::Timing,
};
use weir_model::{Incarnation, Nanos, PolicyVersion, Term, message::FromNode};

const TICK: Duration = Timing::DEFAULT.tick;

/// A node's gRPC service, and where it is reached.
async fn serve(streams: Streams) -> (String, Inbound) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let (service, inbound) = AttachService::new(streams);
    let server = Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(grpc::incoming(listener, Security::Plain)));
    (address, inbound)
}

fn report(number: u128, now: Nanos) -> FromNode {
    let birth = Birth {
        node: id(number),
        incarnation: Incarnation(1),
        term: Term(1),
        abstains_until: Nanos::ZERO,
    };
    let follower = Follower::new(birth, PolicyVersion(0), [], Rules::ALL);
    FromNode::Report(follower.report(now, &[]))
}

#[tokio::test]
async fn who_cannot_reach_zookeeper_is_told_by_others_who_leads() {
    let server = server();
    let streams = Streams::default();
    let (other_address, _inbound) = serve(streams.clone()).await;
    let through = settings(&server.connect_string(), SESSION);
    let mut other = Node::spawn_at(2, other_address, through);
    other.until_event(Event::Standing).await;
    // Nobody is where it says that it leads.
    let term = other.take_over(0).await.term;
    assert_eq!(other.admit(member(1)).await, StoreOutcome::Committed);

    let proxy = Proxy::start(server.connect_string()).await;
    let proxy = proxy.expect("a proxy");
    let through = settings(&proxy.connect_string(), SESSION);
    let (keeper, mut events) = zookeeper::spawn(through, live(1));
    let host = Host {
        node: id(1),
        address: address(1),
        timing: Timing::DEFAULT,
        commit: CommitBy::Quorum,
        security: Security::Plain,
    };
    let mut fleet = Fleet::new(host, keeper, Streams::default());
    let mut now = Nanos(1_000_000_000);
    while fleet.members().is_empty() || fleet.live().len() < 2 || fleet.term().is_none() {
        let event = timeout(DEADLINE, events.next()).await.expect("an event");
        fleet.observe(event.expect("the shell runs"), now);
    }
    proxy.set(Fault::BlackHole);

    // Somebody else leads by now, and the other node has heard of it.
    let successor = Streams::default();
    successor.open();
    let (successor_address, mut reports) = serve(successor).await;
    streams.suspicion().set(id(2), None);
    streams.suspicion().set_newest(Some(Whereabouts {
        term: term.next(),
        leader: id(3),
        address: successor_address,
    }));
    until("it reports to the successor", async || {
        now = now + TICK;
        while let Some(Some(event)) = events.next().now_or_never() {
            fleet.observe(event, now);
        }
        fleet.tick(now);
        fleet.send(report(1, now), now);
        matches!(reports.try_recv(), Ok(FromNode::Report(report)) if report.node == id(1))
    })
    .await;
    assert_eq!(fleet.term().map(|record| record.term), Some(term));
}
