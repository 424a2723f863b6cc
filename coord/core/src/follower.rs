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
//! - **Restart** (7): a life begins with the term that ZooKeeper has now, read after the live znode
//!   of this life was made.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use weir_model::{
    Amount, Generation, Incarnation, LimitId, Nanos, NodeId, PolicyVersion, Term,
    message::{
        Ack, Commit, FromNode, LimitReport, Position, Propose, Refuse, Report, Row, ToNode, Token,
    },
};

/// What the kernel holds, or is to hold, of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// What may be spent at `now`.
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// One life of a node, as the protocol sees it.
#[derive(Debug)]
pub struct Follower {
    node: NodeId,
    incarnation: Incarnation,
    promised: Term,
    leader: Option<NodeId>,
    seen: Position,
    policy: PolicyVersion,
    proposed: Option<Propose>,
    held: BTreeMap<LimitId, Grant>,
    commands: VecDeque<Command>,
}

impl Follower {
    /// Begins a life that promises `term`, which was read after `incarnation` was made. `held` is
    /// what the kernel holds of `policy` already.
    #[must_use]
    pub fn new(
        node: NodeId,
        incarnation: Incarnation,
        promised: Term,
        policy: PolicyVersion,
        held: impl IntoIterator<Item = Grant>,
    ) -> Self {
        Self {
            node,
            incarnation,
            promised,
            leader: None,
            seen: Position::default(),
            policy,
            proposed: None,
            held: held.into_iter().map(|grant| (grant.limit, grant)).collect(),
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

    /// Which life this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What the kernel holds.
    pub fn held(&self) -> impl Iterator<Item = &Grant> {
        self.held.values()
    }

    /// The daemon goes on under a newer incarnation: its session was lost and its live znode made
    /// anew. What was proposed to the old one is void.
    pub fn begin_life(&mut self, incarnation: Incarnation, term: Term) {
        if incarnation != self.incarnation {
            self.incarnation = incarnation;
            self.proposed = None;
        }
        self.promise(term);
    }

    /// Promises `term` if it is newer: it was read from ZooKeeper.
    pub fn promise(&mut self, term: Term) {
        if term > self.promised {
            self.promised = term;
            self.leader = None;
            self.proposed = None;
        }
    }

    /// Another policy is in force in the kernel, which now holds `held` of it.
    pub fn set_policy(&mut self, policy: PolicyVersion, held: impl IntoIterator<Item = Grant>) {
        self.policy = policy;
        self.proposed = None;
        self.held = held.into_iter().map(|grant| (grant.limit, grant)).collect();
    }

    /// A message from whoever leads, or thinks so.
    pub fn handle(&mut self, message: ToNode, now: Nanos) {
        match message {
            ToNode::Propose(propose) => self.propose(propose, now),
            ToNode::Commit(commit) => self.commit(commit, now),
        }
    }

    /// The kernel holds what was asked, and `position` can be acknowledged.
    pub fn installed(&mut self, grants: &[Grant], acknowledge: Option<Position>) {
        for grant in grants {
            self.held.insert(grant.limit, *grant);
        }
        if let Some(position) = acknowledge.filter(|position| *position == self.seen) {
            let ack = Ack {
                node: self.node,
                incarnation: self.incarnation,
                position,
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
            limits,
        }
    }

    /// The next thing to do, oldest first.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    fn propose(&mut self, propose: Propose, now: Nanos) {
        if !self.accepts(propose.position.term, propose.leader) {
            return self.refuse();
        }
        if propose.position < self.seen {
            return;
        }
        if propose.policy != self.policy {
            return self.refuse();
        }
        self.seen = propose.position;
        let grants: Vec<Grant> = propose
            .rows
            .iter()
            .filter_map(|row| self.shrunk(row, now))
            .collect();
        let position = propose.position;
        self.proposed = Some(propose);
        self.commands.push_back(Command::Install {
            grants,
            acknowledge: Some(position),
        });
    }

    /// Rule 1, *fence*.
    fn accepts(&mut self, term: Term, leader: NodeId) -> bool {
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
    fn shrunk(&self, row: &Row, now: Nanos) -> Option<Grant> {
        let held = self.held.get(&row.limit)?;
        let floor = held.floor.min(row.floor);
        let shrunk = if now < held.expires && held.expires != Nanos::NEVER {
            Grant {
                limit: row.limit,
                amount: held.amount.min(row.amount),
                floor,
                ..*held
            }
        } else {
            Grant::floor(row.limit, floor)
        };
        (shrunk.amount != held.effective(now) || shrunk.floor != held.floor).then_some(shrunk)
    }

    fn commit(&mut self, commit: Commit, now: Nanos) {
        if commit.position.term < self.promised {
            return self.refuse();
        }
        let Some(propose) = self
            .proposed
            .as_ref()
            .filter(|propose| propose.position == commit.position)
        else {
            return;
        };
        if propose.anchor.incarnation != self.incarnation {
            return;
        }
        let expires = propose.anchor.at + propose.lease;
        if expires <= now {
            return;
        }
        let grants = propose
            .rows
            .iter()
            .map(|row| Grant {
                limit: row.limit,
                amount: row.amount,
                floor: row.floor,
                expires,
            })
            .collect();
        self.commands.push_back(Command::Install {
            grants,
            acknowledge: None,
        });
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
        if let Some(propose) = &self.proposed {
            assert_eq!(
                propose.position, self.seen,
                "only the latest proposal can be committed"
            );
        }
    }
}
