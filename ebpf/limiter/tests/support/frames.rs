//! Frames, byte by byte, and what the parser makes of them.

use weir_limiter::{Address, Family, Frame, Packet, Parsed, Transport, parse};

pub const ETHERNET: [u8; 12] = [2; 12];
pub const V4: [u8; 2] = [0x08, 0x00];
pub const V6: [u8; 2] = [0x86, 0xdd];

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

/// From 198.18.0.1 to 192.0.2.53; `words` is what the header says of its own length.
pub fn ipv4(protocol: u8, fragment: u16, words: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&ETHERNET[..], &V4, &[0x40 | words, 0, 0, 0, 0, 1]].concat();
    frame.extend(fragment.to_be_bytes());
    frame.extend([64, protocol, 0, 0, 198, 18, 0, 1, 192, 0, 2, 53]);
    frame.resize(14 + 4 * usize::from(words).max(5), 0);
    frame.extend(payload);
    frame
}

/// From 2001:db8::1 to 2001:db8::53.
pub fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let header = [0x60, 0, 0, 0, 0, 0, next, 64];
    [
        &ETHERNET[..],
        &V6,
        &header,
        &address(1),
        &address(0x53),
        payload,
    ]
    .concat()
}

/// A frame of [`ipv4`] as if another had sent it.
pub fn from4(mut frame: Vec<u8>, source: [u8; 4]) -> Vec<u8> {
    frame[26..30].copy_from_slice(&source);
    frame
}

/// A frame of [`ipv6`] as if another had sent it.
pub fn from6(mut frame: Vec<u8>, source: [u8; 16]) -> Vec<u8> {
    frame[22..38].copy_from_slice(&source);
    frame
}

/// A UDP datagram from port 4000, without anything behind the ports.
pub fn udp(port: u16) -> Vec<u8> {
    ipv4(17, 0, 5, &ports(port))
}

/// Ports 4000 and `port`.
pub fn ports(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [0x0f, 0xa0, high, low]
}

/// A TCP header from port 4000, of 20 bytes.
pub fn tcp_header(port: u16, flags: u8) -> Vec<u8> {
    let mut header = ports(port).to_vec();
    header.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// A TCP segment over IPv4 without payload.
pub fn tcp(port: u16, flags: u8) -> Vec<u8> {
    ipv4(6, 0, 5, &tcp_header(port, flags))
}

/// A UDP header to port 443 with this behind it.
pub fn udp_with(payload: &[u8]) -> Vec<u8> {
    [&ports(443)[..], &[0, 0, 0, 0], payload].concat()
}

/// How QUIC's Initial packet begins, of versions 1 and 2 (RFC 9000, RFC 9369).
pub const QUIC_INITIALS: [[u8; 6]; 2] = [[0xc3, 0, 0, 0, 1, 8], [0xd3, 0x6b, 0x33, 0x43, 0xcf, 8]];

/// Puts a VLAN tag before the network header.
pub fn tagged(frame: &[u8], kind: u16) -> Vec<u8> {
    [&frame[..12], &kind.to_be_bytes(), &[0, 7], &frame[12..]].concat()
}

/// So many extension headers of eight bytes in front of a payload of this protocol: `(the first
/// one's kind, all of them)`.
pub fn options(headers: usize, protocol: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    const DESTINATION_OPTIONS: u8 = 60;
    let mut chain: Vec<u8> = [DESTINATION_OPTIONS, 0, 1, 4, 0, 0, 0, 0].repeat(headers);
    if headers == 0 {
        return (protocol, payload.to_vec());
    }
    chain[8 * (headers - 1)] = protocol;
    chain.extend(payload);
    (DESTINATION_OPTIONS, chain)
}

/// A frame in memory.
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    fn at<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset + N)?.try_into().ok()
    }
}

impl Frame for Bytes<'_> {
    fn length(&self) -> u32 {
        self.0.len() as u32
    }

    fn byte(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn half(&self, offset: usize) -> Option<u16> {
        self.at(offset).map(u16::from_be_bytes)
    }

    fn word(&self, offset: usize) -> Option<u32> {
        self.at(offset).map(u32::from_ne_bytes)
    }
}

/// All that a packet says of itself, in plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: u32,
    pub source: Address,
    pub destination: Address,
    /// Source, destination.
    pub ports: (u16, u16),
    pub transport: Transport,
    pub protocol: u8,
    pub icmp_type: u8,
    pub tcp_flags: u8,
    pub is_fragment: bool,
    pub is_quic_initial: bool,
}

/// What a frame is taken for; what it says if it is a packet. The memory that is written to holds
/// another packet's fields before, as it does in the kernel.
pub fn read(frame: &[u8]) -> Result<Seen, Parsed> {
    let mut packet = Packet::NONE;
    packet.bytes = 77;
    packet.source = Address::v6([7; 4]);
    packet.source_port = 7;
    packet.destination_port = 7;
    packet.transport = Transport::Icmp;
    packet.protocol = 7;
    packet.icmp_type = 7;
    packet.tcp_flags = 7;
    packet.is_fragment = true;
    packet.is_quic_initial = true;
    match parse(&Bytes(frame), &mut packet) {
        Parsed::Ip => Ok(Seen {
            bytes: packet.bytes,
            source: packet.source,
            destination: packet.destination,
            ports: (packet.source_port, packet.destination_port),
            transport: packet.transport,
            protocol: packet.protocol,
            icmp_type: packet.icmp_type,
            tcp_flags: packet.tcp_flags,
            is_fragment: packet.is_fragment,
            is_quic_initial: packet.is_quic_initial,
        }),
        other => Err(other),
    }
}

/// The bytes of an address in the order of the network; four or sixteen.
pub fn address_bytes(address: &Address) -> Vec<u8> {
    let words = match address.family {
        Family::V4 => &address.words[..1],
        Family::V6 => &address.words[..],
    };
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
