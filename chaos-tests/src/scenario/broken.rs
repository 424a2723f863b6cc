//! Proof that the oracle can fail: daemons that break one rule, and the scenario that finds out.

/// A rule, and the scenario that must not pass without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// As the daemon knows it.
    pub rule: &'static str,
    /// What breaks.
    pub story: &'static str,
    /// By what it is found.
    pub scenario: &'static str,
}

/// Those that real kernels, networks and clocks find within seconds. The simulator and the model find
/// all of them.
pub const BROKEN: [BrokenRule; 6] = [
    BrokenRule {
        rule: "GrowBeforeShrink",
        story: "budget is given away before its holder has acknowledged giving it back",
        scenario: "stale-holder",
    },
    BrokenRule {
        rule: "ReuseBeforeWait",
        story: "a silent host's budget is used again before its lease is over",
        scenario: "stale-holder",
    },
    BrokenRule {
        rule: "EnvelopeUnread",
        story: "a new leader does not ask what the old one had granted",
        scenario: "minority-partition",
    },
    BrokenRule {
        rule: "CommitByMinority",
        story: "a leader without a majority goes on renewing",
        scenario: "minority-partition",
    },
    BrokenRule {
        rule: "EndlessLease",
        story: "the kernel's leases do not end",
        scenario: "minority-partition",
    },
    BrokenRule {
        rule: "HotPoolWhole",
        story: "all of a strict key's rate is divided, beside what each host gives it",
        scenario: "hot-keys",
    },
];
