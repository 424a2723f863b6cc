//! A node's side: which proposals it takes, and what its kernel is to hold.
//!
//! # Rules that live here
//!
//! - **Fence** (1): a node refuses a term below the one that it promised, and the same term from
//!   another leader. Without it a leader that was paused goes on granting what its successor has
//!   given away.
//! - **Order** (2): within a term it refuses a generation below the one it has seen. Without it a
//!   delayed proposal brings back a grant that has since moved elsewhere.
//! - **Book** (3), the node's part: at `Propose` it takes the smaller of old and new and leaves
//!   `expires` alone; growth *and renewal* come with `Commit`. It acknowledges after the kernel
//!   has it.
//! - **Anchor** (5): `expires = token + L`, with a token of this life only. A grant that was late,
//!   repeated or slept on is born expired.
//! - **Quorum** (4) and **take-over** (6), the voter's part: it keeps the register that comes with a
//!   proposal, votes once its kernel holds no more than the proposal says, and tells a new leader
//!   what the register holds.
//! - **Policy** (12), the node's part: it takes no rows of another policy than it enforces; one that
//!   is ready it enforces first. Without it a node reads rows of limits that have changed in the
//!   units of those that it knows.
//! - **Restart** (7): a life begins with the term that ZooKeeper has now, read after the live znode
//!   of this life was made. Without it a restart forgets a promise, and an older leader finds its
//!   majority again. What cannot be read again is the register; a voter that has forgotten it
//!   abstains for W, by when every lease has ended that it may have voted for. Without that, a
//!   majority of promises may know nothing of a lease that a majority voted for.

mod own;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use weir_model::{
    Amount, Generation, HotKey, Incarnation, LimitId, Nanos, NodeId, PolicyVersion, Term,
    message::{
        Ack, Commit, FromNode, LimitReport, Position, Prepare, Promise, Propose, Refuse, Report,
        Row, ToNode, Token,
    },
};

use crate::{
    register::Register,
    rules::{Mutation, Rules},
};

/// What the kernel holds, or is to hold, of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Which limit.
    pub limit: LimitId,
    /// What may be spent before `expires`.
    pub amount: Amount,
    /// What may be spent after it.
    pub floor: Amount,
    /// The end, on this node's clock; [`Nanos::NEVER`] where amount and floor are the same.
    pub expires: Nanos,
}

impl Grant {
    /// The floor alone, for ever.
    #[must_use]
    pub const fn floor(limit: LimitId, floor: Amount) -> Self {
        Self {
            limit,
            amount: floor,
            floor,
            expires: Nanos::NEVER,
        }
    }

    /// What may be spent at `now`: rule 8, *expiry*, which the kernel keeps for each packet.
    #[must_use]
    pub fn effective(&self, now: Nanos) -> Amount {
        if now < self.expires {
            self.amount
        } else {
            self.floor
        }
    }
}

/// What a follower asks of its shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Install these in the kernel. If all are in force, and `acknowledge` names a position, then
    /// answer with [`Follower::installed`].
    Install {
        /// What to install.
        grants: Vec<Grant>,
        /// What is acknowledged once the kernel has it; `None` at a commit.
        acknowledge: Option<Position>,
    },
    /// Send to the leader.
    Send(FromNode),
    /// Enforce the other policy that is ready, and answer with [`Follower::enforced`].
    Enforce(PolicyVersion),
    /// These are the hot keys now, and no others. One that is new gets a bucket that is empty and holds
    /// nothing; its grant follows at once, and if its bucket cannot be made, the grant is left out
    /// of what is installed. One that is no more is dropped, or the next [`Command::Install`] is not
    /// answered.
    Heat(Vec<HotKey>),
    /// Whether the host gives keys of strict limits its own part of their budget, durably. Until it has
    /// stopped, the next [`Command::Install`] is not answered.
    Give(bool),
}

/// One life of a node, as the protocol sees it.
#[derive(Clone, Debug, Hash)]
pub struct Follower {
    node: NodeId,
    incarnation: Incarnation,
    promised: Term,
    leader: Option<NodeId>,
    seen: Position,
    policy: PolicyVersion,
    /// The other policy that is ready to be enforced; `policy` if there is none.
    prepared: PolicyVersion,
    /// The latest proposal, if it waits for its policy to be enforced.
    awaiting: Option<Propose>,
    proposed: Option<Proposed>,
    held: BTreeMap<LimitId, Grant>,
    /// The hot keys of which the shell was told last.
    hot: BTreeMap<LimitId, HotKey>,
    /// What the shell was last told; `None` if nothing yet.
    gives: Option<bool>,
    register: Register,
    abstains_until: Nanos,
    rules: Rules,
    commands: VecDeque<Command>,
}

/// The latest proposal, less its register.
#[derive(Clone, Debug, Hash)]
struct Proposed {
    message: Propose,
    at: Nanos,
}

/// How a life begins.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    /// Whose.
    pub node: NodeId,
    /// Which life: the live znode that it made.
    pub incarnation: Incarnation,
    /// The term in force, read after the live znode was made.
    pub term: Term,
    /// Until when it abstains as a voter, by its own clock: W after the daemon started, or
    /// [`Nanos::ZERO`] where there has never been a leader, and so nothing to forget.
    pub abstains_until: Nanos,
}

impl Follower {
    /// Begins a life. `held` is what the kernel holds of `policy` already.
    #[must_use]
    pub fn new(
        birth: Birth,
        policy: PolicyVersion,
        held: impl IntoIterator<Item = Grant>,
        rules: Rules,
    ) -> Self {
        let is_forgetful = rules.breaks(Mutation::PromiseForgotten);
        Self {
            node: birth.node,
            incarnation: birth.incarnation,
            promised: if is_forgetful { Term(0) } else { birth.term },
            leader: None,
            seen: Position::default(),
            policy,
            prepared: policy,
            awaiting: None,
            proposed: None,
            held: held.into_iter().map(|grant| (grant.limit, grant)).collect(),
            hot: BTreeMap::new(),
            gives: None,
            register: Register::default(),
            abstains_until: birth.abstains_until,
            rules,
            commands: VecDeque::new(),
        }
    }

    /// The highest term that it promised.
    #[must_use]
    pub const fn promised(&self) -> Term {
        self.promised
    }

    /// The latest proposal that it took.
    #[must_use]
    pub const fn seen(&self) -> Position {
        self.seen
    }

    /// Where its copy of the register stands; `None` if it has none.
    #[must_use]
    pub fn recorded(&self) -> Option<Position> {
        self.register.position()
    }

    /// Whether this life has begun too recently to vote.
    #[must_use]
    pub fn abstains(&self, now: Nanos) -> bool {
        now < self.abstains_until && !self.rules.breaks(Mutation::AmnesiacVotes)
    }

    /// Which life this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What the kernel holds.
    pub fn held(&self) -> impl Iterator<Item = &Grant> {
        self.held.values()
    }

    /// The kernel has these hot keys already, and their grants are among those that it holds: it keeps
    /// them while nobody leads, or an elastic key would have its whole rate on this host again.
    pub fn set_hot(&mut self, hot: impl IntoIterator<Item = HotKey>) {
        self.hot = hot.into_iter().map(|key| (key.id, key)).collect();
    }

    /// The hot keys of which the shell was told last.
    pub fn hot(&self) -> impl Iterator<Item = &HotKey> {
        self.hot.values()
    }

    /// The daemon goes on under a newer incarnation: its session was lost and its live znode made
    /// anew. What was proposed to the old one is void.
    pub fn begin_life(&mut self, incarnation: Incarnation, term: Term) {
        if incarnation != self.incarnation {
            self.incarnation = incarnation;
            self.proposed = None;
            self.awaiting = None;
        }
        self.promise(term);
    }

    /// Promises `term` if it is newer: it was read from ZooKeeper.
    pub fn promise(&mut self, term: Term) {
        if term > self.promised {
            self.promised = term;
            self.leader = None;
            self.proposed = None;
            self.awaiting = None;
        }
    }

    /// The kernel enforces `policy` now, and holds `held` of it: it follows from what ZooKeeper says
    /// is in force, or is as before. The one before stays ready, for a leader that has not heard of
    /// this one. Hot keys of which it holds no grant any more are none any more.
    pub fn set_policy(&mut self, policy: PolicyVersion, held: impl IntoIterator<Item = Grant>) {
        if policy != self.policy {
            self.prepared = core::mem::replace(&mut self.policy, policy);
        }
        self.proposed = None;
        self.held = held.into_iter().map(|grant| (grant.limit, grant)).collect();
        self.hot.retain(|id, _| self.held.contains_key(id));
    }

    /// As [`Follower::set_policy`], in answer to a [`Command::Enforce`]: goes on with the proposal.
    pub fn enforced(
        &mut self,
        policy: PolicyVersion,
        held: impl IntoIterator<Item = Grant>,
        now: Nanos,
    ) {
        self.set_policy(policy, held);
        let awaited = self.awaiting.take();
        if let Some(propose) = awaited.filter(|propose| propose.policy == self.policy) {
            self.take(propose, now);
        }
    }

    /// A policy is ready to be enforced from one packet to the next, beside the one that is.
    pub const fn prepare_policy(&mut self, policy: PolicyVersion) {
        self.prepared = policy;
    }

    /// The other policy that is ready; the one in force if there is none.
    #[must_use]
    pub const fn prepared(&self) -> PolicyVersion {
        self.prepared
    }

    /// A message from whoever leads, or thinks so.
    pub fn handle(&mut self, message: ToNode, now: Nanos) {
        match message {
            ToNode::Propose(propose) => self.propose(propose, now),
            ToNode::Commit(commit) => self.commit(commit, now),
            ToNode::Prepare(prepare) => self.prepare(prepare, now),
        }
    }

    /// The kernel holds what was asked, and `position` can be acknowledged.
    pub fn installed(&mut self, grants: &[Grant], acknowledge: Option<Position>, now: Nanos) {
        for grant in grants {
            self.held.insert(grant.limit, *grant);
        }
        if let Some(position) = acknowledge.filter(|position| *position == self.seen)
            && !self.rules.breaks(Mutation::AcknowledgeBeforeInstall)
        {
            self.acknowledge(position, true, now);
        }
    }

    fn acknowledge(&mut self, position: Position, holds: bool, now: Nanos) {
        let votes = self.register.position() == Some(position) && !self.abstains(now);
        if holds || votes {
            let ack = Ack {
                node: self.node,
                incarnation: self.incarnation,
                position,
                holds,
                votes,
            };
            self.commands.push_back(Command::Send(FromNode::Ack(ack)));
        }
    }

    /// The report of this tick.
    #[must_use]
    pub fn report(&self, now: Nanos, counters: &[LimitReport]) -> Report {
        let limits = counters
            .iter()
            .map(|counted| {
                let held = self.held.get(&counted.limit);
                LimitReport {
                    held: held.map_or(Amount::ZERO, |grant| grant.effective(now)),
                    expires: held.map_or(Nanos::ZERO, |grant| grant.expires),
                    ..*counted
                }
            })
            .collect();
        Report {
            node: self.node,
            token: Token {
                incarnation: self.incarnation,
                at: now,
            },
            promised: self.promised,
            seen: self.seen,
            policy: self.policy,
            prepared: self.prepared,
            abstains: self.abstains(now),
            limits,
            heavy: Vec::new(),
        }
    }

    /// The next thing to do, oldest first, before the follower is told of anything else: what is decided
    /// under one policy means something else under the next.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn propose(&mut self, mut propose: Propose, now: Nanos) {
        if !self.accepts(propose.position.term, propose.leader) {
            return self.refuse();
        }
        // Rule 2, *order*.
        let position = propose.position;
        if position < self.seen && !self.rules.breaks(Mutation::GenerationUnchecked) {
            return;
        }
        self.seen = position;
        if let Some(update) = propose.register.take() {
            self.register.take(position, propose.policy, &update);
        }
        self.awaiting = None;
        // Rule 12, *policy*: rows mean something under their own policy only.
        if propose.policy != self.policy && !self.rules.breaks(Mutation::PolicyUnchecked) {
            self.proposed = None;
            // The register is about nodes' kernels, whatever this one enforces.
            self.acknowledge(position, false, now);
            if propose.policy != self.prepared || propose.rows.is_empty() {
                return self.refuse();
            }
            let version = propose.policy;
            self.awaiting = Some(propose);
            return self.commands.push_back(Command::Enforce(version));
        }
        self.take(propose, now);
    }

    /// Takes a proposal of the policy that is enforced: shrinks, and acknowledges.
    fn take(&mut self, propose: Propose, now: Nanos) {
        let position = propose.position;
        self.stop_giving(&propose);
        self.cool(propose.hot.as_deref());
        let grants: Vec<Grant> = propose
            .rows
            .iter()
            .filter_map(|row| self.shrunk(row, &propose, now))
            .collect();
        self.proposed = Some(Proposed {
            message: propose,
            at: now,
        });
        if self.rules.breaks(Mutation::AcknowledgeBeforeInstall) {
            self.acknowledge(position, true, now);
        }
        self.commands.push_back(Command::Install {
            grants,
            acknowledge: Some(position),
        });
    }

    /// A voter's part in a take-over: it refuses every older term from now on, and says what the
    /// older ones may have granted.
    fn prepare(&mut self, prepare: Prepare, now: Nanos) {
        if !self.accepts(prepare.term, prepare.leader) {
            return self.refuse();
        }
        let promise = Promise {
            node: self.node,
            token: Token {
                incarnation: self.incarnation,
                at: now,
            },
            term: prepare.term,
            abstains: self.abstains(now),
            register: self.register.record(),
        };
        self.commands
            .push_back(Command::Send(FromNode::Promise(promise)));
    }

    /// Rule 1, *fence*.
    fn accepts(&mut self, term: Term, leader: NodeId) -> bool {
        if self.rules.breaks(Mutation::NoFence) {
            return true;
        }
        if term < self.promised {
            return false;
        }
        self.promise(term);
        *self.leader.get_or_insert(leader) == leader
    }

    fn refuse(&mut self) {
        let refuse = Refuse {
            node: self.node,
            promised: self.promised,
            leader: self.leader,
            policy: self.policy,
        };
        self.commands
            .push_back(Command::Send(FromNode::Refuse(refuse)));
    }

    /// The smaller of what is held and what is proposed; `None` if that is what is held.
    fn shrunk(&self, row: &Row, propose: &Propose, now: Nanos) -> Option<Grant> {
        let held = self.held.get(&row.limit)?;
        let floor = held.floor.min(row.floor);
        let shrunk = if now < held.expires && held.expires != Nanos::NEVER {
            let renewed = propose.anchor.at + propose.lease;
            let renews = self.rules.breaks(Mutation::RenewAtPropose) && renewed > held.expires;
            Grant {
                limit: row.limit,
                amount: held.amount.min(row.amount),
                floor,
                expires: if renews { renewed } else { held.expires },
            }
        } else {
            Grant::floor(row.limit, floor)
        };
        let is_same = shrunk.amount == held.effective(now)
            && shrunk.floor == held.floor
            && !self.rules.breaks(Mutation::RenewAtPropose);
        (!is_same).then_some(shrunk)
    }

    fn commit(&mut self, commit: Commit, now: Nanos) {
        let is_fenced = commit.position.term < self.promised;
        if is_fenced && !self.rules.breaks(Mutation::NoFence) {
            return self.refuse();
        }
        let Some(proposed) = self
            .proposed
            .as_ref()
            .filter(|proposed| proposed.message.position == commit.position)
        else {
            return;
        };
        let Some(expires) = self.lease_end(proposed, now).filter(|end| *end > now) else {
            return;
        };
        let grants: Vec<Grant> = proposed
            .message
            .rows
            .iter()
            .map(|row| Grant {
                limit: row.limit,
                amount: row.amount,
                floor: row.floor,
                expires,
            })
            .filter(|grant| self.held.get(&grant.limit) != Some(grant))
            .collect();
        let hot = proposed.message.hot.clone();
        self.give();
        self.heat(hot);
        if !grants.is_empty() {
            self.commands.push_back(Command::Install {
                grants,
                acknowledge: None,
            });
        }
    }

    /// A key that is hot no more is dropped before anything is acknowledged: to hold nothing is to
    /// shrink.
    fn cool(&mut self, proposed: Option<&[HotKey]>) {
        let Some(proposed) = proposed else {
            return;
        };
        let stays: BTreeMap<LimitId, HotKey> = proposed.iter().map(|hot| (hot.id, *hot)).collect();
        let known = self.hot.len();
        let held = &mut self.held;
        self.hot.retain(|id, hot| {
            let is_hot = stays.get(id) == Some(hot);
            if !is_hot {
                held.remove(id);
            }
            is_hot
        });
        if self.hot.len() < known {
            self.tell_hot();
        }
    }

    /// A key becomes hot with its grant, which comes with the commit: until then an elastic one would
    /// be refused everything.
    fn heat(&mut self, proposed: Option<Vec<HotKey>>) {
        let Some(proposed) = proposed else {
            return;
        };
        let known = self.hot.len();
        self.hot
            .extend(proposed.into_iter().map(|hot| (hot.id, hot)));
        if self.hot.len() > known {
            self.tell_hot();
        }
    }

    fn tell_hot(&mut self) {
        let hot = self.hot.values().copied().collect();
        self.commands.push_back(Command::Heat(hot));
    }

    /// Rule 5, *anchor*: a lease runs from a token of this life that the leader held before it made
    /// the proposal. Without it, a commit that is late, repeated or slept on begins a lease after
    /// the leader has counted it as ended.
    fn lease_end(&self, proposed: &Proposed, now: Nanos) -> Option<Nanos> {
        let Propose { anchor, lease, .. } = proposed.message;
        let is_own = anchor.incarnation == self.incarnation;
        let is_own = is_own || self.rules.breaks(Mutation::EarlierIncarnation);
        let from = if self.rules.breaks(Mutation::AnchorAtReceipt) {
            now
        } else if self.rules.breaks(Mutation::AnchorAtAcknowledgement) {
            proposed.at
        } else {
            anchor.at
        };
        is_own.then(|| from + lease)
    }

    /// What the invariants I5 and the order rule say of this state.
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub fn check_invariants(&self) {
        assert!(
            self.seen.term <= self.promised,
            "seen {:?}, promised {}",
            self.seen,
            self.promised
        );
        assert!(
            self.seen == Position::default() || self.seen.generation > Generation(0),
            "generations start at 1"
        );
        if let Some(proposed) = &self.proposed {
            assert_eq!(
                proposed.message.position, self.seen,
                "only the latest proposal can be committed"
            );
        }
        assert!(
            self.awaiting.is_none() || self.proposed.is_none(),
            "there is one latest proposal"
        );
    }
}
