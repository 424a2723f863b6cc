//! A daemon, and what it has with ZooKeeper: sessions, watches, asks and answers. What it does as a
//! node is in `crate::follow`, and as a leader in `crate::lead`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use weir_coord_core::{
    campaign::Campaign,
    commit::StoreOutcome,
    follower::{Birth, Follower, Grant},
    leader::Input,
    news::Omission,
    record::TermRecord,
    rules::Mutation,
};
use weir_model::{Nanos, PolicyVersion, Term, message::FromNode};

use crate::{
    host::Daemon,
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

    pub(super) fn local(&self, host: usize) -> Nanos {
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
            policies: (place.policy, place.policy),
            bid: None,
            retry_at: Nanos::ZERO,
            at_least: Term(0),
            stalled: VecDeque::new(),
            is_watching: false,
            omission: Default::default(),
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
        let Some(daemon) = self.hosts[host].daemon.as_mut() else {
            return;
        };
        daemon.is_watching = false;
        daemon.campaign.set_place(place);
        match daemon.session {
            Some(session) if !self.zookeeper.sessions.contains_key(&session) => {
                // The session is over; another one is made.
                daemon.session = None;
                self.ask(host, Ask::Register);
            }
            // Who was replaced as a leader, or has resigned, goes to the end of the queue.
            Some(session) if !self.zookeeper.is_candidate(session) => self.ask(host, Ask::Stand),
            _ => {}
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
    pub(super) fn tell_of_policies(&mut self, host: usize) {
        let (in_force, document) = (self.zookeeper.in_force, self.zookeeper.document);
        let current = in_force.version;
        if let Some(daemon) = self.daemon(host) {
            daemon.policies = (current, document);
        }
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
        self.lead(host, Input::Recorded(in_force));
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
    pub(super) fn switch(&mut self, host: usize, version: PolicyVersion) {
        let local = self.local(host);
        self.note(|| format!("{host}: enforces policy {version}"));
        let rules = Broken::rules(self.settings.broken);
        self.hosts[host].switch_policy(&self.policies, version, local, rules);
    }

    pub(super) fn learn_term(&mut self, host: usize, record: TermRecord) {
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
    pub(super) fn is_stubborn(&mut self) -> bool {
        self.settings.faults && !self.dice.one_in(3)
    }

    pub(super) fn tick(&mut self, host: usize) {
        let local = self.local(host);
        if let Some(mut report) = self.hosts[host].report(&self.policies, local) {
            let tick = self.judge.steps / 10;
            let members = self.hosts.len() as u64;
            self.hosts[host].report_keys(&mut report, &self.policies, &self.sources, tick, members);
            let daemon = self.daemon(host).expect("it has reported");
            // Another leader has another stream.
            let term = daemon.term.as_ref().map_or(Term(0), |record| record.term);
            if daemon.omission.0 != term {
                daemon.omission = (term, Omission::default());
            }
            let report = daemon.omission.1.shorten(report);
            self.send_up(host, FromNode::Report(report));
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
            (_, Some(Answer::Inherited(record, inherited))) => {
                self.begin_term(host, record, inherited);
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
            (Ask::DropFormer(term, is_voted), None) => {
                let leads = |daemon: &mut Daemon| {
                    daemon
                        .leader
                        .as_ref()
                        .is_some_and(|leader| leader.term() == term)
                };
                if self.daemon(host).is_some_and(leads) {
                    self.ask(host, Ask::DropFormer(term, is_voted));
                }
            }
            (Ask::Stand, None) => {
                let epoch = self.hosts[host].epoch;
                self.schedule(TIMING.tick, Event::Watched { host, epoch });
            }
            (Ask::Resign | Ask::Activate(..), None) | (_, Some(_)) => {}
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
                follower.set_hot(place.keys.hot.values().copied());
                daemon.follower = Some(follower);
            }
        }
        self.learn_term(host, record);
        self.watched(host);
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
}

const fn outcome_of(is_written: Option<bool>) -> StoreOutcome {
    match is_written {
        Some(true) => StoreOutcome::Committed,
        Some(false) => StoreOutcome::Fenced,
        None => StoreOutcome::Unknown,
    }
}
