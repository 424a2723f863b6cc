//! A node of a test fleet, and what is waited for.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod leading;

use std::{sync::Once, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};
use weir_coord::{
    testing::{Options, ZooKeeperServer},
    zookeeper::{self, Event, Events, Guard, Keeper, Settings, TakeOver},
};
use weir_coord_core::{
    commit::StoreOutcome,
    record::{EnvelopeRecord, LiveRecord, MemberRecord, NodeEnvelope, TermRecord},
};
use weir_model::{Generation, Incarnation, NodeId, PolicyVersion, Term};
use zookeeper_client::{Client, CreateMode};

/// Nothing that is waited for takes longer, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Long enough that a busy machine ends no session by itself.
pub const SESSION: Duration = Duration::from_secs(10);
/// Short enough to wait for its end.
pub const SHORT_SESSION: Duration = Duration::from_secs(2);
/// The fleet of every test.
pub const FLEET: &str = "test";

pub fn server() -> ZooKeeperServer {
    static LOG: Once = Once::new();
    LOG.call_once(|| {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .init();
    });
    ZooKeeperServer::start(Options::default()).expect("a ZooKeeper server")
}

pub fn settings(servers: &str, session: Duration) -> Settings {
    Settings::new(servers, FLEET)
        .expect("settings")
        .with_session_timeout(session)
}

pub fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

pub fn live(number: u128) -> LiveRecord {
    LiveRecord {
        node: id(number),
        name: format!("edge-{number}"),
        address: address(number),
        version: "0.1.0".to_owned(),
        weight: 1,
        boot_id: "f3d9".to_owned(),
    }
}

pub fn address(number: u128) -> String {
    format!("198.18.0.{number}:7000")
}

pub fn member(number: u128) -> MemberRecord {
    MemberRecord {
        node: id(number),
        name: format!("edge-{number}"),
        weight: 1,
        floors: Vec::new(),
        is_drained: false,
        is_powered_off: false,
    }
}

pub fn take_over(number: u128, at_least: u64) -> TakeOver {
    TakeOver {
        address: address(number),
        lease: Duration::from_secs(2),
        is_voted: true,
        at_least: Term(at_least),
        voters: None,
        roster_version: 0,
        instead_of: None,
    }
}

/// An envelope of about `nodes` times 70 bytes.
pub fn envelope(term: Term, generation: u64, nodes: u128) -> EnvelopeRecord {
    EnvelopeRecord {
        term,
        generation: Generation(generation),
        lease: Duration::from_secs(60),
        policy: PolicyVersion(0),
        nodes: (1..=nodes)
            .map(|number| NodeEnvelope {
                node: id(number),
                limits: Vec::new(),
            })
            .collect(),
    }
}

/// A client that sees the fleet as Weir does, below its root.
pub async fn observer(server: &ZooKeeperServer) -> Client {
    observer_of(&server.connect_string()).await
}

/// The same, of any of these servers.
pub async fn observer_of(servers: &str) -> Client {
    let client = Client::connector()
        .with_session_timeout(SESSION)
        .connect(servers)
        .await
        .expect("an observer");
    client.chroot(format!("/weir/{FLEET}")).expect("a path")
}

pub async fn stored_envelope(client: &Client) -> EnvelopeRecord {
    let (data, _) = client.get_data("/envelope").await.expect("an envelope");
    serde_json::from_slice(&data).expect("JSON")
}

pub async fn stored_term(client: &Client) -> TermRecord {
    let (data, _) = client.get_data("/term").await.expect("a term");
    serde_json::from_slice(&data).expect("JSON")
}

/// Polls until the condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let by = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(
            Instant::now() < by,
            "waited {DEADLINE:?} in vain until {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One node: its handle and what it was told.
pub struct Node {
    pub number: u128,
    pub keeper: Keeper,
    events: Events,
    /// Everything read so far, for the message of a failure.
    seen: Vec<Event>,
}

impl Node {
    pub fn spawn(number: u128, settings: Settings) -> Self {
        Self::spawn_at(number, address(number), settings)
    }

    /// With another address.
    pub fn spawn_at(number: u128, address: String, settings: Settings) -> Self {
        let live = LiveRecord {
            address,
            ..live(number)
        };
        let (keeper, events) = zookeeper::spawn(settings, live);
        Self {
            number,
            keeper,
            events,
            seen: Vec::new(),
        }
    }

    /// Reads events until one is wanted. Those before it are passed over.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let by = Instant::now() + DEADLINE;
        loop {
            let Ok(event) = timeout_at(by, self.events.next()).await else {
                panic!(
                    "node {}: no {what} after {DEADLINE:?}; saw {:#?}",
                    self.number, self.seen
                );
            };
            let Some(event) = event else {
                panic!(
                    "node {}: ended before {what}; saw {:#?}",
                    self.number, self.seen
                );
            };
            self.seen.push(event.clone());
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }

    pub async fn until_event(&mut self, wanted: Event) {
        let what = format!("{wanted:?}");
        self.until(&what, |event| (event == wanted).then_some(()))
            .await;
    }

    /// Waits until its candidacy is not the lowest, whoever is before it.
    pub async fn until_not_standing(&mut self) {
        self.until("not standing", |event| {
            matches!(event, Event::NotStanding { .. }).then_some(())
        })
        .await;
    }

    /// Waits for all of them, in whatever order.
    pub async fn until_all(&mut self, wanted: &[Event]) {
        let mut missing = wanted.to_vec();
        self.until(&format!("{wanted:?}"), |event| {
            missing.retain(|wanted| *wanted != event);
            missing.is_empty().then_some(())
        })
        .await;
    }

    pub async fn registered(&mut self) -> Incarnation {
        self.until("registration", |event| match event {
            Event::Registered { incarnation } => Some(incarnation),
            _ => None,
        })
        .await
    }

    /// Takes over, which has to succeed.
    pub async fn take_over(&mut self, at_least: u64) -> TermRecord {
        self.keeper
            .take_over(take_over(self.number, at_least))
            .expect("room");
        self.taken_over().await.0
    }

    /// Asks to take over.
    pub fn begin_take_over(&mut self) {
        self.keeper
            .take_over(take_over(self.number, 0))
            .expect("room");
    }

    /// Takes over, which has to succeed, and returns what the last leader stored.
    pub async fn take_over_and_inherit(&mut self) -> Option<EnvelopeRecord> {
        self.keeper
            .take_over(take_over(self.number, 0))
            .expect("room");
        self.taken_over().await.1
    }

    /// The answer to a take-over that has to succeed.
    pub async fn taken_over(&mut self) -> (TermRecord, Option<EnvelopeRecord>, zookeeper::Roster) {
        self.until("take-over", |event| match event {
            Event::TakenOver {
                record,
                envelope,
                roster,
                ..
            } => Some((record, envelope, roster)),
            Event::TakeOverFailed { reason } => panic!("the take-over failed: {reason}"),
            _ => None,
        })
        .await
    }

    /// The answer to a take-over that has to fail.
    pub async fn take_over_failed(&mut self) -> zookeeper::TakeOverFailure {
        self.until("failed take-over", |event| match event {
            Event::TakenOver { record, .. } => panic!("took over {record:?}"),
            Event::TakeOverFailed { reason } => Some(reason),
            _ => None,
        })
        .await
    }

    pub async fn store(&mut self, envelope: EnvelopeRecord) -> StoreOutcome {
        let generation = envelope.generation;
        self.keeper.store(envelope).expect("room");
        self.stored(generation).await
    }

    pub async fn stored(&mut self, wanted: Generation) -> StoreOutcome {
        self.until("stored", |event| match event {
            Event::Stored {
                generation,
                outcome,
            } if generation == wanted => Some(outcome),
            _ => None,
        })
        .await
    }

    pub async fn admit(&mut self, member: MemberRecord) -> StoreOutcome {
        self.keeper.admit(member.clone()).expect("room");
        self.admitted(member).await
    }

    pub async fn admitted(&mut self, member: MemberRecord) -> StoreOutcome {
        self.until("admission", |event| match event {
            Event::Admitted { node, outcome, .. } if node == member.node => Some(outcome),
            _ => None,
        })
        .await
    }

    /// Waits for this roster and returns its version.
    pub async fn until_members(&mut self, wanted: &[MemberRecord]) -> i32 {
        self.until("roster", |event| match event {
            Event::Members(roster) if roster.members == wanted => Some(roster.version),
            _ => None,
        })
        .await
    }

    /// Whether this has been told so far.
    pub fn saw(&self, event: &Event) -> bool {
        self.seen.contains(event)
    }

    pub fn times_seen(&self, event: &Event) -> usize {
        self.seen.iter().filter(|seen| *seen == event).count()
    }

    /// Makes the fleet and goes.
    pub async fn close_when_registered(mut self) {
        self.until_event(Event::Standing).await;
        self.close().await;
    }

    /// Ends it cleanly and waits until its session is closed.
    pub async fn close(mut self) {
        drop(self.keeper);
        let drained = async { while self.events.next().await.is_some() {} };
        timeout(DEADLINE, drained).await.expect("an end");
    }
}

/// Overwrites a znode as a stranger would.
pub async fn overwrite(client: &Client, path: &str, data: &[u8]) {
    client
        .set_data(path, data, None)
        .await
        .expect("an open ACL");
}

pub fn open() -> zookeeper_client::CreateOptions<'static> {
    CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all())
}

pub fn fencing(guard: &Guard) -> u64 {
    guard.fencing()
}
