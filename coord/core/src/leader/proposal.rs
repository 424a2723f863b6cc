//! Making a proposal and getting it through: rule 3, *book*, as far as messages go.

use alloc::vec::Vec;
use core::time::Duration;

use weir_model::{
    HotKey, Nanos, NodeId,
    message::{Position, Propose, Row, Shared, ToNode, Token},
    prefetch::{AT_ONCE, fetch},
    register::RegisterUpdate,
    rows::Rows,
};

use super::{
    Command, Leader,
    member::Anchor,
    plan::{Plan, PlannedChange},
    rows::LatestRows,
};
use crate::{
    book::Change,
    commit::CommitBackend,
    record::{EnvelopeRecord, LimitEnvelope, NodeEnvelope},
    rules::Mutation,
};

/// What voters are told at one time, by what they know already.
type Registers = Vec<Shared<RegisterUpdate>>;

impl<B: CommitBackend> Leader<B> {
    /// Puts the plan in the book, and sends each node its part, and each voter the register.
    pub(super) fn propose(&mut self, mut plan: Plan, renewal_due: bool, now: Nanos) {
        self.generation = self.generation.next();
        self.tell_the_leaving();
        self.last_proposal = now;
        self.hot.announce(now);
        let mut changes: Vec<Vec<Change>> = plan.parts.iter().map(|_| Vec::new()).collect();
        for planned in plan.changes.chunks(AT_ONCE) {
            let pairs = planned.iter().map(|PlannedChange { part, change }| {
                let node = plan.parts[*part].slot;
                self.book.hint(node, change.limit)
            });
            fetch(pairs);
            for PlannedChange { part, change } in planned {
                let node = plan.parts[*part].slot;
                self.book.begin_proposal(node, change.limit, change.entry);
                changes[*part].push(*change);
            }
        }
        for (part, changes) in plan.parts.iter().zip(changes) {
            if let Some(member) = self.members.get_mut(&part.node) {
                member.unanswered_since.get_or_insert(now);
                if let Some(rows) = &mut member.rows.0 {
                    let place = |limit| {
                        let place = self.round.0.place(limit);
                        place.expect("a plan is about limits that are shared")
                    };
                    let with_row = |change: &Change| {
                        let row = self.places.0[place(change.limit)].row?;
                        Some((row, change.entry))
                    };
                    self.rows_made.0 += 1;
                    let changes = changes.iter().filter_map(with_row);
                    rows.change(self.rows_made.0, changes.collect());
                }
            }
            self.book.end_proposal(part.slot, self.generation, changes);
            if self.rules.breaks(Mutation::GrowBeforeShrink) {
                self.book.acknowledge(part.slot, self.generation);
            }
        }
        // Rule 4, *quorum*: what voters are told covers all of this proposal.
        let mut registers = Registers::new();
        for part in &plan.parts {
            let rows = self.rows(part.node);
            self.send_proposal(part.node, rows, self.hot.announced(), &mut registers);
        }
        for voter in self.electorate.others(|voter| plan.has(voter)) {
            self.send_proposal(voter, Rows::default(), None, &mut registers);
        }
        self.book.close(self.generation);
        plan.changes.clear();
        self.round.0.spare = plan.changes;
        self.joining_proposed();
        // Fencing growth alone would let a deposed leader renew a node for ever.
        if self.backend.is_voted() || plan.grows || renewal_due {
            self.renewal_forced = false;
            let (generation, lease) = (self.generation, self.longest_lease(now));
            let (term, policy, book) = (self.term, self.policy_version, &self.book);
            let store = self.backend.propose(generation, || EnvelopeRecord {
                term,
                generation,
                lease,
                policy,
                nodes: book.envelopes(),
            });
            if let Some(record) = store {
                self.commands.push_back(Command::Store(record));
            }
            self.commit(now);
        }
    }

    /// All that was last proposed to a member: in the order of the policy, and hot keys behind.
    fn rows(&mut self, node: NodeId) -> Rows {
        let Some(member) = self.members.get_mut(&node) else {
            return Rows::default();
        };
        if self.book.take_latest_note(member.slot) {
            member.rows.0 = None;
        }
        let rows = member.rows.0.get_or_insert_with(|| {
            let blank = Row::default();
            let places = self.places.0.iter();
            let of_rows = places.filter_map(|place| Some((place.row?, place)));
            let mut rows = alloc::vec![blank; of_rows.clone().count()];
            for (row, place) in of_rows {
                let latest = self.book.holding(member.slot, place.slot).latest;
                rows[row] = Row {
                    limit: place.id,
                    amount: latest.amount,
                    floor: latest.floor,
                };
            }
            self.rows_made.0 += 1;
            LatestRows::new(self.rows_made.0, rows)
        });
        rows.rows()
    }

    /// Rule 5, *anchor*: a proposal carries the node's latest token that is held *before* it is made,
    /// and the book counts the lease from when that was heard. So does each reminder of it: there may
    /// be votes by then, and those who gave them may have promised to obey another leader, which
    /// counts what was granted until its promises. A later token would renew beyond that.
    fn anchor(&mut self, node: NodeId) -> Option<(Token, Nanos)> {
        let generation = self.generation;
        let renews = self.rules.breaks(Mutation::AnchorAtReminder);
        let Some(member) = self.members.get_mut(&node) else {
            return self.electorate.heard(node);
        };
        let Some(heard) = member.heard else {
            return self.electorate.heard(node);
        };
        let known = member
            .anchor
            .filter(|anchor| anchor.generation == generation && !renews);
        let anchor = known.unwrap_or(Anchor {
            generation,
            token: heard.token,
            heard_at: heard.at,
        });
        member.anchor = Some(anchor);
        Some((anchor.token, anchor.heard_at))
    }

    fn send_proposal(
        &mut self,
        node: NodeId,
        rows: Rows,
        hot: Option<Vec<HotKey>>,
        registers: &mut Registers,
    ) {
        let Some((anchor, heard_at)) = self.anchor(node) else {
            return;
        };
        let register = self.register_for(node, registers);
        let wait = if self.rules.breaks(Mutation::ReuseBeforeWait) {
            self.timing.stale()
        } else {
            self.timing.wait()
        };
        if !rows.is_empty() {
            let account = self.book.account(node);
            self.book.extend_lease(account, heard_at + wait);
        }
        let lease = if self.has_own(node) {
            self.timing.lease
        } else {
            Duration::ZERO
        };
        let message = self.proposal((anchor, lease), rows, hot, register);
        self.commands.push_back(Command::Send { to: node, message });
    }

    fn proposal(
        &self,
        (anchor, lease): (Token, Duration),
        rows: Rows,
        hot: Option<Vec<HotKey>>,
        register: Option<Shared<RegisterUpdate>>,
    ) -> ToNode {
        ToNode::Propose(Propose {
            position: Position {
                term: self.term,
                generation: self.generation,
            },
            leader: self.node,
            policy: self.policy_version,
            anchor,
            lease,
            rows,
            hot,
            register,
        })
    }

    /// What has changed since the register that the voter is known to have; nothing for a node that
    /// is no voter.
    fn register_for(
        &self,
        node: NodeId,
        registers: &mut Registers,
    ) -> Option<Shared<RegisterUpdate>> {
        if !self.backend.is_voted() {
            return None;
        }
        let base = self.electorate.base(node)?;
        if let Some(known) = registers.iter().find(|register| register.base == base) {
            return Some(known.clone());
        }
        let mut nodes = self.book.envelopes_since(base);
        if self.rules.breaks(Mutation::FloorsUnrecorded) {
            nodes.iter_mut().for_each(without_floors);
        }
        let register = Shared::new(RegisterUpdate {
            base,
            lease: self.longest_lease(self.last_proposal),
            nodes,
        });
        registers.push(register.clone());
        Some(register)
    }

    /// What is lost on the way is sent again in every tick, until it is answered. Voters that have
    /// answered everything are told of the latest commit once more: they have to hear that this
    /// leader lives.
    pub(super) fn remind(&mut self, now: Nanos) {
        // After a change of policy the latest proposal is about other limits.
        if now - self.last_proposal < self.timing.tick / 2 || self.renewal_forced {
            return;
        }
        let unanswered: Vec<NodeId> = self
            .participating(now)
            .filter(|(_, member)| {
                // To whom it was not proposed when it was made has to wait for the next.
                let is_anchored = member
                    .anchor
                    .is_some_and(|anchor| anchor.generation == self.generation);
                member.unanswered_since.is_some()
                    && is_anchored
                    && member
                        .acknowledged
                        .is_none_or(|(generation, _)| generation < self.generation)
            })
            .map(|(node, _)| node)
            .collect();
        let mut registers = Registers::new();
        // What the book says was proposed has to be what is sent: since then other keys may be hot.
        let is_same = !self.hot.has_news(now);
        for node in &unanswered {
            if !is_same {
                if self.electorate.contains(*node) {
                    self.send_commit(*node);
                }
                continue;
            }
            let rows = self.rows(*node);
            self.send_proposal(*node, rows, self.hot.announced(), &mut registers);
        }
        for voter in self.electorate.voters() {
            if unanswered.contains(&voter) {
                continue;
            }
            if !self.electorate.has_voted(voter, self.generation)
                && !self.members.contains_key(&voter)
            {
                self.send_proposal(voter, Rows::default(), None, &mut registers);
            } else {
                self.send_commit(voter);
            }
        }
    }

    /// What a successor has to reckon with: also what the leader before granted, while it lasts.
    pub(super) fn longest_lease(&self, now: Nanos) -> Duration {
        match self.inherited {
            Some((lease, end)) if now < end => lease,
            _ => self.timing.lease,
        }
    }
}

fn without_floors(node: &mut NodeEnvelope) {
    let lease_part = |limit: &LimitEnvelope| LimitEnvelope {
        floor: weir_model::Amount::ZERO,
        ..*limit
    };
    for limit in &mut node.limits {
        *limit = lease_part(limit);
    }
}
