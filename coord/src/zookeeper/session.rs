//! From connection to connection, and from session to session, for ever.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use weir_coord_core::record::LiveRecord;
use weir_model::PolicyVersion;
use zookeeper_client::{Acls, Client, Error, EventType, OneshotWatcher, SessionState};

use super::{
    election,
    event::{Event, Refusal},
    layout::{self, Unready},
    leadership::Tenure,
    link::{Link, RETRY_PAUSE},
    mailbox::Outbox,
    mirror, registration,
    settings::Settings,
};

/// While there is no session another attempt to get one begins so often: what a server that returns
/// waits at most.
pub const ATTEMPT_PERIOD: Duration = Duration::from_millis(250);
/// Most attempts under way. A server that is slow to grant a session is asked for as many, of which all
/// but one end unused, by their timeouts.
pub const ATTEMPTS_MAX: usize = 3;
/// The first attempts are given up after so long, later ones after twice as long each, within the timeout
/// of the session.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(2);
/// The pause before a fleet that was refused is looked at again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);
/// How long a clean end waits for the server to hear of it.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a session, and in it this node's registration, candidacy and view of the fleet.
pub(super) struct Sessions {
    pub(super) settings: Settings,
    pub(super) live: LiveRecord,
    pub(super) outbox: Outbox,
    pub(super) link: Arc<watch::Sender<Link>>,
    pub(super) candidacy: watch::Sender<Option<String>>,
    pub(super) resign: Arc<Notify>,
    pub(super) tenure: watch::Sender<Option<Tenure>>,
}

/// What all that happens within one session shares.
#[derive(Clone)]
pub(super) struct Session {
    /// Its paths begin at the fleet's root.
    pub(super) client: Client,
    pub(super) live: LiveRecord,
    pub(super) root: String,
    pub(super) acls: Acls<'static>,
    pub(super) outbox: Outbox,
    /// Counts the reconnections of this session: watches are set again after each.
    pub(super) reconnections: watch::Receiver<u64>,
    /// Whether `term` is there. Without it there is nothing to stand for.
    pub(super) has_term: watch::Sender<bool>,
    /// The term that this node leads in.
    pub(super) tenure: watch::Sender<Option<Tenure>>,
}

impl Session {
    /// Waits for a watch to fire, or for a new connection, after which it is set again.
    pub(super) async fn changed(&mut self, watcher: OneshotWatcher) {
        tokio::select! {
            event = watcher.changed() => {
                if event.event_type == EventType::Session {
                    // The session is over; whoever runs this drops it now.
                    std::future::pending::<()>().await;
                }
            }
            changed = self.reconnections.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// What has to outlast a session.
#[derive(Debug, Default)]
struct Memory {
    /// The fleet has been there, so if it is gone it is not new but lost.
    fleet: bool,
    /// The latest policy: an older one is not taken after it.
    policy: PolicyVersion,
}

impl Sessions {
    /// Never returns; dropping it leaves the session open, which [`close`] ends.
    pub(super) async fn run(self) -> Infallible {
        let mut memory = Memory::default();
        loop {
            let client = self.connect().await;
            let state = self.serve(client, &mut memory).await;
            self.link.send_replace(Link::default());
            self.candidacy.send_replace(None);
            match state {
                SessionState::Expired => self.outbox.tell(Event::SessionExpired),
                state => {
                    tracing::warn!(%state, "the ZooKeeper session ended; making another");
                    self.outbox.tell(Event::Disconnected);
                    sleep(REFUSAL_PAUSE).await;
                }
            }
        }
    }

    /// A session with whichever server grants one first. Attempts overlap: one that waits for a server
    /// that does not answer, or for TCP, which tries again after a second only, holds up no other.
    async fn connect(&self) -> Client {
        let mut attempts = FuturesUnordered::new();
        let mut next = interval(self.spread(ATTEMPT_PERIOD));
        next.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let longest = self.settings.session_timeout();
        let mut patience = ATTEMPT_PATIENCE.min(longest);
        let mut failures = 0_u64;
        loop {
            let connected = tokio::select! {
                _ = next.tick(), if attempts.len() < ATTEMPTS_MAX => {
                    attempts.push(timeout(patience, self.attempt()));
                    continue;
                }
                Some(connected) = attempts.next() => connected,
            };
            let error = match connected {
                Ok(Ok(client)) => return client,
                Ok(Err(error)) => error,
                Err(_) => {
                    // It may be busy, and not gone.
                    patience = (patience * 2).min(longest);
                    Error::Timeout
                }
            };
            failures += 1;
            if failures == 1 {
                let servers = self.settings.servers();
                tracing::warn!(servers, %error, "no ZooKeeper server answers; trying on");
                self.outbox.tell(Event::Disconnected);
            }
        }
    }

    /// Tries every server once, in an order of its own.
    async fn attempt(&self) -> Result<Client, Error> {
        let mut connector = Client::connector()
            .with_fail_eagerly()
            .with_session_timeout(self.settings.session_timeout());
        if let Some(credentials) = self.settings.credentials() {
            connector = connector.with_auth("digest", &credentials.to_auth());
        }
        let servers = self.settings.servers();
        match self.settings.tls() {
            Some(tls) => {
                let connector = connector.with_tls(tls.options());
                connector.secure_connect(servers).await
            }
            None => connector.connect(servers).await,
        }
    }

    /// Between three quarters of the period and all of it, by the node's identity, so that a fleet
    /// does not come back in step.
    fn spread(&self, period: Duration) -> Duration {
        let [.., place] = *self.live.node.0.as_bytes();
        period - period / 4 * u32::from(place) / u32::from(u8::MAX)
    }

    /// Serves one session and returns how it ended.
    async fn serve(&self, base: Client, memory: &mut Memory) -> SessionState {
        let root = self.settings.root();
        let prefix = if base.path() == "/" { "" } else { base.path() };
        let Ok(client) = base.clone().chroot(format!("{prefix}{root}")) else {
            unreachable!("a checked fleet name makes a path");
        };
        let (reconnections, reconnections_seen) = watch::channel(0);
        let session = Session {
            client: client.clone(),
            live: self.live.clone(),
            root,
            acls: self.settings.acls(),
            outbox: self.outbox.clone(),
            reconnections: reconnections_seen,
            has_term: watch::Sender::new(false),
            tenure: self.tenure.clone(),
        };
        let mut states = client.state_watcher();
        let session_timeout_ms = client.session_timeout().as_millis();
        tracing::info!(session = %client.session_id(), session_timeout_ms, "ZooKeeper session");
        let work = self.work(base, session, memory);
        tokio::pin!(work);
        let mut state = states.state();
        loop {
            if state.is_terminated() {
                return state;
            }
            let is_up = state == SessionState::SyncConnected;
            self.outbox.tell(if is_up {
                Event::Connected
            } else {
                Event::Disconnected
            });
            self.link.send_replace(Link {
                client: Some(client.clone()),
                is_up,
            });
            state = tokio::select! {
                state = states.changed() => state,
                never = &mut work => match never {},
            };
            if state == SessionState::SyncConnected {
                reconnections.send_modify(|count| *count += 1);
            }
        }
    }

    async fn work(&self, base: Client, session: Session, memory: &mut Memory) -> Infallible {
        self.ensure_fleet(&base, &mut memory.fleet).await;
        drop(base);
        loop {
            let incarnation = registration::register(&session).await;
            // Told before anything that is read from here on.
            self.outbox.tell(Event::Registered { incarnation });
            tokio::select! {
                () = registration::keep(session.clone(), incarnation) => {}
                never = mirror::term(session.clone()) => match never {},
                never = mirror::roster(session.clone()) => match never {},
                never = mirror::live(session.clone()) => match never {},
                never = mirror::policy(session.clone(), &mut memory.policy) => match never {},
                never = mirror::trial(session.clone()) => match never {},
                never = election::stand(session.clone(), &self.candidacy, &self.resign) => match never {},
            }
        }
    }

    async fn ensure_fleet(&self, base: &Client, known: &mut bool) {
        let root = self.settings.root();
        let mut refused = false;
        loop {
            let refusal = match layout::ensure(base, &self.settings, *known).await {
                Ok(()) => {
                    *known = true;
                    if refused {
                        self.outbox.tell(Event::Accepted);
                    }
                    return;
                }
                Err(Unready::Vanished) => Refusal::TermMissing { root: root.clone() },
                Err(Unready::NotAuthorised) => Refusal::NotAuthorised { root: root.clone() },
                Err(Unready::Failed(error)) => {
                    if error != Error::NodeExists {
                        tracing::debug!(%error, "the fleet could not be read yet");
                        sleep(RETRY_PAUSE).await;
                    }
                    continue;
                }
            };
            if !refused {
                tracing::error!("{refusal}");
                self.outbox.tell(Event::Refused(refusal));
                refused = true;
            }
            sleep(REFUSAL_PAUSE).await;
        }
    }
}

/// Ends the session, so that the server drops its ephemerals now and not a session timeout later.
pub(super) async fn close(link: &watch::Sender<Link>) {
    let Some(client) = link.send_replace(Link::default()).client else {
        return;
    };
    let mut states = client.state_watcher();
    let mut state = states.state();
    drop(client);
    let closed = async {
        while !state.is_terminated() {
            state = states.changed().await;
        }
    };
    if timeout(CLOSE_PATIENCE, closed).await.is_err() {
        tracing::warn!("the ZooKeeper session could not be closed; it ends by its timeout");
    }
}
