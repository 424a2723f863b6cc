//! How much one node may say: the rest is left unread, so that its own stream backs up and nobody
//! else's messages wait behind it.

use std::time::{Duration, Instant};

use weir_model::message::FromNode;

/// What a node may say in a second, in the long run. A tick of 10 ms, which is the shortest, has a
/// report and at most a dozen answers.
const PER_SECOND: f64 = 2_000.0;
/// What it may say at once: it has been out of reach for a while, and a promise is among it.
const AT_ONCE: f64 = 1_000.0;
/// So many rows cost as much as a message.
const ROWS: usize = 256;

/// A token bucket of messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    left: f64,
    at: Instant,
}

impl Pace {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            at: now,
        }
    }

    /// How long it is until the next message is read, after this one.
    pub(super) fn until_next(&mut self, message: &FromNode, now: Instant) -> Duration {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.left = (self.left + elapsed * PER_SECOND).min(AT_ONCE) - cost(message);
        Duration::from_secs_f64((-self.left).max(0.0) / PER_SECOND)
    }
}

fn cost(message: &FromNode) -> f64 {
    let rows = match message {
        FromNode::Report(report) => report.limits.len() + report.heavy.len(),
        // Rows of a register; a leader that takes over asks for one.
        FromNode::Promise(promise) => {
            let nodes = promise.register.iter().flat_map(|register| &register.nodes);
            nodes.map(|node| node.limits.len()).sum::<usize>() / ROWS
        }
        FromNode::Ack(_) | FromNode::Refuse(_) => 0,
    };
    1.0 + (rows / ROWS) as f64
}

#[cfg(test)]
mod tests {
    use weir_model::{
        LimitId, NodeId, PolicyVersion, Term,
        message::{LimitReport, Position, Refuse, Report, Token},
    };

    use super::*;

    fn report(rows: u64) -> FromNode {
        let row = |limit| LimitReport {
            limit: LimitId(limit),
            ..LimitReport::default()
        };
        FromNode::Report(Report {
            node: NodeId::from_u128(1),
            token: Token::default(),
            promised: Term(1),
            seen: Position::default(),
            policy: PolicyVersion(1),
            prepared: PolicyVersion(1),
            heavy: Vec::new(),
            abstains: false,
            limits: (0..rows).map(row).collect(),
        })
    }

    fn refuse() -> FromNode {
        FromNode::Refuse(Refuse {
            node: NodeId::from_u128(1),
            promised: Term(1),
            leader: None,
            policy: PolicyVersion(1),
        })
    }

    /// How many messages are read in so long if as many as possible are sent.
    fn read_within(message: &FromNode, span: Duration) -> u32 {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let (mut now, mut count) = (begin, 0);
        while now - begin <= span {
            now += pace.until_next(message, now);
            count += 1;
        }
        count
    }

    #[test]
    fn who_keeps_to_ticks_never_waits() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        for tick in 0..10_000 {
            let now = begin + Duration::from_millis(10) * tick;
            assert!(pace.until_next(&report(1_000), now).is_zero());
            for _ in 0..10 {
                assert!(pace.until_next(&refuse(), now).is_zero());
            }
        }
    }

    #[test]
    fn a_flood_is_read_at_a_bounded_rate() {
        let of_messages = read_within(&refuse(), Duration::from_secs(10));
        assert!((20_000..21_100).contains(&of_messages), "{of_messages}");
        // As many rows as a report may have: a dozen in a tick of 100 ms.
        let of_rows = read_within(&report(4_096), Duration::from_secs(10));
        assert!((1_170..1_300).contains(&of_rows), "{of_rows}");
    }
}
