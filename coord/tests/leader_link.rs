//! The stream to the leader, over a network that loses what is on it.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use support::{DEADLINE, id, until};
use tokio::{
    io::{AsyncReadExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tonic::transport::Server;
use weir_coord::grpc::{self, AttachService, LeaderLink, Security, Streams};
use weir_coord_core::{
    follower::{Birth, Follower},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Generation, Incarnation, Nanos, PolicyVersion, Term,
    message::{Commit, FromNode, Position, ToNode},
};

/// Relays connections; the first one loses everything from when it is told so, and stays open.
async fn relay(listener: TcpListener, server: String, mut cut: watch::Receiver<bool>, ends: Ends) {
    let mut is_first = true;
    while let Ok((mut client, _)) = listener.accept().await {
        let mut to = TcpStream::connect(&server).await.expect("the server");
        if !std::mem::replace(&mut is_first, false) {
            let was_open = !ends.first_is_over.load(Ordering::SeqCst);
            ends.overlap.fetch_or(was_open, Ordering::SeqCst);
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut to).await });
            continue;
        }
        let (mut cut, first_is_over) = (cut.clone(), Arc::clone(&ends.first_is_over));
        tokio::spawn(async move {
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut to) => {}
                _ = cut.wait_for(|is_cut| *is_cut) => {}
            }
            let mut lost = [0; 4_096];
            while matches!(client.read(&mut lost).await, Ok(length) if length > 0) {}
            first_is_over.store(true, Ordering::SeqCst);
        });
    }
    // Whoever drops the sender ends the test.
    let _ = cut.changed().await;
}

#[derive(Clone, Default)]
struct Ends {
    first_is_over: Arc<AtomicBool>,
    overlap: Arc<AtomicBool>,
}

fn report() -> FromNode {
    let birth = Birth {
        node: id(1),
        incarnation: Incarnation(1),
        term: Term(1),
        abstains_until: Nanos::ZERO,
    };
    let follower = Follower::new(birth, PolicyVersion(0), [], Rules::ALL);
    FromNode::Report(follower.report(Nanos(1), &[]))
}

#[tokio::test]
async fn a_silent_stream_is_replaced_before_it_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = listener.local_addr().expect("its address").to_string();
    let streams = Streams::default();
    streams.open();
    let (service, mut inbound) = AttachService::new(streams.clone());
    let served = Server::builder().add_service(service);
    tokio::spawn(served.serve_with_incoming(grpc::incoming(listener, Security::Plain)));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let (cut, cuts) = watch::channel(false);
    let ends = Ends::default();
    tokio::spawn(relay(listener, server, cuts, ends.clone()));

    let mut link = LeaderLink::spawn(Timing::DEFAULT.suspicion());
    link.follow(Some((id(1), address)));
    let position = Position {
        term: Term(1),
        generation: Generation(1),
    };
    let commit = ToNode::Commit(Commit { position });
    for is_cut in [false, true] {
        cut.send_replace(is_cut);
        while inbound.try_recv().is_ok() {}
        until("a report has arrived", async || {
            link.send(report());
            inbound.try_recv().is_ok()
        })
        .await;
        streams.send(id(1), commit.clone());
        let heard = timeout(DEADLINE, link.receive()).await.expect("in time");
        assert_eq!(heard, Some(commit.clone()));
    }
    assert!(
        ends.overlap.load(Ordering::SeqCst),
        "the first connection ended before there was a second one"
    );
}
