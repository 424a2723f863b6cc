//! A policy in force, with buckets that wait for being handed over.

use weir_abi::{HotKey as HotEntry, maps};
use weir_model::{
    Amount, HotKey, LimitId, Nanos, Policy, PolicyVersion, Revision,
    policy::{OnExpiry, Promise},
};

use super::{
    super::{Dataplane, error::DataplaneError, hot, install::Target, maps::map_error},
    CLOSED, HotBefore, OPENED,
};

impl Dataplane {
    /// Puts the policy in force, so that no limit of it admits anything before its bucket has been
    /// handed over: not what is local to this host, and not what would fail open. Only in maps
    /// that no packet uses yet.
    ///
    /// Keyed limits go on where the table does. With a table that has still to be copied they
    /// admit nothing either, and how they are meant lies on the other side: [`super::OPENED`].
    pub(crate) fn hold(
        &mut self,
        policy: &Policy,
        version: PolicyVersion,
        is_table_shared: bool,
    ) -> Result<(), DataplaneError> {
        if is_table_shared {
            return self.hold_buckets(policy, version);
        }
        self.hold_buckets(&closed(policy), version)?;
        debug_assert_eq!(self.generation, super::CLOSED);
        self.prepare(policy, version).map(drop)
    }

    /// Gives the keys that were hot buckets that wait for being handed over, as far as the policy in
    /// force has their limits. Until then a key is as one whose leased bucket is spent.
    pub(crate) fn hold_hot(&mut self, before: &[HotBefore]) -> Result<(), DataplaneError> {
        let mut new = Vec::new();
        for one in before {
            let limit = LimitId(one.limit.0);
            let Some(bucket) = self.slots.find(limit) else {
                continue;
            };
            if bucket.revision != Revision(one.limit.1 as u32) {
                continue;
            }
            let entry = HotEntry {
                slot: bucket.slot,
                ..one.entry
            };
            // While keyed limits are closed, what keys they have is said on the other side.
            for side in [CLOSED, OPENED] {
                let index = maps::sided(bucket.slot, side as u32);
                let rule = self.maps.rules.get(&index, 0);
                let rule = rule.map_err(map_error(maps::RULES))?.0;
                if let Some(key) = hot::key_of(&rule, &entry) {
                    let id = LimitId(one.id);
                    new.push((HotKey { id, limit, key }, bucket.revision, entry));
                    break;
                }
            }
        }
        self.make_hot(&new)?;
        let held = self.hot.known().map(|known| {
            let target = Target {
                limit: known.key.id,
                revision: known.revision,
                slot: known.slot,
            };
            target.grant(Amount::ZERO, Amount::ZERO, Nanos::NEVER)
        });
        let held = held.collect::<Result<Vec<_>, DataplaneError>>()?;
        self.run_install(&held).map(drop)
    }

    fn hold_buckets(
        &mut self,
        policy: &Policy,
        version: PolicyVersion,
    ) -> Result<(), DataplaneError> {
        let prepared = self.prepare(policy, version)?;
        let aggregate = policy.limits.iter().zip(&prepared.buckets);
        let requests = aggregate
            .filter(|(limit, _)| limit.per.is_none())
            .map(|(limit, bucket)| {
                let target = Target {
                    limit: limit.id,
                    revision: bucket.revision,
                    slot: bucket.slot,
                };
                target.grant(Amount::ZERO, Amount::ZERO, Nanos::NEVER)
            })
            .collect::<Result<Vec<_>, DataplaneError>>()?;
        self.run_install(&requests)?;
        self.put_in_force(prepared)
    }
}

/// The same with keyed limits that have one bucket, and nothing in it.
fn closed(policy: &Policy) -> Policy {
    let limits = policy.limits.iter().cloned().map(|mut limit| {
        if limit.per.take().is_some() {
            limit.promise = Promise::Strict;
            limit.on_expiry = OnExpiry::Floor;
        }
        limit
    });
    Policy {
        limits: limits.collect(),
        ..policy.clone()
    }
}
