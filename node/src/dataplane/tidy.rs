//! What has to be done now and then so that numbers which wrap never come near each other.
//!
//! A little with each call: some idle buckets are settled, some lines of the table of keys swept.
//! At ten calls a second the whole table takes an hour; it has two days.

use std::os::fd::AsFd as _;

use weir_abi::{
    InstallHeader, InstallRequest, KeyLine, Operation, SweepRequest, bytes_of, from_bytes,
};

use super::{
    Dataplane,
    error::DataplaneError,
    install::{Target, not_decided},
    sys,
};

/// Calls until the whole table has been swept: an hour of ticks.
const CALLS_PER_SWEEP: u32 = 36_000;
/// How much a call changes the estimate of the table's load.
const LOAD_WEIGHT: f64 = 1.0 / 64.0;

/// Where the next call goes on.
#[derive(Debug, Default)]
pub(crate) struct Tidying {
    next_line: u32,
    next_limit: usize,
    load: f64,
}

impl Dataplane {
    /// Does the next bit.
    ///
    /// # Errors
    ///
    /// If the kernel does not run a program.
    pub fn tidy(&mut self) -> Result<(), DataplaneError> {
        self.settle_some()?;
        self.sweep_some()
    }

    /// Which part of the table of keys holds debts, 0 to 1: an estimate over the last seconds.
    #[must_use]
    pub const fn key_load(&self) -> f64 {
        self.tidying.load
    }

    /// Slots of the table of keys.
    #[must_use]
    pub const fn key_slots(&self) -> u32 {
        self.key_lines * KeyLine::SLOTS as u32
    }

    fn settle_some(&mut self) -> Result<(), DataplaneError> {
        let requests: Vec<InstallRequest> = self
            .slots
            .active()
            .skip(self.tidying.next_limit)
            .take(InstallHeader::MAX_COUNT)
            .map(|(limit, bucket)| {
                let target = Target {
                    limit,
                    revision: bucket.revision,
                    slot: bucket.slot,
                };
                target.request(Operation::Settle)
            })
            .collect();
        self.tidying.next_limit = if requests.len() < InstallHeader::MAX_COUNT {
            0
        } else {
            self.tidying.next_limit + requests.len()
        };
        self.run_install(&requests).map(drop)
    }

    fn sweep_some(&mut self) -> Result<(), DataplaneError> {
        let lines = (self.key_lines / CALLS_PER_SWEEP).clamp(4, SweepRequest::MAX_LINES);
        let lines = lines.min(self.key_lines - self.tidying.next_line);
        let request = SweepRequest::new(self.tidying.next_line, lines);
        let mut data = bytes_of(&request).to_vec();
        let swept = sys::test_run(self.programs.sweep.as_fd(), &mut data).map_err(|source| {
            DataplaneError::System {
                what: "test-run of the sweep program",
                source,
            }
        })?;
        let answer = from_bytes::<SweepRequest>(&data);
        let (true, Some(answer)) = (swept == lines, answer) else {
            return Err(not_decided(&format!("{swept} of {lines} lines")));
        };
        let seen = f64::from(lines) * KeyLine::SLOTS as f64;
        let found = f64::from(answer.busy) / seen;
        self.tidying.load += (found - self.tidying.load) * LOAD_WEIGHT;
        self.tidying.next_line = (self.tidying.next_line + lines) % self.key_lines;
        Ok(())
    }
}
