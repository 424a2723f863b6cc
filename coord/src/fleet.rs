//! One host's part in the fleet: following whoever leads, and leading when it is its turn.
//!
//! [`Fleet`] stands between three parties that know nothing of each other: the ZooKeeper shell,
//! the streams between nodes, and the protocol core. It decides nothing: events and messages go
//! in, the core's commands come out and are performed, and what concerns the host's own kernel is
//! returned as a [`Notice`].

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use weir_coord_core::{
    commit::{StoreOutcome, ZooKeeperCommit},
    leader::{Command, Input, Leader, Mandate},
    record::{EnvelopeRecord, MemberRecord, TermRecord},
    timing::Timing,
};
use weir_model::{
    Incarnation, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, ToNode},
};

use crate::{
    grpc::{LeaderLink, Streams},
    zookeeper::{Event, Keeper, Live, Roster, TakeOver, TakeOverFailure},
};

/// What the fleet tells the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This daemon has registered, and `term` was read after that.
    BeginLife {
        /// The number of the life.
        incarnation: Incarnation,
        /// To be promised.
        term: Term,
    },
    /// A newer term is to be promised.
    Promise(Term),
    /// Whether the roster reserves this node's floors.
    Member(bool),
    /// A limits document is in force.
    Policy {
        /// Its version.
        version: PolicyVersion,
        /// Its text.
        document: String,
    },
}

/// What the protocol has to know of its host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its identity.
    pub node: NodeId,
    /// Where its gRPC service is reached, `host:port`.
    pub address: String,
    /// The protocol's times.
    pub timing: Timing,
}

/// The connection to ZooKeeper.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    /// Whether a server answers.
    pub is_up: bool,
    /// Since when that is so.
    pub since: Instant,
}

/// One host's part in the fleet.
#[derive(Debug)]
pub struct Fleet {
    host: Host,
    keeper: Keeper,
    streams: Streams,
    link: LeaderLink,
    leader: Option<Leader<ZooKeeperCommit>>,
    term: Option<TermRecord>,
    roster: Roster,
    live: Vec<Live>,
    registration: Option<Incarnation>,
    connection: Connection,
    candidacy: Candidacy,
    at_least: Term,
    retry: Retry,
    turned_away: bool,
    policy: (PolicyVersion, Policy),
}

/// The pause after the first take-over that failed.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause between take-overs that fail.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How far this node has come towards leading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidacy {
    /// Another candidacy is lower.
    Waiting,
    /// Own candidacy is the lowest.
    Standing,
    /// A take-over has been asked for.
    TakingOver,
}

/// When a take-over that failed is tried again, and why it failed. A failure may have taken the
/// term nevertheless, so trying at once would count terms up for nothing.
#[derive(Debug, Default)]
struct Retry {
    at: Nanos,
    failures: u32,
    reason: Option<TakeOverFailure>,
}

impl Retry {
    /// Doubles the pause, within [`RETRY_MIN`] and [`RETRY_MAX`].
    fn failed(&mut self, reason: TakeOverFailure, now: Nanos) {
        if self.reason.as_ref() != Some(&reason) {
            warn!(%reason, "take-over failed; trying on");
        }
        self.at = now + (RETRY_MIN * 2_u32.pow(self.failures.min(10))).min(RETRY_MAX);
        self.failures += 1;
        self.reason = Some(reason);
    }
}

impl Fleet {
    /// Begins with nothing known.
    #[must_use]
    pub fn new(host: Host, keeper: Keeper, streams: Streams) -> Self {
        Self {
            host,
            keeper,
            streams,
            link: LeaderLink::spawn(),
            leader: None,
            term: None,
            roster: Roster::default(),
            live: Vec::new(),
            registration: None,
            connection: Connection {
                is_up: false,
                since: Instant::now(),
            },
            candidacy: Candidacy::Waiting,
            at_least: Term(0),
            retry: Retry::default(),
            turned_away: false,
            policy: (PolicyVersion(0), Policy::default()),
        }
    }

    /// The next message of whoever leads. Cancelling it loses nothing.
    pub async fn receive(&mut self) -> Option<ToNode> {
        self.link.receive().await
    }

    /// Says something to whoever leads.
    pub fn send(&self, message: FromNode) {
        self.link.send(message);
    }

    /// This host enforces another policy, and would lead by it.
    pub fn set_policy(&mut self, version: PolicyVersion, policy: Policy, now: Nanos) {
        self.policy = (version, policy.clone());
        self.lead(Input::Policy(version, policy), now);
    }

    /// A tick has passed.
    pub fn tick(&mut self, now: Nanos) {
        let may_try = self.candidacy == Candidacy::Standing && now >= self.retry.at;
        if self.leader.is_none() && may_try {
            self.take_over();
        }
        self.lead(Input::Tick, now);
    }

    /// A node has said something to this node, which it takes for the leader.
    pub fn hear(&mut self, message: FromNode, now: Nanos) {
        if let FromNode::Report(report) = &message
            && self.leader.is_some()
            && let Some(newcomer) = self.newcomer(report.node)
        {
            self.warn_if_full(&newcomer);
            self.lead(Input::Join(newcomer), now);
        }
        self.lead(Input::FromNode(message), now);
    }

    /// Something happened in ZooKeeper.
    pub fn observe(&mut self, event: Event, now: Nanos) -> Option<Notice> {
        match event {
            Event::Connected => self.connected(true),
            Event::Disconnected => self.connected(false),
            Event::SessionExpired => {
                warn!("the ZooKeeper session has expired; ticks go on, another is made");
                self.candidacy = Candidacy::Waiting;
                self.connected(false);
            }
            Event::Refused(refusal) => error!(%refusal, "this node cannot join or lead the fleet"),
            Event::Accepted => info!("the fleet can be joined again"),
            Event::Registered { incarnation } => {
                self.registration = Some(incarnation);
                // Only a term that was read on the connection of this session counts for a first
                // life; it follows.
                let term = self.term.as_ref()?.term;
                return Some(Notice::BeginLife { incarnation, term });
            }
            Event::Term { record, .. } => return Some(self.term_changed(record)),
            Event::Members(roster) => {
                let is_member = roster
                    .members
                    .iter()
                    .any(|member| member.node == self.host.node);
                self.roster = roster.clone();
                self.lead(Input::Members(roster.members), now);
                return Some(Notice::Member(is_member));
            }
            Event::Live(live) => self.live = live,
            Event::Policy { version, document } => {
                return Some(Notice::Policy { version, document });
            }
            Event::Standing => {
                self.candidacy = Candidacy::Standing;
                self.retry = Retry::default();
                if self.leader.is_none() {
                    self.take_over();
                }
            }
            Event::NotStanding => self.candidacy = Candidacy::Waiting,
            Event::TakenOver {
                record,
                envelope,
                roster,
            } => {
                self.taken_over(record, envelope, roster, now);
            }
            Event::TakeOverFailed { reason } => self.take_over_failed(reason, now),
            Event::Stored {
                generation,
                outcome,
            } => {
                debug!(%generation, ?outcome, "stored");
                self.lead(
                    Input::Stored {
                        generation,
                        outcome,
                    },
                    now,
                );
            }
            Event::Admitted {
                term,
                node,
                outcome,
            } => {
                // The answer to an earlier term of this node says nothing about this one.
                if self
                    .leader
                    .as_ref()
                    .is_some_and(|leader| leader.term() == term)
                {
                    self.lead(Input::Admitted { node, outcome }, now);
                }
            }
        }
        None
    }

    fn connected(&mut self, is_up: bool) {
        if self.connection.is_up != is_up {
            self.connection = Connection {
                is_up,
                since: Instant::now(),
            };
            if is_up {
                info!("connected to ZooKeeper");
            } else {
                warn!("ZooKeeper is out of reach; grants run out and floors remain");
            }
        }
    }

    fn term_changed(&mut self, record: TermRecord) -> Notice {
        let term = record.term;
        if self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.term() < term)
        {
            self.resign("a newer term is in force");
        }
        let leads = record.leader.is_some();
        self.link.follow(leads.then(|| record.address.clone()));
        self.at_least = self.at_least.max(term);
        self.term = Some(record);
        match self.registration {
            Some(incarnation) => Notice::BeginLife { incarnation, term },
            None => Notice::Promise(term),
        }
    }

    fn take_over(&mut self) {
        let how = TakeOver {
            address: self.host.address.clone(),
            at_least: self.at_least,
            voters: Vec::new(),
            roster_version: self.roster.version,
        };
        if self.keeper.take_over(how).is_ok() {
            self.candidacy = Candidacy::TakingOver;
        }
    }

    fn taken_over(
        &mut self,
        record: TermRecord,
        adopted: Option<EnvelopeRecord>,
        roster: Roster,
        now: Nanos,
    ) {
        info!(term = %record.term, members = roster.members.len(), "leading");
        let mandate = Mandate {
            node: self.host.node,
            term: record.term,
            adopted,
            members: roster.members.clone(),
            policy: self.policy.clone(),
        };
        self.at_least = self.at_least.max(record.term);
        self.roster = roster;
        if self.candidacy == Candidacy::TakingOver {
            self.candidacy = Candidacy::Standing;
        }
        self.retry = Retry::default();
        let backend = ZooKeeperCommit::default();
        self.leader = Some(Leader::new(mandate, self.host.timing, backend, now));
        self.streams.open();
    }

    fn take_over_failed(&mut self, reason: TakeOverFailure, now: Nanos) {
        if self.candidacy == Candidacy::TakingOver {
            self.candidacy = Candidacy::Standing;
        }
        if matches!(reason, TakeOverFailure::Refused(_)) {
            // What this node cannot read another may; let it have its turn.
            self.keeper.resign();
        }
        self.retry.failed(reason, now);
    }

    fn lead(&mut self, input: Input, now: Nanos) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        leader.handle(input, now);
        while let Some(command) = self.leader.as_mut().and_then(Leader::poll_command) {
            self.perform(command, now);
        }
    }

    fn perform(&mut self, command: Command, now: Nanos) {
        match command {
            Command::Send { to, message } => self.streams.send(to, message),
            Command::Store(envelope) => {
                let generation = envelope.generation;
                debug!(%generation, "storing");
                if self.keeper.store(envelope).is_err() {
                    // Nothing was sent, which is one way of not being committed.
                    self.tell(
                        Input::Stored {
                            generation,
                            outcome: StoreOutcome::Unknown,
                        },
                        now,
                    );
                }
            }
            Command::Admit(member) => {
                let node = member.node;
                info!(%node, name = member.name, "admitting a member");
                if self.keeper.admit(member).is_err() {
                    self.tell(
                        Input::Admitted {
                            node,
                            outcome: StoreOutcome::Unknown,
                        },
                        now,
                    );
                }
            }
            Command::StepDown(reason) => {
                if let weir_coord_core::leader::StepDown::Refused(term) = reason {
                    self.at_least = self.at_least.max(term);
                }
                self.resign("it was refused");
            }
        }
    }

    /// As [`Self::lead`], for an answer that comes while commands are performed.
    fn tell(&mut self, input: Input, now: Nanos) {
        if let Some(leader) = &mut self.leader {
            leader.handle(input, now);
        }
    }

    fn resign(&mut self, reason: &str) {
        if let Some(leader) = self.leader.take() {
            warn!(term = %leader.term(), reason, "no longer leading");
            self.streams.close();
        }
    }

    /// Says once that there is no place for a newcomer.
    fn warn_if_full(&mut self, newcomer: &MemberRecord) {
        let is_full = self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.turns_away(newcomer.node));
        if is_full && !self.turned_away {
            warn!(
                node = %newcomer.node,
                name = newcomer.name,
                "not admitted: there are as many members as `max_members` has floors for; raise \
                 it, or remove a member"
            );
        }
        self.turned_away = is_full;
    }

    /// The record of a live node that is no member yet.
    fn newcomer(&self, node: NodeId) -> Option<MemberRecord> {
        let is_member = self.roster.members.iter().any(|member| member.node == node);
        let live = self
            .live
            .iter()
            .find(|live| live.record.node == node && !is_member)?;
        Some(MemberRecord {
            node,
            name: live.record.name.clone(),
            weight: live.record.weight.max(1),
        })
    }
}

/// What is known of the fleet here, to look at.
impl Fleet {
    /// The term in force, as far as this node knows.
    #[must_use]
    pub const fn term(&self) -> Option<&TermRecord> {
        self.term.as_ref()
    }

    /// The leader, if it is this node.
    #[must_use]
    pub const fn leader(&self) -> Option<&Leader<ZooKeeperCommit>> {
        self.leader.as_ref()
    }

    /// The members.
    #[must_use]
    pub fn members(&self) -> &[MemberRecord] {
        &self.roster.members
    }

    /// The daemons that seem to run.
    #[must_use]
    pub fn live(&self) -> &[Live] {
        &self.live
    }

    /// The connection to ZooKeeper.
    #[must_use]
    pub const fn connection(&self) -> Connection {
        self.connection
    }

    /// For changes of the policy, which the shell performs by itself.
    #[must_use]
    pub const fn keeper(&self) -> &Keeper {
        &self.keeper
    }
}
