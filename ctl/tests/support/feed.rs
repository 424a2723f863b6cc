//! A made-up fleet of any size, whose numbers move with each question.

use weir_model::NodeId;
use weir_proto::admin::v1;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed {
    pub(crate) nodes: u32,
    pub(crate) limits: u32,
}

impl Feed {
    /// What it says at a moment, to who asks this.
    pub(crate) fn overview(self, moment: u64, asked: &v1::OverviewRequest) -> v1::OverviewReply {
        v1::OverviewReply {
            fleet: Some(self.fleet()),
            limits: (0..self.limits)
                .map(|number| self.limit(number, moment))
                .collect(),
            nodes: (0..self.nodes)
                .map(|number| self.node(number, moment, asked))
                .collect(),
            sources: (0..asked.top).map(|number| source(number, asked)).collect(),
            alone: false,
        }
    }

    fn fleet(self) -> v1::StatusReply {
        let member = |number: u32| v1::Member {
            node: name(number),
            live: number != 17,
            is_leader: number == 2,
            on_floor: number == 17,
            last_report_ms: (number != 17).then_some(80),
            policy_version: 12,
        };
        v1::StatusReply {
            node: name(0),
            leader: name(2),
            term: 9,
            zookeeper: Some(v1::ZooKeeper {
                connected: true,
                since_ms: 7_300_000,
                servers: "198.18.0.10:2181".to_owned(),
            }),
            policy_version: 12,
            members: (0..self.nodes).map(member).collect(),
            daemon_version: "0.1.0".to_owned(),
            ..v1::StatusReply::default()
        }
    }

    fn limit(self, number: u32, moment: u64) -> v1::OverviewLimit {
        let rate = rate(number);
        let offered = offered(number, moment);
        v1::OverviewLimit {
            row: Some(v1::LimitRow {
                name: limit_name(number),
                promise: v1::Promise::Strict.into(),
                mode: v1::Mode::Enforce.into(),
                unit: unit(number).into(),
                rate,
                burst: rate / 10.0,
                offered,
                admitted: offered.min(rate),
                dropped: (offered - rate).max(0.0),
                nodes: self.nodes,
                ..v1::LimitRow::default()
            }),
            promise_kept: true,
            nodes_on_floor: 1,
            nodes_failing_open: 0,
            pending: 0,
        }
    }

    fn node(self, number: u32, moment: u64, asked: &v1::OverviewRequest) -> v1::NodeRow {
        let node = name(number);
        let is_asked = node.as_ref().is_some_and(|node| node.name == asked.node);
        let limits = (0..self.limits)
            .filter(|limit| is_asked || limit_name(*limit) == asked.limit)
            .map(|limit| self.share(limit, number, moment));
        v1::NodeRow {
            node,
            live: number != 17,
            is_leader: number == 2,
            limits: limits.collect(),
        }
    }

    fn share(self, limit: u32, node: u32, moment: u64) -> v1::NodeLimit {
        let rate = rate(limit);
        let nodes = f64::from(self.nodes);
        let weight = f64::from((node * 7 + limit) % 10 + 1) / 5.5;
        let offered = offered(limit, moment) / nodes * weight;
        let share = rate / nodes * weight;
        v1::NodeLimit {
            limit: limit_name(limit),
            unit: unit(limit).into(),
            rate,
            share,
            floor: rate / 6_400.0,
            offered,
            admitted: offered.min(share),
            dropped: (offered - share).max(0.0),
            lease_left_ms: Some(1_900),
            on_floor: node == 17,
            per: None,
        }
    }
}

fn name(number: u32) -> Option<v1::Node> {
    let id = NodeId::from_u128(u128::from(number) + 1);
    let name = format!("edge-{:02}", number + 1);
    Some(v1::Node::new(id, name, format!("198.18.{number}.1:7946")))
}

fn limit_name(number: u32) -> String {
    let services = ["dns", "ntp", "web", "mail", "quic", "voip", "game", "vpn"];
    let service = services[number as usize % services.len()];
    format!("{service}-{number:04}")
}

fn unit(number: u32) -> v1::Unit {
    [v1::Unit::Packets, v1::Unit::Bits, v1::Unit::Connections][number as usize % 3]
}

fn rate(number: u32) -> f64 {
    [30_000.0, 2e9, 500.0][number as usize % 3] * f64::from(number % 7 + 1)
}

/// A wave for each limit, of which some go above the rate.
fn offered(number: u32, moment: u64) -> f64 {
    let phase = (moment as f64 / 9.0 + f64::from(number)).sin();
    let height = if number.is_multiple_of(5) { 1.4 } else { 0.5 };
    rate(number) * height * (0.6 + 0.4 * phase)
}

fn source(number: u32, asked: &v1::OverviewRequest) -> v1::OverviewSource {
    let offered = 60_000.0 / f64::from(number + 1);
    v1::OverviewSource {
        limit: asked.limit.clone(),
        unit: v1::Unit::Packets.into(),
        source: Some(v1::HeavySource {
            source: format!("198.51.100.{number}/32"),
            offered,
            dropped: offered / 3.0,
            error: 0.0,
            leased: None,
        }),
    }
}
