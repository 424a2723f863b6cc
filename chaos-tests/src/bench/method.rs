//! Two ways to share processors between the flood and what receives it.

use serde::{Deserialize, Serialize};

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// One CPU floods and another receives. The receiver's CPU does nothing else, and what is more
    /// than it can take is refused by its ring: what is measured is the receiver. Every frame comes
    /// from another CPU's cache, so whoever looks at it waits for it.
    Split,
    /// One CPU makes a batch of frames and receives it, by turns. Frames are hot in its cache, none
    /// is refused, and the cost of making them is in every figure.
    Inline,
    /// The same on two CPUs at once, which share tables and buckets.
    InlineTwo,
}

impl Method {
    /// The way whose figures are the main ones.
    pub const HEADLINE: Self = Self::Split;

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Inline => "inline",
            Self::InlineTwo => "inline-two",
        }
    }

    /// The CPUs that flood.
    #[must_use]
    pub const fn flooding(self) -> &'static [usize] {
        match self {
            Self::Split | Self::Inline => &[0],
            Self::InlineTwo => &[0, 1],
        }
    }

    /// The CPU that receives, if it is another.
    #[must_use]
    pub const fn receiving(self) -> Option<usize> {
        match self {
            Self::Split => Some(1),
            Self::Inline | Self::InlineTwo => None,
        }
    }

    /// How many CPUs' time a packet's cost is taken from.
    #[must_use]
    pub const fn cpus(self) -> usize {
        match self {
            Self::Split | Self::Inline => 1,
            Self::InlineTwo => 2,
        }
    }
}
