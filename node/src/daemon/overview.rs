//! What a live view shows, at a cost that allows to ask each second.

use std::cmp::Reverse;

use weir_coord_core::leader::MemberView;
use weir_model::Limit;
use weir_proto::admin::v1;

use super::{
    coordination::LeaderView,
    view::{Sums, TOP_MAX, View, limit_row},
};
use crate::dataplane;

impl View<'_> {
    /// The fleet, every limit added up, and of one limit or one member more. A change that waits to
    /// be confirmed is told by whoever knows.
    pub(super) fn overview(
        &self,
        request: &v1::OverviewRequest,
        trial: Option<v1::Version>,
    ) -> v1::OverviewReply {
        let leads = self.leader();
        let fleet = v1::StatusReply {
            trial,
            ..self.fleet(leads.as_ref())
        };
        let pending = self.pending(leads.as_ref()).len();
        let pending = u32::try_from(pending).unwrap_or(u32::MAX);
        let is_leader = leads.is_some();
        let known = leads.unwrap_or_else(|| self.own());
        v1::OverviewReply {
            fleet: Some(fleet),
            limits: self.overview_limits(&known, pending),
            nodes: self.node_rows(&known, is_leader, |member| self.asked_for(member, request)),
            sources: self.sources(request),
            alone: false,
        }
    }

    fn overview_limits(&self, known: &LeaderView, pending: u32) -> Vec<v1::OverviewLimit> {
        let mut sums = self.sums(Some(known));
        let limits = self.policy().limits.iter().map(|limit| {
            let sums = sums.remove(&limit.id).unwrap_or_default();
            let is_over_budget = known.over_budget.contains(&limit.id);
            overview_limit(limit, &sums, is_over_budget, pending)
        });
        limits.collect()
    }

    fn asked_for(&self, member: &MemberView, request: &v1::OverviewRequest) -> Vec<v1::NodeLimit> {
        if !request.node.is_empty() && member.record.name == request.node {
            return self.node_limits(member);
        }
        let heard = member.heard.unwrap_or_default();
        let shares = member.limits.iter();
        let named = shares.filter_map(|share| Some((self.policy().limit(share.limit)?, share)));
        named
            .filter(|(limit, _)| limit.name == request.limit)
            .map(|(limit, share)| self.node_limit(limit, share, heard))
            .collect()
    }

    fn sources(&self, request: &v1::OverviewRequest) -> Vec<v1::OverviewSource> {
        let most = TOP_MAX.min(request.top.try_into().unwrap_or(TOP_MAX));
        if most == 0 {
            return Vec::new();
        }
        let now = dataplane::now();
        let is_asked_for = |limit: &&Limit| request.limit.is_empty() || limit.name == request.limit;
        let limits = self.policy().limits.iter().filter(is_asked_for);
        let mut sources: Vec<(u64, v1::OverviewSource)> = limits
            .flat_map(|limit| {
                let heaviest = self.heaviest(limit, most, now).into_iter();
                heaviest.map(|source| {
                    let part = part_of(limit, source.offered);
                    let source = v1::OverviewSource {
                        limit: limit.name.clone(),
                        unit: v1::Unit::from(limit.cost).into(),
                        source: Some(source),
                    };
                    (part, source)
                })
            })
            .collect();
        sources.sort_by_key(|(part, _)| Reverse(*part));
        sources.truncate(most);
        sources.into_iter().map(|(_, source)| source).collect()
    }
}

/// How much of a limit so many tokens per second are, in millionths: of limits that count different
/// things nothing else can be compared.
fn part_of(limit: &Limit, offered: f64) -> u64 {
    (offered / limit.scale.tokens_per_second(limit.budget.rate) * 1e6) as u64
}

fn overview_limit(
    limit: &Limit,
    sums: &Sums,
    is_over_budget: bool,
    pending: u32,
) -> v1::OverviewLimit {
    v1::OverviewLimit {
        row: Some(limit_row(limit, sums)),
        promise_kept: !is_over_budget && sums.failing_open == 0,
        nodes_on_floor: sums.on_floor,
        nodes_failing_open: sums.failing_open,
        pending,
    }
}
