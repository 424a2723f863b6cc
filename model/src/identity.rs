//! Names and numbers that identify: nodes, terms, generations, limits.

use core::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::prefix::Prefix;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number that follows this one.
            ///
            /// # Panics
            ///
            /// At 2^64, which ten a second reach after 58 billion years.
            #[must_use]
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(next) => Self(next),
                    None => panic!("a 64-bit counter ran out"),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// The leader's number, handed out by ZooKeeper, that only ever grows. It fences older leaders.
    Term
}
counter! {
    /// The number of a proposal within a term. It starts at 1 in every term.
    Generation
}
counter! {
    /// One life of a daemon on a host: the czxid of the `live` znode that it made at start, so a
    /// later life has a larger one.
    Incarnation
}
counter! {
    /// The number of a limits document, in the order in which they came into force. 0 is "none".
    PolicyVersion
}

/// The identity of a host in the fleet: a UUID, by default made from the machine id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub uuid::Uuid);

impl NodeId {
    /// The identity with this number.
    #[must_use]
    pub const fn from_u128(number: u128) -> Self {
        Self(uuid::Uuid::from_u128(number))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The identity of a limit over all versions of the policy: a hash of its name.
///
/// A bucket is found by it, so renaming a limit makes a new bucket and reordering the file none.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LimitId(pub u64);

impl LimitId {
    /// The identity of the limit with this name.
    #[must_use]
    pub const fn of(name: &str) -> Self {
        Self(fnv1a(name.as_bytes()))
    }

    /// The identities from here on are those of hot keys. A name whose hash is among them, one in
    /// 65,536, is refused.
    const FIRST_KEY: u64 = 0xffff << 48;

    /// The identity of a hot key's budget. Two keys may have the same one, by chance or by malice; only
    /// one of them can be hot.
    ///
    /// It says nothing of the limit's revision, as a limit's own does not: what is still held of it in
    /// old units counts against its budget in new ones.
    #[must_use]
    pub fn of_key(limit: Self, key: Prefix) -> Self {
        let (family, address) = match key.address() {
            IpAddr::V4(v4) => (4, v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => (6, v6.octets()),
        };
        let mut bytes = [0; 26];
        bytes[..8].copy_from_slice(&limit.0.to_be_bytes());
        bytes[8..24].copy_from_slice(&address);
        bytes[24..].copy_from_slice(&[key.length(), family]);
        Self(fnv1a(&bytes) | Self::FIRST_KEY)
    }

    /// Whether this is a hot key's, and no limit's in a policy.
    #[must_use]
    pub const fn is_key(self) -> bool {
        self.0 >= Self::FIRST_KEY
    }
}

impl fmt::Display for LimitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a bucket's numbers mean: it changes only when a limit's cost, scale or promise does, and a
/// bucket of another revision is started afresh, empty.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u32);

/// FNV-1a, 64 bit (Fowler, Noll, Vo). Not for keys that a stranger chooses.
const fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}
