//! The frames of the flood.

use super::{
    flood::Family,
    ground::{RECEIVER_MAC, RECEIVER_V4, RECEIVER_V6, SENDER_MAC},
};

/// The port that everything is sent to, and that is limited.
pub const PORT: u16 = 5_353;
const SOURCE_PORT: u16 = 40_000;
/// Ethernet's shortest frame, without its check sequence.
const SHORTEST: usize = 60;
const UDP: u8 = 17;
const ETHERNET: usize = 14;
const HEADER4: usize = 20;
const HEADER6: usize = 40;
const HEADER_UDP: usize = 8;

/// A frame without its source address, which the generator writes.
#[must_use]
pub fn template(family: Family) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(RECEIVER_MAC);
    frame.extend(SENDER_MAC);
    match family {
        Family::V4 => {
            frame.extend([0x08, 0x00]);
            frame.extend(header4());
        }
        Family::V6 => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, HEADER_UDP as u8, UDP, 64]);
            frame.extend([0x20, 0x01, 0x0d, 0xb8]);
            frame.extend([0; 12]);
            frame.extend(RECEIVER_V6.octets());
        }
    }
    let udp_length = match family {
        Family::V4 => SHORTEST - ETHERNET - HEADER4,
        Family::V6 => HEADER_UDP,
    };
    frame.extend(SOURCE_PORT.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend((udp_length as u16).to_be_bytes());
    frame.extend(match family {
        // None, which IPv4 allows.
        Family::V4 => [0, 0],
        Family::V6 => checksum6(&frame[ETHERNET..]).to_be_bytes(),
    });
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// Writes the source address of an IPv4 frame, and the checksum that goes with it.
pub fn set_source4(frame: &mut [u8], source: std::net::Ipv4Addr) {
    let source = source.octets();
    let checksum = !fold(checksum_base() + sum(&source));
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
    frame[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&source);
}

/// The sum of an IPv4 header without its source address, folded once.
#[must_use]
pub fn checksum_base() -> u32 {
    sum(&header4())
}

fn header4() -> [u8; HEADER4] {
    let mut header = [0; HEADER4];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&((SHORTEST - ETHERNET) as u16).to_be_bytes());
    header[8] = 64;
    header[9] = UDP;
    header[16..20].copy_from_slice(&RECEIVER_V4.octets());
    header
}

/// UDP's checksum over addresses and ports. The source address that the generator writes adds
/// 0xffff twice, which is nothing.
fn checksum6(packet: &[u8]) -> u16 {
    let (header, udp) = packet.split_at(HEADER6);
    // The length is in the pseudo-header once more.
    let sum = sum(&header[8..40]) + sum(udp) + u32::from(UDP) + HEADER_UDP as u32;
    !fold(sum)
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2);
    words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum()
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_hold_with_the_generators_sources() {
        let mut v4 = template(Family::V4);
        set_source4(&mut v4, [10, 0x12, 0x34, 0x56].into());
        assert_eq!(fold(sum(&v4[ETHERNET..ETHERNET + HEADER4])), 0xffff);

        let mut v6 = template(Family::V6);
        let number = 0x0012_3456_u32;
        v6[26..30].copy_from_slice(&number.to_be_bytes());
        v6[30..34].copy_from_slice(&(!number).to_be_bytes());
        let packet = &v6[ETHERNET..];
        let udp = &packet[HEADER6..HEADER6 + HEADER_UDP];
        let total = sum(&packet[8..40]) + sum(udp) + u32::from(UDP) + HEADER_UDP as u32;
        assert_eq!(fold(total), 0xffff);
    }

    #[test]
    fn frames_have_the_lengths_of_their_kind() {
        assert_eq!(template(Family::V4).len(), 60);
        assert_eq!(template(Family::V6).len(), 62);
    }
}
