//! Demand as hosts recorded it.

use serde::{Deserialize, Serialize};
use weir_proto::admin::v1;

/// The longest that is replayed, seconds: what stays the same is recorded for longer.
pub(super) const SECONDS_MOST: usize = 3_600;

/// What was offered, by whom it was recorded. It can be kept in a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) nodes: Vec<NodeRecord>,
    /// Members that could not be asked.
    pub(crate) missing: Vec<String>,
    /// Heavy sources, as one node saw them.
    pub(crate) sources: Vec<SourceRecord>,
}

/// One host's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeRecord {
    pub(crate) node: String,
    pub(crate) limits: Vec<LimitRecord>,
}

/// One limit's on one host: spans with a constant rate, oldest first; the last ends when all records
/// end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LimitRecord {
    pub(crate) limit: String,
    pub(crate) unit: String,
    pub(crate) seconds: Vec<f32>,
    /// Tokens per second.
    pub(crate) offered: Vec<f32>,
}

/// What a source sent to a limit, tokens per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SourceRecord {
    pub(crate) limit: String,
    pub(crate) unit: String,
    pub(crate) source: String,
    pub(crate) offered: f64,
}

impl NodeRecord {
    /// What a host said.
    pub(crate) fn of(name: String, reply: v1::DemandReply) -> Self {
        let limits = reply.limits.into_iter().map(|limit| LimitRecord {
            unit: crate::view::unit(limit.unit()).to_owned(),
            limit: limit.limit,
            seconds: limit.seconds,
            offered: limit.offered,
        });
        Self {
            node: name,
            limits: limits.collect(),
        }
    }
}

impl Record {
    /// How far back it goes.
    pub(super) fn seconds(&self) -> usize {
        let limits = self.nodes.iter().flat_map(|node| &node.limits);
        limits
            .map(|limit| limit.by_second().len())
            .max()
            .unwrap_or(0)
    }

    /// What was offered to a limit on each host, second by second.
    pub(super) fn demands(&self, limit: &str, unit: &str) -> Vec<Vec<f64>> {
        let limits = self.nodes.iter().flat_map(|node| &node.limits);
        let named = limits.filter(|record| record.limit == limit && record.unit == unit);
        named.map(LimitRecord::by_second).collect()
    }
}

impl LimitRecord {
    /// Rates of whole seconds, oldest first, counted back from the end.
    fn by_second(&self) -> Vec<f64> {
        let mut seconds: Vec<f64> = Vec::new();
        // How much of the second at the back is known.
        let mut known = 1.0_f64;
        for (length, offered) in self.seconds.iter().zip(&self.offered).rev() {
            let mut length = f64::from(*length).clamp(0.0, SECONDS_MOST as f64);
            while length > 0.0 {
                if known >= 1.0 {
                    if seconds.len() == SECONDS_MOST {
                        break;
                    }
                    seconds.push(0.0);
                    known = 0.0;
                }
                let part = length.min(1.0 - known);
                if let Some(second) = seconds.last_mut() {
                    *second += f64::from(*offered) * part;
                }
                // Lengths are sums of rounded numbers: what is left of them is no second.
                known = if 1.0 - known - part < 1e-6 {
                    1.0
                } else {
                    known + part
                };
                length -= part;
            }
        }
        if known < 1.0 {
            seconds.pop();
        }
        seconds.reverse();
        seconds
    }
}

/// Several hosts' demand, which ends at the same moment.
pub(super) fn sum(demands: &[Vec<f64>]) -> Vec<f64> {
    let seconds = demands.iter().map(Vec::len).max().unwrap_or(0);
    let mut sum = vec![0.0; seconds];
    for demand in demands {
        for (sum, offered) in sum.iter_mut().rev().zip(demand.iter().rev()) {
            *sum += offered;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_become_seconds_counted_back_from_the_end() {
        let record = LimitRecord {
            seconds: vec![0.7, 2.0, 0.5, 0.5],
            offered: vec![8.0, 4.0, 2.0, 10.0],
            ..LimitRecord::default()
        };
        assert_eq!(
            record.by_second(),
            [4.0, 4.0, 6.0],
            "the first is not whole"
        );
        let long = LimitRecord {
            seconds: vec![1e9],
            offered: vec![5.0],
            ..LimitRecord::default()
        };
        assert_eq!(long.by_second(), vec![5.0; SECONDS_MOST]);
        assert!(LimitRecord::default().by_second().is_empty());
    }

    #[test]
    fn hosts_are_added_up_from_the_end() {
        assert_eq!(sum(&[vec![1.0, 2.0, 3.0], vec![10.0]]), [1.0, 2.0, 13.0]);
        assert!(sum(&[]).is_empty());
    }
}
