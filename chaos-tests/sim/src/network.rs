//! The network between hosts, and between them and ZooKeeper.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use weir_model::Nanos;

use crate::dice::Dice;

/// Which hosts cannot reach which. ZooKeeper is one more place.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Whether messages are lost, late, repeated and out of order.
    pub is_faulty: bool,
    /// How long a message takes where nothing goes wrong; `None` for less than a millisecond.
    pub latency: Option<Duration>,
    partitions: Vec<Partition>,
    /// Two places that do not reach each other, and until when.
    pairs: Vec<(usize, usize, Nanos)>,
    /// Hosts that hear everything late, in order, and until when.
    held: BTreeMap<usize, Nanos>,
}

#[derive(Clone, Debug)]
struct Partition {
    inside: BTreeSet<usize>,
    /// Nothing gets out.
    out: bool,
    /// Nothing gets in.
    into: bool,
    until: Nanos,
}

impl Network {
    /// Without partitions.
    #[must_use]
    pub const fn new(is_faulty: bool) -> Self {
        Self {
            is_faulty,
            latency: None,
            partitions: Vec::new(),
            pairs: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// Cuts these places off from all others, one way or both.
    pub fn cut(&mut self, inside: BTreeSet<usize>, out: bool, into: bool, until: Nanos) {
        self.partitions.push(Partition {
            inside,
            out,
            into,
            until,
        });
    }

    /// From now on everything arrives.
    pub fn cease(&mut self, now: Nanos) {
        self.is_faulty = false;
        self.held.clear();
        self.pairs.clear();
        for partition in &mut self.partitions {
            partition.until = partition.until.min(now);
        }
    }

    /// Cuts two places off from each other.
    pub fn cut_pair(&mut self, one: usize, other: usize, until: Nanos) {
        self.pairs.push((one, other, until));
    }

    /// What is on its way to a host arrives then, and not before: all at once, in order.
    pub fn hold(&mut self, host: usize, until: Nanos) {
        self.held.insert(host, until);
    }

    /// How long a message to a host waits before it is delivered.
    #[must_use]
    pub fn waits(&self, to: usize, now: Nanos) -> Option<Duration> {
        let until = self.held.get(&to)?;
        (*until > now).then(|| *until - now)
    }

    /// Forgets what has healed.
    pub fn heal(&mut self, now: Nanos) {
        self.held.retain(|_, until| *until > now);
        self.partitions.retain(|partition| partition.until > now);
    }

    /// Whether a message gets from one place to another now.
    #[must_use]
    pub fn connects(&self, from: usize, to: usize, now: Nanos) -> bool {
        if self.pairs.iter().any(|(one, other, until)| {
            *until > now && ((from, to) == (*one, *other) || (to, from) == (*one, *other))
        }) {
            return false;
        }
        from == to
            || !self.partitions.iter().any(|partition| {
                let (from, to) = (
                    partition.inside.contains(&from),
                    partition.inside.contains(&to),
                );
                partition.until > now
                    && ((partition.out && from && !to) || (partition.into && !from && to))
            })
    }

    /// How long each copy of a message takes: none if it is lost.
    pub fn delays(&self, dice: &mut Dice) -> Vec<Duration> {
        if let Some(latency) = self.latency {
            return vec![latency];
        }
        if !self.is_faulty {
            return vec![Duration::from_micros(100 + dice.roll(400))];
        }
        let mut copies = match dice.roll(40) {
            0 => return Vec::new(),
            1 => vec![dice.up_to_ms(3_000)],
            2 | 3 => vec![dice.up_to_ms(300)],
            _ => vec![dice.up_to_ms(8)],
        };
        if dice.one_in(30) {
            copies.push(dice.up_to_ms(4_000));
        }
        copies
    }
}
