//! A host as a node: what the protocol's core decides, done in its kernel, one step at a time.

use weir_coord_core::follower::{Command, Follower, Grant};
use weir_model::{
    Amount,
    message::{Position, ToNode},
};

use crate::{
    limits::FINEST,
    world::{Event, Message, World},
};

impl World {
    pub(super) fn follow(&mut self, from: usize, to: usize, message: ToNode) {
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
                Command::Install {
                    grants,
                    acknowledge,
                } => self.install(host, &grants, acknowledge, reply_to),
                Command::Send(message) => {
                    self.send(host, reply_to, &Message::Up(Box::new(message)));
                }
                Command::Heat(hot) => {
                    let local = self.local(host);
                    self.hosts[host].heat(&hot, local);
                }
                Command::Give(gives) => self.hosts[host].has_given_up = !gives,
                Command::Enforce(version) => {
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
        let limits = self.policies.leased(place.policy);
        for grant in grants {
            let is_known = place.kernel.grant(grant.limit).is_some();
            // A key that is not hot here has no bucket.
            if !is_known && !limits.iter().any(|limit| limit.id == grant.limit) {
                continue;
            }
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
            if let Command::Send(message) = command {
                replies.push(message);
            }
        }
        for message in replies {
            self.send(host, reply_to, &Message::Up(Box::new(message)));
        }
        self.judge_installed();
    }
}
