//! What is to happen, and when.

use std::time::Duration;

use super::fault::Fault;

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give the traffic another shape.
    Shape {
        /// What people call it.
        label: String,
        /// Packets per second to each host.
        rates: Vec<f64>,
    },
    /// A fault begins.
    Begin {
        /// Its number in the script.
        episode: usize,
        /// What is done.
        fault: Fault,
    },
    /// A fault ends.
    End {
        /// Its number in the script.
        episode: usize,
    },
}

/// Actions in the order of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// What to do, at which time since the beginning.
    pub actions: Vec<(Duration, Action)>,
    /// When it ends.
    pub length: Duration,
    /// Rates are meant for the hosts in the order in which they follow, and for the leader last.
    pub is_leader_last: bool,
    episodes: usize,
}

impl Script {
    /// Appends a stretch of traffic of one shape.
    #[must_use]
    pub fn phase(mut self, label: &str, rates: Vec<f64>, length: Duration) -> Self {
        let label = label.to_owned();
        self.actions
            .push((self.length, Action::Shape { label, rates }));
        self.length += length;
        self
    }

    /// Inserts a fault that begins and ends before the script does.
    #[must_use]
    pub fn fault(mut self, begins: Duration, lasts: Duration, fault: Fault) -> Self {
        let episode = self.episodes;
        self.episodes += 1;
        self.insert(begins, Action::Begin { episode, fault });
        self.insert(begins + lasts, Action::End { episode });
        self
    }

    /// Has rates mean the hosts that follow when it begins, in their order, and the leader last.
    #[must_use]
    pub const fn leader_last(mut self) -> Self {
        self.is_leader_last = true;
        self
    }

    /// How many faults there are.
    #[must_use]
    pub const fn episodes(&self) -> usize {
        self.episodes
    }

    /// Whether the fleet is another one when it is over.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        let is = |(_, action): &(Duration, Action)| matches!(action, Action::Begin { fault, .. } if fault.is_for_good());
        self.actions.iter().any(is)
    }

    fn insert(&mut self, time: Duration, action: Action) {
        debug_assert!(time < self.length, "an action after the end is never done");
        let later = self.actions.partition_point(|(other, _)| *other <= time);
        self.actions.insert(later, (time, action));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::Who;

    #[test]
    fn actions_are_in_order() {
        let second = Duration::from_secs(1);
        let script = Script::default()
            .phase("a", vec![1.0], 3 * second)
            .phase("b", vec![2.0], 3 * second)
            .fault(4 * second, second, Fault::Killed(Who::Leader))
            .fault(2 * second, 2 * second, Fault::Joined);
        let times: Vec<u64> = script
            .actions
            .iter()
            .map(|(time, _)| time.as_secs())
            .collect();
        assert_eq!(times, [0, 2, 3, 4, 4, 5]);
        assert_eq!(script.length, 6 * second);
        assert_eq!(script.episodes(), 2);
    }
}
