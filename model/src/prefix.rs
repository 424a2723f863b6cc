//! Address prefixes in CIDR notation.

use core::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An IPv4 or IPv6 prefix whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// The part before the slash is not an address.
    #[error("not an IPv4 or IPv6 address")]
    Address,
    /// The part after the slash is not a number from 0 to the address's width.
    #[error("the prefix length must be a number from 0 to {width}")]
    Length {
        /// 32 or 128.
        width: u8,
    },
    /// Bits behind the prefix are set; most often a typing error.
    #[error("bits after the prefix are set; did you mean {masked}?")]
    HostBits {
        /// The prefix with those bits cleared.
        masked: Prefix,
    },
}

impl Prefix {
    /// The prefix of `length` bits that `address` lies in; `None` if the length exceeds the width.
    #[must_use]
    pub fn containing(address: IpAddr, length: u8) -> Option<Self> {
        if length > width(address) {
            return None;
        }
        let address = match address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & mask(length, 32) as u32).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & mask(length, 128)).into()),
        };
        Some(Self { address, length })
    }

    /// The first address of the prefix.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed: 0 to 32 or 0 to 128.
    #[must_use]
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether every address of `other` lies in this prefix. Families never contain each other.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.length <= other.length
            && self.address.is_ipv4() == other.address.is_ipv4()
            && Self::containing(other.address, self.length) == Some(self)
    }
}

const fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A mask of `length` ones at the top of `width` bits, in the low `width` bits of the result.
const fn mask(length: u8, width: u8) -> u128 {
    if length == 0 {
        return 0;
    }
    let ones = u128::MAX << (width - length);
    if width == 128 {
        ones
    } else {
        ones & ((1 << width) - 1)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// Reads `192.0.2.0/24`, `2001:db8::/32`, or a bare address, which stands for itself alone.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
        let width = width(address);
        let length = match length {
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|length| *length <= width)
                .ok_or(PrefixError::Length { width })?,
            None => width,
        };
        let masked = Self::containing(address, length).ok_or(PrefixError::Length { width })?;
        if masked.address == address {
            Ok(masked)
        } else {
            Err(PrefixError::HostBits { masked })
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reads_and_prints() {
        for text in [
            "0.0.0.0/0",
            "192.0.2.53/32",
            "198.18.0.0/15",
            "::/0",
            "2001:db8::/32",
        ] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.1".parse::<Prefix>().unwrap().length(), 32);
        assert_eq!(
            "192.0.2.1/33".parse::<Prefix>(),
            Err(PrefixError::Length { width: 32 })
        );
        assert_eq!("host/3".parse::<Prefix>(), Err(PrefixError::Address));
        assert!(matches!(
            "192.0.2.1/24".parse::<Prefix>(),
            Err(PrefixError::HostBits { .. })
        ));
    }

    #[test]
    fn contains_is_reflexive_and_by_family() {
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        let net: Prefix = "192.0.2.0/24".parse().unwrap();
        let host: Prefix = "192.0.2.9/32".parse().unwrap();
        assert!(all.contains(net) && net.contains(host) && net.contains(net));
        assert!(!host.contains(net) && !net.contains(all));
        assert!(!all.contains("::/0".parse().unwrap()));
    }
}
