//! ZooKeeper, as far as the protocol may rely on it: conditional writes are linearizable. All else
//! is at its worst: answers are lost, what was given up is applied later, sessions outlive their
//! owners or end under them, and watches are late.

use std::{collections::BTreeMap, sync::Arc};

use weir_coord_core::{
    campaign::Place,
    record::{EnvelopeRecord, MemberRecord, PolicyRecord, TermRecord},
};
use weir_model::{Incarnation, Nanos, NodeId, PolicyVersion, Term};

/// What a host asks for. Each is one atomic operation of the server.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A new session: the live znode of a new life, and a candidacy; those of earlier ones go.
    Register,
    /// The content of `term`, for a life that begins.
    ReadTermForLife,
    /// The content of `term`, to take it over.
    ReadTerm,
    /// `multi{check own candidacy, set term at version, delete the suspect's candidacy}`.
    WriteTerm {
        /// What `term` becomes.
        record: TermRecord,
        /// The version that it has to have.
        version: u64,
        /// Whose candidacy goes with it.
        instead_of: Option<NodeId>,
    },
    /// What a new leader has to know, read after `term` was written.
    Inherit {
        /// What it wrote.
        record: TermRecord,
    },
    /// Drop the former voters of a term that has committed, by votes or not.
    DropFormer(Term, bool),
    /// Write a member to the roster while the term is this one, and the member's znode is at this
    /// version, as it was read before; 0 if there was none.
    Admit(Term, MemberRecord, u64),
    /// Delete a member from the roster while the term is this one, and its znode is at this version.
    Remove(Term, NodeId, u64),
    /// Write which policy is in force while the term is this one, unless a newer one is, and for how
    /// many members there is room, unless it is more.
    Activate(Term, PolicyVersion, u32),
    /// Write the envelope while the term is its own, after all that was written before.
    Store(EnvelopeRecord),
    /// Delete the candidacy of this session.
    Resign,
    /// A candidacy at the end of the queue, unless this session has one.
    Stand,
}

/// What the server says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Ask::Register`].
    Registered(u64, Incarnation),
    /// To [`Ask::ReadTermForLife`].
    TermForLife(TermRecord),
    /// To [`Ask::ReadTerm`].
    Term(TermRecord, u64),
    /// To [`Ask::WriteTerm`]: whether it was written.
    Written(bool, TermRecord),
    /// To [`Ask::Inherit`].
    Inherited(TermRecord, Inherited),
    /// To [`Ask::Remove`]: whether it is gone; `None` if another write came in between.
    Removed(Term, NodeId, Option<bool>),
    /// To [`Ask::Admit`]: whether it was written; `None` if another write came in between.
    Admitted(Term, NodeId, Option<bool>),
    /// To [`Ask::Store`]: whether it was written; `None` if an older write came in between.
    Stored(EnvelopeRecord, Option<bool>),
    /// To an ask of no consequence.
    Done,
}

/// What a new leader reads after `term` was written.
#[derive(Clone, Debug)]
pub struct Inherited {
    /// The members.
    pub roster: Arc<Vec<MemberRecord>>,
    /// What the last leader stored.
    pub envelope: Option<EnvelopeRecord>,
    /// The policy in force.
    pub in_force: PolicyRecord,
}

/// A session of one host.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Whose.
    pub host: usize,
    /// When the server last heard of it.
    pub heard: Nanos,
}

/// The server ensemble.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    /// The `term` znode and its version.
    pub term: TermRecord,
    version: u64,
    /// The `roster` znodes.
    pub roster: Arc<Vec<MemberRecord>>,
    member_versions: BTreeMap<NodeId, u64>,
    envelope: Option<EnvelopeRecord>,
    /// Candidacies in the order of their sequence numbers: sequence, owner, session.
    queue: Vec<(u64, NodeId, u64)>,
    /// The open sessions.
    pub sessions: BTreeMap<u64, Session>,
    transaction: u64,
    /// The policy in force.
    pub in_force: PolicyRecord,
    /// The newest policy that there is.
    pub document: PolicyVersion,
    /// Until when there is no quorum of servers.
    pub down_until: Nanos,
}

impl ZooKeeper {
    /// A new fleet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            term: TermRecord::VACANT,
            version: 0,
            roster: Arc::default(),
            member_versions: BTreeMap::new(),
            envelope: None,
            queue: Vec::new(),
            sessions: BTreeMap::new(),
            transaction: 1,
            in_force: PolicyRecord::settled(PolicyVersion(1)),
            document: PolicyVersion(1),
            down_until: Nanos::ZERO,
        }
    }

    /// The version of a member's znode; 0 if there is none.
    #[must_use]
    pub fn member_version(&self, node: NodeId) -> u64 {
        self.member_versions.get(&node).copied().unwrap_or(0)
    }

    /// The operator gives their word that a member has no power. `true` if there is such a member.
    pub fn power_off(&mut self, node: NodeId) -> bool {
        let member = Arc::make_mut(&mut self.roster)
            .iter_mut()
            .find(|member| member.node == node);
        let Some(member) = member else {
            return false;
        };
        member.is_powered_off = true;
        self.transaction += 1;
        self.member_versions.insert(node, self.transaction);
        true
    }

    /// Where a host's candidacy is.
    #[must_use]
    pub fn place(&self, node: NodeId) -> Place {
        let mut before = self.queue.iter().take_while(|(_, owner, _)| *owner != node);
        if !self.queue.iter().any(|(_, owner, _)| *owner == node) {
            return Place::Queued;
        }
        match before.next() {
            None => Place::Lowest,
            Some((_, first, _)) if before.all(|(_, owner, _)| owner == first) => {
                Place::After(*first)
            }
            Some(_) => Place::Queued,
        }
    }

    /// Whether a session has a candidacy.
    #[must_use]
    pub fn is_candidate(&self, session: u64) -> bool {
        self.queue.iter().any(|(_, _, owner)| *owner == session)
    }

    /// Ends a session, with its ephemerals.
    pub fn expire(&mut self, session: u64) {
        self.sessions.remove(&session);
        self.queue.retain(|(_, _, owner)| *owner != session);
    }

    /// Applies an ask of a host, in a session of its own. `true` if anything changed.
    pub fn apply(
        &mut self,
        host: usize,
        node: NodeId,
        session: u64,
        ask: Ask,
        now: Nanos,
    ) -> (Answer, bool) {
        self.transaction += 1;
        match ask {
            Ask::Register => {
                let session = self.transaction;
                self.sessions.insert(session, Session { host, heard: now });
                self.queue.retain(|(_, owner, _)| *owner != node);
                self.queue.push((self.transaction, node, session));
                let incarnation = Incarnation(self.transaction);
                (Answer::Registered(session, incarnation), true)
            }
            Ask::ReadTermForLife => (Answer::TermForLife(self.term.clone()), false),
            Ask::ReadTerm => (Answer::Term(self.term.clone(), self.version), false),
            Ask::WriteTerm {
                record,
                version,
                instead_of,
            } => {
                let own = self.queue.iter().position(|(_, owner, from)| {
                    *owner == node && (*from == session || !self.sessions.contains_key(&session))
                });
                let Some(own) = own.filter(|_| self.version == version) else {
                    return (Answer::Written(false, record), false);
                };
                let own = self.queue[own].0;
                self.version += 1;
                self.term = record.clone();
                if let Some(suspect) = instead_of {
                    self.queue
                        .retain(|(sequence, owner, _)| *owner != suspect || *sequence > own);
                }
                (Answer::Written(true, record), true)
            }
            Ask::Inherit { record } => {
                let inherited = Inherited {
                    roster: self.roster.clone(),
                    envelope: self.envelope.clone(),
                    in_force: self.in_force,
                };
                (Answer::Inherited(record, inherited), false)
            }
            Ask::DropFormer(term, is_voted) => {
                let is_news = !self.term.former.is_empty() || self.term.is_voted != is_voted;
                let applies = self.term.term == term && is_news;
                if applies {
                    self.version += 1;
                    self.term.former.clear();
                    self.term.is_voted = is_voted;
                }
                (Answer::Done, applies)
            }
            Ask::Admit(term, record, version) => {
                let node = record.node;
                let is_own = self.term.term == term;
                let is_current = self.member_version(node) == version;
                let outcome = match (is_own, is_current) {
                    (false, _) => Some(false),
                    (true, true) => Some(true),
                    (true, false) => None,
                };
                let writes = outcome == Some(true);
                if writes {
                    let mut record = record;
                    let mut members = self.roster.iter();
                    record.is_powered_off |=
                        members.any(|member| member.node == node && member.is_powered_off);
                    Arc::make_mut(&mut self.roster).retain(|member| member.node != node);
                    Arc::make_mut(&mut self.roster).push(record);
                    self.member_versions.insert(node, self.transaction);
                }
                (Answer::Admitted(term, node, outcome), writes)
            }
            Ask::Remove(term, node, version) => {
                let is_there = self.roster.iter().any(|member| member.node == node);
                let is_current = self.member_version(node) == version;
                let outcome = match (self.term.term == term, is_there && !is_current) {
                    (false, _) => Some(false),
                    (true, false) => Some(true),
                    (true, true) => None,
                };
                let removes = outcome == Some(true) && is_there;
                if removes {
                    Arc::make_mut(&mut self.roster).retain(|member| member.node != node);
                    self.member_versions.insert(node, self.transaction);
                }
                (Answer::Removed(term, node, outcome), removes)
            }
            Ask::Activate(term, version, places) => {
                let known = self.in_force;
                let is_news = known.version < version;
                let has_more = known.version == version && known.places < Some(places);
                let applies = self.term.term == term && (is_news || has_more);
                if applies {
                    let places = Some(places);
                    self.in_force = PolicyRecord { version, places };
                }
                (Answer::Done, applies)
            }
            Ask::Store(record) => {
                let is_newer = self.envelope.as_ref().is_none_or(|stored| {
                    (stored.term, stored.generation) < (record.term, record.generation)
                });
                let outcome = match (self.term.term == record.term, is_newer) {
                    (false, _) => Some(false),
                    (true, true) => Some(true),
                    (true, false) => None,
                };
                if outcome == Some(true) {
                    self.envelope = Some(record.clone());
                }
                (Answer::Stored(record, outcome), false)
            }
            Ask::Resign => {
                self.queue.retain(|(_, _, owner)| *owner != session);
                (Answer::Done, true)
            }
            Ask::Stand => {
                let is_news = !self.is_candidate(session);
                if is_news {
                    self.queue.push((self.transaction, node, session));
                }
                (Answer::Done, is_news)
            }
        }
    }
}

impl Default for ZooKeeper {
    fn default() -> Self {
        Self::new()
    }
}
