//! Making a proposal and getting it through: rule 3, *book*, as far as messages go.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use weir_model::{
    Nanos, NodeId,
    message::{Position, Propose, Row, ToNode, Token},
    register::RegisterUpdate,
};

use super::{Command, Leader, PlannedRow, coordinated, roster::Stage};
use crate::{
    allocation::{Participant, step, targets},
    book::Entry,
    commit::CommitBackend,
    record::{EnvelopeRecord, LimitEnvelope, NodeEnvelope},
    rules::Mutation,
};

impl<B: CommitBackend> Leader<B> {
    pub(super) fn plan(&self, now: Nanos) -> BTreeMap<NodeId, Vec<PlannedRow>> {
        let (idle, present): (Vec<_>, Vec<_>) = self
            .participating(now)
            .partition(|(node, _)| self.is_idle(*node));
        let mut plan: BTreeMap<NodeId, Vec<PlannedRow>> = present
            .iter()
            .chain(&idle)
            .map(|(node, _)| (*node, Vec::new()))
            .collect();
        for limit in coordinated(&self.policy) {
            let participants: Vec<Participant> = present
                .iter()
                .map(|(node, member)| Participant {
                    node: *node,
                    weight: member.record.weight,
                    demand: member
                        .meters
                        .get(&limit.id)
                        .map_or(limit.floor.rate, |meter| meter.rates().demand),
                    reserved: if self.rules.breaks(Mutation::FloorBeforeRoster) {
                        limit.floor
                    } else {
                        self.reserved_floor(*node, member, limit)
                    },
                })
                .collect();
            // Those who wait for floors need room.
            let mut roomy = limit.clone();
            for (node, joining) in &self.joining {
                if joining.stage == Stage::Waiting {
                    let held = self.book.envelope(*node, limit.id);
                    let more = joining.record.floor(limit).saturating_sub(held);
                    roomy.budget = roomy.budget.saturating_sub(more);
                }
            }
            let targets = targets(&roomy, &participants, &self.book);
            let entries = step(limit, &participants, &targets, &self.book);
            for (participant, entry) in participants.iter().zip(entries) {
                let row = PlannedRow {
                    limit: limit.id,
                    entry,
                };
                plan.entry(participant.node).or_default().push(row);
            }
            for (node, member) in &idle {
                let row = PlannedRow {
                    limit: limit.id,
                    entry: if self.leaving.contains_key(node) {
                        Entry::default()
                    } else {
                        Entry::floor(limit.floor.min(self.reserved_floor(*node, member, limit)))
                    },
                };
                plan.entry(*node).or_default().push(row);
            }
        }
        plan
    }

    /// Puts the plan in the book, and sends each node its part, and each voter the register.
    pub(super) fn propose(
        &mut self,
        plan: &BTreeMap<NodeId, Vec<PlannedRow>>,
        renewal_due: bool,
        now: Nanos,
    ) {
        let grows = plan.iter().any(|(node, rows)| {
            rows.iter().any(|row| {
                let latest = self.book.latest(*node, row.limit);
                !row.entry.amount.fits(latest.amount) || !row.entry.floor.fits(latest.floor)
            })
        });
        self.generation = self.generation.next();
        self.last_proposal = now;
        for (node, rows) in plan {
            for row in rows {
                self.book
                    .propose(*node, row.limit, self.generation, row.entry);
            }
            if self.rules.breaks(Mutation::GrowBeforeShrink) {
                self.book.acknowledge(*node, self.generation);
            }
            if let Some(member) = self.members.get_mut(node) {
                member.unanswered_since.get_or_insert(now);
            }
        }
        // Rule 4, *quorum*: what voters are told covers all of this proposal.
        for (node, rows) in plan {
            let rows = rows
                .iter()
                .map(|row| Row {
                    limit: row.limit,
                    amount: row.entry.amount,
                    floor: row.entry.floor,
                })
                .collect();
            self.send_proposal(*node, rows);
        }
        for voter in self.electorate.others(plan) {
            self.send_proposal(voter, Vec::new());
        }
        self.book.close(self.generation);
        self.joining_proposed();
        // Fencing growth alone would let a deposed leader renew a node for ever.
        if self.backend.is_voted() || grows || renewal_due {
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

    /// Rule 5, *anchor*: the proposal carries the node's latest token that is held *before* it is
    /// made, and the book counts the lease from when that was heard.
    fn send_proposal(&mut self, node: NodeId, rows: Vec<Row>) {
        let member = self.members.get(&node).and_then(|member| member.heard);
        let member = member.map(|heard| (heard.token, heard.at));
        let Some((anchor, heard_at)) = member.or_else(|| self.electorate.heard(node)) else {
            return;
        };
        let register = self.register_for(node);
        let wait = if self.rules.breaks(Mutation::ReuseBeforeWait) {
            self.timing.stale()
        } else {
            self.timing.wait()
        };
        if !rows.is_empty() {
            self.book.extend_lease(node, heard_at + wait);
        }
        let message = self.proposal(anchor, rows, register);
        self.commands.push_back(Command::Send { to: node, message });
    }

    fn proposal(&self, anchor: Token, rows: Vec<Row>, register: Option<RegisterUpdate>) -> ToNode {
        ToNode::Propose(Propose {
            position: Position {
                term: self.term,
                generation: self.generation,
            },
            leader: self.node,
            policy: self.policy_version,
            anchor,
            lease: self.timing.lease,
            rows,
            hot: None,
            register,
        })
    }

    /// What has changed since the register that the voter is known to have; nothing for a node that
    /// is no voter.
    fn register_for(&self, node: NodeId) -> Option<RegisterUpdate> {
        if !self.backend.is_voted() {
            return None;
        }
        let base = self.electorate.base(node)?;
        let mut nodes = self.book.envelopes_since(base);
        if self.rules.breaks(Mutation::FloorsUnrecorded) {
            nodes.iter_mut().for_each(without_floors);
        }
        Some(RegisterUpdate {
            base,
            lease: self.longest_lease(self.last_proposal),
            nodes,
        })
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
                member.unanswered_since.is_some()
                    && member
                        .acknowledged
                        .is_none_or(|(generation, _)| generation < self.generation)
            })
            .map(|(node, _)| node)
            .collect();
        for node in &unanswered {
            let rows = coordinated(&self.policy)
                .map(|limit| {
                    let entry = self.book.latest(*node, limit.id);
                    Row {
                        limit: limit.id,
                        amount: entry.amount,
                        floor: entry.floor,
                    }
                })
                .collect();
            self.send_proposal(*node, rows);
        }
        for voter in self.electorate.voters() {
            if unanswered.contains(&voter) {
                continue;
            }
            if !self.electorate.has_voted(voter, self.generation)
                && !self.members.contains_key(&voter)
            {
                self.send_proposal(voter, Vec::new());
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
