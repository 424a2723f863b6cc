//! Many nodes on one thread: clients, followers and their traffic, but no kernel.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use futures::future::join_all;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval_at},
};
use weir_coord::grpc::LeaderLink;
use weir_coord_core::{
    follower::{Command, Follower},
    timing::Timing,
};
use weir_model::{
    Amount, LimitId, Nanos, NodeId,
    message::{FromNode, ToNode},
};

use super::{clock::Clock, reach::Arrival, runtime};
use crate::load::Load;

/// Nodes begin one after the other, at least so far apart: daemons are not all started at once.
const APART: Duration = Duration::from_millis(2);
/// In all of these runs.
const TICK: Duration = Timing::DEFAULT.tick;

/// The thread, and how to end it.
pub(super) struct Nodes {
    thread: JoinHandle<Result<Vec<Vec<Arrival>>>>,
    stop: watch::Sender<()>,
    granted: Arc<AtomicUsize>,
}

impl Nodes {
    /// Begins nodes, each with the address at which it finds its leader.
    pub(super) fn spawn(nodes: Vec<(Follower, String)>, load: Load, clock: Clock) -> Result<Self> {
        let (stop, stopped) = watch::channel(());
        let granted = Arc::new(AtomicUsize::new(0));
        let load = Arc::new(Mutex::new(load));
        let of_all = Arc::clone(&granted);
        let run = move || {
            let apart = APART.max(TICK / u32::try_from(nodes.len()).unwrap_or(u32::MAX));
            runtime()?.block_on(async {
                let begin = Instant::now();
                let nodes = (0..).zip(nodes).map(|(number, (follower, leader))| {
                    let node = Node {
                        number,
                        follower,
                        load: Arc::clone(&load),
                        clock,
                        reported: None,
                        arrivals: Vec::new(),
                        granted: Arc::clone(&of_all),
                    };
                    let first = begin + apart * u32::try_from(number).unwrap_or(u32::MAX);
                    tokio::spawn(node.run(leader, first, stopped.clone()))
                });
                let ended = join_all(nodes).await;
                ended
                    .into_iter()
                    .collect::<Result<_, _>>()
                    .context("a node")
            })
        };
        Ok(Self {
            thread: thread::Builder::new().name("nodes".into()).spawn(run)?,
            stop,
            granted,
        })
    }

    /// How many have heard of a commit.
    pub(super) fn granted(&self) -> usize {
        self.granted.load(Ordering::Relaxed)
    }

    /// Ends them; what each has heard of.
    pub(super) fn end(self) -> Result<Vec<Vec<Arrival>>> {
        drop(self.stop);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the nodes' thread panicked"))?
    }
}

struct Node {
    number: usize,
    follower: Follower,
    load: Arc<Mutex<Load>>,
    clock: Clock,
    /// When it last did.
    reported: Option<Nanos>,
    arrivals: Vec<Arrival>,
    granted: Arc<AtomicUsize>,
}

impl Node {
    /// Until whoever began it lets go of `stop`.
    async fn run(
        mut self,
        leader: String,
        first: Instant,
        mut stop: watch::Receiver<()>,
    ) -> Vec<Arrival> {
        let mut link = LeaderLink::spawn(Timing::DEFAULT.suspicion());
        let mut ticks = interval_at(first, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = stop.changed() => return self.arrivals,
                _ = ticks.tick() => {
                    link.follow(Some((NodeId::from_u128(1), leader.clone())));
                    self.report(&link);
                }
                Some(message) = link.receive() => self.hear(message, &link),
            }
        }
    }

    fn report(&mut self, link: &LeaderLink) {
        let now = self.clock.now();
        let elapsed = now - self.reported.replace(now).unwrap_or(now);
        // In the order of their identities.
        let held: Vec<(LimitId, Amount)> = self
            .follower
            .held()
            .map(|held| (held.limit, held.effective(now)))
            .collect();
        let granted = |limit| {
            let found = held.binary_search_by_key(&limit, |(id, _)| *id);
            found.map_or(Amount::ZERO, |index| held[index].1)
        };
        let mut load = self.load.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = load.pass(self.number, elapsed, granted);
        link.send(FromNode::Report(self.follower.report(now, counters)));
    }

    /// As a daemon does, with a kernel that takes no time and refuses nothing.
    fn hear(&mut self, message: ToNode, link: &LeaderLink) {
        let committed = match &message {
            ToNode::Commit(commit) => Some(commit.position.generation),
            _ => None,
        };
        let now = self.clock.now();
        self.follower.handle(message, now);
        while let Some(command) = self.follower.poll_command() {
            match command {
                Command::Install {
                    grants,
                    acknowledge,
                } => self.follower.installed(&grants, acknowledge, now),
                Command::Send(message) => link.send(message),
                Command::Enforce(_) | Command::Heat(_) | Command::Give(_) => {}
            }
        }
        if let Some(generation) = committed {
            if self.arrivals.is_empty() {
                self.granted.fetch_add(1, Ordering::Relaxed);
            }
            self.arrivals.push(Arrival {
                generation,
                at: self.clock.now(),
            });
        }
    }
}
