//! Leading: what the leader's core asks for is performed, and what came of it goes back in.

use tracing::{debug, info, warn};
use weir_coord_core::{
    commit::{FleetCommit, QuorumCommit, StoreOutcome, ZooKeeperCommit},
    leader::{Command, Input, Leader, Mandate, StepDown},
    record::{EnvelopeRecord, MemberRecord, PolicyRecord, TermRecord},
};
use weir_model::{Nanos, NodeId, Policy, message::ToNode};

use super::{
    CommitBy, Fleet,
    standing::{RETRY_MAX, Retry},
    trace::TakeOverTrace,
};
use crate::{
    broken,
    zookeeper::{Roster, TakeOverFailure},
};

impl Fleet {
    pub(super) fn taken_over(
        &mut self,
        record: TermRecord,
        adopted: Option<EnvelopeRecord>,
        (roster, in_force): (Roster, PolicyRecord),
        now: Nanos,
    ) {
        self.is_taking_over = false;
        if self.registration.is_none() {
            // It was written while the identity was still this host's.
            return;
        }
        let voters = record.voters.len();
        info!(term = %record.term, members = roster.members.len(), voters, "leading");
        if let Some(trace) = &mut self.take_over_trace {
            trace.leads(&record, roster.members.len(), self.policy.0.0);
        }
        let mandate = Mandate {
            node: self.host.node,
            record: record.clone(),
            adopted,
            members: roster.members.clone(),
            policy: self.policy.clone(),
            in_force,
        };
        self.at_least = self.at_least.max(record.term);
        self.campaign.set_term(record.term, now);
        self.hearsay.clear();
        self.roster = roster;
        self.retry = Retry::default();
        let backend = match self.host.commit {
            CommitBy::Quorum => {
                FleetCommit::Quorum(QuorumCommit::new(record.voters.clone(), broken::rules()))
            }
            CommitBy::ZooKeeper => FleetCommit::ZooKeeper(ZooKeeperCommit::default()),
        };
        let (timing, rules) = (self.host.timing, broken::rules());
        self.leader = Some(Leader::with_rules(mandate, timing, backend, rules, now));
        self.streams.open();
        self.link.follow(None);
        if let Some((version, policy)) = self.next.clone() {
            self.lead(Input::Prepare(version, policy), now);
        }
    }

    pub(super) fn take_over_failed(&mut self, reason: TakeOverFailure, now: Nanos) {
        self.is_taking_over = false;
        if let Some(trace) = self.take_over_trace.take() {
            trace.failed(&reason.to_string());
        }
        if self.leader.is_none() {
            self.streams.close();
        }
        if matches!(reason, TakeOverFailure::Refused(_)) {
            // What this node cannot read another may; let it have its turn.
            self.keeper.resign();
        }
        self.retry.failed(reason, now);
    }

    pub(super) fn lead(&mut self, input: Input, now: Nanos) {
        let Some(leader) = &mut self.leader else {
            return;
        };
        leader.handle(input, now);
        while let Some(command) = self.leader.as_mut().and_then(Leader::poll_command) {
            self.perform(command, now);
        }
    }

    pub(super) fn perform(&mut self, command: Command, now: Nanos) {
        match command {
            Command::Send { to, message } => {
                if matches!(message, ToNode::Commit(_)) {
                    self.take_over_trace.take_if(TakeOverTrace::committed);
                }
                if to == self.host.node {
                    self.at_home.push_back(message);
                } else {
                    self.streams.send(to, message);
                }
            }
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
                let is_voted = self.host.commit == CommitBy::Quorum;
                let _ = term.map(|term| self.keeper.drop_former(term, is_voted));
            }
            Command::ChangeVoters(voters) => {
                info!(?voters, "the voters are to be others: a new term");
                if !self.is_taking_over {
                    self.take_over(None, Some(voters));
                }
            }
            Command::Remove(node) => {
                info!(%node, "removing a member");
                if self.keeper.remove(node).is_err() {
                    let outcome = StoreOutcome::Unknown;
                    self.tell(Input::Removed { node, outcome }, now);
                }
            }
            Command::Activate(version, places) => {
                let keeper = self.keeper.clone();
                // It is asked for again until ZooKeeper says so.
                tokio::spawn(async move {
                    if let Err(error) = keeper.activate(version, places).await {
                        warn!(%version, %error, "not written down yet that a policy is in force");
                    }
                });
            }
            Command::StepDown(reason) => self.step_down(reason, now),
        }
    }

    /// As [`Self::lead`], for an answer that comes while commands are performed.
    pub(super) fn tell(&mut self, input: Input, now: Nanos) {
        if let Some(leader) = &mut self.leader {
            leader.handle(input, now);
        }
    }

    pub(super) fn step_down(&mut self, reason: StepDown, now: Nanos) {
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

    pub(super) fn resign(&mut self, reason: &str) {
        if let Some(leader) = self.leader.take() {
            warn!(term = %leader.term(), reason, "no longer leading");
            if let Some(trace) = self.take_over_trace.take_if(|_| !self.is_taking_over) {
                trace.failed(reason);
            }
            // If this node is about to lead again, its nodes may as well stay.
            if !self.is_taking_over {
                self.streams.close();
            }
        }
    }

    /// The roster has changed. Listings are read member by member, beside a take-over, which reads them
    /// too: one that is older than that names members that may have been removed since, and whose floors
    /// are others'.
    pub(super) fn members_changed(&mut self, roster: Roster, now: Nanos) {
        let is_older = roster.version.wrapping_sub(self.roster.version) < 0;
        if is_older && self.leader.is_some() {
            debug!(
                version = roster.version,
                "a listing of the roster is out of date"
            );
            return;
        }
        self.roster_seen.send_replace(roster.members.clone());
        self.roster = roster.clone();
        self.lead(Input::Members(roster.members), now);
    }

    /// Whether nobody is admitted now, as a policy is to come into force, or may be, which has room for
    /// fewer members: it would not begin before some have left. What a change that waits to be confirmed is
    /// rolled back to may be such a one.
    ///
    /// Trials, and policies to come, are heard of by themselves, each a moment before or after the others.
    pub(super) fn keeps_room(&self, now: Nanos) -> bool {
        let leader = self.leader.as_ref();
        let is_unwritten = leader.is_some_and(|leader| leader.policy_version() > self.policy.0);
        let is_news = now - self.policy_news < self.host.timing.suspicion();
        let members = self.members().len();
        let is_full = |(_, next): &(_, Policy)| {
            usize::try_from(next.fleet.max_members).is_ok_and(|places| members >= places)
        };
        let is_last_place = self.next.as_ref().is_some_and(is_full);
        self.trial.is_some() || is_last_place || is_unwritten || is_news
    }

    /// Says once that there is no place for a newcomer.
    pub(super) fn warn_if_full(&mut self, newcomer: &MemberRecord) {
        let is_full = self
            .leader
            .as_ref()
            .is_some_and(|leader| leader.turns_away(newcomer.node));
        if is_full && !self.turned_away {
            warn!(
                node = %newcomer.node,
                name = newcomer.name,
                "not admitted: there are as many members as `max_members` has floors for, here or \
                 in a policy that a member may still go by; raise it, or remove a member"
            );
        }
        self.turned_away = is_full;
    }

    /// The record of a live node that is no member yet.
    pub(super) fn newcomer(&self, node: NodeId) -> Option<MemberRecord> {
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
