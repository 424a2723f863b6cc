//! Candidates, terms and registrations against a real server.

mod support;

use support::{DEADLINE, FLEET, Node, SESSION, SHORT_SESSION, id, observer, server, settings};
use support::{stored_term, take_over, until};
use weir_coord::{
    testing::{Fault, Options, Proxy, ZooKeeperServer},
    zookeeper::{Event, Refusal, TakeOverFailure},
};
use weir_model::{NodeId, Term};
use zookeeper_client::{Acls, CreateMode};

#[tokio::test]
async fn one_stands_and_the_next_follows_when_its_session_ends() {
    let server = server();
    let proxy = Proxy::start(server.connect_string()).await.unwrap();
    let mut first = Node::spawn(1, settings(&proxy.connect_string(), SHORT_SESSION));
    first.until_event(Event::Standing).await;
    assert_eq!(first.take_over(0).await.term, Term(1));
    let mut second = Node::spawn(2, settings(&server.connect_string(), SESSION));
    second.until_event(Event::NotStanding).await;

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
    first.until_event(Event::NotStanding).await;
}
