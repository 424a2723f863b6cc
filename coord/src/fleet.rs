//! One host's part in the fleet: following whoever leads, and leading when it is its turn.
//!
//! [`Fleet`] stands between three parties that know nothing of each other: the ZooKeeper shell,
//! the streams between nodes, and the protocol core. It decides nothing: events and messages go
//! in, the core's commands come out and are performed, and what concerns the host's own kernel is
//! returned as a [`Notice`].

use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};
use weir_coord_core::{
    campaign::{Campaign, Place, Step},
    commit::{FleetCommit, QuorumCommit, StoreOutcome, ZooKeeperCommit},
    leader::{Command, Input, Leader, Mandate, StepDown},
    record::{EnvelopeRecord, MemberRecord, TermRecord},
    rules::Rules,
    timing::Timing,
};
use weir_model::{
    Incarnation, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, ToNode},
};

use crate::{
    grpc::{Inquiry, LeaderLink, Streams},
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
        /// How long a daemon that starts abstains as a voter.
        abstention: Duration,
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
    /// What commits.
    pub commit: CommitBy,
}

/// What makes a leader's decisions last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitBy {
    /// A majority of voters: ticks do not touch ZooKeeper.
    #[default]
    Quorum,
    /// A conditional write to ZooKeeper for each commit.
    ZooKeeper,
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
    leader: Option<Leader<FleetCommit>>,
    campaign: Campaign,
    inquiry: Inquiry,
    term: Option<TermRecord>,
    roster: Roster,
    live: Vec<Live>,
    registration: Option<Incarnation>,
    connection: Connection,
    is_taking_over: bool,
    at_least: Term,
    retry: Retry,
    turned_away: bool,
    policy: (PolicyVersion, Policy),
}

/// The pause after the first take-over that failed.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause between take-overs that fail.
const RETRY_MAX: Duration = Duration::from_secs(5);

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
            campaign: Campaign::new(host.node, host.timing),
            inquiry: Inquiry::default(),
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
            is_taking_over: false,
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

    /// The leader has said something to this node: it lives.
    pub fn hear_leader(&mut self, message: &ToNode, now: Nanos) {
        let term = match message {
            ToNode::Propose(propose) => propose.position.term,
            ToNode::Commit(commit) => commit.position.term,
            ToNode::Prepare(prepare) => prepare.term,
        };
        self.campaign.hear(term, now);
    }

    /// A tick has passed.
    pub fn tick(&mut self, now: Nanos) {
        while let Some(answer) = self.inquiry.poll() {
            self.campaign
                .answered(answer.voter, answer.term, answer.suspects, now);
        }
        self.campaign(now);
        self.lead(Input::Tick, now);
    }

    /// Says whether this node misses the leader, and tries to lead if that is worth trying.
    fn campaign(&mut self, now: Nanos) {
        let Some(record) = &self.term else {
            return;
        };
        let misses = self.campaign.suspects(record.term, now) && self.leader.is_none();
        self.streams
            .suspicion()
            .set(self.host.node, misses.then_some(record.term));
        let is_free = self.leader.is_none() && !self.is_taking_over && now >= self.retry.at;
        if !is_free || self.registration.is_none() {
            return;
        }
        match self.campaign.poll(record, now) {
            Some(Step::TakeOver { instead_of }) => {
                if let Some(suspect) = instead_of {
                    info!(leader = %suspect, "a majority of voters misses the leader");
                }
                self.take_over(instead_of, None);
            }
            Some(Step::Ask(term)) => self.ask_voters(term),
            None => {}
        }
    }

    fn ask_voters(&self, term: Term) {
        let voters = self.term.iter().flat_map(|record| &record.voters);
        for voter in voters.filter(|voter| **voter != self.host.node) {
            if let Some(live) = self.live.iter().find(|live| live.record.node == *voter) {
                self.inquiry.ask(*voter, live.record.address.clone(), term);
            }
        }
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
                self.campaign.set_place(Place::Queued);
                self.connected(false);
            }
            Event::Refused(refusal) => error!(%refusal, "this node cannot join or lead the fleet"),
            Event::Accepted => info!("the fleet can be joined again"),
            Event::Registered { incarnation } => {
                self.registration = Some(incarnation);
                // Only a term that was read on the connection of this session counts for a first
                // life; it follows.
                let term = self.term.as_ref()?.term;
                return Some(self.begin_life(incarnation, term));
            }
            Event::Term { record, .. } => return Some(self.term_changed(record, now)),
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
                self.campaign.set_place(Place::Lowest);
                self.retry = Retry::default();
                self.campaign(now);
            }
            Event::NotStanding { after } => {
                let place = after.map_or(Place::Queued, Place::After);
                self.campaign.set_place(place);
            }
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

    fn term_changed(&mut self, record: TermRecord, now: Nanos) -> Notice {
        let term = record.term;
        let is_deposed = self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.term() < term);
        if is_deposed && record.leader != Some(self.host.node) {
            self.resign("a newer term is in force");
        }
        let leads = record.leader.is_some();
        self.link.follow(leads.then(|| record.address.clone()));
        self.at_least = self.at_least.max(term);
        self.campaign.set_term(term, now);
        self.term = Some(record);
        match self.registration {
            Some(incarnation) => self.begin_life(incarnation, term),
            None => Notice::Promise(term),
        }
    }

    /// Where there has never been a leader, there is nothing that a voter may have forgotten.
    fn begin_life(&self, incarnation: Incarnation, term: Term) -> Notice {
        let has_history = term > Term(0);
        Notice::BeginLife {
            incarnation,
            term,
            abstention: if has_history {
                self.host.timing.wait()
            } else {
                Duration::ZERO
            },
        }
    }

    fn take_over(&mut self, instead_of: Option<NodeId>, voters: Option<Vec<NodeId>>) {
        let how = TakeOver {
            address: self.host.address.clone(),
            at_least: self.at_least,
            voters,
            roster_version: self.roster.version,
            instead_of,
        };
        self.is_taking_over = self.keeper.take_over(how).is_ok();
    }

    fn taken_over(
        &mut self,
        record: TermRecord,
        adopted: Option<EnvelopeRecord>,
        roster: Roster,
        now: Nanos,
    ) {
        let voters = record.voters.len();
        info!(term = %record.term, members = roster.members.len(), voters, "leading");
        let mandate = Mandate {
            node: self.host.node,
            term: record.term,
            adopted,
            voter_sets: record.voter_sets(),
            members: roster.members.clone(),
            policy: self.policy.clone(),
        };
        self.at_least = self.at_least.max(record.term);
        self.campaign.set_term(record.term, now);
        self.roster = roster;
        self.is_taking_over = false;
        self.retry = Retry::default();
        let backend = match self.host.commit {
            CommitBy::Quorum => {
                FleetCommit::Quorum(QuorumCommit::new(record.voters.clone(), Rules::ALL))
            }
            CommitBy::ZooKeeper => FleetCommit::ZooKeeper(ZooKeeperCommit::default()),
        };
        self.leader = Some(Leader::new(mandate, self.host.timing, backend, now));
        self.streams.open();
    }

    fn take_over_failed(&mut self, reason: TakeOverFailure, now: Nanos) {
        self.is_taking_over = false;
        if self.leader.is_none() {
            self.streams.close();
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
            Command::Activated => {
                // If too much waits already, the next leader asks more voters: no harm.
                let term = self.leader.as_ref().map(Leader::term);
                let _ = term.map(|term| self.keeper.drop_former(term));
            }
            Command::ChangeVoters(voters) => {
                info!(?voters, "the voters are to be others: a new term");
                if !self.is_taking_over {
                    self.take_over(None, Some(voters));
                }
            }
            // Performed by whoever asks a leader to remove a member or to prepare a policy.
            Command::Remove(_) | Command::Activate(_) => {}
            Command::StepDown(reason) => self.step_down(reason, now),
        }
    }

    /// As [`Self::lead`], for an answer that comes while commands are performed.
    fn tell(&mut self, input: Input, now: Nanos) {
        if let Some(leader) = &mut self.leader {
            leader.handle(input, now);
        }
    }

    fn step_down(&mut self, reason: StepDown, now: Nanos) {
        match reason {
            StepDown::Refused(term) => {
                self.at_least = self.at_least.max(term);
                self.resign("it was refused");
            }
            StepDown::Fenced => self.resign("the term is somebody else's"),
            StepDown::Idle => {
                self.resign("nothing could be committed");
                // Another node may reach more voters; let it have its turn.
                self.keeper.resign();
                self.retry.at = now + RETRY_MAX.min(self.host.timing.lease);
            }
        }
    }

    fn resign(&mut self, reason: &str) {
        if let Some(leader) = self.leader.take() {
            warn!(term = %leader.term(), reason, "no longer leading");
            // If this node is about to lead again, its nodes may as well stay.
            if !self.is_taking_over {
                self.streams.close();
            }
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
            floors: Vec::new(),
            is_drained: false,
            is_powered_off: false,
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
    pub const fn leader(&self) -> Option<&Leader<FleetCommit>> {
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
