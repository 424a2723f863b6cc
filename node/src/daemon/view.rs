//! What operators see: the daemon's state as replies of the admin service.

use std::time::Duration;

use weir_coord_core::{
    leader::{HeldView, MemberView, ShareView},
    record::MemberRecord,
};
use weir_model::{Limit, LimitId, Nanos, NodeId, Policy, Term, policy::Promise};
use weir_proto::admin::v1;

use super::{
    coordination::{Coordination, LIVELY, LeaderView},
    enforcement::Enforcement,
};
use crate::dataplane;

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Who this is.
    pub node: NodeId,
    /// What people call it.
    pub name: String,
    /// Where its gRPC service is reached; empty if it has none.
    pub address: String,
    /// The configured ZooKeeper servers; empty with the embedded coordinator.
    pub zookeeper_servers: String,
}

/// The daemon at one instant.
pub(super) struct View<'a> {
    /// What does not change.
    pub(super) facts: &'a Facts,
    /// The host's side.
    pub(super) enforcement: &'a Enforcement,
    /// The fleet's side.
    pub(super) coordination: &'a Coordination,
}

/// A lease that has no end: the node never had a grant, or the limit is local.
fn is_endless(lease_left: Duration) -> bool {
    lease_left > Duration::from_secs(86_400)
}

impl View<'_> {
    fn empty_policy() -> &'static Policy {
        static EMPTY: std::sync::OnceLock<Policy> = std::sync::OnceLock::new();
        EMPTY.get_or_init(Policy::default)
    }

    /// The policy in force, or one without limits.
    pub(super) fn policy(&self) -> &Policy {
        match self.enforcement.policy() {
            Some((_, policy)) => policy,
            None => Self::empty_policy(),
        }
    }

    /// What the leader knows, if this node leads.
    pub(super) fn leader(&self) -> Option<LeaderView> {
        self.coordination.leader_view(dataplane::now())
    }

    /// What this node knows by itself: its own row.
    fn own(&self) -> LeaderView {
        let now = dataplane::now();
        let limits = self.policy().limits.iter().map(|limit| {
            let held = self.enforcement.held_of(limit);
            ShareView {
                limit: limit.id,
                granted: held.amount,
                envelope: held.amount,
                held: HeldView {
                    amount: held.effective(now),
                    lease_left: held.expires - now,
                },
                rates: self.enforcement.rates(limit.id),
            }
        });
        let record = MemberRecord {
            node: self.facts.node,
            name: self.facts.name.clone(),
            weight: 1,
            floors: Vec::new(),
        };
        LeaderView {
            term: Term(0),
            members: vec![MemberView {
                record,
                heard: Some(Duration::ZERO),
                policy: Some(self.enforcement.policy_version()),
                limits: limits.collect(),
            }],
            over_budget: Vec::new(),
        }
    }

    /// Who leads, as far as is known here.
    pub(super) fn leader_node(&self) -> Option<v1::Node> {
        match self.coordination.fleet() {
            None => Some(self.this_node()),
            Some(fleet) => {
                let term = fleet.term()?;
                let leader = term.leader?;
                let name = fleet
                    .members()
                    .iter()
                    .find(|member| member.node == leader)
                    .map(|member| member.name.clone())
                    .or_else(|| self.live_name(leader))
                    .unwrap_or_default();
                Some(v1::Node::new(leader, name, term.address.clone()))
            }
        }
    }

    fn this_node(&self) -> v1::Node {
        v1::Node::new(
            self.facts.node,
            self.facts.name.clone(),
            self.facts.address.clone(),
        )
    }

    fn live_name(&self, node: NodeId) -> Option<String> {
        let live = self.coordination.fleet()?.live();
        live.iter()
            .find(|live| live.record.node == node)
            .map(|live| live.record.name.clone())
    }

    /// The fleet at a glance, as far as this node knows.
    pub(super) fn status(&self) -> v1::StatusReply {
        self.status_with(self.leader().as_ref())
    }

    /// The same, given what this node knows if it leads.
    pub(super) fn status_with(&self, leader: Option<&LeaderView>) -> v1::StatusReply {
        let own = leader.is_none().then(|| self.own());
        let counted = leader.or(own.as_ref());
        let fleet = self.coordination.fleet();
        let zookeeper = fleet.map(|fleet| {
            let connection = fleet.connection();
            v1::ZooKeeper {
                connected: connection.is_up,
                since_ms: millis(connection.since.elapsed()),
                servers: self.facts.zookeeper_servers.clone(),
            }
        });
        v1::StatusReply {
            node: Some(self.this_node()),
            leader: self.leader_node(),
            term: fleet.and_then(|fleet| fleet.term()).map_or_else(
                || leader.map_or(0, |leader| leader.term.0),
                |term| term.term.0,
            ),
            zookeeper,
            policy_version: self.enforcement.policy_version().0,
            members: self.members(leader),
            limits: self
                .policy()
                .limits
                .iter()
                .map(|limit| limit_status(limit, leader, sums(limit, counted), self))
                .collect(),
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    fn members(&self, leader: Option<&LeaderView>) -> Vec<v1::Member> {
        let mut members: Vec<v1::Member> = match (leader, self.coordination.fleet()) {
            (Some(leader), _) => leader
                .members
                .iter()
                .map(|member| self.member(member))
                .collect(),
            (None, Some(fleet)) => fleet
                .members()
                .iter()
                .map(|member| self.member_from_afar(member))
                .collect(),
            (None, None) => Vec::new(),
        };
        members.sort_by(|a, b| name_of(a.node.as_ref()).cmp(name_of(b.node.as_ref())));
        members
    }

    fn member(&self, member: &MemberView) -> v1::Member {
        let node = member.record.node;
        v1::Member {
            node: Some(self.node_of(member)),
            live: self.is_live(node, member.heard),
            is_leader: node == self.facts.node,
            on_floor: member.limits.iter().any(|share| self.is_on_floor(share)),
            last_report_ms: member.heard.map(millis),
            policy_version: member.policy.unwrap_or_default().0,
        }
    }

    /// A member as the roster has it, without a leader's knowledge.
    fn member_from_afar(&self, member: &MemberRecord) -> v1::Member {
        let is_this = member.node == self.facts.node;
        let leader = self
            .coordination
            .fleet()
            .and_then(|fleet| fleet.term()?.leader);
        v1::Member {
            node: Some(v1::Node::new(
                member.node,
                member.name.clone(),
                self.address_of(member.node),
            )),
            live: self.is_live(member.node, None),
            is_leader: leader == Some(member.node),
            on_floor: is_this && self.own_floors() > 0,
            last_report_ms: None,
            policy_version: if is_this {
                self.enforcement.policy_version().0
            } else {
                0
            },
        }
    }

    fn node_of(&self, member: &MemberView) -> v1::Node {
        let node = member.record.node;
        v1::Node::new(node, member.record.name.clone(), self.address_of(node))
    }

    fn address_of(&self, node: NodeId) -> String {
        if node == self.facts.node {
            return self.facts.address.clone();
        }
        self.coordination
            .fleet()
            .and_then(|fleet| fleet.live().iter().find(|live| live.record.node == node))
            .map(|live| live.record.address.clone())
            .unwrap_or_default()
    }

    fn is_live(&self, node: NodeId, heard: Option<Duration>) -> bool {
        heard.is_some_and(|ago| ago < LIVELY)
            || self
                .coordination
                .fleet()
                .is_some_and(|fleet| fleet.live().iter().any(|live| live.record.node == node))
    }

    fn is_on_floor(&self, share: &ShareView) -> bool {
        let strict = self
            .policy()
            .limit(share.limit)
            .is_some_and(|limit| limit.is_leased());
        strict && (share.held.lease_left.is_zero() || is_endless(share.held.lease_left))
    }

    /// Strict limits of which this host itself is on its floor now.
    pub(super) fn own_floors(&self) -> usize {
        let now = dataplane::now();
        self.policy()
            .limits
            .iter()
            .filter(|limit| limit.is_leased())
            .filter(|limit| {
                let held = self.enforcement.held_of(limit);
                held.expires <= now || held.expires == Nanos::NEVER
            })
            .count()
    }

    /// Every limit, summed over the fleet; over this node alone unless it leads.
    pub(super) fn limits(&self) -> v1::LimitsReply {
        let leader = self.leader().unwrap_or_else(|| self.own());
        let limits = self
            .policy()
            .limits
            .iter()
            .map(|limit| {
                let sums = sums(limit, Some(&leader));
                v1::LimitRow {
                    name: limit.name.clone(),
                    promise: v1::Promise::from(limit.promise).into(),
                    mode: v1::Mode::from(limit.mode).into(),
                    unit: v1::Unit::from(limit.cost).into(),
                    rate: limit.scale.tokens_per_second(limit.budget.rate),
                    burst: limit.scale.tokens(limit.budget.burst),
                    offered: sums.offered,
                    admitted: sums.admitted,
                    dropped: sums.dropped,
                    nodes: sums.nodes,
                }
            })
            .collect();
        v1::LimitsReply { limits }
    }

    /// Every limit on every node; on this node alone unless it leads.
    pub(super) fn nodes(&self) -> v1::NodesReply {
        let leads = self.leader();
        let is_leader = leads.is_some();
        let leader = leads.unwrap_or_else(|| self.own());
        let mut nodes: Vec<v1::NodeRow> = leader
            .members
            .iter()
            .map(|member| v1::NodeRow {
                node: Some(self.node_of(member)),
                live: self.is_live(member.record.node, member.heard),
                is_leader: is_leader && member.record.node == self.facts.node,
                limits: self
                    .policy()
                    .limits
                    .iter()
                    .filter_map(|limit| self.node_limit(limit, member))
                    .collect(),
            })
            .collect();
        nodes.sort_by(|a, b| name_of(a.node.as_ref()).cmp(name_of(b.node.as_ref())));
        v1::NodesReply { nodes }
    }

    fn node_limit(&self, limit: &Limit, member: &MemberView) -> Option<v1::NodeLimit> {
        let share = member.limits.iter().find(|share| share.limit == limit.id)?;
        let is_local = limit.promise == Promise::Local;
        let left = share
            .held
            .lease_left
            .saturating_sub(member.heard.unwrap_or_default());
        let on_floor = self.is_on_floor(share);
        let held = if is_local {
            limit.budget
        } else {
            share.held.amount
        };
        let per_second = |rate| limit.scale.tokens_per_second(rate);
        Some(v1::NodeLimit {
            limit: limit.name.clone(),
            unit: v1::Unit::from(limit.cost).into(),
            rate: per_second(limit.budget.rate),
            share: per_second(held.rate),
            floor: per_second(limit.floor.rate),
            offered: per_second(share.rates.offered),
            admitted: per_second(share.rates.admitted),
            dropped: per_second(share.rates.dropped),
            lease_left_ms: (!is_local && !is_endless(share.held.lease_left)).then(|| millis(left)),
            on_floor,
        })
    }
}

/// Rates over the fleet, tokens/s.
#[derive(Default)]
struct Sums {
    offered: f64,
    admitted: f64,
    dropped: f64,
    nodes: u32,
    on_floor: u32,
}

fn sums(limit: &Limit, leader: Option<&LeaderView>) -> Sums {
    let mut sums = Sums::default();
    let shares = leader
        .into_iter()
        .flat_map(|leader| &leader.members)
        .filter(|member| member.heard.is_some())
        .flat_map(|member| &member.limits)
        .filter(|share| share.limit == limit.id);
    for share in shares {
        let per_second = |rate| limit.scale.tokens_per_second(rate);
        sums.offered += per_second(share.rates.offered);
        sums.admitted += per_second(share.rates.admitted);
        sums.dropped += per_second(share.rates.dropped);
        sums.nodes += 1;
        let left = share.held.lease_left;
        let floor = left.is_zero() || is_endless(left);
        sums.on_floor += u32::from(limit.is_leased() && floor);
    }
    sums
}

fn limit_status(
    limit: &Limit,
    leader: Option<&LeaderView>,
    sums: Sums,
    view: &View<'_>,
) -> v1::LimitStatus {
    let version = view.enforcement.policy_version();
    let over = |id: LimitId| leader.is_some_and(|leader| leader.over_budget.contains(&id));
    let pending = leader
        .into_iter()
        .flat_map(|leader| &leader.members)
        .filter(|member| member.policy != Some(version))
        .map(|member| view.node_of(member))
        .collect();
    v1::LimitStatus {
        name: limit.name.clone(),
        promise: v1::Promise::from(limit.promise).into(),
        unit: v1::Unit::from(limit.cost).into(),
        budget: limit.scale.tokens_per_second(limit.budget.rate),
        promise_kept: !over(limit.id),
        pending,
        nodes_on_floor: sums.on_floor,
        offered_rate: sums.offered,
        admitted_rate: sums.admitted,
    }
}

fn name_of(node: Option<&v1::Node>) -> &str {
    node.map_or("", |node| node.name.as_str())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
