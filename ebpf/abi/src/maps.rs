//! Names and sizes of the maps, and the keys that are not plain numbers.

use crate::Plain;

/// `[LimitSlot; SLOTS]`: grants and buckets. Written by the `install` program and by packets only.
pub const LIMITS: &str = "LIMITS";
/// `[LimitCounters; SLOTS]`, per CPU.
pub const COUNTERS: &str = "COUNTERS";
/// `[Totals; 1]`, per CPU.
pub const TOTALS: &str = "TOTALS";
/// `[u64; 1]`: the policy in force is on side `word & 1`. One word, so a swap is atomic.
pub const SIDE: &str = "SIDE";
/// `[PolicyRecord; 2]`, by side.
pub const POLICIES: &str = "POLICIES";
/// `[Rule; 2 · SLOTS]`, by side and slot.
pub const RULES: &str = "RULES";
/// `[Service; 2 · SERVICES]`, by side and number.
pub const SERVICES: &str = "SERVICES";
/// Destination prefix → number of a service within its side; [`Key4`], IPv4.
pub const DESTINATIONS4: &str = "DESTINATIONS4";
/// The same for IPv6, [`Key6`].
pub const DESTINATIONS6: &str = "DESTINATIONS6";
/// Source prefix → bits of the source sets that it is in (u64); [`Key4`], IPv4.
pub const SOURCES4: &str = "SOURCES4";
/// The same for IPv6, [`Key6`].
pub const SOURCES6: &str = "SOURCES6";
/// `[u32; 2 · 65536]`: bits of the allow-list's entries that a port is in. UDP ports, then TCP.
pub const MANAGEMENT_PORTS: &str = "MANAGEMENT_PORTS";
/// Source prefix → bits of the allow-list's entries (u32); [`Key4`] with side 0. Frozen.
pub const MANAGEMENT_SOURCES4: &str = "MANAGEMENT_SOURCES4";
/// The same for IPv6, [`Key6`].
pub const MANAGEMENT_SOURCES6: &str = "MANAGEMENT_SOURCES6";
/// `[u64; 1]`: the time in nanoseconds, if the programs were loaded with [`TEST_CLOCK_SWITCH`] on.
pub const TEST_CLOCK: &str = "TEST_CLOCK";
/// The read-only global (u32) that makes the programs read [`TEST_CLOCK`] instead of the boot clock.
pub const TEST_CLOCK_SWITCH: &str = "TEST_CLOCK_SWITCH";

/// Maps that are pinned: they hold state, and a daemon that restarts adopts them. The allow-list
/// is not among them, since it is frozen and comes anew with each load.
pub const PINNED: [&str; 11] = [
    LIMITS,
    COUNTERS,
    TOTALS,
    SIDE,
    POLICIES,
    RULES,
    SERVICES,
    DESTINATIONS4,
    DESTINATIONS6,
    SOURCES4,
    SOURCES6,
];

/// The program that is attached to interfaces.
pub const XDP_PROGRAM: &str = "weir_xdp";
/// The program that installs grants; run, never attached.
pub const INSTALL_PROGRAM: &str = "install";

/// Most limits, those of the policy before last included. With the limits of a policy bounded to
/// half of it, two policies always fit.
pub const SLOTS: usize = 8_192;
/// Most different services of one policy.
pub const SERVICES_PER_SIDE: usize = 32_768;
/// Most limits that apply to one packet.
pub const RULES_PER_SERVICE: usize = 8;
/// Most port ranges of one limit.
pub const PORT_RANGES_PER_RULE: usize = 8;
/// Most prefixes of both policies together, each family.
pub const PREFIXES: usize = 65_536;
/// Most different source lists of one policy: a bit each.
pub const SOURCE_SETS: usize = 64;
/// Most entries of the management allow-list: a bit each.
pub const MANAGEMENT_ENTRIES: usize = 32;
/// Most source prefixes of the management allow-list, each family.
pub const MANAGEMENT_PREFIXES: usize = 4_096;
/// Ports of one protocol.
pub const PORTS: usize = 65_536;

/// A key of an IPv4 trie: `prefix_length` counts the 32 bits of the side too.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key4 {
    /// How many leading bits of what follows must match.
    pub prefix_length: u32,
    /// 0 or 1.
    pub side: u32,
    /// In network byte order.
    pub address: [u8; 4],
}

/// A key of an IPv6 trie.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key6 {
    /// How many leading bits of what follows must match.
    pub prefix_length: u32,
    /// 0 or 1.
    pub side: u32,
    /// In network byte order.
    pub address: [u8; 16],
}

/// The bits of a side in front of an address.
pub const SIDE_BITS: u32 = 32;

// SAFETY: packed integers.
unsafe impl Plain for Key4 {}
// SAFETY: packed integers.
unsafe impl Plain for Key6 {}

const _: () = {
    assert!(size_of::<Key4>() == 12);
    assert!(size_of::<Key6>() == 24);
    assert!(SOURCE_SETS <= u64::BITS as usize);
    assert!(MANAGEMENT_ENTRIES <= u32::BITS as usize);
};
