//! Putting a policy in force.
//!
//! There is room for two. The new one is written to the side that is not in force; then one word
//! is changed, which every packet reads once; then, when no packet can be using the old one any
//! more, the old one's entries are taken away. A failure on the way leaves the old one in force.

use tracing::warn;
use weir_abi::{
    InstallRequest, InstallStatus, LimitCounters, Operation, PolicyRecord, Rule, Service, maps,
};
use weir_model::{
    Amount, LimitId, Nanos, Policy, PolicyVersion, Revision,
    policy::{Promise, Unparsed},
};

use super::{
    Dataplane,
    compile::{Capacity, Tables, compile, known_services},
    error::DataplaneError,
    install::{Target, not_decided},
    maps::{Raw, map_error},
    slots::Bucket,
    sys,
};

/// A policy that was written, and is not in force yet.
pub struct Prepared {
    generation: u64,
    version: PolicyVersion,
    limits: Vec<LimitId>,
    /// One for each limit.
    pub(crate) buckets: Vec<Bucket>,
}

impl Dataplane {
    /// Puts a policy in force. Buckets of limits that it has in common with the one before are
    /// carried over as they are; new ones start empty, without grant and floor. What
    /// [`Promise::Local`] limits may spend is granted here, for ever.
    ///
    /// # Errors
    ///
    /// If the policy does not fit, or a map cannot be written; then the one before stays in force.
    pub fn activate(
        &mut self,
        policy: &Policy,
        version: PolicyVersion,
    ) -> Result<(), DataplaneError> {
        let prepared = self.prepare(policy, version)?;
        self.activate_prepared(policy, prepared)
    }

    /// As [`Dataplane::activate`], with a policy that was written since the last one came into
    /// force: it takes one word, and the wait for packets that are still with the old one.
    ///
    /// # Errors
    ///
    /// If a map cannot be written; then the one before stays in force.
    pub fn activate_prepared(
        &mut self,
        policy: &Policy,
        prepared: Prepared,
    ) -> Result<(), DataplaneError> {
        self.grant_local(policy, &prepared.buckets)?;
        self.put_in_force(prepared)
    }

    /// Writes a policy to the side that is not in force.
    ///
    /// # Errors
    ///
    /// If it does not fit, or a map cannot be written; the one in force is untouched.
    pub fn prepare(
        &mut self,
        policy: &Policy,
        version: PolicyVersion,
    ) -> Result<Prepared, DataplaneError> {
        let capacity = Capacity {
            slots: self.maps.slots(),
            key_seed: self.key_seed,
            gives: self.gives,
        };
        let tables = compile(policy, capacity)?;
        let buckets = self.create_buckets(&tables)?;
        let generation = self.generation.wrapping_add(1);
        let side = (generation & 1) as u32;
        self.clear(side)?;
        self.write(side, &tables, &buckets)?;
        self.write_record(side, policy, &tables, version)?;
        let limits = tables.rules.iter().map(|(limit, _, _)| *limit);
        Ok(Prepared {
            generation,
            version,
            limits: limits.collect(),
            buckets,
        })
    }

    /// Packets decide by the other side from now on.
    pub(crate) fn put_in_force(&mut self, prepared: Prepared) -> Result<(), DataplaneError> {
        let Prepared {
            generation,
            version,
            limits,
            buckets,
        } = prepared;
        self.maps
            .side
            .set(0, generation, 0)
            .map_err(map_error(maps::SIDE))?;
        self.generation = generation;
        self.version = version;
        self.slots
            .activate(limits.into_iter().zip(buckets).collect());

        sys::wait_for_packets();
        // The policy is in force; what is left of the one before is cleared again before the next.
        if let Err(error) = self.clear(1 - (generation & 1) as u32) {
            warn!(%error, "what is left of the last policy could not be cleared");
        }
        if let Err(error) = self.drop_strange_hot_keys() {
            warn!(%error, "hot keys of the last policy could not be taken away");
        }
        Ok(())
    }

    fn create_buckets(&mut self, tables: &Tables) -> Result<Vec<Bucket>, DataplaneError> {
        let owners: Vec<_> = tables
            .rules
            .iter()
            .map(|(limit, revision, _)| (*limit, *revision))
            .collect();
        let assigned = self.slots.assign(owners.iter().copied())?;
        let new: Vec<InstallRequest> = owners
            .iter()
            .zip(&assigned)
            .filter(|(_, (_, is_new))| *is_new)
            .map(|((limit, revision), (slot, _))| {
                let target = Target {
                    limit: *limit,
                    revision: *revision,
                    slot: *slot,
                };
                target.request(Operation::Create)
            })
            .collect();
        for request in &new {
            self.reset_counters(request.slot)?;
        }
        expect(&self.run_install(&new)?, &[InstallStatus::Installed])?;
        for (owner, (slot, _)) in owners.iter().zip(&assigned) {
            self.slots.created(*owner, *slot);
        }
        self.take_back(&owners, &assigned)?;
        let buckets = owners.iter().zip(assigned);
        Ok(buckets
            .map(|((_, revision), (slot, _))| Bucket {
                slot,
                revision: *revision,
            })
            .collect())
    }

    /// A limit that comes back finds its bucket as it was, and no grant or floor of former days:
    /// others may have them now.
    fn take_back(
        &self,
        owners: &[(LimitId, Revision)],
        assigned: &[(u32, bool)],
    ) -> Result<(), DataplaneError> {
        let returned: Vec<InstallRequest> = owners
            .iter()
            .zip(assigned)
            .filter(|((limit, revision), (slot, is_new))| {
                let bucket = Bucket {
                    slot: *slot,
                    revision: *revision,
                };
                !is_new && self.slots.find(*limit) != Some(bucket)
            })
            .map(|((limit, revision), (slot, _))| {
                let target = Target {
                    limit: *limit,
                    revision: *revision,
                    slot: *slot,
                };
                target.grant(Amount::ZERO, Amount::ZERO, Nanos::ZERO)
            })
            .collect::<Result<_, DataplaneError>>()?;
        expect(
            &self.run_install(&returned)?,
            &[InstallStatus::Installed, InstallStatus::Renewed],
        )
    }

    /// Nobody counts there: no policy that is in force uses the slot.
    pub(crate) fn reset_counters(&mut self, slot: u32) -> Result<(), DataplaneError> {
        let error = map_error(maps::COUNTERS);
        let cpus = self.maps.counters.get(&slot, 0).map_err(&error)?.len();
        let zero = vec![Raw(LimitCounters::default()); cpus];
        let zero = zero.try_into().map_err(|source| DataplaneError::System {
            what: "one counter for each CPU",
            source,
        })?;
        self.inherited.forget(&mut self.maps, slot)?;
        self.maps.counters.set(slot, zero, 0).map_err(&error)
    }

    fn grant_local(&self, policy: &Policy, buckets: &[Bucket]) -> Result<(), DataplaneError> {
        let local: Vec<InstallRequest> = policy
            .limits
            .iter()
            .zip(buckets)
            .filter(|(limit, _)| limit.promise == Promise::Local && limit.per.is_none())
            .map(|(limit, bucket)| {
                let target = Target {
                    limit: limit.id,
                    revision: bucket.revision,
                    slot: bucket.slot,
                };
                target.grant(limit.budget, limit.budget, Nanos::NEVER)
            })
            .collect::<Result<_, DataplaneError>>()?;
        expect(
            &self.run_install(&local)?,
            &[InstallStatus::Installed, InstallStatus::Renewed],
        )
    }

    fn write(
        &mut self,
        side: u32,
        tables: &Tables,
        buckets: &[Bucket],
    ) -> Result<(), DataplaneError> {
        for ((_, _, rule), bucket) in tables.rules.iter().zip(buckets) {
            let index = maps::sided(bucket.slot, side);
            let rule = Rule {
                hot_keys: if rule.keyed == 0 {
                    0
                } else {
                    self.hot.count(bucket.slot)
                },
                ..*rule
            };
            self.maps
                .rules
                .set(index, Raw(rule), 0)
                .map_err(map_error(maps::RULES))?;
        }
        for (number, limits) in (0_u32..).zip(&tables.services) {
            let index = maps::sided(number, side);
            self.maps
                .services
                .set(index, Raw(service(limits, tables, buckets)), 0)
                .map_err(map_error(maps::SERVICES))?;
        }
        for (prefix, number) in &tables.destinations {
            self.maps
                .destinations
                .insert(side, *prefix, *number as u32)?;
        }
        for (prefix, bits) in &tables.sources {
            let words = [*bits as u32, (*bits >> 32) as u32];
            self.maps.sources.insert(side, *prefix, words)?;
        }
        self.used[side as usize] = Some(buckets.iter().map(|bucket| bucket.slot).collect());
        Ok(())
    }

    fn write_record(
        &mut self,
        side: u32,
        policy: &Policy,
        tables: &Tables,
        version: PolicyVersion,
    ) -> Result<(), DataplaneError> {
        let record = PolicyRecord {
            version: version.0,
            services: known_services(&tables.destinations),
            unparsed_passes: u32::from(policy.fleet.unparsed == Unparsed::Pass),
            reserved: 0,
        };
        self.maps
            .policies
            .set(side, Raw(record), 0)
            .map_err(map_error(maps::POLICIES))
    }

    /// Takes away what is on a side that is not in force. Services are only found through
    /// prefixes, so they may stay.
    fn clear(&mut self, side: u32) -> Result<(), DataplaneError> {
        self.maps.destinations.clear(side)?;
        self.maps.sources.clear(side)?;
        let error = map_error(maps::RULES);
        // What a former daemon wrote is not known.
        let used = self.used[side as usize].take();
        let used = used.unwrap_or_else(|| (0..self.maps.slots()).collect());
        for slot in used {
            let index = maps::sided(slot, side);
            if self.maps.rules.get(&index, 0).map_err(&error)?.0.limit != 0 {
                self.maps
                    .rules
                    .set(index, Raw(Rule::default()), 0)
                    .map_err(&error)?;
            }
        }
        self.used[side as usize] = Some(Vec::new());
        Ok(())
    }
}

fn service(limits: &[usize], tables: &Tables, buckets: &[Bucket]) -> Service {
    let mut slots = [0; maps::RULES_PER_SERVICE];
    for (place, limit) in slots.iter_mut().zip(limits) {
        *place = buckets[*limit].slot;
    }
    let asks_source = limits
        .iter()
        .any(|limit| tables.rules[*limit].2.source_set != 0);
    Service {
        count: limits.len() as u32,
        asks_source: u32::from(asks_source),
        slots,
    }
}

/// Every request must have come to one of these.
pub(crate) fn expect(
    decided: &[InstallRequest],
    expected: &[InstallStatus],
) -> Result<(), DataplaneError> {
    let odd = decided.iter().find(|request| {
        !InstallStatus::from_number(request.status).is_some_and(|status| expected.contains(&status))
    });
    match odd {
        None => Ok(()),
        Some(request) => {
            let status = InstallStatus::from_number(request.status);
            let limit = LimitId(request.limit);
            Err(not_decided(&format!("{status:?} for limit {limit}")))
        }
    }
}
