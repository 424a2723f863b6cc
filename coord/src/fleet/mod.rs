//! One host's part in the fleet: following whoever leads, and leading when it is its turn.
//!
//! [`Fleet`] stands between three parties that know nothing of each other: the ZooKeeper shell,
//! the streams between nodes, and the protocol core. It decides nothing: events and messages go
//! in, the core's commands come out and are performed, and what concerns the host's own kernel is
//! returned as a [`Notice`].

mod hearsay;
mod leading;
mod search;
mod standing;
mod trace;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{debug, error, info, warn};
use weir_coord_core::{
    campaign::{Campaign, Place, Step},
    commit::FleetCommit,
    leader::{Input, Leader},
    record::{MemberRecord, TermRecord},
    timing::Timing,
};
use weir_model::{
    Incarnation, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, ToNode},
};

use crate::{
    grpc::{Inquiry, LeaderLink, Security, Streams},
    trial::{Countdown, Due},
    zookeeper::{Event, Keeper, Live, Refusal, Roster, TakeOver},
};
use hearsay::Hearsay;
use search::Search;
use standing::{Membership, Retry, Setback};
use trace::TakeOverTrace;

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
    /// What the roster reserves for this node; nothing if it is no member.
    Member(Option<MemberRecord>),
    /// A limits document is in force.
    Policy {
        /// Its version.
        version: PolicyVersion,
        /// Its text.
        document: String,
    },
    /// A limits document is to come into force once nodes have it ready.
    NextPolicy {
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
    /// How it speaks to other nodes.
    pub security: Security,
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
    /// What the leader has said to its own host, which needs no stream.
    at_home: VecDeque<ToNode>,
    campaign: Campaign,
    inquiry: Inquiry,
    search: Search,
    term: Option<TermRecord>,
    roster: Roster,
    /// Whether the roster had this node, in this life of its daemon.
    membership: Membership,
    roster_seen: watch::Sender<Vec<MemberRecord>>,
    live: Vec<Live>,
    registration: Option<Incarnation>,
    connection: Connection,
    is_taking_over: bool,
    take_over_trace: Option<TakeOverTrace>,
    at_least: Term,
    hearsay: Hearsay,
    retry: Retry,
    setback: Setback,
    turned_away: bool,
    /// What ZooKeeper says is in force.
    policy: (PolicyVersion, Policy),
    /// When it last said something new of that, or of a change that waits to be confirmed.
    policy_news: Nanos,
    /// What it says is to come into force.
    next: Option<(PolicyVersion, Policy)>,
    trial: Option<Countdown>,
    /// Members that are to be removed, and until when the leader of a new term is told again.
    removals: BTreeMap<NodeId, Nanos>,
}

/// How long a removal that was asked for is asked for again: one that a change of voters has to
/// come before is forgotten with the term. Whoever asked waits for less.
const INSISTENCE: Duration = Duration::from_secs(10);

impl Fleet {
    /// Begins with nothing known.
    #[must_use]
    pub fn new(host: Host, keeper: Keeper, streams: Streams) -> Self {
        Self {
            campaign: Campaign::new(host.node, host.timing),
            inquiry: Inquiry::secured(host.security.clone()),
            search: Search::default(),
            removals: BTreeMap::new(),
            link: LeaderLink::secured(host.timing.suspicion(), host.security.clone()),
            host,
            keeper,
            streams,
            leader: None,
            at_home: VecDeque::new(),
            term: None,
            roster: Roster::default(),
            membership: Membership::default(),
            roster_seen: watch::Sender::new(Vec::new()),
            live: Vec::new(),
            registration: None,
            connection: Connection {
                is_up: false,
                since: Instant::now(),
            },
            is_taking_over: false,
            take_over_trace: None,
            at_least: Term(0),
            hearsay: Hearsay::default(),
            retry: Retry::default(),
            setback: Setback::default(),
            turned_away: false,
            policy: (PolicyVersion(0), Policy::default()),
            policy_news: Nanos::ZERO,
            next: None,
            trial: None,
        }
    }

    /// The next message of a leader elsewhere. Cancelling it loses nothing.
    pub async fn receive(&mut self) -> Option<ToNode> {
        self.link.receive().await
    }

    /// What the leader has said to its own host, if that is this one. To be asked for after everything
    /// else that is done here.
    pub fn poll_message(&mut self) -> Option<ToNode> {
        self.at_home.pop_front()
    }

    /// Says something to whoever leads. Who was removed reports no more: it would be let in again.
    pub fn send(&mut self, message: FromNode, now: Nanos) {
        let is_report = matches!(message, FromNode::Report(_));
        if is_report && self.membership == Membership::Removed {
            return;
        }
        if self.leader.is_some() {
            self.hear(message, now);
        } else {
            self.link.send(message);
        }
    }

    /// ZooKeeper says that this policy is in force.
    pub fn set_policy(&mut self, version: PolicyVersion, policy: Policy, now: Nanos) {
        if version != self.policy.0 {
            self.policy_news = now;
        }
        self.policy = (version, policy.clone());
        self.next.take_if(|(next, _)| *next <= version);
        self.lead(Input::Policy(version, policy), now);
    }

    /// ZooKeeper says that this policy is to come into force once nodes have it ready.
    pub fn prepare_policy(&mut self, version: PolicyVersion, policy: Policy, now: Nanos) {
        if version > self.policy.0 {
            self.next = Some((version, policy.clone()));
            self.lead(Input::Prepare(version, policy), now);
        }
    }

    /// Whoever leads is to grant a member no share, or one again. Nothing is done unless that is
    /// this node.
    pub fn drain(&mut self, node: NodeId, is_drained: bool, now: Nanos) {
        self.lead(Input::Drain { node, is_drained }, now);
    }

    /// Whoever leads is to have a member give back everything. Nothing is done unless that is this
    /// node.
    pub fn remove(&mut self, node: NodeId, now: Nanos) {
        self.removals.insert(node, now + INSISTENCE);
        self.ask_to_remove(node, now);
    }

    fn insist_on_removals(&mut self, now: Nanos) {
        let members: BTreeSet<NodeId> = self.members().iter().map(|member| member.node).collect();
        self.removals
            .retain(|node, until| now < *until && members.contains(node));
        let nodes: Vec<NodeId> = self.removals.keys().copied().collect();
        for node in nodes {
            self.ask_to_remove(node, now);
        }
    }

    fn ask_to_remove(&mut self, node: NodeId, now: Nanos) {
        let is_powered_off = false;
        self.lead(
            Input::Remove {
                node,
                is_powered_off,
            },
            now,
        );
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
            self.hear_of_leader(answer, now);
        }
        self.search(now);
        self.campaign(now);
        self.insist_on_removals(now);
        self.lead(Input::Tick, now);
        self.attend_to_trial(now);
    }

    /// What the leader does about a change that waits to be confirmed.
    fn attend_to_trial(&mut self, now: Nanos) {
        if self.leader.is_none() || !self.connection.is_up {
            return;
        }
        let Some(due) = self.trial.as_mut().and_then(|trial| trial.poll(now)) else {
            return;
        };
        let keeper = self.keeper.clone();
        // What came of it is seen in what the znodes hold; if nothing did, it is tried again.
        tokio::spawn(async move {
            let done = match due {
                Due::RollBack(version) => keeper.expire(version).await,
                Due::Note(trial) => keeper.note(trial).await,
            };
            if let Err(error) = done {
                debug!(%error, ?due, "not done about a trial");
            }
        });
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
        if self.membership == Membership::Removed {
            return;
        }
        let is_free = self.leader.is_none() && !self.is_taking_over && now >= self.retry.at;
        if !is_free || self.registration.is_none() {
            return;
        }
        if self
            .setback
            .lasts(record.term, self.at_least, self.host.timing, now)
        {
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
        let message = match (&self.leader, &self.term) {
            (Some(leader), Some(stored)) => {
                let own = (leader.term(), self.host.node);
                match self.hearsay.sift(message, own, stored) {
                    Some(message) => message,
                    None => return,
                }
            }
            _ => message,
        };
        if let FromNode::Report(report) = &message
            && self.leader.is_some()
            && !self.keeps_room(now)
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
            Event::Refused(refusal) => {
                error!(%refusal, "this node cannot join or lead the fleet");
                if matches!(refusal, Refusal::Twin { .. }) && self.registration.is_some() {
                    return Some(self.displaced());
                }
            }
            Event::Accepted => info!("the fleet can be joined again"),
            Event::Registered { incarnation } => {
                self.registration = Some(incarnation);
                // Only a term that was read on the connection of this session counts for a first
                // life; it follows.
                let TermRecord { term, lease, .. } = *self.term.as_ref()?;
                return Some(self.begin_life(incarnation, term, lease));
            }
            Event::Term { record, .. } => return Some(self.term_changed(record, now)),
            Event::Members(roster) => {
                let mut members = roster.members.iter();
                let own = members.find(|member| member.node == self.host.node);
                let own = own.cloned();
                self.members_changed(roster, now);
                // What the roster has for an identity that is another host's is not for this one.
                self.registration?;
                self.change_membership(own.is_some());
                return Some(Notice::Member(own));
            }
            Event::Live(live) => self.live = live,
            Event::Policy { version, document } => {
                self.keeper.remember(version, &document);
                return Some(Notice::Policy { version, document });
            }
            Event::PolicyRecord(record) => self.lead(Input::Recorded(record), now),
            Event::NextPolicy { version, document } => {
                self.keeper.remember(version, &document);
                return Some(Notice::NextPolicy { version, document });
            }
            Event::Removed {
                term,
                node,
                outcome,
            } => {
                if self.is_led_in(term) {
                    self.lead(Input::Removed { node, outcome }, now);
                }
            }
            Event::Trial(trial) => {
                self.policy_news = now;
                self.trial = trial.map(|trial| Countdown::read(trial, self.trial, now));
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
                in_force,
            } => {
                self.taken_over(record, envelope, (roster, in_force), now);
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
                if self.is_led_in(term) {
                    self.lead(Input::Admitted { node, outcome }, now);
                }
            }
        }
        None
    }

    /// Another host goes by this identity: what is granted to it, and reserved, is the other's. When
    /// the identity is this host's again, all that ZooKeeper has is read as at the start.
    fn displaced(&mut self) -> Notice {
        self.resign("another host is registered under its identity");
        self.keeper.resign();
        self.registration = None;
        self.membership = Membership::Candidate;
        self.link.follow(None);
        Notice::Member(None)
    }

    /// A member that is removed takes no part any more, until its daemon is started again.
    fn change_membership(&mut self, is_member: bool) {
        self.membership = match (is_member, self.membership) {
            (true, _) => Membership::Member,
            (false, Membership::Candidate) => Membership::Candidate,
            (false, Membership::Removed) => Membership::Removed,
            (false, Membership::Member) => {
                warn!("this node was removed from the fleet; start the daemon again to join anew");
                self.resign("it was removed");
                self.keeper.resign();
                Membership::Removed
            }
        };
    }

    /// The answer to an earlier term of this node says nothing about the one that it leads.
    fn is_led_in(&self, term: Term) -> bool {
        let leader = self.leader.as_ref();
        leader.is_some_and(|leader| leader.term() == term)
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
                match self.host.commit {
                    CommitBy::Quorum => warn!("ZooKeeper is out of reach; ticks go on without it"),
                    CommitBy::ZooKeeper => {
                        warn!("ZooKeeper is out of reach; grants run out and floors remain");
                    }
                }
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
        self.follow(&record);
        self.at_least = self.at_least.max(term);
        self.campaign.set_term(term, now);
        let lease = record.lease;
        self.term = Some(record);
        match self.registration {
            Some(incarnation) => self.begin_life(incarnation, term, lease),
            None => Notice::Promise(term),
        }
    }

    /// Where there has never been a leader, there is nothing that a voter may have forgotten.
    fn begin_life(&self, incarnation: Incarnation, term: Term, longest_lease: Duration) -> Notice {
        let has_history = term > Term(0);
        Notice::BeginLife {
            incarnation,
            term,
            abstention: if has_history {
                self.host.timing.abstention(longest_lease)
            } else {
                Duration::ZERO
            },
        }
    }

    fn take_over(&mut self, instead_of: Option<NodeId>, voters: Option<Vec<NodeId>>) {
        let reason = match (&instead_of, &voters) {
            (_, Some(_)) => "voters are to be others",
            (Some(_), None) => "the leader is missed",
            (None, None) => "nobody leads",
        };
        let trace = TakeOverTrace::begin(self.host.node, reason);
        let how = TakeOver {
            address: self.host.address.clone(),
            lease: self.host.timing.lease,
            is_voted: self.host.commit == CommitBy::Quorum,
            at_least: self.at_least,
            voters,
            roster_version: self.roster.version,
            instead_of,
        };
        self.is_taking_over = self.keeper.take_over(how).is_ok();
        if self.is_taking_over {
            self.take_over_trace = Some(trace);
        } else {
            trace.failed("too many commands wait for ZooKeeper");
        }
    }
}
