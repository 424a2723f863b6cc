//! What others have published about systems that divide one budget between many places, played
//! again on this protocol: the same class of scenario, not the same code, and the numbers beside
//! each other.

pub mod flow_shares;
pub mod leased_capacity;

use serde::Serialize;

/// One figure of both.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// What is measured.
    pub what: &'static str,
    /// What was published, in the same unit; `None` where nothing was.
    pub published: Option<f64>,
    /// What is measured here.
    pub measured: f64,
}

/// One scenario and its figures.
#[derive(Clone, Debug, Serialize)]
pub struct Yardstick {
    /// What it is called.
    pub name: &'static str,
    /// What happens in it.
    pub story: &'static str,
    /// Who published what it is compared with.
    pub source: &'static str,
    /// The figures.
    pub figures: Vec<Figure>,
    /// Whether promise 1 held throughout.
    pub is_kept: bool,
}

/// All of them, of one seed.
#[must_use]
pub fn all(seed: u64) -> Vec<Yardstick> {
    vec![
        leased_capacity::measure(seed, leased_capacity::HOUR_S),
        flow_shares::measure(seed, flow_shares::SECONDS),
    ]
}
