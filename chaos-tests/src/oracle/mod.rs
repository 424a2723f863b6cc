//! Judges a run by what the receiver counted. Pure: bins in, figures out.
//!
//! It shares nothing with the limiter or the allocator, so that a mistake made there is not made
//! here again.

mod bucket;
mod convergence;
mod possible;
mod utilisation;

pub use bucket::{Budget, over_admission};
pub use convergence::{Shift, TOLERANCE, convergence_ticks, recovery_bins, shift_seen};
pub use possible::{possible, possible_without_burst};
pub use utilisation::{Utilised, utilisation};
pub use weir_sim::fairness::{jain_index, max_min};
