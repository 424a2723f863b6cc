//! What is logged on the way to ZooKeeper, at the finest level, has no password in it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs, io,
    sync::{Arc, Mutex},
};

use support::{Node, SESSION, server, settings};
use tracing_subscriber::filter::LevelFilter;
use weir_coord::zookeeper::{Credentials, Event};

const CANARY: &str = "canary-7c9e6679-f3b1";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_has_the_password() {
    let log = Log::default();
    let writer = log.clone();
    let server = server();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Everything here runs on one thread.
    let _logging = tracing::subscriber::set_default(subscriber);
    let named = |address: &str| {
        settings(address, SESSION).with_credentials(Credentials::new("weir", CANARY))
    };
    let known = named(&server.connect_string());
    tracing::info!(?known, "as somebody might log it");
    let mut node = Node::spawn(1, known);
    node.until_event(Event::Standing).await;
    // One that nobody answers, and one that the znodes are closed to.
    let _nobody = Node::spawn(2, named("127.0.0.1:1"));
    let guessed = Credentials::new("weir", format!("{CANARY}-guessed"));
    let guess = settings(&server.connect_string(), SESSION).with_credentials(guessed);
    let mut stranger = Node::spawn(3, guess);
    let refused = |event| matches!(event, Event::Refused(_)).then_some(());
    stranger.until("refused", refused).await;
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("as somebody might log it"), "it is kept");
    assert!(
        log.contains("zookeeper_client"),
        "the client logs too: {log}"
    );
    for line in log.lines() {
        assert!(!line.contains(CANARY), "{line}");
    }
    let arguments = fs::read("/proc/self/cmdline").unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(CANARY));
}
