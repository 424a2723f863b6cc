//! When to send how much. Pure.

/// Longest stretch that is made up for after a late wake-up. What is older is not sent at all: a
/// burst of it would be a flood of its own.
pub(super) const CATCH_UP_NS: u64 = 20_000_000;

/// Turns rates into packets: call it whenever some time has passed.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    last_ns: u64,
    /// Packets due to each flow, fractions included.
    due: Vec<f64>,
}

impl Pace {
    /// Nothing is due yet to any of so many flows.
    #[must_use]
    pub(super) fn new(now_ns: u64, flows: usize) -> Self {
        Self {
            last_ns: now_ns,
            due: vec![0.0; flows],
        }
    }

    /// Adds what became due since the last call, at `rates` in packets per second. Returns the
    /// nanoseconds that were too late to be made up for.
    pub(super) fn advance(&mut self, now_ns: u64, rates: &[f64]) -> u64 {
        let elapsed = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        let made_up = elapsed.min(CATCH_UP_NS);
        for (due, rate) in self.due.iter_mut().zip(rates) {
            *due += rate * made_up as f64 / 1e9;
        }
        elapsed - made_up
    }

    /// The flow to send the next packet of: the one most of which is due, so that flows are mixed
    /// evenly. `None` when less than one packet is due to any.
    pub(super) fn next_flow(&mut self) -> Option<usize> {
        let (flow, due) = self
            .due
            .iter_mut()
            .enumerate()
            .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        (*due >= 1.0).then(|| {
            *due -= 1.0;
            flow
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pace: &mut Pace, now_ns: u64, rates: &[f64]) -> Vec<usize> {
        pace.advance(now_ns, rates);
        std::iter::from_fn(|| pace.next_flow()).collect()
    }

    #[test]
    fn keeps_the_rate_exactly_in_the_long_run() {
        let mut pace = Pace::new(0, 2);
        let mut packets = [0, 0];
        for millisecond in 1..=10_000 {
            for flow in sent(&mut pace, millisecond * 1_000_000, &[12_345.0, 0.5]) {
                packets[flow] += 1;
            }
        }
        assert!((123_449..=123_450).contains(&packets[0]), "{packets:?}");
        assert!((4..=5).contains(&packets[1]), "{packets:?}");
    }

    #[test]
    fn mixes_flows() {
        let mut pace = Pace::new(0, 2);
        let order = sent(&mut pace, 1_000_000, &[4_000.0, 2_000.0]);
        assert_eq!(order.len(), 6);
        assert_eq!(order.iter().filter(|&&flow| flow == 1).count(), 2);
        assert!(order[..5].contains(&1), "{order:?}");
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut pace = Pace::new(0, 1);
        assert_eq!(
            pace.advance(1_000_000_000, &[1_000.0]),
            1_000_000_000 - CATCH_UP_NS
        );
        assert_eq!(std::iter::from_fn(|| pace.next_flow()).count(), 20);
        // A clock that steps back makes nothing due.
        assert_eq!(pace.advance(0, &[1_000.0]), 0);
        assert_eq!(pace.next_flow(), None);
    }
}
