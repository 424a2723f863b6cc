//! A leader and its own host, which is a member as the others are.

mod support;

use std::time::Duration;

use support::{
    id,
    leading::{BEGIN, TIMING, leading, policy, report},
    member,
};
use tokio::time::timeout;
use weir_coord::zookeeper::{Event, Roster};
use weir_coord_core::record::TermRecord;
use weir_model::{Term, message::ToNode};

/// Longer than a connection over loopback takes.
const A_WHILE: Duration = Duration::from_millis(200);

fn alone() -> Roster {
    Roster {
        version: 1,
        members: vec![member(1)],
    }
}

/// Nothing listens at the host's own address: a leader does not need to.
#[tokio::test]
async fn a_leader_speaks_with_its_own_host_without_a_stream() {
    let (mut fleet, _events) = leading(alone(), policy(1));
    let asked = (0..20).find_map(|tick| {
        let now = BEGIN + TIMING.tick * tick;
        fleet.send(report(1, now), now);
        fleet.tick(now);
        fleet.poll_message()
    });
    assert!(
        matches!(&asked, Some(ToNode::Propose(propose)) if propose.position.term == Term(1)),
        "{asked:?}"
    );
    assert_eq!(fleet.poll_message(), None, "it is told once a tick");
}

/// A daemon that has started again may be named by the term of the one before.
#[tokio::test]
async fn who_is_named_and_does_not_lead_is_not_attached_to_itself() {
    let (mut fleet, _events) = leading(alone(), policy(1));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let own = listener.local_addr().expect("its address").to_string();
    let deposed = |leader| TermRecord {
        term: Term(2),
        leader: Some(id(leader)),
        address: own.clone(),
        ..TermRecord::VACANT
    };
    let told = |record| Event::Term { record, version: 1 };
    fleet.observe(told(deposed(1)), BEGIN);
    assert!(timeout(A_WHILE, listener.accept()).await.is_err());
    fleet.observe(told(deposed(2)), BEGIN);
    assert!(fleet.leader().is_none());
    let called = timeout(support::DEADLINE, listener.accept()).await;
    assert!(called.is_ok(), "another node is attached to");
}
