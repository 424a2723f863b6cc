//! A policy in force, with buckets that wait for being handed over.

use weir_model::{
    Amount, Nanos, Policy, PolicyVersion,
    policy::{OnExpiry, Promise},
};

use super::super::{Dataplane, error::DataplaneError, install::Target};

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
