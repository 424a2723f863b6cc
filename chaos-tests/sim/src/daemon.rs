//! The daemon's shell: it performs what the protocol's core decides, in the simulated world.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use weir_coord_core::{
    campaign::{Campaign, Step},
    commit::{FleetCommit, QuorumCommit, StoreOutcome, ZooKeeperCommit},
    follower::{Birth, Command as NodeCommand, Follower, Grant},
    leader::{Command, Input, Leader, Mandate, StepDown},
    record::{EnvelopeRecord, MemberRecord, TermRecord},
    rules::Mutation,
    voters::succeeding,
};
use weir_model::{
    Amount, Nanos, NodeId, PolicyVersion, Term,
    message::{FromNode, Position, ToNode},
};

use crate::{
    host::{Bid, Daemon},
    limits::FINEST,
    mutation::Broken,
    world::{Event, Message, TIMING, World},
    zookeeper::{Answer, Ask},
};

/// How long an answer of ZooKeeper is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

impl World {
    pub(super) fn daemon(&mut self, host: usize) -> Option<&mut Daemon> {
        self.hosts[host].daemon.as_mut()
    }

    fn local(&self, host: usize) -> Nanos {
        self.hosts[host].clock.at(self.now)
    }

    /// A daemon starts: it takes up what the kernel holds, and asks for a session.
    pub fn boot(&mut self, host: usize) {
        if self.hosts[host].daemon.is_some() {
            return;
        }
        if self.hosts[host].is_condemned {
            return self.schedule(Duration::from_millis(500), Event::Boot { host });
        }
        let local = self.local(host);
        let place = &mut self.hosts[host];
        place.is_powered = true;
        place.epoch += 1;
        place.prepare_kernel(&self.policies, local);
        place.daemon = Some(Daemon {
            started: local,
            session: None,
            incarnation: None,
            follower: None,
            leader: None,
            campaign: Campaign::new(place.id, TIMING),
            term: None,
            roster: Arc::default(),
            bid: None,
            retry_at: Nanos::ZERO,
            at_least: Term(0),
            stalled: VecDeque::new(),
            is_watching: false,
        });
        let epoch = place.epoch;
        self.note(|| format!("{host}: the daemon starts"));
        let first = self.dice.up_to_ms(100);
        self.schedule(first, Event::Tick { host, epoch });
        self.ask(host, Ask::Register);
    }

    /// Sends an ask to ZooKeeper.
    pub fn ask(&mut self, host: usize, ask: Ask) {
        let Some(session) = self.daemon(host).map(|daemon| daemon.session.unwrap_or(0)) else {
            return;
        };
        let epoch = self.hosts[host].epoch;
        let after = Duration::from_micros(500) + self.dice.up_to_ms(4);
        let event = Event::Asked {
            host,
            epoch,
            session,
            ask: Box::new(ask),
            is_forsaken: false,
        };
        self.schedule(after, event);
    }

    /// An ask is at ZooKeeper's door.
    pub(super) fn asked(
        &mut self,
        host: usize,
        epoch: u64,
        session: u64,
        ask: Box<Ask>,
        is_forsaken: bool,
    ) {
        let answer_to = |answer| Event::Answered {
            host,
            epoch,
            ask: ask.clone(),
            answer,
        };
        if !self.reaches_zookeeper(host) {
            // What was asked while disconnected is applied after the reconnection, even if nobody
            // waits for it any more.
            if !is_forsaken {
                self.schedule(PATIENCE, answer_to(None));
            }
            if is_forsaken || self.dice.one_in(2) {
                let event = Event::Asked {
                    host,
                    epoch,
                    session,
                    ask,
                    is_forsaken: true,
                };
                let later = Duration::from_millis(200) + self.dice.up_to_ms(800);
                self.schedule(later, event);
            }
            return;
        }
        let is_read = matches!(
            *ask,
            Ask::ReadTerm | Ask::ReadTermForLife | Ask::Inherit { .. } | Ask::Register
        );
        if is_forsaken && is_read {
            return;
        }
        // A server ends a connection whose session it has ended.
        let has_session = self.zookeeper.sessions.contains_key(&session);
        if !has_session && !matches!(*ask, Ask::Register) {
            if !is_forsaken {
                self.schedule(Duration::from_millis(1), answer_to(None));
            }
            return;
        }
        let node = self.hosts[host].id;
        let (answer, has_changed) =
            self.zookeeper
                .apply(host, node, session, (*ask).clone(), self.now);
        if has_changed {
            self.tell_watchers();
        }
        if is_forsaken {
            return;
        }
        let is_lost = self.settings.faults && self.dice.one_in(25);
        let (after, answer) = if is_lost {
            (PATIENCE, None)
        } else {
            let after = Duration::from_micros(300) + self.dice.up_to_ms(3);
            (after, Some(Box::new(answer)))
        };
        self.schedule(after, answer_to(answer));
    }

    /// Something in ZooKeeper has changed.
    pub fn tell_watchers(&mut self) {
        for host in 0..self.hosts.len() {
            let epoch = self.hosts[host].epoch;
            let Some(daemon) = self.hosts[host].daemon.as_mut() else {
                continue;
            };
            if !std::mem::replace(&mut daemon.is_watching, true) {
                let after = if self.settings.faults && self.dice.one_in(20) {
                    self.dice.up_to_ms(3_000)
                } else {
                    Duration::from_micros(200) + self.dice.up_to_ms(5)
                };
                self.schedule(after, Event::Watched { host, epoch });
            }
        }
    }

    /// What a watch shows: all that is of interest, as it is now.
    pub(super) fn watched(&mut self, host: usize) {
        let node = self.hosts[host].id;
        let record = self.zookeeper.term.clone();
        let roster = self.zookeeper.roster.clone();
        let place = self.zookeeper.place(node);
        let local = self.local(host);
        self.tell_of_policies(host);
        let Some(daemon) = self.daemon(host) else {
            return;
        };
        daemon.is_watching = false;
        daemon.campaign.set_place(place);
        let session = daemon.session;
        if session.is_some_and(|session| !self.zookeeper.sessions.contains_key(&session)) {
            // The session is over; another one is made.
            self.daemon(host).expect("it runs").session = None;
            self.ask(host, Ask::Register);
        }
        self.learn_term(host, record);
        let own = roster.iter().find(|member| member.node == node).cloned();
        self.daemon(host).expect("it runs").roster = roster.clone();
        if self.leads(host) {
            self.lead(host, Input::Members(roster.to_vec()));
        }
        match own {
            Some(own) if !self.hosts[host].is_member => {
                self.hosts[host].is_member = true;
                self.hosts[host].ensure_reserved_floors(&self.policies, &own, local);
            }
            None if self.hosts[host].is_member => {
                self.note(|| format!("{host}: is no member any more"));
                self.hosts[host].leave(local);
            }
            _ => {}
        }
    }

    /// What ZooKeeper says of policies: there is a newer one to be made ready, or in force.
    fn tell_of_policies(&mut self, host: usize) {
        let (current, document) = (self.zookeeper.policy, self.zookeeper.document);
        self.enforce(host, current);
        if document > current {
            let place = &mut self.hosts[host];
            if place.prepared < document && place.policy != document {
                place.prepared = document;
                let daemon = place.daemon.as_mut();
                if let Some(follower) = daemon.and_then(|daemon| daemon.follower.as_mut()) {
                    follower.prepare_policy(document);
                }
            }
            let policy = self.policies.of(document).clone();
            self.lead(host, Input::Prepare(document, policy));
        }
        let policy = self.policies.of(current).clone();
        self.lead(host, Input::Policy(current, policy));
    }

    /// A host takes up the policy that is in force, in its kernel first.
    fn enforce(&mut self, host: usize, version: PolicyVersion) {
        if version <= self.hosts[host].policy {
            return;
        }
        self.switch(host, version);
        let place = &mut self.hosts[host];
        let held: Vec<Grant> = place.kernel.grants().collect();
        if let Some(follower) = place
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.follower.as_mut())
        {
            follower.set_policy(version, held);
        }
    }

    /// The kernel enforces another policy from this packet on.
    fn switch(&mut self, host: usize, version: PolicyVersion) {
        let local = self.local(host);
        self.note(|| format!("{host}: enforces policy {version}"));
        self.hosts[host].switch_policy(&self.policies, version, local);
    }

    fn learn_term(&mut self, host: usize, record: TermRecord) {
        let broken = self.settings.broken;
        let local = self.local(host);
        let Some(daemon) = self.hosts[host].daemon.as_mut() else {
            return;
        };
        if daemon.session.is_none() || daemon.follower.is_none() {
            // Only what is read after the registration counts for a life.
            return;
        }
        daemon.campaign.set_term(record.term, local);
        daemon.at_least = daemon.at_least.max(record.term);
        let forgets = Broken::breaks(broken, Mutation::PromiseForgotten);
        if let Some(follower) = daemon.follower.as_mut().filter(|_| !forgets) {
            follower.promise(record.term);
        }
        let is_deposed = daemon
            .leader
            .as_ref()
            .is_some_and(|leader| leader.term() < record.term);
        if daemon
            .term
            .as_ref()
            .is_none_or(|term| term.term <= record.term)
        {
            daemon.term = Some(record);
        }
        if is_deposed && !self.is_stubborn() {
            self.hosts[host].daemon.as_mut().expect("it runs").leader = None;
        }
    }

    /// A deposed leader may be slow to believe it. The others must not care.
    fn is_stubborn(&mut self) -> bool {
        self.settings.faults && !self.dice.one_in(3)
    }

    pub(super) fn tick(&mut self, host: usize) {
        let local = self.local(host);
        if let Some(report) = self.hosts[host].report(&self.policies, local) {
            self.send_up(host, report);
        }
        self.campaign(host, true);
        self.lead(host, Input::Tick);
    }

    /// To the leader; when things go wrong, to whoever thinks to be one.
    fn send_up(&mut self, host: usize, message: FromNode) {
        let message = Message::Up(Box::new(message));
        let term = self.hosts[host]
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.term.as_ref());
        let leader = term
            .and_then(|term| term.leader)
            .map(|leader| self.places[&leader]);
        if let Some(leader) = leader {
            self.send(host, leader, &message);
        }
        if self.settings.faults {
            for other in 0..self.hosts.len() {
                if Some(other) != leader && self.leads(other) && self.dice.one_in(2) {
                    self.send(host, other, &message);
                }
            }
        }
    }

    /// Voters are asked once a tick, and not for every answer.
    fn campaign(&mut self, host: usize, asks: bool) {
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

    fn bid(&mut self, host: usize, instead_of: Option<NodeId>, voters: Option<Vec<NodeId>>) {
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

    fn bid_failed(&mut self, host: usize) {
        let local = self.local(host);
        let pause = Duration::from_millis(100) + self.dice.up_to_ms(200);
        if let Some(daemon) = self.daemon(host) {
            daemon.bid = None;
            daemon.retry_at = local + pause;
        }
    }

    pub(super) fn answered(&mut self, host: usize, ask: Ask, answer: Option<Answer>) {
        match (ask, answer) {
            (_, Some(Answer::Registered(session, incarnation))) => {
                let daemon = self.daemon(host).expect("it runs");
                daemon.session = Some(session);
                daemon.incarnation = Some(incarnation);
                self.ask(host, Ask::ReadTermForLife);
            }
            (_, Some(Answer::TermForLife(record))) => self.begin_life(host, record),
            (_, Some(Answer::Term(record, version))) => self.write_term(host, &record, version),
            (_, Some(Answer::Written(true, record))) => self.ask(host, Ask::Inherit { record }),
            (_, Some(Answer::Inherited(record, roster, envelope, policy))) => {
                self.begin_term(host, record, roster, envelope, policy);
            }
            (_, Some(Answer::Removed(term, node, is_gone))) => {
                let outcome = outcome_of(is_gone);
                self.lead_in(host, term, Input::Removed { node, outcome });
            }
            (Ask::Remove(term, node, _), None) => {
                let outcome = StoreOutcome::Unknown;
                self.lead_in(host, term, Input::Removed { node, outcome });
            }
            (_, Some(Answer::Admitted(term, node, is_written))) => {
                let outcome = outcome_of(is_written);
                self.lead_in(host, term, Input::Admitted { node, outcome });
            }
            (_, Some(Answer::Stored(record, outcome))) => {
                let generation = record.generation;
                let outcome = outcome_of(outcome);
                self.lead_in(
                    host,
                    record.term,
                    Input::Stored {
                        generation,
                        outcome,
                    },
                );
            }
            (Ask::Register | Ask::ReadTermForLife, None) => self.ask(host, Ask::Register),
            (Ask::WriteTerm { record, .. }, None) => {
                // An unknown outcome: read again, and accept only what was tried.
                if let Some(bid) = self.daemon(host).and_then(|daemon| daemon.bid.as_mut()) {
                    bid.written = Some(record);
                    self.ask(host, Ask::ReadTerm);
                }
            }
            (Ask::ReadTerm | Ask::Inherit { .. } | Ask::WriteTerm { .. }, _) => {
                self.bid_failed(host);
            }
            (Ask::Admit(term, record, _), None) => {
                let outcome = StoreOutcome::Unknown;
                let node = record.node;
                self.lead_in(host, term, Input::Admitted { node, outcome });
            }
            (Ask::Store(record), None) => {
                let generation = record.generation;
                let outcome = StoreOutcome::Unknown;
                self.lead_in(
                    host,
                    record.term,
                    Input::Stored {
                        generation,
                        outcome,
                    },
                );
            }
            (Ask::DropFormer(term), None) => {
                let leads = |daemon: &mut Daemon| {
                    daemon
                        .leader
                        .as_ref()
                        .is_some_and(|leader| leader.term() == term)
                };
                if self.daemon(host).is_some_and(leads) {
                    self.ask(host, Ask::DropFormer(term));
                }
            }
            (Ask::Resign | Ask::Activate(..), None) | (_, Some(_)) => {}
        }
    }

    /// An answer to a leader, unless it is another one by now.
    fn lead_in(&mut self, host: usize, term: Term, input: Input) {
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

    /// Rule 7: the term was read after the incarnation was made.
    fn begin_life(&mut self, host: usize, record: TermRecord) {
        let rules = Broken::rules(self.settings.broken);
        let place = &mut self.hosts[host];
        let Some(daemon) = &mut place.daemon else {
            return;
        };
        let Some(incarnation) = daemon.incarnation else {
            return;
        };
        match &mut daemon.follower {
            Some(follower) => follower.begin_life(incarnation, record.term),
            None => {
                let has_history = record.term > Term(0);
                let birth = Birth {
                    node: place.id,
                    incarnation,
                    term: record.term,
                    abstains_until: if has_history {
                        daemon.started + TIMING.wait()
                    } else {
                        Nanos::ZERO
                    },
                };
                let held: Vec<Grant> = place.kernel.grants().collect();
                let mut follower = Follower::new(birth, place.policy, held, rules);
                follower.prepare_policy(place.prepared);
                daemon.follower = Some(follower);
            }
        }
        self.learn_term(host, record);
        self.watched(host);
    }

    fn write_term(&mut self, host: usize, stored: &TermRecord, version: u64) {
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
        let mut record = stored.successor(node, String::new(), at_least, voters, 0);
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

    fn begin_term(
        &mut self,
        host: usize,
        record: TermRecord,
        roster: Arc<Vec<MemberRecord>>,
        envelope: Option<EnvelopeRecord>,
        policy: PolicyVersion,
    ) {
        let rules = Broken::rules(self.settings.broken);
        let local = self.local(host);
        let backend = if self.settings.by_zookeeper {
            FleetCommit::ZooKeeper(ZooKeeperCommit::default())
        } else {
            FleetCommit::Quorum(QuorumCommit::new(record.voters.clone(), rules))
        };
        let mandate = Mandate {
            node: self.hosts[host].id,
            term: record.term,
            adopted: envelope,
            voter_sets: record.voter_sets(),
            members: roster.to_vec(),
            policy: (policy, self.policies.of(policy).clone()),
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
        self.tell_of_policies(host);
        self.lead(host, Input::Tick);
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, message: Message) {
        let local = self.local(to);
        match message {
            Message::Up(message) => self.hear(to, *message),
            Message::Down(message) => self.follow(from, to, *message),
            Message::Suspect(term) => {
                let Some(daemon) = self.daemon(to) else {
                    return;
                };
                let suspects = daemon.campaign.suspects(term, local);
                self.send(to, from, &Message::Suspected(term, suspects));
            }
            Message::Suspected(term, suspects) => {
                let voter = self.hosts[from].id;
                if let Some(daemon) = self.daemon(to) {
                    daemon.campaign.answered(voter, term, suspects, local);
                    self.campaign(to, false);
                }
            }
        }
    }

    fn hear(&mut self, host: usize, message: FromNode) {
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
                let record = MemberRecord {
                    node: report.node,
                    name: "host".into(),
                    weight: 1,
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

    fn perform(&mut self, host: usize, term: Term, command: Command) {
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
            Command::Activate(version) => self.ask(host, Ask::Activate(term, version)),
            Command::Activated => self.ask(host, Ask::DropFormer(term)),
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

    fn follow(&mut self, from: usize, to: usize, message: ToNode) {
        let local = self.local(to);
        let term = match &message {
            ToNode::Propose(propose) => propose.position.term,
            ToNode::Commit(commit) => commit.position.term,
            ToNode::Prepare(prepare) => prepare.term,
        };
        let Some(daemon) = self.daemon(to) else {
            return;
        };
        daemon.campaign.hear(term, local);
        let Some(follower) = &mut daemon.follower else {
            return;
        };
        follower.handle(message, local);
        let recorded = follower.recorded().unwrap_or_default();
        let place = &mut self.hosts[to];
        place.recorded = place.recorded.max(recorded);
        self.collect(to, from);
        self.resume(to);
    }

    /// Puts what a follower has decided at the end of what is to be done.
    fn collect(&mut self, host: usize, reply_to: usize) {
        while let Some(command) = self
            .daemon(host)
            .and_then(|daemon| daemon.follower.as_mut())
            .and_then(Follower::poll_command)
        {
            let daemon = self.daemon(host).expect("it runs");
            daemon.stalled.push_back((command, reply_to));
        }
    }

    /// Goes on with what was decided. A daemon may be stopped between any two steps.
    pub(super) fn resume(&mut self, host: usize) {
        while let Some((command, reply_to)) = self
            .daemon(host)
            .and_then(|daemon| daemon.stalled.pop_front())
        {
            if self.settings.faults && self.dice.one_in(400 * self.faults.rarity) {
                let pause = self.dice.up_to_ms(4_000);
                self.daemon(host)
                    .expect("it runs")
                    .stalled
                    .push_front((command, reply_to));
                self.pause(host, pause);
                let epoch = self.hosts[host].epoch;
                return self.schedule(pause, Event::Resume { host, epoch });
            }
            match command {
                NodeCommand::Install {
                    grants,
                    acknowledge,
                } => self.install(host, &grants, acknowledge, reply_to),
                NodeCommand::Send(message) => {
                    self.send(host, reply_to, &Message::Up(Box::new(message)));
                }
                NodeCommand::Enforce(version) => {
                    self.switch(host, version);
                    let local = self.local(host);
                    let held: Vec<Grant> = self.hosts[host].kernel.grants().collect();
                    if let Some(follower) = self
                        .daemon(host)
                        .and_then(|daemon| daemon.follower.as_mut())
                    {
                        follower.enforced(version, held, local);
                    }
                    self.collect(host, reply_to);
                }
            }
        }
        self.judge_follower(host);
    }

    fn install(
        &mut self,
        host: usize,
        grants: &[Grant],
        acknowledge: Option<Position>,
        reply_to: usize,
    ) {
        let local = self.local(host);
        let place = &mut self.hosts[host];
        let Some(follower) = place
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.follower.as_mut())
        else {
            return;
        };
        let mut installed = Vec::with_capacity(grants.len());
        let limits = &self.policies.of(place.policy).limits;
        for grant in grants {
            let before = place.kernel.grant(grant.limit);
            if place.kernel.install(*grant, local) {
                let number = limits.iter().position(|limit| limit.id == grant.limit);
                let before = before.map_or(Amount::ZERO, |before| before.effective(local));
                if let Some(number) = number {
                    let scale = limits[number].scale;
                    let amounts = [before, grant.effective(local)];
                    let [before, after] = amounts.map(|amount| amount.rescaled_up(scale, FINEST));
                    self.judge.installed(number, before, after);
                }
                if acknowledge.is_none() {
                    place.lease_terms.insert(grant.limit, follower.seen().term);
                }
                installed.push(*grant);
            }
        }
        place.remember_floors();
        let Some(follower) = place
            .daemon
            .as_mut()
            .and_then(|daemon| daemon.follower.as_mut())
        else {
            return;
        };
        let acknowledge = acknowledge.filter(|_| installed.len() == grants.len());
        follower.installed(&installed, acknowledge, local);
        let mut replies = Vec::new();
        while let Some(command) = follower.poll_command() {
            if let NodeCommand::Send(message) = command {
                replies.push(message);
            }
        }
        for message in replies {
            self.send(host, reply_to, &Message::Up(Box::new(message)));
        }
        self.judge_installed();
    }
}

const fn outcome_of(is_written: Option<bool>) -> StoreOutcome {
    match is_written {
        Some(true) => StoreOutcome::Committed,
        Some(false) => StoreOutcome::Fenced,
        None => StoreOutcome::Unknown,
    }
}
