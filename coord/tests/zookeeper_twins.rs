//! Two hosts of one identity: the second waits, and whoever finds another in its place gives up.

mod support;

use support::{
    DEADLINE, Node, SESSION, SHORT_SESSION, address, id, live, member, observer, server, settings,
    until,
};
use tokio::time::timeout;
use weir_coord::{
    fleet::{CommitBy, Fleet, Host, Notice},
    grpc::{Security, Streams},
    testing::{Fault, Proxy},
    zookeeper::{self, Event, Events, Refusal},
};
use weir_coord_core::{commit::StoreOutcome, record::LiveRecord, timing::Timing};
use weir_model::Nanos;
use zookeeper_client::Client;

const NOW: Nanos = Nanos(1_000_000_000);

/// Where a host is that has all of host 1 but this.
fn elsewhere() -> String {
    address(101)
}

fn twin_at(address: String) -> Event {
    Event::Refused(Refusal::Twin {
        node: id(1),
        name: live(1).name,
        address,
    })
}

async fn registered(observer: &Client) -> LiveRecord {
    let path = format!("/live/{}", id(1));
    let (data, _) = observer.get_data(&path).await.expect("a registration");
    serde_json::from_slice(&data).expect("JSON")
}

#[tokio::test]
async fn a_copy_of_a_host_waits_until_the_host_is_gone() {
    let server = server();
    let settings = settings(&server.connect_string(), SESSION);
    let mut original = Node::spawn(1, settings.clone());
    original.until_event(Event::Standing).await;

    let mut copy = Node::spawn_at(1, elsewhere(), settings);
    copy.until_event(twin_at(address(1))).await;
    let observer = observer(&server).await;
    assert_eq!(registered(&observer).await, live(1));
    // The original takes over, as if there were no copy.
    original.take_over(0).await;
    assert!(!original.saw(&twin_at(elsewhere())));

    original.close().await;
    copy.until_event(Event::Accepted).await;
    copy.until_event(Event::Standing).await;
    assert_eq!(registered(&observer).await.address, elsewhere());
}

async fn until_noticed<T>(
    fleet: &mut Fleet,
    events: &mut Events,
    mut wanted: impl FnMut(Notice) -> Option<T>,
) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the shell runs");
            if let Some(found) = fleet.observe(event, NOW).and_then(&mut wanted) {
                return found;
            }
        }
    };
    timeout(DEADLINE, found).await.expect("a notice")
}

#[tokio::test]
async fn who_finds_another_host_in_its_place_is_no_member_until_that_is_gone() {
    let server = server();
    let mut leader = Node::spawn(2, settings(&server.connect_string(), SESSION));
    leader.until_event(Event::Standing).await;
    leader.take_over(0).await;
    assert_eq!(leader.admit(member(1)).await, StoreOutcome::Committed);

    let proxy = Proxy::start(server.connect_string())
        .await
        .expect("a proxy");
    let through = settings(&proxy.connect_string(), SHORT_SESSION);
    let (keeper, mut events) = zookeeper::spawn(through, live(1));
    let host = Host {
        node: id(1),
        address: address(1),
        timing: Timing::DEFAULT,
        commit: CommitBy::Quorum,
        security: Security::Plain,
    };
    let mut fleet = Fleet::new(host, keeper, Streams::default());
    let is_member = |notice| match notice {
        Notice::Member(member) => Some(member.is_some()),
        _ => None,
    };
    assert!(until_noticed(&mut fleet, &mut events, is_member).await);

    proxy.set(Fault::BlackHole);
    let observer = observer(&server).await;
    let path = format!("/live/{}", id(1));
    until("its session is over", async || {
        observer
            .check_stat(&path)
            .await
            .expect("an answer")
            .is_none()
    })
    .await;
    let mut twin = Node::spawn_at(1, elsewhere(), settings(&server.connect_string(), SESSION));
    twin.registered().await;
    proxy.set(Fault::None);
    assert!(!until_noticed(&mut fleet, &mut events, is_member).await);
    // The roster changes, and still has this identity; it is the other's.
    assert_eq!(leader.admit(member(3)).await, StoreOutcome::Committed);

    twin.close().await;
    let is_begun = |notice| matches!(notice, Notice::BeginLife { .. }).then_some(());
    until_noticed(&mut fleet, &mut events, |notice| {
        assert!(is_member(notice.clone()) != Some(true), "{notice:?}");
        is_begun(notice)
    })
    .await;
    assert!(until_noticed(&mut fleet, &mut events, is_member).await);
}
