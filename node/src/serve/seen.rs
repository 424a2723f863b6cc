//! What the leader answers and what this node knows by itself, put together.

use std::collections::{HashMap, HashSet};

use weir_proto::admin::v1;

/// A leader's reply, with what is about the answering node put back.
pub(super) trait SeenFrom: Sized {
    fn seen_from(self, own: Self) -> Self;

    /// What a node knows by itself while its leader cannot be asked.
    fn alone(self) -> Self {
        self
    }
}

impl SeenFrom for v1::StatusReply {
    /// What this node lets pass it knows better than a leader that it may not reach.
    fn seen_from(mut self, own: Self) -> Self {
        let failing = own
            .limits
            .iter()
            .filter(|limit| limit.nodes_failing_open > 0);
        let failing: HashSet<&str> = failing.map(|limit| limit.name.as_str()).collect();
        for limit in &mut self.limits {
            if failing.contains(limit.name.as_str()) {
                limit.promise_kept = false;
                limit.nodes_failing_open = limit.nodes_failing_open.max(1);
            }
        }
        Self {
            node: own.node,
            zookeeper: own.zookeeper,
            policy_version: own.policy_version,
            daemon_version: own.daemon_version,
            ..self
        }
    }
}

impl SeenFrom for v1::LimitsReply {
    /// A leader adds up limits, and sees its own sources.
    fn seen_from(mut self, own: Self) -> Self {
        let rows = own.limits.into_iter().map(|row| (row.name.clone(), row));
        let mut rows: HashMap<String, v1::LimitRow> = rows.collect();
        for row in &mut self.limits {
            if let Some(own) = rows.remove(&row.name) {
                row.top = own.top;
                row.top_seconds = own.top_seconds;
                row.top_left_out = own.top_left_out;
            }
        }
        Self {
            node: own.node,
            ..self
        }
    }
}

impl SeenFrom for v1::OverviewReply {
    /// A leader adds up; of what fails open here, and of sources, this node knows better.
    fn seen_from(mut self, own: Self) -> Self {
        let failing = own.limits.iter().filter(|one| one.nodes_failing_open > 0);
        let failing = failing.filter_map(|one| Some(one.row.as_ref()?.name.as_str()));
        let failing: HashSet<&str> = failing.collect();
        for limit in &mut self.limits {
            if limit
                .row
                .as_ref()
                .is_some_and(|row| failing.contains(row.name.as_str()))
            {
                limit.promise_kept = false;
                limit.nodes_failing_open = limit.nodes_failing_open.max(1);
            }
        }
        Self {
            fleet: match (self.fleet, own.fleet) {
                (Some(leaders), Some(own)) => Some(leaders.seen_from(own)),
                (leaders, own) => leaders.or(own),
            },
            sources: own.sources,
            ..self
        }
    }

    fn alone(self) -> Self {
        Self {
            alone: true,
            ..self
        }
    }
}

macro_rules! all_of_it {
    ($($reply:ty),*) => {
        $(impl SeenFrom for $reply {
            fn seen_from(self, _: Self) -> Self {
                self
            }
        })*
    };
}
all_of_it!(
    v1::ApplyReply,
    v1::ConfirmReply,
    v1::DrainReply,
    v1::HistoryReply,
    v1::NodesReply,
    v1::RemoveReply
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_leaders_and_sources_this_nodes() {
        let source = |text: &str| v1::HeavySource {
            source: text.to_owned(),
            ..v1::HeavySource::default()
        };
        let reply = |name: &str, offered, top| v1::LimitsReply {
            limits: vec![v1::LimitRow {
                name: name.to_owned(),
                offered,
                top: vec![source(top)],
                top_seconds: offered,
                ..v1::LimitRow::default()
            }],
            node: None,
        };
        let seen = reply("a", 300.0, "192.0.2.1/32").seen_from(reply("a", 20.0, "192.0.2.9/32"));
        assert_eq!(seen.limits[0].offered, 300.0);
        assert_eq!(seen.limits[0].top, [source("192.0.2.9/32")]);
        assert_eq!(seen.limits[0].top_seconds, 20.0);
    }

    #[test]
    fn an_overview_is_the_leaders_with_what_this_node_knows_better() {
        let reply = |name: &str, open, source: &str| v1::OverviewReply {
            fleet: Some(v1::StatusReply {
                node: Some(v1::Node {
                    name: name.to_owned(),
                    ..v1::Node::default()
                }),
                term: 4,
                ..v1::StatusReply::default()
            }),
            limits: vec![v1::OverviewLimit {
                row: Some(v1::LimitRow {
                    name: "a".to_owned(),
                    nodes: 3,
                    ..v1::LimitRow::default()
                }),
                promise_kept: true,
                nodes_failing_open: open,
                ..v1::OverviewLimit::default()
            }],
            nodes: vec![v1::NodeRow::default(); 3 * (1 - open as usize)],
            sources: vec![v1::OverviewSource {
                limit: source.to_owned(),
                ..v1::OverviewSource::default()
            }],
            alone: false,
        };
        let seen = reply("leader", 0, "theirs").seen_from(reply("asked", 1, "ours"));
        assert_eq!(seen.fleet.unwrap().node.unwrap().name, "asked");
        assert_eq!(seen.nodes.len(), 3, "of all members only a leader knows");
        assert_eq!(seen.sources[0].limit, "ours");
        assert!(!seen.alone && reply("asked", 0, "ours").alone().alone);
        let limit = &seen.limits[0];
        assert_eq!((limit.promise_kept, limit.nodes_failing_open), (false, 1));
    }

    #[test]
    fn what_fails_open_here_is_a_broken_promise_whatever_the_leader_says() {
        let reply = |nodes_failing_open| v1::StatusReply {
            limits: vec![v1::LimitStatus {
                name: "a".to_owned(),
                promise_kept: nodes_failing_open == 0,
                nodes_failing_open,
                ..v1::LimitStatus::default()
            }],
            ..v1::StatusReply::default()
        };
        let seen = reply(0).seen_from(reply(1)).limits.remove(0);
        assert_eq!((seen.promise_kept, seen.nodes_failing_open), (false, 1));
        assert!(reply(0).seen_from(reply(0)).limits[0].promise_kept);
        assert!(!reply(2).seen_from(reply(0)).limits[0].promise_kept);
    }
}
