//! Names and sizes of the maps, and the keys that are not plain numbers.

use crate::Plain;

/// `[LimitSlot; slots + HOT_SLOTS]`: grants and buckets, of limits first, then of hot keys. Written
/// by the `install` program and by packets only.
pub const LIMITS: &str = "LIMITS";
/// `[LimitCounters; slots + HOT_SLOTS]`, per CPU. Those of a hot key count what the limit's count of
/// the key's packets.
pub const COUNTERS: &str = "COUNTERS";
/// `[KeyLine; lines]`: the buckets of all keyed limits. A power of two of lines.
pub const KEYS: &str = "KEYS";
/// `[u64; 1]`: what hashes of keys begin with. Made by chance, frozen, and kept as long as
/// [`KEYS`] is.
pub const KEY_SEED: &str = "KEY_SEED";
/// [`crate::HotKey`] → slot (u64) of the leased bucket that the key has. A policy's rules say how
/// many keys of a limit there are ([`crate::Rule::hot_keys`]).
///
/// An entry is never overwritten, and none is made before all packets that may have seen one that
/// was taken away are through: the kernel uses an entry's memory again at once, and a packet that
/// reads it late would be charged to another key.
pub const HOT: &str = "HOT";
/// A ring of [`crate::Event`]s.
pub const EVENTS: &str = "EVENTS";
/// `[u64; 1]`: one event for about this many packets of limits; 0 for none.
pub const SAMPLING: &str = "SAMPLING";
/// `[Totals; 1]`, per CPU.
pub const TOTALS: &str = "TOTALS";
/// Slot → [`crate::LimitCounters`]: what layouts before this one counted. Only for user space, which
/// adds it to what [`COUNTERS`] say; slots without an entry have none.
pub const INHERITED_COUNTERS: &str = "INHERITED_COUNTERS";
/// `[Totals; 1]`: the same for [`TOTALS`].
pub const INHERITED_TOTALS: &str = "INHERITED_TOTALS";
/// `[u64; 1]`: the policy in force is on side `word & 1`. One word, so a swap is atomic.
pub const SIDE: &str = "SIDE";
/// `[PolicyRecord; 2]`, by side.
pub const POLICIES: &str = "POLICIES";
/// `[Rule; 2 · slots]`, by [`sided`] slot.
pub const RULES: &str = "RULES";
/// `[Service; 2 · SERVICES]`, by [`sided`] number.
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
pub const PINNED: [&str; 18] = [
    LIMITS,
    COUNTERS,
    KEYS,
    KEY_SEED,
    HOT,
    EVENTS,
    SAMPLING,
    TOTALS,
    INHERITED_COUNTERS,
    INHERITED_TOTALS,
    SIDE,
    POLICIES,
    RULES,
    SERVICES,
    DESTINATIONS4,
    DESTINATIONS6,
    SOURCES4,
    SOURCES6,
];

/// The read-only global (u32): lines of [`KEYS`] less one.
pub const KEY_LINE_MASK: &str = "KEY_LINE_MASK";

/// The program that is attached to interfaces.
pub const XDP_PROGRAM: &str = "weir_xdp";
/// The program that installs grants; run, never attached.
pub const INSTALL_PROGRAM: &str = "install";
/// The program that frees idle slots of [`KEYS`]; run, never attached.
pub const SWEEP_PROGRAM: &str = "sweep";

/// Slots for limits unless more are asked for. Two policies must fit at the same time, so a policy
/// may have half as many limits.
pub const DEFAULT_SLOTS: usize = 8_192;
/// Most slots for limits.
pub const MAX_SLOTS: usize = 131_072;
/// Slots for leased buckets of keys, behind those for limits.
pub const HOT_SLOTS: usize = 256;
/// Slots for keys unless another number is asked for: 8 MiB.
pub const DEFAULT_KEY_SLOTS: usize = 1 << 20;
/// Most slots for keys: 1 GiB.
pub const MAX_KEY_SLOTS: usize = 1 << 27;
/// Fewest slots for keys: two lines.
pub const MIN_KEY_SLOTS: usize = 16;
/// Bytes of the ring of events.
pub const EVENT_RING_BYTES: usize = 1 << 20;
/// Most different services of one policy.
pub const SERVICES_PER_SIDE: usize = 131_072;
/// Most limits that apply to one packet.
pub const RULES_PER_SERVICE: usize = 8;
/// Most port ranges of one limit.
pub const PORT_RANGES_PER_RULE: usize = 8;
/// Most prefixes of both policies together, each family.
pub const PREFIXES: usize = 262_144;
/// Most different source lists of one policy: a bit each.
pub const SOURCE_SETS: usize = 64;
/// Most entries of the management allow-list: a bit each.
pub const MANAGEMENT_ENTRIES: usize = 32;
/// Most source prefixes of the management allow-list, each family.
pub const MANAGEMENT_PREFIXES: usize = 4_096;
/// Ports of one protocol.
pub const PORTS: usize = 65_536;

/// The index of what belongs to a slot or service on one side.
#[inline(always)]
#[must_use]
pub const fn sided(number: u32, side: u32) -> u32 {
    number.wrapping_mul(2).wrapping_add(side & 1)
}

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
    assert!(DEFAULT_SLOTS <= MAX_SLOTS);
    assert!(DEFAULT_KEY_SLOTS.is_power_of_two() && MAX_KEY_SLOTS.is_power_of_two());
    assert!(SOURCE_SETS <= u64::BITS as usize);
    assert!(MANAGEMENT_ENTRIES <= u32::BITS as usize);
};
