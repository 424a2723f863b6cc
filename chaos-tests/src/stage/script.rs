//! What is to happen, and when.

use std::time::Duration;

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
    /// Kill the leader's daemon with SIGKILL.
    KillLeader,
    /// Start the daemon that was killed.
    StartKilled,
}

/// Actions in the order of their times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// What to do, at which time since the beginning.
    pub actions: Vec<(Duration, Action)>,
    /// When it ends.
    pub length: Duration,
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

    /// Inserts an action, at a time before the end.
    #[must_use]
    pub fn at(mut self, time: Duration, action: Action) -> Self {
        debug_assert!(time < self.length, "an action after the end is never done");
        let later = self.actions.partition_point(|(other, _)| *other <= time);
        self.actions.insert(later, (time, action));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_in_order() {
        let second = Duration::from_secs(1);
        let script = Script::default()
            .phase("a", vec![1.0], 3 * second)
            .phase("b", vec![2.0], 3 * second)
            .at(4 * second, Action::StartKilled)
            .at(2 * second, Action::KillLeader);
        let times: Vec<u64> = script
            .actions
            .iter()
            .map(|(time, _)| time.as_secs())
            .collect();
        assert_eq!(times, [0, 2, 3, 4]);
        assert_eq!(script.length, 6 * second);
    }
}
