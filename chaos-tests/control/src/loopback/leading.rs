//! A leader behind the real service, on one thread as in a daemon.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    net::TcpListener,
    time::{Interval, MissedTickBehavior, interval, timeout},
};
use tonic::transport::Server;
use weir_coord::grpc::{self, AttachService, Inbound, Security, Streams};
use weir_coord_core::{
    commit::QuorumCommit,
    leader::{Command, Input, Leader, Mandate, StepDown},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Generation,
    message::{FromNode, ToNode},
};

use super::{
    clock::Clock,
    payload::{Counted, Payload},
    reach::{Proposal, Tick},
};
use crate::processor::thread_time;

/// As a daemon's service has it.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The service at an address for each kind of node, so that what they are sent can be told apart.
pub(super) struct Service<const KINDS: usize> {
    pub(super) addresses: [String; KINDS],
    pub(super) payloads: [Payload; KINDS],
    streams: Streams,
    inbound: Inbound,
}

impl<const KINDS: usize> Service<KINDS> {
    /// Serves on loopback, as a daemon does.
    pub(super) async fn start() -> Result<Self> {
        let streams = Streams::default();
        let (service, inbound) = AttachService::new(streams.clone());
        let payloads: [Payload; KINDS] = std::array::from_fn(|_| Payload::default());
        let mut addresses = [const { String::new() }; KINDS];
        for (address, payload) in addresses.iter_mut().zip(&payloads) {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            *address = listener.local_addr()?.to_string();
            let router = Server::builder()
                .http2_keepalive_interval(Some(KEEP_ALIVE))
                .http2_keepalive_timeout(Some(KEEP_ALIVE))
                .add_service(Counted {
                    service: service.clone(),
                    payload: payload.clone(),
                });
            tokio::spawn(router.serve_with_incoming(grpc::incoming(listener, Security::Plain)));
        }
        streams.open();
        Ok(Self {
            addresses,
            payloads,
            streams,
            inbound,
        })
    }

    /// Waits until so many nodes have reported, no longer than that. `false` if they have not.
    pub(super) async fn is_attached(&mut self, nodes: usize, patience: Duration) -> bool {
        let mut heard = BTreeSet::new();
        let all = async {
            while heard.len() < nodes {
                match self.inbound.recv().await {
                    Some(FromNode::Report(report)) => heard.insert(report.node),
                    _ => continue,
                };
            }
        };
        timeout(patience, all).await.is_ok()
    }
}

/// A leader that is ticking.
pub(super) struct Leading {
    leader: Leader<QuorumCommit>,
    streams: Streams,
    inbound: Inbound,
    clock: Clock,
    ticks: Interval,
    proposed: Generation,
    /// Since these were taken.
    pub(super) proposals: Vec<Proposal>,
    spent: Spent,
    /// What its thread had spent when the last tick was done.
    thread: Duration,
    pub(super) stepped_down: Option<StepDown>,
}

/// What a leader's thread did from one tick to the next, in CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// The protocol's part: what reports and the tick cause.
    pub(super) tick: Duration,
    /// What acknowledgements cause.
    pub(super) answers: Duration,
    /// Everything: with the decoding, encoding and sending of all messages.
    pub(super) thread: Duration,
}

impl Leading {
    pub(super) fn begin<const KINDS: usize>(
        service: Service<KINDS>,
        mandate: Mandate,
        clock: Clock,
    ) -> Result<Self> {
        let backend = QuorumCommit::new(mandate.record.voters.clone(), Rules::ALL);
        let mut ticks = interval(Timing::DEFAULT.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self {
            leader: Leader::new(mandate, Timing::DEFAULT, backend, clock.now()),
            streams: service.streams,
            inbound: service.inbound,
            clock,
            ticks,
            proposed: Generation(0),
            proposals: Vec::new(),
            spent: Spent::default(),
            thread: thread_time()?,
            stepped_down: None,
        })
    }

    /// Listens until the next tick is due, and does it.
    pub(super) async fn tick(&mut self) -> Result<(Tick, Spent)> {
        let due = loop {
            tokio::select! {
                biased;
                due = self.ticks.tick() => break due,
                message = self.inbound.recv() => {
                    let message = message.context("the service has ended")?;
                    self.handle(Input::FromNode(message))?;
                }
            }
        };
        self.handle(Input::Tick)?;
        let thread = thread_time()?;
        let mut spent = std::mem::take(&mut self.spent);
        spent.thread = thread - std::mem::replace(&mut self.thread, thread);
        let tick = Tick {
            due: self.clock.at(due.into_std()),
            proposed: self.proposed,
        };
        Ok((tick, spent))
    }

    fn handle(&mut self, input: Input) -> Result<()> {
        let begun = thread_time()?;
        let is_answer = matches!(input, Input::FromNode(FromNode::Ack(_)));
        self.leader.handle(input, self.clock.now());
        while let Some(command) = self.leader.poll_command() {
            match command {
                Command::Send { to, message } => {
                    if let ToNode::Propose(propose) = &message {
                        self.proposed(propose.position.generation);
                    }
                    self.streams.send(to, message);
                }
                Command::StepDown(why) => self.stepped_down = Some(why),
                // Nobody joins or leaves, and there is no ZooKeeper to write to.
                _ => {}
            }
        }
        let spent = thread_time()? - begun;
        if is_answer {
            self.spent.answers += spent;
        } else {
            self.spent.tick += spent;
        }
        Ok(())
    }

    fn proposed(&mut self, generation: Generation) {
        if generation > self.proposed {
            self.proposed = generation;
            let at = self.clock.now();
            self.proposals.push(Proposal { generation, at });
        }
    }
}
