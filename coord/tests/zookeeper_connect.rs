//! Getting a session while some servers do not answer.

mod support;

use std::time::Duration;

use futures::future::join_all;
use support::{DEADLINE, Node, server, settings};
use weir_coord::testing::{Fault, Proxy};

/// The client gives each server two fifths of it, which is longer than anything is waited for here.
const LONG_SESSION: Duration = Duration::from_secs(120);
const NODES: u128 = 8;

/// Each node begins with one server or with the other, by chance.
#[tokio::test]
async fn a_server_that_does_not_answer_holds_nobody_up() {
    assert!(LONG_SESSION * 2 / 5 > DEADLINE);
    let server = server();
    let mut proxies = Vec::new();
    for fault in [Fault::BlackHole, Fault::None] {
        let proxy = Proxy::start(server.connect_string()).await;
        let proxy = proxy.expect("a proxy");
        proxy.set(fault);
        proxies.push(proxy);
    }
    let servers: Vec<String> = proxies.iter().map(Proxy::connect_string).collect();
    let mut nodes: Vec<Node> = (1..=NODES)
        .map(|number| Node::spawn(number, settings(&servers.join(","), LONG_SESSION)))
        .collect();
    join_all(nodes.iter_mut().map(Node::registered)).await;
}
