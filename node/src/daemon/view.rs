//! What operators see: the daemon's state as replies of the admin service.

use std::{collections::HashMap, time::Duration};

use weir_coord_core::{
    follower::Grant,
    leader::{HeldView, MemberView, ShareView},
    record::MemberRecord,
};
use weir_model::{
    Limit, LimitId, Nanos, NodeId, Policy, Term,
    policy::{Mode, OnExpiry},
    prefix::Prefix,
};
use weir_proto::admin::v1;

use super::{
    coordination::{Coordination, LIVELY, LeaderView},
    enforcement::Enforcement,
    past::Past,
};
use crate::{config::ManagementEntry, dataplane};

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
    /// The period of report, reallocate, grant.
    pub tick: Duration,
    /// What passes before any limit.
    pub management: Vec<ManagementEntry>,
}

/// The daemon at one instant.
pub(super) struct View<'a> {
    /// What does not change.
    pub(super) facts: &'a Facts,
    /// The host's side.
    pub(super) enforcement: &'a Enforcement,
    /// The fleet's side.
    pub(super) coordination: &'a Coordination,
    /// What there was.
    pub(super) past: &'a Past,
}

/// Rows of pending members in a reply, summed over all limits: each takes up to 100 bytes. With more
/// than that, each limit names fewer members, but one at least.
const PENDING_ROWS_MAX: usize = 100_000;
/// Sources of a limit that are told of, at most.
pub(super) const TOP_MAX: usize = 100;

/// A lease that has no end: the node never had a grant, or the limit is local.
pub(super) fn is_endless(lease_left: Duration) -> bool {
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
    pub(super) fn own(&self) -> LeaderView {
        let now = dataplane::now();
        let limits = self.policy().limits.iter().map(|limit| {
            // What others hold follows from the policy, and reading it takes its time.
            let held = if limit.is_leased() {
                self.enforcement.held_of(limit)
            } else {
                Grant::floor(limit.id, limit.floor)
            };
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
            is_drained: false,
            is_powered_off: false,
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
            hot: Vec::new(),
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

    pub(super) fn this_node(&self) -> v1::Node {
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
        let mut sums = self.sums(leader.or(own.as_ref()));
        let pending = self.pending(leader);
        let over_budget = leader.map_or(&[][..], |leader| &leader.over_budget);
        let limits = self.policy().limits.iter().map(|limit| {
            let sums = sums.remove(&limit.id).unwrap_or_default();
            let (hot_keys, heaviest_hot) = self.hot_of(limit, leader);
            v1::LimitStatus {
                pending: pending.clone(),
                hot_keys,
                heaviest_hot,
                ..limit_status(limit, &sums, over_budget.contains(&limit.id))
            }
        });
        v1::StatusReply {
            limits: limits.collect(),
            ..self.fleet(leader)
        }
    }

    /// The fleet without its limits.
    pub(super) fn fleet(&self, leader: Option<&LeaderView>) -> v1::StatusReply {
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
            term: self.term(),
            zookeeper,
            policy_version: self.enforcement.policy_version().0,
            members: self.members(leader),
            limits: Vec::new(),
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
            voters: self.voters(),
            trial: None,
        }
    }

    /// The current term, as far as ZooKeeper has told; 0 if it has not. A host alone has one for ever.
    pub(super) fn term(&self) -> u64 {
        self.coordination.term().unwrap_or_default().0
    }

    /// Whose acknowledgements commit.
    fn voters(&self) -> Vec<v1::Node> {
        let Some(fleet) = self.coordination.fleet() else {
            return Vec::new();
        };
        let voters = fleet.term().into_iter().flat_map(|term| &term.voters);
        voters
            .map(|voter| {
                let member = fleet.members().iter().find(|member| member.node == *voter);
                let name = member.map(|member| member.name.clone());
                let name = name.or_else(|| self.live_name(*voter)).unwrap_or_default();
                v1::Node::new(*voter, name, self.address_of(*voter))
            })
            .collect()
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
        node == self.facts.node
            || heard.is_some_and(|ago| ago < LIVELY)
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

    /// Members that do not enforce this node's policy yet, as far as a leader knows.
    pub(super) fn pending(&self, leader: Option<&LeaderView>) -> Vec<v1::Node> {
        let version = self.enforcement.policy_version();
        let most = (PENDING_ROWS_MAX / self.policy().limits.len().max(1)).max(1);
        leader
            .into_iter()
            .flat_map(|leader| &leader.members)
            .filter(|member| member.policy != Some(version))
            .map(|member| self.node_of(member))
            .take(most)
            .collect()
    }

    /// What the members count and hold of each limit, added up.
    pub(super) fn sums(&self, known: Option<&LeaderView>) -> HashMap<LimitId, Sums> {
        let mut sums: HashMap<LimitId, Sums> = HashMap::new();
        let members = known.into_iter().flat_map(|known| &known.members);
        for member in members {
            let Some(heard) = member.heard else { continue };
            for share in &member.limits {
                if let Some(limit) = self.policy().limit(share.limit) {
                    sums.entry(limit.id).or_default().add(limit, share, heard);
                }
            }
        }
        sums
    }

    /// Every limit, summed over the fleet; over this node alone unless it leads. With the heaviest
    /// sources of each that this node sees, at most so many.
    pub(super) fn limits(&self, top: usize) -> v1::LimitsReply {
        let leader = self.leader().unwrap_or_else(|| self.own());
        let mut sums = self.sums(Some(&leader));
        let limits = self
            .policy()
            .limits
            .iter()
            .map(|limit| {
                let row = limit_row(limit, &sums.remove(&limit.id).unwrap_or_default());
                match top {
                    0 => row,
                    top => self.with_top(limit, row, top.min(TOP_MAX)),
                }
            })
            .collect();
        v1::LimitsReply {
            limits,
            node: Some(self.this_node()),
        }
    }

    fn with_top(&self, limit: &Limit, row: v1::LimitRow, top: usize) -> v1::LimitRow {
        let now = dataplane::now();
        let seen = self.enforcement.observation();
        v1::LimitRow {
            top_seconds: seen.span(limit.id, now).as_secs_f64(),
            top_left_out: seen.is_left_out(limit.id),
            top: self.heaviest(limit, top, now),
            ..row
        }
    }

    /// The heaviest sources of a limit that this node sees, at most so many.
    pub(super) fn heaviest(&self, limit: &Limit, most: usize, now: Nanos) -> Vec<v1::HeavySource> {
        let top = self.enforcement.observation().top(limit.id, most, now);
        let top = top.into_iter().map(|source| v1::HeavySource {
            leased: self.leased(limit, source.source, now),
            ..source.into()
        });
        top.collect()
    }

    /// What this node may send of a key by its lease, tokens per second; `None` if it is not hot.
    fn leased(&self, limit: &Limit, key: Prefix, now: Nanos) -> Option<f64> {
        let hot = self.hot_limit(limit, key)?;
        let rate = self.enforcement.held_of(&hot).effective(now).rate;
        Some(limit.scale.tokens_per_second(rate))
    }

    /// Every limit on every node; on this node alone unless it leads.
    pub(super) fn nodes(&self) -> v1::NodesReply {
        let leads = self.leader();
        let is_leader = leads.is_some();
        let leader = leads.unwrap_or_else(|| self.own());
        let nodes = self.node_rows(&leader, is_leader, |member| self.node_limits(member));
        v1::NodesReply { nodes }
    }

    /// Every member, by name, with those of its limits that `limits` says.
    pub(super) fn node_rows(
        &self,
        leader: &LeaderView,
        is_leader: bool,
        limits: impl Fn(&MemberView) -> Vec<v1::NodeLimit>,
    ) -> Vec<v1::NodeRow> {
        let row = |member: &MemberView| v1::NodeRow {
            node: Some(self.node_of(member)),
            live: self.is_live(member.record.node, member.heard),
            is_leader: is_leader && member.record.node == self.facts.node,
            limits: limits(member),
        };
        let mut nodes: Vec<v1::NodeRow> = leader.members.iter().map(row).collect();
        nodes.sort_by(|a, b| name_of(a.node.as_ref()).cmp(name_of(b.node.as_ref())));
        nodes
    }

    pub(super) fn node_limits(&self, member: &MemberView) -> Vec<v1::NodeLimit> {
        let shares = member.limits.iter().map(|share| (share.limit, share));
        let shares: HashMap<LimitId, &ShareView> = shares.collect();
        let heard = member.heard.unwrap_or_default();
        let limits = self.policy().limits.iter();
        limits
            .filter_map(|limit| Some(self.node_limit(limit, shares.get(&limit.id)?, heard)))
            .collect()
    }

    pub(super) fn node_limit(
        &self,
        limit: &Limit,
        share: &ShareView,
        heard: Duration,
    ) -> v1::NodeLimit {
        let is_leased = limit.is_leased();
        let left = share.held.lease_left.saturating_sub(heard);
        let on_floor = self.is_on_floor(share);
        // What may be spent of others follows from the policy.
        let held = if is_leased {
            share.held.amount
        } else {
            limit.floor
        };
        let per_second = |rate| limit.scale.tokens_per_second(rate);
        v1::NodeLimit {
            limit: limit.name.clone(),
            unit: v1::Unit::from(limit.cost).into(),
            rate: per_second(limit.budget.rate),
            share: per_second(held.rate),
            floor: per_second(limit.floor.rate),
            offered: per_second(share.rates.offered),
            admitted: per_second(share.rates.admitted),
            dropped: per_second(share.rates.dropped),
            lease_left_ms: (is_leased && !is_endless(share.held.lease_left)).then(|| millis(left)),
            on_floor,
            per: limit.per.map(Into::into),
        }
    }
}

/// Rates over the fleet, tokens/s.
#[derive(Default)]
pub(super) struct Sums {
    offered: f64,
    admitted: f64,
    dropped: f64,
    nodes: u32,
    pub(super) on_floor: u32,
    pub(super) failing_open: u32,
}

impl Sums {
    /// Adds what a member said so long ago.
    fn add(&mut self, limit: &Limit, share: &ShareView, heard: Duration) {
        let per_second = |rate| limit.scale.tokens_per_second(rate);
        self.offered += per_second(share.rates.offered);
        self.admitted += per_second(share.rates.admitted);
        self.dropped += per_second(share.rates.dropped);
        self.nodes += 1;
        if limit.is_leased() {
            let left = share.held.lease_left;
            self.on_floor += u32::from(left.is_zero() || is_endless(left));
            self.failing_open += u32::from(fails_open(limit, left.saturating_sub(heard)));
        }
    }
}

/// Whether a node on which so much is left of the lease lets everything pass.
pub(super) fn fails_open(limit: &Limit, lease_left: Duration) -> bool {
    limit.is_leased()
        && limit.on_expiry == OnExpiry::Open
        && limit.mode == Mode::Enforce
        && lease_left.is_zero()
}

pub(super) fn limit_row(limit: &Limit, sums: &Sums) -> v1::LimitRow {
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
        per: limit.per.map(Into::into),
        ..v1::LimitRow::default()
    }
}

fn limit_status(limit: &Limit, sums: &Sums, is_over_budget: bool) -> v1::LimitStatus {
    v1::LimitStatus {
        name: limit.name.clone(),
        promise: v1::Promise::from(limit.promise).into(),
        unit: v1::Unit::from(limit.cost).into(),
        budget: limit.scale.tokens_per_second(limit.budget.rate),
        promise_kept: !is_over_budget && sums.failing_open == 0,
        pending: Vec::new(),
        nodes_on_floor: sums.on_floor,
        offered_rate: sums.offered,
        admitted_rate: sums.admitted,
        per: limit.per.map(Into::into),
        nodes_failing_open: sums.failing_open,
        ..v1::LimitStatus::default()
    }
}

fn name_of(node: Option<&v1::Node>) -> &str {
    node.map_or("", |node| node.name.as_str())
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
