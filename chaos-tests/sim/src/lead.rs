//! A host as a candidate and a leader: what the protocol's core decides, done in the world.

use std::time::Duration;

use weir_coord_core::{
    campaign::Step,
    commit::{FleetCommit, QuorumCommit, ZooKeeperCommit},
    leader::{Command, Input, Leader, Mandate, StepDown},
    record::{Candidate, MemberRecord, TermRecord},
    rules::Mutation,
    voters::succeeding,
};
use weir_model::{
    NodeId, Term,
    message::{FromNode, ToNode},
};

use crate::{
    host::{Bid, Daemon},
    mutation::Broken,
    world::{Message, TIMING, World},
    zookeeper::{Ask, Inherited},
};

impl World {
    /// Voters are asked once a tick, and not for every answer.
    pub(super) fn campaign(&mut self, host: usize, asks: bool) {
        let local = self.local(host);
        let Some(daemon) = self.daemon(host) else {
            return;
        };
        let is_idle = daemon.leader.is_none() && daemon.bid.is_none() && local >= daemon.retry_at;
        let has_begun = daemon.session.is_some() && daemon.follower.is_some();
        let Some(term) = daemon.term.clone().filter(|_| is_idle && has_begun) else {
            return;
        };
        match daemon.campaign.poll(&term, local) {
            Some(Step::TakeOver { instead_of }) => self.bid(host, instead_of, None),
            Some(Step::Ask(suspect)) if asks => {
                for voter in term.voters {
                    let to = self.places[&voter];
                    if to != host {
                        self.send(host, to, &Message::Suspect(suspect));
                    }
                }
            }
            Some(Step::Ask(_)) | None => {}
        }
    }

    pub(super) fn bid(
        &mut self,
        host: usize,
        instead_of: Option<NodeId>,
        voters: Option<Vec<NodeId>>,
    ) {
        let Some(daemon) = self.daemon(host).filter(|daemon| daemon.bid.is_none()) else {
            return;
        };
        daemon.bid = Some(Bid {
            instead_of,
            voters,
            written: None,
        });
        self.ask(host, Ask::ReadTerm);
    }

    pub(super) fn bid_failed(&mut self, host: usize) {
        let local = self.local(host);
        let pause = Duration::from_millis(100) + self.dice.up_to_ms(200);
        if let Some(daemon) = self.daemon(host) {
            daemon.bid = None;
            daemon.retry_at = local + pause;
        }
    }

    pub(super) fn write_term(&mut self, host: usize, stored: &TermRecord, version: u64) {
        let node = self.hosts[host].id;
        let reuses = Broken::breaks(self.settings.broken, Mutation::TermReused);
        let Some(daemon) = self.daemon(host) else {
            return;
        };
        let at_least = daemon.at_least;
        let Some(bid) = daemon.bid.clone() else {
            return;
        };
        if let Some(written) = bid.written {
            if *stored == written {
                self.ask(host, Ask::Inherit { record: written });
            } else {
                self.bid_failed(host);
            }
            return;
        }
        let members = &daemon.roster;
        let voters = bid
            .voters
            .unwrap_or_else(|| succeeding(&stored.voters, members, node));
        let candidate = Candidate {
            node,
            address: String::new(),
            lease: TIMING.lease,
            is_voted: !self.settings.by_zookeeper,
        };
        let mut record = stored.successor(candidate, at_least, voters, 0);
        if reuses && stored.term > Term(0) {
            record.term = stored.term;
        }
        let instead_of = bid.instead_of;
        self.ask(
            host,
            Ask::WriteTerm {
                record,
                version,
                instead_of,
            },
        );
    }

    pub(super) fn begin_term(&mut self, host: usize, record: TermRecord, inherited: Inherited) {
        let Some((policy, next)) = self.daemon(host).map(|daemon| daemon.policies) else {
            return;
        };
        let rules = Broken::rules(self.settings.broken);
        let local = self.local(host);
        let backend = if self.settings.by_zookeeper {
            FleetCommit::ZooKeeper(ZooKeeperCommit::default())
        } else {
            FleetCommit::Quorum(QuorumCommit::new(record.voters.clone(), rules))
        };
        let mandate = Mandate {
            node: self.hosts[host].id,
            record: record.clone(),
            adopted: inherited.envelope,
            members: inherited.roster.to_vec(),
            policy: (policy, self.policies.of(policy).clone()),
            in_force: inherited.in_force,
        };
        let epoch = self.hosts[host].epoch;
        self.judge.leads(record.term, host, epoch);
        let Some(daemon) = self.hosts[host].daemon.as_mut() else {
            return;
        };
        daemon.bid = None;
        daemon.at_least = daemon.at_least.max(record.term);
        let leader = Leader::with_rules(mandate, TIMING, backend, rules, local);
        daemon.leader = Some(leader);
        self.learn_term(host, record);
        if next > policy {
            let document = self.policies.of(next).clone();
            self.lead(host, Input::Prepare(next, document));
        }
        self.lead(host, Input::Tick);
    }

    /// An answer to a leader, unless it is another one by now.
    pub(super) fn lead_in(&mut self, host: usize, term: Term, input: Input) {
        let is_own = |daemon: &mut Daemon| {
            daemon
                .leader
                .as_ref()
                .is_some_and(|leader| leader.term() == term)
        };
        if self.daemon(host).is_some_and(is_own) {
            self.lead(host, input);
        }
    }

    pub(super) fn hear(&mut self, host: usize, message: FromNode) {
        if !self.leads(host) {
            return;
        }
        if let FromNode::Report(report) = &message {
            let daemon = self.daemon(host).expect("it leads");
            let is_member = daemon
                .roster
                .iter()
                .any(|member| member.node == report.node);
            if !is_member {
                let place = self.places[&report.node];
                let record = MemberRecord {
                    node: report.node,
                    name: "host".into(),
                    weight: self.hosts[place].weight,
                    floors: Vec::new(),
                    is_drained: false,
                    is_powered_off: false,
                };
                self.lead(host, Input::Join(record));
            }
        }
        self.lead(host, Input::FromNode(message));
    }

    pub(super) fn lead(&mut self, host: usize, input: Input) {
        let local = self.local(host);
        let Some(leader) = self.daemon(host).and_then(|daemon| daemon.leader.as_mut()) else {
            return;
        };
        let was_preparing = leader.is_preparing();
        leader.handle(input, local);
        if was_preparing && !leader.is_preparing() {
            let term = leader.term();
            self.judge.begins(term, self.now);
        }
        loop {
            let Some(leader) = self.daemon(host).and_then(|daemon| daemon.leader.as_mut()) else {
                return;
            };
            let (term, committed) = (leader.term(), leader.committed());
            let Some(command) = leader.poll_command() else {
                break;
            };
            self.judge_commit(host, term, committed);
            self.perform(host, term, command);
        }
    }

    pub(super) fn perform(&mut self, host: usize, term: Term, command: Command) {
        match command {
            Command::Send { to, message } => {
                if let ToNode::Propose(propose) = &message {
                    self.judge.uses(&self.policies, propose.policy);
                }
                let to = self.places[&to];
                self.send(host, to, &Message::Down(Box::new(message)));
            }
            Command::Store(record) => self.ask(host, Ask::Store(record)),
            Command::Admit(record) => {
                let version = self.zookeeper.member_version(record.node);
                self.ask(host, Ask::Admit(term, record, version));
            }
            Command::Remove(node) => {
                let version = self.zookeeper.member_version(node);
                self.ask(host, Ask::Remove(term, node, version));
            }
            Command::Activate(version, places) => {
                self.ask(host, Ask::Activate(term, version, places));
            }
            Command::Activated => {
                let is_voted = !self.settings.by_zookeeper;
                self.ask(host, Ask::DropFormer(term, is_voted));
            }
            Command::ChangeVoters(voters) => {
                self.note(|| format!("{host}: other voters: {voters:?}"));
                self.bid(host, None, Some(voters));
            }
            Command::StepDown(reason) => {
                self.note(|| format!("{host}: steps down from {term}: {reason:?}"));
                if let StepDown::Refused(higher) = reason {
                    let daemon = self.daemon(host).expect("it leads");
                    daemon.at_least = daemon.at_least.max(higher);
                }
                if reason == StepDown::Idle {
                    self.daemon(host).expect("it leads").leader = None;
                    self.bid_failed(host);
                    self.ask(host, Ask::Resign);
                } else if !self.is_stubborn() {
                    self.daemon(host).expect("it leads").leader = None;
                }
            }
        }
    }
}
