//! Having grants installed by the kernel.

use std::os::fd::{AsFd as _, BorrowedFd};

use weir_abi::{
    InstallHeader, InstallRequest, InstallStatus, LimitSlot, Operation, bytes_of, from_bytes,
};
use weir_limiter::{level_at, multiplier, standing};
use weir_model::{Amount, LimitId, Nanos, Revision, Units, UnitsPerSecond};

use super::{Dataplane, Held, error::DataplaneError, sys};

/// What a limit is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRequest {
    /// Which limit, of the policy in force, or which [hot key](weir_model::HotKey::id).
    pub limit: LimitId,
    /// What it may spend before `expires`.
    pub amount: Amount,
    /// What it may spend after that.
    pub floor: Amount,
    /// When the grant ends. A grant that has ended is refused, unless it grants
    /// [`Amount::ZERO`]: then the floor is in force at once.
    pub expires: Nanos,
}

/// What the kernel did about a [`GrantRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallOutcome {
    /// It is in force.
    Installed {
        /// Since when, on the kernel's clock.
        at: Nanos,
        /// Whether only its end has moved, or nothing at all.
        renewed: bool,
    },
    /// It had ended already: the limit holds what it held.
    Expired {
        /// When the kernel looked at it.
        at: Nanos,
    },
    /// The policy in force does not have the limit.
    UnknownLimit,
    /// Packets changed the bucket at every attempt: the limit holds what it held. Try again.
    Contended,
}

/// A bucket that a request is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) limit: LimitId,
    pub(crate) revision: Revision,
    pub(crate) slot: u32,
}

impl Target {
    /// A request that grants nothing.
    pub(crate) fn request(self, operation: Operation) -> InstallRequest {
        InstallRequest {
            limit: self.limit.0,
            revision: u64::from(self.revision.0),
            slot: self.slot,
            operation: operation as u16,
            ..InstallRequest::default()
        }
    }

    /// A request for this grant.
    pub(crate) fn grant(
        self,
        amount: Amount,
        floor: Amount,
        expires: Nanos,
    ) -> Result<InstallRequest, DataplaneError> {
        let most = Amount {
            rate: UnitsPerSecond::MAX,
            burst: Units::MAX,
        };
        if !amount.fits(most) || !floor.fits(most) {
            return Err(DataplaneError::AmountOutOfRange { limit: self.limit });
        }
        Ok(InstallRequest {
            rate_multiplier: multiplier(amount.rate.0),
            burst: amount.burst.0,
            floor_multiplier: multiplier(floor.rate.0),
            floor_burst: floor.burst.0,
            expires_ns: expires.0,
            ..self.request(Operation::Grant)
        })
    }
}

impl Dataplane {
    /// Has grants installed, in order, by the kernel's own program and clock. An outcome for each.
    ///
    /// # Errors
    ///
    /// If the kernel does not run the program; then a part of the grants may be in force.
    pub fn install(
        &mut self,
        grants: &[GrantRequest],
    ) -> Result<Vec<InstallOutcome>, DataplaneError> {
        let known: Vec<Option<InstallRequest>> = grants
            .iter()
            .map(|grant| {
                let Some(bucket) = self.bucket(grant.limit) else {
                    return Ok(None);
                };
                let target = Target {
                    limit: grant.limit,
                    revision: bucket.revision,
                    slot: bucket.slot,
                };
                target
                    .grant(grant.amount, grant.floor, grant.expires)
                    .map(Some)
            })
            .collect::<Result<_, DataplaneError>>()?;
        let requests: Vec<InstallRequest> = known.iter().flatten().copied().collect();
        let mut decided = self.run_install(&requests)?.into_iter();
        known
            .iter()
            .map(|request| match request {
                None => Ok(InstallOutcome::UnknownLimit),
                Some(_) => match decided.next() {
                    Some(decided) => outcome(&decided),
                    None => Err(not_decided("fewer requests than it got")),
                },
            })
            .collect()
    }

    /// Has the requests decided, and returns them with their status.
    pub(crate) fn run_install(
        &self,
        requests: &[InstallRequest],
    ) -> Result<Vec<InstallRequest>, DataplaneError> {
        run(self.programs.install.as_fd(), requests)
    }
}

/// Runs the program on requests, as many at a time as fit, and returns them with their status.
pub(crate) fn run(
    program: BorrowedFd<'_>,
    requests: &[InstallRequest],
) -> Result<Vec<InstallRequest>, DataplaneError> {
    let mut decided = Vec::with_capacity(requests.len());
    for batch in requests.chunks(InstallHeader::MAX_COUNT) {
        let mut data = bytes_of(&InstallHeader::new(batch.len() as u32)).to_vec();
        for request in batch {
            data.extend_from_slice(bytes_of(request));
        }
        let count = sys::test_run(program, &mut data).map_err(|source| DataplaneError::System {
            what: "test-run of the install program",
            source,
        })?;
        if count as usize != batch.len() {
            let what = format!("{count} of {} requests", batch.len());
            return Err(not_decided(&what));
        }
        let answers = data[size_of::<InstallHeader>()..].chunks_exact(size_of::<InstallRequest>());
        decided.extend(answers.filter_map(from_bytes::<InstallRequest>));
    }
    Ok(decided)
}

fn outcome(decided: &InstallRequest) -> Result<InstallOutcome, DataplaneError> {
    let at = Nanos(decided.decided_ns);
    match InstallStatus::from_number(decided.status) {
        Some(InstallStatus::Installed) => Ok(InstallOutcome::Installed { at, renewed: false }),
        Some(InstallStatus::Renewed) => Ok(InstallOutcome::Installed { at, renewed: true }),
        Some(InstallStatus::Expired) => Ok(InstallOutcome::Expired { at }),
        Some(InstallStatus::Contended) => Ok(InstallOutcome::Contended),
        other => Err(not_decided(&format!("{other:?} for slot {}", decided.slot))),
    }
}

pub(crate) fn not_decided(what: &str) -> DataplaneError {
    DataplaneError::NotDecided {
        what: what.to_owned(),
    }
}

/// A slot in the domain's words.
pub(crate) fn held(slot: &LimitSlot, now: Nanos) -> Held {
    let grant = &slot.grants[(slot.sequence & 1) as usize];
    let standing = standing(grant, now.0);
    let unspent = standing
        .position
        .wrapping_sub(level_at(slot.level, standing));
    Held {
        amount: Amount {
            rate: rate(grant.rate_multiplier),
            burst: Units(grant.burst),
        },
        floor: Amount {
            rate: rate(grant.floor_multiplier),
            burst: Units(grant.floor_burst),
        },
        expires: Nanos(grant.expires_ns),
        // Ahead of its clock by what other CPUs' clocks are: nothing is left.
        unspent: Units(if unspent > standing.burst { 0 } else { unspent }),
    }
}

/// The rate that has this multiplier: exact, since one more unit a second is four more in it.
fn rate(multiplier: u64) -> UnitsPerSecond {
    let scaled = u128::from(multiplier) * 1_000_000_000;
    UnitsPerSecond(scaled.div_ceil(1 << 32) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_survives_its_multiplier(units in 0..=UnitsPerSecond::MAX.0) {
            prop_assert_eq!(rate(multiplier(units)).0, units);
        }
    }
}
