//! The rules of the protocol that can be switched off, one at a time, to prove that the checks of
//! the protocol can fail.
//!
//! Only a build with the feature `mutations` has the switch. Without it [`Rules`] is empty, and
//! every question to it is answered `false` at compile time.

/// One rule, broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// Rule 3: budget is given away before its holder has acknowledged giving it back.
    GrowBeforeShrink,
    /// Rule 3: a silent node's budget is used again before W.
    ReuseBeforeWait,
    /// Rule 4: who holds a session believes to lead, and asks nobody.
    TrustSession,
    /// Rule 4: less than a majority commits.
    CommitByMinority,
    /// Rule 6: promises are collected, and what they say is not read.
    EnvelopeUnread,
    /// Rule 6: a new leader waits for W instead of asking.
    LearnByWaiting,
    /// Rule 6: older leases are taken to end W after the term was written, not W after a majority
    /// promised it.
    WaitFromTerm,
    /// Rule 6: only the newest voter set is asked.
    FormerVotersForgotten,
    /// Rule 3: floors are left out of the register, and those of the roster are not read.
    FloorsUnrecorded,
    /// Rule 10: a floor may be spent before the roster has it.
    FloorBeforeRoster,
    /// Rule 10: a floor that was given up is given to others while the roster still has it.
    FloorGivenAwayEarly,
    /// Rule 5: a lease runs from the receipt of its commit.
    AnchorAtReceipt,
    /// Rule 5: a lease runs from the acknowledgement of its proposal.
    AnchorAtAcknowledgement,
    /// Rule 5: a lease runs from what was heard when its proposal was last sent, and not from when it
    /// was made.
    AnchorAtReminder,
    /// Rule 5: a token of an earlier life is good enough.
    EarlierIncarnation,
    /// Rule 3: a proposal renews, before it is committed.
    RenewAtPropose,
    /// Rule 3: an acknowledgement is sent before the kernel has the grant.
    AcknowledgeBeforeInstall,
    /// Rule 2: an older generation is taken.
    GenerationUnchecked,
    /// Rule 1: an older term is taken.
    NoFence,
    /// Rule 1: a new leader takes the number of the last one, once more.
    TermReused,
    /// Rule 7: a restart forgets what was promised.
    PromiseForgotten,
    /// Rule 7: a voter that has forgotten the register votes at once.
    AmnesiacVotes,
    /// Rule 10: a member is admitted before a majority knows that its floors are reserved.
    AdmitBeforeCommitted,
    /// Rule 10: a newcomer's floors are reserved although there is no room.
    AdmitWithoutRoom,
    /// Rule 10: a member is removed although it has not acknowledged giving up its floors.
    RemoveUnacknowledged,
    /// Rule 10: a member that is to leave goes on giving strict keys its own part of their budget.
    OwnPartKept,
    /// Rule 11: the new floors of a cut are booked before they are acknowledged.
    CutUnacknowledged,
    /// Rule 12: a node takes proposals of another policy than it enforces.
    PolicyUnchecked,
    /// Rule 12: a new leader does not look which policy the register was made under.
    PolicyForgotten,
    /// Rule 12: members may be as many as the newest policy has room for, whatever others go by.
    PlacesForgotten,
    /// Rule 12: what is left of a lease has the numbers that it had, whatever they are numbers of.
    CarriedAsNumbers,
    /// Hot keys: the page of a strict key has the whole budget, and not what cold buckets leave.
    HotPoolWhole,
    /// Hot keys: the page of a key that is hot no more is forgotten before its holders have answered.
    HotPageForgotten,
    /// Hot keys: a new leader says at once that there are none.
    HotKeysUnlearned,
    /// Elastic: what is lent is not paid back.
    DebtUnpaid,
    /// Elastic: the excess is lent a second time.
    LentTwice,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 36] = [
        Self::GrowBeforeShrink,
        Self::ReuseBeforeWait,
        Self::TrustSession,
        Self::EnvelopeUnread,
        Self::AnchorAtReceipt,
        Self::AnchorAtAcknowledgement,
        Self::AnchorAtReminder,
        Self::CommitByMinority,
        Self::LearnByWaiting,
        Self::GenerationUnchecked,
        Self::NoFence,
        Self::PromiseForgotten,
        Self::AmnesiacVotes,
        Self::EarlierIncarnation,
        Self::WaitFromTerm,
        Self::FormerVotersForgotten,
        Self::FloorsUnrecorded,
        Self::FloorBeforeRoster,
        Self::FloorGivenAwayEarly,
        Self::RenewAtPropose,
        Self::AcknowledgeBeforeInstall,
        Self::TermReused,
        Self::AdmitBeforeCommitted,
        Self::AdmitWithoutRoom,
        Self::RemoveUnacknowledged,
        Self::OwnPartKept,
        Self::CutUnacknowledged,
        Self::PolicyUnchecked,
        Self::PolicyForgotten,
        Self::PlacesForgotten,
        Self::CarriedAsNumbers,
        Self::HotPoolWhole,
        Self::HotPageForgotten,
        Self::HotKeysUnlearned,
        Self::DebtUnpaid,
        Self::LentTwice,
    ];
}

impl Mutation {
    /// Whether it is about limits with keys, or elastic ones: a world of one strict limit has none.
    #[must_use]
    pub const fn is_about_keys(self) -> bool {
        matches!(
            self,
            Self::OwnPartKept
                | Self::PlacesForgotten
                | Self::HotPoolWhole
                | Self::HotPageForgotten
                | Self::HotKeysUnlearned
                | Self::DebtUnpaid
                | Self::LentTwice
        )
    }
}

/// Which rules hold: all of them, but for at most one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    #[cfg(feature = "mutations")]
    broken: Option<Mutation>,
}

impl Rules {
    /// All of them.
    #[cfg(not(feature = "mutations"))]
    pub const ALL: Self = Self {};
    /// All of them.
    #[cfg(feature = "mutations")]
    pub const ALL: Self = Self { broken: None };

    /// All but one.
    #[cfg(feature = "mutations")]
    #[must_use]
    pub const fn without(mutation: Mutation) -> Self {
        Self {
            broken: Some(mutation),
        }
    }

    /// Whether this one is broken.
    #[must_use]
    pub fn breaks(self, mutation: Mutation) -> bool {
        #[cfg(feature = "mutations")]
        let answer = self.broken == Some(mutation);
        #[cfg(not(feature = "mutations"))]
        let answer = {
            let _ = mutation;
            false
        };
        answer
    }
}
