//! Rule 6, *take-over*, from the write of `term` on, and changes of voters.
//!
//! A leader of a new term asks the voters of every set that may have committed anything since the
//! last term that surely did. A voter that promises refuses every older term from then on, so once
//! a majority of a set has promised, no leader that relies on that set can commit any more; and of
//! every majority that ever committed, one voter at least is among those that promised, with the
//! register that it voted for. So the register of the highest (term, generation) covers every
//! lease that may still be held. It is adopted; nodes that have not answered keep what it says of
//! them until W after that moment, when the last lease of an older term has ended.
//!
//! Voters without power, by the operator's word, count as if they had promised, but what they knew of is
//! lost with them. Where promises alone are no majority, W is waited for from the moment since which no older
//! leader can commit; every older lease has ended then, and no register says anything of leases any more.
//!
//! Nothing freezes meanwhile: nodes spend what they were granted, and the first proposal of the new
//! term leaves them what they hold.
//!
//! Without the register, a new leader gives away what nodes of its predecessor still spend.
//! Without the former sets, a term whose leader died before it committed hides the voters that know.
//! Counting W from the write of `term` instead forgets what the old leader commits until it is
//! fenced.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use weir_model::{
    Nanos, NodeId,
    message::{Position, Prepare, Promise, ToNode},
};

use super::{Command, Leader, StepDown, coordinated};
use crate::{
    commit::CommitBackend,
    record::{EnvelopeRecord, TermRecord},
    rules::{Mutation, Rules},
    timing::{Timing, wait_for},
    voters::{choose, decide},
};

/// What is known of the terms before, until this one may begin.
#[derive(Clone, Debug, Hash)]
pub(super) struct Succession {
    sets: Vec<Vec<NodeId>>,
    /// The longest lease of any leader before.
    lease: Duration,
    promised: BTreeSet<NodeId>,
    /// Voters that will never vote again, by the operator's word, and nobody knows for what they
    /// have voted.
    powered_off: BTreeSet<NodeId>,
    /// Since when nobody else is needed: no older leader has committed anything after this.
    agreed: Option<Nanos>,
    latest: Option<EnvelopeRecord>,
    since: Nanos,
}

impl Succession {
    pub(super) fn new(
        record: TermRecord,
        stored: Option<EnvelopeRecord>,
        rules: Rules,
        now: Nanos,
    ) -> Self {
        let mut sets = record.voter_sets();
        if rules.breaks(Mutation::FormerVotersForgotten) {
            let newest = sets.len().saturating_sub(1);
            sets.drain(..newest);
        }
        Self {
            sets,
            lease: record.lease,
            promised: BTreeSet::new(),
            powered_off: BTreeSet::new(),
            agreed: None,
            latest: stored,
            since: now,
        }
    }

    /// Somebody has promised, or is known to have no power.
    fn note_agreement(&mut self, now: Nanos) {
        let agreeing: BTreeSet<NodeId> = self.promised.union(&self.powered_off).copied().collect();
        if self.agreed.is_none() && decide(&self.sets, &agreeing) {
            self.agreed = Some(now);
        }
    }

    /// Whether a majority of every set has promised, with all that was committed there.
    fn is_promised(&self) -> bool {
        decide(&self.sets, &self.promised)
    }

    /// Whether nobody holds any lease of an older term: only voters without power may know of some,
    /// and W has passed since no older leader could commit.
    fn is_over(&self, now: Nanos, timing: Timing) -> bool {
        let agreed = self.agreed;
        agreed.is_some_and(|agreed| now - agreed >= timing.abstention(self.lease))
    }

    /// Whether no older leader can commit any more, and everything that one has is known or over.
    fn is_fenced(&self, now: Nanos, timing: Timing) -> bool {
        self.is_promised() || self.is_over(now, timing)
    }

    /// Only voters' promises are worth anything: a register that came with somebody else's could
    /// hide what nodes hold.
    fn has_voter(&self, node: NodeId) -> bool {
        self.sets.iter().any(|set| set.contains(&node))
    }

    fn is_asked(&self, node: NodeId) -> bool {
        self.has_voter(node) && !self.promised.contains(&node)
    }
}

fn position(record: &EnvelopeRecord) -> Position {
    Position {
        term: record.term,
        generation: record.generation,
    }
}

/// How voters that ought to be others are waited for.
#[derive(Clone, Debug, Hash)]
pub(super) struct Reform {
    voters: Vec<NodeId>,
    since: Nanos,
    /// When a new term was last asked for. If it had begun there would be another leader, or this one
    /// with these voters: it may have come to nothing.
    asked: Option<Nanos>,
}

impl<B: CommitBackend> Leader<B> {
    /// Whether this term has not begun yet: promises are missing.
    pub const fn is_preparing(&self) -> bool {
        self.succession.is_some()
    }

    /// Asks a voter for its promise, if it is still missing.
    pub(super) fn prepare(&mut self, to: NodeId) {
        let is_asked = |succession: &Succession| succession.is_asked(to);
        if self.succession.as_ref().is_some_and(is_asked) {
            self.send_prepare(to);
        }
    }

    fn send_prepare(&mut self, to: NodeId) {
        let message = ToNode::Prepare(Prepare {
            term: self.term,
            leader: self.node,
        });
        self.commands.push_back(Command::Send { to, message });
    }

    pub(super) fn go_on_preparing(&mut self, now: Nanos) {
        let Some(succession) = &self.succession else {
            return;
        };
        let asked = now - succession.since;
        let does_not_ask =
            self.rules.breaks(Mutation::LearnByWaiting) && asked >= self.timing.wait();
        if does_not_ask || self.rules.breaks(Mutation::TrustSession) {
            return self.begin(now);
        }
        self.begin_if_promised(now);
        let Some(succession) = &self.succession else {
            return;
        };
        if asked > self.timing.preparation(succession.lease) {
            return self.step_down(StepDown::Idle);
        }
        let voters: BTreeSet<NodeId> = succession.sets.iter().flatten().copied().collect();
        // Also those that have promised: who hears nothing suspects this leader, and a take-over that
        // has to wait for one voter would be overtaken by the next, again and again.
        for voter in voters {
            self.send_prepare(voter);
        }
    }

    pub(super) fn promised(&mut self, promise: Promise, now: Nanos) {
        let Some(succession) = &mut self.succession else {
            return;
        };
        if promise.term != self.term || promise.abstains || !succession.has_voter(promise.node) {
            return;
        }
        succession.promised.insert(promise.node);
        succession.note_agreement(now);
        self.electorate.hear_token(promise.node, promise.token, now);
        if let Some(register) = promise.register {
            let is_newer = succession
                .latest
                .as_ref()
                .is_none_or(|latest| position(latest) < position(&register));
            if is_newer {
                succession.latest = Some(register);
            }
        }
        self.begin_if_promised(now);
    }

    fn begin_if_promised(&mut self, now: Nanos) {
        if let Some(succession) = &self.succession
            && succession.is_fenced(now, self.timing)
            && !self.rules.breaks(Mutation::LearnByWaiting)
        {
            self.begin(now);
        }
    }

    /// Voters without power count as if they had promised: they vote for no older term either.
    pub(super) fn do_without(&mut self, node: NodeId, now: Nanos) {
        if let Some(succession) = &mut self.succession
            && succession.powered_off.insert(node)
        {
            succession.note_agreement(now);
        }
    }

    /// No older leader can commit any more.
    fn begin(&mut self, now: Nanos) {
        let Some(succession) = self.succession.take() else {
            return;
        };
        let is_unread = self.rules.breaks(Mutation::EnvelopeUnread)
            || self.rules.breaks(Mutation::LearnByWaiting)
            || self.rules.breaks(Mutation::TrustSession);
        let is_over = !succession.is_promised() && succession.is_over(now, self.timing);
        if let Some(record) = succession.latest.filter(|_| !is_unread) {
            let from = if self.rules.breaks(Mutation::WaitFromTerm) {
                succession.since
            } else {
                now
            };
            if is_over {
                // It may be older than what voters without power knew of, and its leases have ended too.
                self.adopted_policy = self.adopted_policy.max(record.policy);
            } else {
                self.adopt(&record, from);
            }
        }
        self.productive = now;
        self.begin_hot(now);
        self.debts.assume_the_worst(coordinated(&self.policy), now);
        self.activate(now);
        self.advance(now);
    }

    /// Takes over what an older leader may have granted until `now`.
    pub(super) fn adopt(&mut self, record: &EnvelopeRecord, now: Nanos) {
        let lease = record.lease.max(self.timing.lease);
        let end = now + wait_for(lease);
        self.book.adopt(record, end);
        // The roster was read after the term was taken: who is not in it was removed, and has no
        // floors, although the leader that removed it died before its register said so.
        for node in &record.nodes {
            if !self.members.contains_key(&node.node) {
                self.book.forget_floors(node.node);
            }
        }
        self.inherited = Some((lease, end));
        self.adopted_policy = self.adopted_policy.max(record.policy);
    }

    /// Rule 10, *members*: a change of voters is a new term. It is asked for when the voters ought
    /// to be others for longer than a passing silence lasts, and a majority of them could vote.
    pub(super) fn watch_voters(&mut self, now: Nanos) {
        if !self.backend.is_voted() || self.committed.0 == 0 {
            return;
        }
        let voters = self.electorate.voters();
        let stays = |node: &&NodeId| !self.leaving.contains_key(node);
        let members: BTreeSet<NodeId> = self.members.keys().filter(stays).copied().collect();
        let ready: BTreeSet<NodeId> = self
            .participating(now)
            .filter(|(node, member)| {
                let leaves = self.leaving.contains_key(node);
                !leaves && member.heard.is_some_and(|heard| !heard.abstains)
            })
            .map(|(node, _)| node)
            .collect();
        let wanted = choose(&members, &ready, &voters);
        if wanted == voters || wanted.is_empty() || !decide(core::slice::from_ref(&wanted), &ready)
        {
            self.reform = None;
            return;
        }
        let patience = self.reform_patience(&voters, &wanted);
        let reform = match &mut self.reform {
            Some(reform) if reform.voters == wanted => reform,
            reform => reform.insert(Reform {
                voters: wanted,
                since: now,
                asked: None,
            }),
        };
        let is_due = match reform.asked {
            None => now - reform.since >= patience,
            Some(asked) => now - asked >= self.timing.lease * 2,
        };
        if is_due {
            reform.asked = Some(now);
            let voters = reform.voters.clone();
            self.commands.push_back(Command::ChangeVoters(voters));
        }
    }

    /// More voters are wanted soon: until then the fleet survives fewer losses. A silent one may
    /// come back.
    fn reform_patience(&self, voters: &[NodeId], wanted: &[NodeId]) -> Duration {
        if voters.iter().any(|voter| self.leaving.contains_key(voter)) {
            Duration::ZERO
        } else if wanted.len() > voters.len() {
            self.timing.idle()
        } else {
            self.timing.lease * 2
        }
    }
}
