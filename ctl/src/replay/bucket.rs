//! The limiter's own bucket, fed with rates.

use weir_limiter::{Standing, advance, charge, level_at, multiplier};
use weir_model::{Amount, Scale};

/// A second is looked at in so many steps.
const STEPS: u64 = 100;
const STEP_NANOS: u64 = 1_000_000_000 / STEPS;
/// The largest demand in a step, units: far below where positions wrap.
const COST_MOST: f64 = (1_u64 << 60) as f64;
/// What is lost to rounding is no drop: a part of what was offered.
const ROUNDING: f64 = 1e-6;

/// A bucket with one straight grant that does not end.
pub(super) struct Bucket {
    /// Units per nanosecond, as the limiter keeps them.
    multiplier: u64,
    burst: u64,
    scale: Scale,
    level: u64,
    steps: u64,
}

/// A second of it, tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Served {
    pub(super) offered: f64,
    pub(super) admitted: f64,
}

impl Served {
    pub(super) fn dropped(&self) -> f64 {
        if self.is_limited() {
            self.offered - self.admitted
        } else {
            0.0
        }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.offered - self.admitted > self.offered * ROUNDING
    }
}

impl Bucket {
    /// A bucket that nothing was taken from yet.
    pub(super) fn new(amount: Amount, scale: Scale) -> Self {
        Self {
            multiplier: multiplier(amount.rate.0),
            burst: amount.burst.0,
            scale,
            level: 0_u64.wrapping_sub(amount.burst.0),
            steps: 0,
        }
    }

    /// A second in which so many tokens arrive evenly.
    pub(super) fn second(&mut self, offered: f64) -> Served {
        let units = self.units(offered / STEPS as f64);
        let per_token = self.units_per_token();
        let mut admitted = 0_u64;
        for _ in 0..STEPS {
            self.steps += 1;
            // What comes in during a step can be spent in it, whether or not the bucket was full.
            let standing = Standing {
                position: advance(self.steps * STEP_NANOS, self.multiplier),
                burst: self.burst + advance(STEP_NANOS, self.multiplier),
            };
            // Packets are far smaller than a step's demand: of one that is too large a part passes.
            let left = standing
                .position
                .wrapping_sub(level_at(self.level, standing));
            let part = units.min(left);
            if let Some(level) = charge(self.level, standing, part) {
                self.level = level;
                admitted += part;
            }
        }
        Served {
            offered: (units * STEPS) as f64 / per_token,
            admitted: admitted as f64 / per_token,
        }
    }

    fn units_per_token(&self) -> f64 {
        (1_u64 << self.scale.fraction_bits) as f64
    }

    fn units(&self, tokens: f64) -> u64 {
        (tokens * self.units_per_token()).clamp(0.0, COST_MOST / STEPS as f64) as u64
    }
}
