//! One clock for a leader and its nodes: they are in one process.

use std::time::Instant;

use weir_model::Nanos;

/// Some time after the boot of a host.
const BEGIN: Nanos = Nanos(1_000_000_000_000);

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Nanos {
        self.at(Instant::now())
    }

    pub(super) fn at(self, instant: Instant) -> Nanos {
        BEGIN + instant.saturating_duration_since(self.0)
    }
}
