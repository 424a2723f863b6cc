//! What the decision notes down about one packet.

use weir_abi::maps::RULES_PER_SERVICE;

/// The limits that apply to a packet, and what their buckets said.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Work {
    count: u32,
    matches: [Match; RULES_PER_SERVICE],
}

/// One limit that applies.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Match {
    pub(crate) slot: u32,
    pub(crate) shadow: bool,
    pub(crate) answer: Answer,
}

/// What a bucket said, in the order of what decides about the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Answer {
    /// There is enough, or it has been charged.
    #[default]
    Admits = 0,
    /// The bucket, or the grant, did not stand still.
    Contended = 1,
    /// It is spent.
    Over = 2,
    /// An entry that must exist does not.
    Missing = 3,
}

impl Work {
    #[inline(always)]
    pub(crate) const fn clear(&mut self) {
        self.count = 0;
    }

    /// Notes a limit. There is room for all that a service can have.
    #[inline(always)]
    pub(crate) fn push(&mut self, slot: u32, shadow: bool) {
        if let Some(place) = self.matches.get_mut(self.count as usize) {
            *place = Match {
                slot,
                shadow,
                answer: Answer::Admits,
            };
            self.count += 1;
        }
    }

    #[inline(always)]
    pub(crate) fn matches(&mut self) -> &mut [Match] {
        let count = (self.count as usize).min(RULES_PER_SERVICE);
        &mut self.matches[..count]
    }
}

impl Match {
    /// The answer as far as it counts for the packet: a limit in shadow mode drops nothing.
    #[inline(always)]
    pub(crate) const fn blocking(&self) -> Answer {
        match self.answer {
            Answer::Contended | Answer::Over if self.shadow => Answer::Admits,
            answer => answer,
        }
    }
}
