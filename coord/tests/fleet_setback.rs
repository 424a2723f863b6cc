//! A `term` that is below what this node knew before its daemon was started again.

mod support;

use futures::FutureExt as _;
use support::{
    Node, SESSION, address, id, live, observer, overwrite, server, settings, stored_term, until,
};
use weir_coord::{
    fleet::{CommitBy, Fleet, Host},
    grpc::{Security, Streams},
    zookeeper::{self, Event, Events},
};
use weir_coord_core::{record::TermRecord, timing::Timing};
use weir_model::{Nanos, Term};

/// A daemon's fleet, and what it is told.
struct Daemon {
    fleet: Fleet,
    events: Events,
    now: Nanos,
    stands: bool,
}

impl Daemon {
    /// Everything that has happened, and a tick.
    fn go_on(&mut self) {
        self.now = self.now + Timing::DEFAULT.tick;
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.stands |= event == Event::Standing;
            self.fleet.observe(event, self.now);
        }
        self.fleet.tick(self.now);
    }
}

/// The servers were restored from a backup, and the daemon was started again meanwhile: it has promised
/// nothing that would tell it, and most voters may be in its place.
#[tokio::test]
async fn a_daemon_that_starts_leads_by_no_term_below_one_that_it_knew() {
    let server = server();
    let mut before = Node::spawn(1, settings(&server.connect_string(), SESSION));
    before.until_event(Event::Standing).await;
    let known = before.take_over(8).await.term;
    assert_eq!(known, Term(9));
    before.close().await;
    let observer = observer(&server).await;
    let of_term = |term| TermRecord {
        term,
        voters: vec![id(1)],
        ..TermRecord::VACANT
    };
    let write = async |term| {
        let record = serde_json::to_vec(&of_term(Term(term))).expect("JSON");
        overwrite(&observer, "/term", &record).await;
    };
    write(3).await;

    let through = settings(&server.connect_string(), SESSION);
    let (keeper, events) = zookeeper::spawn(through.clone(), live(1));
    let host = Host {
        node: id(1),
        address: address(1),
        timing: Timing::DEFAULT,
        commit: CommitBy::Quorum,
        security: Security::Plain,
    };
    let mut daemon = Daemon {
        fleet: Fleet::new(host, keeper, Streams::default()),
        events,
        now: Nanos(1_000_000_000),
        stands: false,
    };
    daemon.fleet.remember_term(known);
    until("nobody else stands, and it may", async || {
        daemon.go_on();
        daemon.stands && daemon.fleet.term().is_some()
    })
    .await;
    // What it asks of ZooKeeper is done by when it hears of another host.
    let _other = Node::spawn(2, through);
    until("it hears of another host", async || {
        daemon.go_on();
        daemon.fleet.live().len() == 2
    })
    .await;
    assert!(daemon.fleet.leader().is_none(), "it leads by an old term");
    assert_eq!(stored_term(&observer).await.term, Term(3));

    // The operator's word.
    write(10).await;
    until("it leads", async || {
        daemon.go_on();
        daemon.fleet.leader().is_some()
    })
    .await;
    assert_eq!(stored_term(&observer).await.term, Term(11));
}
