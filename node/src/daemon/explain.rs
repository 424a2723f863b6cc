//! Why a source is, or is not, being dropped: what each limit means for it, and what was seen.

use std::net::IpAddr;

use weir_model::{
    Amount, HotKey, Limit, Nanos, Units, UnitsPerSecond,
    policy::{OnExpiry, Promise},
    prefix::Prefix,
};
use weir_proto::admin::v1;

use super::{
    observation::{self, DroppedPacket, prefix_of},
    view::{View, is_endless, millis},
};
use crate::dataplane;

/// Drops that are told of, at most.
const DROPS_TOLD: usize = 20;

impl View<'_> {
    /// What this node knows of a source.
    pub(super) fn explain(&self, source: IpAddr) -> v1::ExplainReply {
        let now = dataplane::now();
        // A source that comes over IPv4 is limited as IPv4, however it is written.
        let source = source.to_canonical();
        let seen = self.enforcement.observation();
        let policy = self.policy();
        let drops = seen
            .drops()
            .filter(|dropped| match policy.limit(dropped.limit) {
                Some(limit) if limit.revision == dropped.revision => {
                    prefix_of(limit, dropped.source) == prefix_of(limit, source)
                }
                _ => dropped.source == source,
            })
            .take(DROPS_TOLD)
            .map(|dropped| self.told(dropped, now))
            .collect();
        let totals = self.enforcement.dataplane().totals();
        v1::ExplainReply {
            node: Some(self.this_node()),
            address: source.to_string(),
            policy_version: self.enforcement.policy_version().0,
            limits: policy
                .limits
                .iter()
                .map(|limit| self.explain_limit(limit, source, now))
                .collect(),
            drops,
            sampled_one_in: seen.one_in(),
            drops_since_ms: millis(now - seen.drops_since()),
            samples_lost: totals.map_or(0, |totals| totals.events_lost),
            term: self.term(),
            management: self.managed_from(source),
        }
    }

    fn managed_from(&self, source: IpAddr) -> Vec<String> {
        let entries = self.facts.management.iter();
        let entries = entries.filter(|entry| entry.is_from(source));
        entries.map(ToString::to_string).collect()
    }

    fn explain_limit(&self, limit: &Limit, source: IpAddr, now: Nanos) -> v1::ExplainedLimit {
        let exempt = exempt(limit, source).unwrap_or_default();
        let seen = self.enforcement.observation();
        let traffic = seen.of(limit, source, now).filter(|_| exempt.is_empty());
        // Of what can't apply, what the kernel holds is of no interest, and takes time to read.
        let hot = self.hot_limit(limit, prefix_of(limit, source));
        let standing = match &hot {
            _ if !exempt.is_empty() => Standing::of_policy(limit),
            None => self.standing(limit, now),
            Some(hot) if self.enforcement.dataplane().gives() => {
                self.standing(hot, now).with_share(limit)
            }
            Some(hot) => self.standing(hot, now),
        };
        v1::ExplainedLimit {
            name: limit.name.clone(),
            promise: v1::Promise::from(limit.promise).into(),
            mode: v1::Mode::from(limit.mode).into(),
            unit: v1::Unit::from(limit.cost).into(),
            per: limit.per.map(Into::into),
            source: prefix_of(limit, source).to_string(),
            rate: limit.scale.tokens_per_second(standing.amount.rate),
            burst: limit.scale.tokens(standing.amount.burst),
            unspent: standing.unspent,
            lease_left_ms: standing.lease_left_ms,
            expired: standing.expired.into(),
            traffic: traffic.map(Into::into),
            traffic_seconds: seen.span(limit.id, now).as_secs_f64(),
            hot: hot.is_some(),
            budget: limit.scale.tokens_per_second(limit.budget.rate),
            offered_by_all: limit
                .scale
                .tokens_per_second(self.enforcement.rates(limit.id).offered),
            past: if exempt.is_empty() {
                self.past_of(limit, now)
            } else {
                Vec::new()
            },
            exempt,
        }
    }

    /// A key of a limit, as the limit that it is if it is hot here.
    pub(super) fn hot_limit(&self, limit: &Limit, key: Prefix) -> Option<Limit> {
        limit.per?;
        let hot = HotKey::new(limit, key);
        let is_hot = self.enforcement.dataplane().is_hot(hot.id);
        is_hot.then(|| self.policy().hot_limit(&hot))?
    }

    fn standing(&self, limit: &Limit, now: Nanos) -> Standing {
        let of_policy = Standing::of_policy(limit);
        if limit.per.is_some() {
            return of_policy;
        }
        let Ok(Some(held)) = self.enforcement.dataplane().held(limit.id) else {
            return of_policy;
        };
        let unspent = Some(limit.scale.tokens(held.unspent));
        if limit.promise == Promise::Local {
            return Standing {
                unspent,
                ..of_policy
            };
        }
        let left = held.expires - now;
        let is_expired = left.is_zero();
        Standing {
            amount: if is_expired { held.floor } else { held.amount },
            unspent,
            lease_left_ms: (!is_endless(left)).then(|| millis(left)),
            expired: match limit.on_expiry {
                _ if !is_expired => v1::Expiry::Unspecified,
                OnExpiry::Floor => v1::Expiry::Floor,
                OnExpiry::Closed => v1::Expiry::Closed,
                OnExpiry::Open => v1::Expiry::Open,
            },
        }
    }

    fn told(&self, dropped: &DroppedPacket, now: Nanos) -> v1::SampledDrop {
        let limit = self.policy().limit(dropped.limit);
        let limit = limit.filter(|limit| limit.revision == dropped.revision);
        let rate = limit.map(|limit| {
            let hot = self.hot_limit(limit, prefix_of(limit, dropped.source));
            self.standing(hot.as_ref().unwrap_or(limit), now)
                .amount
                .rate
                .0
        });
        v1::SampledDrop {
            ago_ms: millis(now - dropped.at),
            limit: limit.map(|limit| limit.name.clone()).unwrap_or_default(),
            reason: dropped.reason.name().to_owned(),
            unit: limit
                .map_or(v1::Unit::Unspecified, |limit| limit.cost.into())
                .into(),
            over: limit.map_or(0.0, |limit| dropped.over.tokens(limit)),
            passes_in_ms: dropped.over.wait_ms(rate.unwrap_or(0)),
            source: dropped.source.to_string(),
            destination: dropped.destination.to_string(),
            protocol: dropped.protocol.into(),
            port: dropped.port.into(),
            bytes: dropped.bytes,
            weight: dropped.weight,
        }
    }
}

/// What may be spent on this host now: of a key, or in all.
struct Standing {
    amount: Amount,
    /// Tokens.
    unspent: Option<f64>,
    lease_left_ms: Option<u64>,
    expired: v1::Expiry,
}

impl Standing {
    /// What is known without asking the kernel.
    const fn of_policy(limit: &Limit) -> Self {
        Self {
            amount: limit.floor,
            unspent: None,
            lease_left_ms: None,
            expired: v1::Expiry::Unspecified,
        }
    }

    /// With what a key of the limit may send besides its lease.
    fn with_share(self, limit: &Limit) -> Self {
        let share = match (limit.promise, limit.key_amount()) {
            (Promise::Strict, Some(share)) => share,
            _ => Amount::ZERO,
        };
        Self {
            amount: Amount {
                rate: UnitsPerSecond(self.amount.rate.0 + share.rate.0),
                burst: Units(self.amount.burst.0 + share.burst.0),
            },
            ..self
        }
    }
}

/// Why a limit can't apply to any packet of a source; `None` if it can.
fn exempt(limit: &Limit, source: IpAddr) -> Option<String> {
    let family = |is_v4: bool| if is_v4 { "IPv4" } else { "IPv6" };
    let host = Prefix::containing(source, if source.is_ipv4() { 32 } else { 128 })
        .expect("as long as the address");
    let matches = &limit.matches;
    if !matches.from.is_empty() && !matches.from.iter().any(|prefix| prefix.contains(host)) {
        return Some("the source is in none of the prefixes of `from`".to_owned());
    }
    let is_same_family = |prefix: &Prefix| prefix.address().is_ipv4() == source.is_ipv4();
    if !matches.to.is_empty() && !matches.to.iter().any(is_same_family) {
        let others = family(!source.is_ipv4());
        return Some(format!("all prefixes of `to` are {others}"));
    }
    None
}

impl From<observation::Rates> for v1::HeavySource {
    fn from(rates: observation::Rates) -> Self {
        Self {
            source: rates.source.to_string(),
            offered: rates.offered,
            dropped: rates.dropped,
            error: rates.error,
            leased: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_why_it_cannot_apply() {
        let policy = weir_model::file::parse(
            "version = 1\n\
             [[limit]]\nname = \"all\"\nrate = \"9 packets/s\"\n\
             [[limit]]\nname = \"some\"\nrate = \"9 packets/s\"\n\
             from = [\"198.18.0.0/16\", \"2001:db8::/48\"]\n\
             [[limit]]\nname = \"v6\"\nrate = \"9 packets/s\"\nto = [\"2001:db8::53\"]\n",
        )
        .unwrap();
        for (source, expected) in [
            (
                "198.18.7.1",
                [None, None, Some("all prefixes of `to` are IPv6")],
            ),
            ("2001:db8::9", [None, None, None]),
            (
                "198.19.7.1",
                [None, Some("none of the prefixes of `from`"), Some("IPv6")],
            ),
            ("2001:db8:1::9", [None, Some("`from`"), None]),
        ] {
            for (limit, expected) in policy.limits.iter().zip(expected) {
                let said = exempt(limit, source.parse().unwrap());
                match (&said, expected) {
                    (None, None) => {}
                    (Some(said), Some(expected)) if said.contains(expected) => {}
                    _ => panic!("{source}, {}: {said:?}", limit.name),
                }
            }
        }
    }
}
