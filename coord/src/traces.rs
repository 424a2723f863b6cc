//! What is told to those who collect traces.

/// The target of spans that are worth more than a log: whatever exports traces takes these, and no
/// others. They are never entered, so logs do not repeat them.
pub const TARGET: &str = "weir::trace";
