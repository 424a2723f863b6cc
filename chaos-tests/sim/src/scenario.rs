//! One run written down: what tests of a certain trap, and measurements, are made of.

use std::time::Duration;

use weir_model::Nanos;

use crate::{
    limits::FINEST,
    world::{BEGINNING, World},
};

impl World {
    /// Goes on until so many milliseconds after the beginning, or the first violation.
    pub fn run_until_ms(&mut self, ms: u64) {
        self.run_until(BEGINNING + Duration::from_millis(ms));
    }

    /// An instant, in milliseconds after the beginning.
    #[must_use]
    pub fn instant(&self, ms: u64) -> Nanos {
        BEGINNING + Duration::from_millis(ms)
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub fn elapsed_ms(&self) -> u64 {
        (self.now - BEGINNING).as_millis() as u64
    }

    /// The host that leads the term in force, if there is one that says so.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let term = self.zookeeper.term.term;
        self.hosts.iter().position(|host| {
            let leader = host
                .daemon
                .as_ref()
                .and_then(|daemon| daemon.leader.as_ref());
            leader.is_some_and(|leader| leader.term() == term && !leader.is_preparing())
        })
    }

    /// Tokens a second that a host may admit of a limit now.
    #[must_use]
    pub fn rate(&self, number: usize, host: usize) -> f64 {
        let host = &self.hosts[host];
        let limit = &self.policies.of(host.policy).limits[number];
        let effective = host
            .kernel
            .grant(limit.id)
            .map(|grant| grant.effective(host.clock.at(self.now)));
        effective.map_or(0.0, |effective| {
            let rate = effective.rescaled_up(limit.scale, FINEST).rate.0;
            rate as f64 / f64::from(1_u32 << FINEST.fraction_bits)
        })
    }

    /// Tokens that all hosts have admitted of a limit.
    #[must_use]
    pub fn admitted(&self, number: usize) -> u64 {
        let counters = self.hosts.iter().map(|host| host.counters[number]);
        counters.map(|counters| counters.admitted).sum()
    }

    /// Fails if a promise was broken, or an invariant.
    ///
    /// # Panics
    ///
    /// Then.
    pub fn assert_kept(&self) {
        if let Some(violation) = &self.judge.violation {
            panic!(
                "{violation}\n{}",
                self.log.iter().cloned().collect::<Vec<_>>().join("\n")
            );
        }
    }
}
