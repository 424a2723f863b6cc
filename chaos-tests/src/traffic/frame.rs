//! Frames as they go on the wire: Ethernet, IPv4, UDP. Pure.

use std::{net::Ipv4Addr, str::FromStr};

use thiserror::Error;

/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// The smallest frame, without its check sequence.
pub(super) const SMALLEST: usize = 60;
/// The largest frame for an MTU of 1,500 bytes, without its check sequence.
pub(super) const LARGEST: usize = 1_514;

const UDP: u8 = 17;
const TTL: u8 = 64;
/// Any unprivileged port.
const SOURCE_PORT: u16 = 40_000;

/// Traffic that cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// A prefix that is none.
    #[error("'{0}' is not an IPv4 prefix like 198.19.0.0/16")]
    Prefix(String),
    /// A frame that is too small or too large.
    #[error("a frame of {0} bytes: expected {SMALLEST} to {LARGEST}")]
    Size(usize),
}

/// Source addresses: all of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePool {
    first: u32,
    host_bits: u32,
}

impl SourcePool {
    /// How many addresses it has.
    #[must_use]
    pub const fn len(&self) -> u64 {
        1 << self.host_bits
    }

    /// Never: a prefix has at least one address.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The address of an index, which wraps around. Consecutive indexes are far apart.
    #[must_use]
    pub const fn address(&self, index: u32) -> Ipv4Addr {
        let mask = (self.len() - 1) as u32;
        // An odd factor permutes the addresses.
        Ipv4Addr::from_bits(self.first | (index.wrapping_mul(0x9e37_79b1) & mask))
    }
}

impl FromStr for SourcePool {
    type Err = FrameError;

    fn from_str(text: &str) -> Result<Self, FrameError> {
        let parse = || {
            let (address, bits) = text.split_once('/')?;
            let host_bits = 32_u32.checked_sub(bits.parse().ok()?)?;
            let first = address.parse::<Ipv4Addr>().ok()?.to_bits();
            let pool = Self { first, host_bits };
            (u64::from(first) % pool.len() == 0).then_some(pool)
        };
        parse().ok_or_else(|| FrameError::Prefix(text.to_owned()))
    }
}

/// Packets of one kind to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Hardware address of the sender.
    pub source_mac: [u8; 6],
    /// Hardware address of the next hop.
    pub gateway_mac: [u8; 6],
    /// Where the packets come from.
    pub sources: SourcePool,
    /// Where they go.
    pub destination: Ipv4Addr,
    /// Their UDP destination port.
    pub port: u16,
    /// Bytes of a frame, without its check sequence.
    pub size: usize,
}

impl Flow {
    /// The frame from the source of this index.
    ///
    /// # Errors
    ///
    /// If the size is none of a frame.
    pub fn frame(&self, index: u32) -> Result<Vec<u8>, FrameError> {
        if !(SMALLEST..=LARGEST).contains(&self.size) {
            return Err(FrameError::Size(self.size));
        }
        let length = |headers: usize| {
            u16::try_from(self.size - headers)
                .expect("a frame is at most 1,514 bytes")
                .to_be_bytes()
        };
        let mut frame = Vec::with_capacity(self.size);
        frame.extend(self.gateway_mac);
        frame.extend(self.source_mac);
        frame.extend([0x08, 0x00]);
        // IPv4: version and length, no service class, length, no fragment, checksum to be filled in.
        frame.extend([0x45, 0]);
        frame.extend(length(14));
        frame.extend([0, 0, 0, 0, TTL, UDP, 0, 0]);
        frame.extend(self.sources.address(index).octets());
        frame.extend(self.destination.octets());
        let checksum = internet_checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        // UDP, without a checksum.
        frame.extend(SOURCE_PORT.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(length(34));
        frame.extend([0, 0]);
        debug_assert_eq!(frame.len(), HEADERS);
        frame.resize(self.size, 0);
        Ok(frame)
    }
}

/// RFC 1071, over an even number of bytes.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn flow(size: usize) -> Flow {
        Flow {
            source_mac: [2, 0, 0, 0, 64, 1],
            gateway_mac: [2, 0, 0, 0, 64, 254],
            sources: "198.19.0.0/24".parse().unwrap(),
            destination: Ipv4Addr::new(198, 18, 1, 1),
            port: 53,
            size,
        }
    }

    #[test]
    fn frames_are_well_formed() {
        for size in [SMALLEST, 200, LARGEST] {
            let frame = flow(size).frame(7).unwrap();
            assert_eq!(frame.len(), size);
            // A header with a right checksum sums up to zero.
            assert_eq!(internet_checksum(&frame[14..34]), 0);
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[16], frame[17]])),
                size - 14
            );
            assert_eq!(
                usize::from(u16::from_be_bytes([frame[38], frame[39]])),
                size - 34
            );
            assert_eq!(&frame[30..34], &[198, 18, 1, 1]);
            assert_eq!(&frame[36..38], &[0, 53]);
        }
        assert_eq!(flow(SMALLEST - 1).frame(0), Err(FrameError::Size(59)));
        assert_eq!(flow(LARGEST + 1).frame(0), Err(FrameError::Size(1_515)));
    }

    #[test]
    fn checksum_of_a_known_header() {
        // The example of RFC 1071, section 3.
        assert_eq!(
            internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0x220d
        );
    }

    #[test]
    fn a_pool_gives_each_of_its_addresses() {
        let pool: SourcePool = "198.19.4.0/24".parse().unwrap();
        let addresses: BTreeSet<_> = (0..256).map(|index| pool.address(index)).collect();
        assert_eq!(addresses.len(), 256);
        assert!(
            addresses
                .iter()
                .all(|address| address.octets()[..3] == [198, 19, 4])
        );
        let all: SourcePool = "0.0.0.0/0".parse().unwrap();
        assert_ne!(all.address(1), all.address(2));
        for text in ["", "198.19.0.0", "198.19.0.0/33", "198.19.0.1/24", "x/8"] {
            assert!(text.parse::<SourcePool>().is_err(), "{text}");
        }
    }
}
