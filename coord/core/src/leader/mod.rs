//! The leader of one term: reports in, proposals and commits out.
//!
//! # Rules that live here
//!
//! - **Book** (3): see [`crate::book`]; every proposal is a [step](crate::allocation::step) that it allows.
//! - **Anchor** (5): a proposal carries the node's latest token that was held *before* it was made.
//!   A lease that ran from the receipt of the grant instead could start long after the leader
//!   counted it as ended.
//! - **Take-over** (6), its second half, and the change of voters (10): see `takeover`.
//! - **Members** (10): see `roster` and `departure`. **Cut** (11) and **policy** (12): see `policy`.
//! - **Step-down** (9): on a refusal by a newer term, on a store that the fence refused, or with no
//!   commit for L/2. Losing ZooKeeper is no reason: ticks do not touch it. It is a courtesy that
//!   lets a better placed node lead; safety rests on the fence and the quorum.

mod debt;
mod demands;
mod departure;
mod electorate;
mod hot;
mod member;
mod plan;
mod policy;
mod proposal;
mod roster;
mod rows;
mod takeover;
mod view;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use weir_model::{
    Generation, Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{Ack, Commit, FromNode, Position, Refuse, Report, ToNode},
};

use crate::{
    book::Book,
    commit::{CommitBackend, StoreOutcome},
    record::{EnvelopeRecord, MemberRecord, PolicyRecord, TermRecord},
    rules::{Mutation, Rules},
    slots::Derived,
    timing::Timing,
};

pub use view::{HeldView, MemberView, ShareView};

use debt::Debts;
use demands::Demands;
use departure::{Departed, Leaving};
use electorate::Electorate;
use hot::HotKeys;
use member::{Heard, Member};
use plan::{Place, Round};
use policy::{Prepared, Room};
use roster::Joining;
use takeover::{Reform, Succession};

/// Demand that moves is followed at once, but not more often than this in a tick: a proposal goes to
/// every node.
const PLANS_PER_TICK: u32 = 5;
/// In a fleet of more nodes it waits for the tick, and so for what the others report in it.
const MOST_FOLLOWED_AT_ONCE: usize = 250;

/// What the shell tells a leader.
#[derive(Clone, Debug)]
pub enum Input {
    /// A node said something.
    FromNode(FromNode),
    /// A tick has passed.
    Tick,
    /// A [`Command::Store`] has ended.
    Stored {
        /// Which.
        generation: Generation,
        /// How.
        outcome: StoreOutcome,
    },
    /// A node that is no member asks to become one.
    Join(MemberRecord),
    /// A [`Command::Admit`] has ended.
    Admitted {
        /// Who was to be admitted.
        node: NodeId,
        /// How.
        outcome: StoreOutcome,
    },
    /// A [`Command::Remove`] has ended.
    Removed {
        /// Who was to be removed.
        node: NodeId,
        /// How. Somebody who was not there to be removed is removed.
        outcome: StoreOutcome,
    },
    /// The roster, whenever it changes.
    Members(Vec<MemberRecord>),
    /// A member is to keep its floors only, or to have a share again.
    Drain {
        /// Who.
        node: NodeId,
        /// Which of both.
        is_drained: bool,
    },
    /// A member is to give back its floors too, and to be no member any more.
    Remove {
        /// Who.
        node: NodeId,
        /// The operator's word that it is powered off: it is not asked.
        is_powered_off: bool,
    },
    /// A policy is to come into force once nodes have it ready.
    Prepare(PolicyVersion, Policy),
    /// What ZooKeeper says is in force.
    Policy(PolicyVersion, Policy),
    /// What ZooKeeper's record of it says, whenever it changes.
    Recorded(PolicyRecord),
}

/// What a leader asks of its shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Send to a node, on its stream; drop it if there is none.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: ToNode,
    },
    /// Store the envelope under the fence and answer with [`Input::Stored`].
    Store(EnvelopeRecord),
    /// Write a member to the roster under the fence and answer with [`Input::Admitted`].
    Admit(MemberRecord),
    /// Delete a member from the roster under the fence and answer with [`Input::Removed`].
    Remove(NodeId),
    /// Write under the fence that this policy is in force, and for how many members there is
    /// [room](PolicyRecord::places), unless a newer one is or there is more. It is asked for again
    /// until [`Input::Policy`] and [`Input::Recorded`] say so.
    Activate(PolicyVersion, u32),
    /// This term has committed: [`former`](TermRecord::former) voters may be dropped from `term`, if
    /// it is unchanged, and how they [committed](TermRecord::is_voted).
    Activated,
    /// Take a new term with these voters. This one goes on until then.
    ChangeVoters(Vec<NodeId>),
    /// Stop leading.
    StepDown(StepDown),
}

/// Why a leader stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepDown {
    /// A node has promised this newer term.
    Refused(Term),
    /// A conditional write was refused: the term is somebody else's.
    Fenced,
    /// There was no commit, or no majority of promises, for too long.
    Idle,
}

/// How a term begins.
#[derive(Clone, Debug)]
pub struct Mandate {
    /// Who leads.
    pub node: NodeId,
    /// What the last leader stored in ZooKeeper, if there was one.
    pub adopted: Option<EnvelopeRecord>,
    /// What `term` says of this term: a leader begins with promises from a majority of each of its
    /// voter sets, if it or one before it commits by votes.
    pub record: TermRecord,
    /// The roster, read after the term was taken.
    pub members: Vec<MemberRecord>,
    /// The latest policy that this node has heard is in force.
    pub policy: (PolicyVersion, Policy),
    /// What is, read after the term was taken.
    pub in_force: PolicyRecord,
}

/// The leader of one term.
#[derive(Clone, Debug, Hash)]
pub struct Leader<B> {
    node: NodeId,
    term: Term,
    timing: Timing,
    rules: Rules,
    policy_version: PolicyVersion,
    policy: Policy,
    book: Book,
    /// The limits that the fleet shares, in the order of their slots.
    places: Derived<Vec<Place>>,
    demands: Derived<Demands>,
    round: Derived<Round>,
    /// Who had not answered when it was last looked at.
    awaited: Derived<Option<NodeId>>,
    /// How many different rows were made for members.
    rows_made: Derived<u64>,
    members: BTreeMap<NodeId, Member>,
    joining: BTreeMap<NodeId, Joining>,
    leaving: BTreeMap<NodeId, Leaving>,
    /// Who has left in this term: an old listing of the roster does not bring them back.
    departed: BTreeMap<NodeId, Departed>,
    electorate: Electorate,
    hot: HotKeys,
    debts: Debts,
    /// Until a majority of each voter set has promised this term.
    succession: Option<Succession>,
    /// The latest policy that leaders before this one are known to have begun.
    adopted_policy: PolicyVersion,
    /// The first proposal under the policy that is in force.
    policy_since: Generation,
    /// For how many members the policies have room that anybody may go by.
    room: Room,
    /// A policy that is to come into force.
    prepared: Option<Prepared>,
    /// One that has, and that is to be written down.
    activation: Option<PolicyVersion>,
    /// The voters ought to be others.
    reform: Option<Reform>,
    backend: B,
    generation: Generation,
    /// The latest generation that is committed.
    committed: Generation,
    /// When something was last committed, or this term became active.
    productive: Nanos,
    /// A commit is due although nothing changes.
    renewal_forced: bool,
    last_plan: Nanos,
    last_proposal: Nanos,
    /// The lease of the leader before, if it was longer, and until when it counts.
    inherited: Option<(Duration, Nanos)>,
    commands: VecDeque<Command>,
}

impl<B: CommitBackend> Leader<B> {
    /// Begins a term. `now` is an instant after the term was taken.
    pub fn new(mandate: Mandate, timing: Timing, backend: B, now: Nanos) -> Self {
        Self::with_rules(mandate, timing, backend, Rules::ALL, now)
    }

    /// As [`Leader::new`], with other rules.
    pub fn with_rules(
        mandate: Mandate,
        timing: Timing,
        backend: B,
        rules: Rules,
        now: Nanos,
    ) -> Self {
        let (policy_version, mut policy) = mandate.policy;
        if rules.breaks(Mutation::LentTwice) {
            policy = debt::lend_twice(policy);
        }
        let room = Room::new(mandate.in_force, (policy_version, &policy));
        let record = mandate.record;
        let is_fenced_by_votes = record.is_voted || backend.is_voted();
        let voters = record.voters.clone();
        let mut leader = Self {
            node: mandate.node,
            term: record.term,
            timing,
            rules,
            policy_version,
            policy,
            book: Book::default(),
            places: Derived::default(),
            demands: Derived::default(),
            round: Derived::default(),
            awaited: Derived(None),
            rows_made: Derived(0),
            members: BTreeMap::new(),
            joining: BTreeMap::new(),
            leaving: BTreeMap::new(),
            departed: BTreeMap::new(),
            electorate: Electorate::new(voters),
            hot: HotKeys::default(),
            debts: Debts::default(),
            succession: None,
            adopted_policy: mandate.in_force.version,
            policy_since: Generation(1),
            room,
            prepared: None,
            activation: (mandate.in_force.version < policy_version).then_some(policy_version),
            reform: None,
            backend,
            generation: Generation(0),
            committed: Generation(0),
            productive: now,
            renewal_forced: true,
            last_plan: Nanos::ZERO,
            last_proposal: Nanos::ZERO,
            inherited: None,
            commands: VecDeque::new(),
        };
        leader.book.set_limits(coordinated(&leader.policy));
        let leased = coordinated(&leader.policy);
        leader.debts.assume_the_worst(leased, now);
        leader.begin_hot(now);
        leader.arrange();
        leader.book.close(Generation(0));
        if is_fenced_by_votes {
            leader.succession = Some(Succession::new(record, mandate.adopted, rules, now));
            leader.set_members(mandate.members, now);
        } else {
            leader.set_members(mandate.members, now);
            if let Some(record) = &mandate.adopted {
                leader.adopt(record, now);
            }
        }
        leader
    }

    /// Takes an input that arrives at `now`, on the leader's clock.
    pub fn handle(&mut self, input: Input, now: Nanos) {
        match input {
            Input::FromNode(FromNode::Report(report)) => self.report(&report, now),
            Input::FromNode(FromNode::Ack(ack)) => self.acknowledge(&ack, now),
            Input::FromNode(FromNode::Refuse(refuse)) => self.refused(&refuse),
            Input::FromNode(FromNode::Promise(promise)) => self.promised(promise, now),
            Input::Tick => self.tick(now),
            Input::Stored {
                generation,
                outcome,
            } => self.stored(generation, outcome, now),
            Input::Join(record) => self.join(record, now),
            Input::Admitted { node, outcome } => self.admitted(node, outcome),
            Input::Members(records) => self.set_members(records, now),
            Input::Removed { node, outcome } => self.removed(node, outcome),
            Input::Drain { node, is_drained } => self.drain(node, is_drained),
            Input::Remove {
                node,
                is_powered_off,
            } => self.remove(node, is_powered_off),
            Input::Prepare(version, policy) => self.prepare_policy(version, policy, now),
            Input::Policy(version, policy) => self.policy_in_force(version, policy),
            Input::Recorded(record) => self.room.note(record),
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn report(&mut self, report: &Report, now: Nanos) {
        if report.promised > self.term {
            return self.step_down(StepDown::Refused(report.promised));
        }
        self.electorate.hear(report, now);
        self.notice_return(report.node, report.token.incarnation);
        self.prepare(report.node);
        let Some(member) = self.members.get_mut(&report.node) else {
            return;
        };
        let life = report.token.incarnation;
        match member.heard.map(|heard| heard.token.incarnation) {
            Some(known) if life < known => return,
            Some(known) if life > known => member.begin_life(),
            _ => {}
        }
        // What was counted before a silence says nothing about where the traffic is.
        let stale = self.timing.stale();
        let before = member.heard.filter(|heard| heard.precedes(report, stale));
        let quiet = before.map(|heard| heard.token.at);
        member.heard = Some(Heard {
            token: report.token,
            at: now,
            policy: report.policy,
            prepared: report.prepared,
            abstains: report.abstains,
        });
        if report.policy != self.policy_version {
            return;
        }
        self.count(quiet, report, now);
    }

    fn acknowledge(&mut self, ack: &Ack, now: Nanos) {
        let generation = ack.position.generation;
        // Nobody holds what was never proposed: whoever says so would have shrunk, and voted, before
        // it is told to.
        if ack.position.term != self.term || generation > self.generation {
            return;
        }
        if ack.votes && self.electorate.voted(ack) {
            self.backend.voted(ack.node, generation);
            self.commit(now);
        }
        if ack.holds {
            self.holds(ack, now);
        }
        self.advance_if_answered(now);
    }

    /// A node's kernel holds no more than a proposal said.
    fn holds(&mut self, ack: &Ack, now: Nanos) {
        let Some(member) = self.members.get_mut(&ack.node) else {
            return;
        };
        let current_life = member
            .heard
            .is_some_and(|heard| heard.token.incarnation == ack.incarnation);
        if !current_life {
            return;
        }
        let generation = ack.position.generation;
        if member
            .acknowledged
            .is_none_or(|(latest, _)| latest < generation)
        {
            member.acknowledged = Some((generation, now));
        }
        member.unanswered_since = None;
        self.book.acknowledge(member.slot, generation);
        self.commit_to(ack.node);
    }

    fn refused(&mut self, refuse: &Refuse) {
        let other_leader =
            refuse.promised == self.term && refuse.leader.is_some_and(|leader| leader != self.node);
        if refuse.promised > self.term || other_leader {
            self.step_down(StepDown::Refused(refuse.promised));
        }
    }

    fn stored(&mut self, generation: Generation, outcome: StoreOutcome, now: Nanos) {
        self.backend.stored(generation, outcome);
        match outcome {
            StoreOutcome::Fenced => self.step_down(StepDown::Fenced),
            StoreOutcome::Unknown => {}
            StoreOutcome::Committed => {
                self.commit(now);
                self.advance_if_answered(now);
            }
        }
    }

    /// Tells everybody if the latest proposal is committed.
    fn commit(&mut self, now: Nanos) {
        if self.committed == self.generation || !self.backend.is_committed(self.generation) {
            return;
        }
        if self.committed == Generation(0) {
            self.commands.push_back(Command::Activated);
        }
        self.committed = self.generation;
        self.productive = now;
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        for node in nodes {
            self.commit_to(node);
        }
    }

    /// Sends the commit of the latest proposal to a node that has acknowledged it.
    fn commit_to(&mut self, node: NodeId) {
        let Some(member) = self.members.get_mut(&node) else {
            return;
        };
        let acknowledged = member
            .acknowledged
            .is_some_and(|(generation, _)| generation == self.generation);
        if acknowledged && member.committed < self.generation && self.committed == self.generation {
            member.committed = self.generation;
            self.send_commit(node);
        }
    }

    fn send_commit(&mut self, to: NodeId) {
        let position = Position {
            term: self.term,
            generation: self.committed,
        };
        let message = ToNode::Commit(Commit { position });
        self.commands.push_back(Command::Send { to, message });
    }

    fn tick(&mut self, now: Nanos) {
        if self.succession.is_some() {
            return self.go_on_preparing(now);
        }
        if self.backend.is_voted() && now - self.productive > self.timing.idle() {
            return self.step_down(StepDown::Idle);
        }
        self.activate(now);
        self.settle_debts(now);
        self.heat(now);
        self.advance(now);
        self.remind(now);
        self.watch_voters(now);
    }

    /// Goes on at once when everybody has answered: moving budget takes two generations, and both
    /// fit in one tick.
    fn advance_if_answered(&mut self, now: Nanos) {
        let is_uncommitted = self.backend.is_voted() && self.committed < self.generation;
        if is_uncommitted || self.is_planned_in_parts() {
            return;
        }
        let is_awaited = |member: &Member| {
            let answered = member.acknowledged.map(|(generation, _)| generation);
            self.takes_part(member, now) && answered != Some(self.generation)
        };
        // Who was awaited at the last answer most often still is.
        let awaited = self.awaited.0.and_then(|node| self.members.get(&node));
        if awaited.is_some_and(is_awaited) {
            return;
        }
        let mut members = self.members.iter();
        let awaited = members.find(|(_, member)| is_awaited(member));
        self.awaited.0 = awaited.map(|(node, _)| *node);
        if self.awaited.0.is_none() {
            self.advance(now);
        }
    }

    fn advance(&mut self, now: Nanos) {
        if self.succession.is_some() || self.is_behind() {
            return;
        }
        self.release(now);
        self.admit();
        self.depart();
        if self.backend.is_busy() {
            return;
        }
        if self.awaits_answers(now) && now - self.last_proposal < self.timing.patience() {
            return;
        }
        self.last_plan = now;
        let plan = self.plan(now);
        // A tick that comes half of one early is this renewal's: the next is too late.
        let since = now - self.productive + self.timing.tick / 2;
        let renewal_due = self.renewal_forced || since >= self.timing.renewal();
        let unanswered = plan
            .parts
            .iter()
            .filter_map(|part| self.members.get(&part.node))
            .any(|member| member.acknowledged.is_none());
        let has_news = self.hot.has_news(now) || self.has_reserved() || self.has_untold();
        if plan.has_changes() || renewal_due || unanswered || has_news {
            self.propose(plan, renewal_due || self.has_reserved(), now);
        }
    }

    /// Whether somebody has still to answer the latest proposal. To supersede it takes away its
    /// commit; where that takes longer than the tick, nobody would ever be renewed.
    fn awaits_answers(&self, now: Nanos) -> bool {
        if self.backend.is_voted() && self.committed < self.generation {
            return true;
        }
        self.participating(now).any(|(_, member)| {
            member.unanswered_since.is_some()
                && member
                    .acknowledged
                    .is_none_or(|(generation, _)| generation < self.generation)
        })
    }

    /// Gives back what can no longer be held, and forgets what is out of date.
    fn release(&mut self, now: Nanos) {
        self.book.expire(now);
        self.forget_the_unheard(now);
        let (wait, latest) = (self.timing.wait(), self.generation);
        self.electorate.forget_silent(wait, latest, now);
        let try_again = self.timing.deaf() + self.timing.wait();
        for member in self.members.values_mut() {
            if member
                .unanswered_since
                .is_some_and(|since| now - since > try_again)
            {
                member.unanswered_since = None;
            }
        }
    }

    /// Members that are heard, enforce this policy, and answer.
    fn participating(&self, now: Nanos) -> impl Iterator<Item = (NodeId, &Member)> {
        let members = self.members.iter();
        members
            .filter(move |(_, member)| self.takes_part(member, now))
            .map(|(node, member)| (*node, member))
    }

    fn takes_part(&self, member: &Member, now: Nanos) -> bool {
        member.heard.is_some_and(|heard| {
            let answers = member
                .unanswered_since
                .is_none_or(|since| now - since < self.timing.deaf());
            now - heard.at <= self.timing.stale() && heard.has(self.policy_version) && answers
        })
    }

    fn step_down(&mut self, reason: StepDown) {
        self.commands.push_back(Command::StepDown(reason));
    }
}

/// The limits that the fleet shares; local and keyed ones are no business of the leader.
fn coordinated(policy: &Policy) -> impl Iterator<Item = &weir_model::Limit> {
    policy.limits.iter().filter(|limit| limit.is_leased())
}
