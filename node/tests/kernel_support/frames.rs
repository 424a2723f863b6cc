//! Frames, byte by byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A UDP datagram in a frame that is padded to `bytes`.
pub fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16), bytes: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(ports.0.to_be_bytes());
    payload.extend(ports.1.to_be_bytes());
    payload.extend([0; 4]);
    ip(source, destination, 17, &payload, bytes)
}

/// A TCP segment.
pub fn tcp(source: IpAddr, destination: IpAddr, ports: (u16, u16)) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(ports.0.to_be_bytes());
    payload.extend(ports.1.to_be_bytes());
    payload.extend([0; 16]);
    ip(source, destination, 6, &payload, 60)
}

/// A packet of any protocol.
pub fn ip(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &[u8],
    bytes: usize,
) -> Vec<u8> {
    let mut frame = vec![2; 12];
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let length = bytes.max(34 + payload.len()) - 14;
            frame.extend(header4(source, destination, protocol, length as u16, 0));
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd]);
            let length = bytes.max(54 + payload.len()) - 54;
            frame.extend(header6(source, destination, protocol, length as u16));
        }
        _ => panic!("addresses of two families"),
    }
    frame.extend(payload);
    if frame.len() < bytes {
        frame.resize(bytes, 0);
    }
    frame
}

/// `fragment` is the field with flags and offset.
pub fn header4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    length: u16,
    fragment: u16,
) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, protocol, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

pub fn header6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, length: u16) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(length.to_be_bytes());
    header.extend([next, 64]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

/// A later fragment of a UDP datagram over IPv4.
pub fn later_fragment(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0x00]);
    frame.extend(header4(source, destination, 17, 46, 0x00b9));
    frame.resize(60, 0xff);
    frame
}

/// An ARP request, as far as anybody looks.
pub fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend([0x08, 0x06]);
    frame.resize(60, 0);
    frame
}

/// Puts a VLAN tag before the network header.
pub fn tagged(frame: &[u8], ethertype: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(ethertype.to_be_bytes());
    tagged.extend([0, 7]);
    tagged.extend(&frame[12..]);
    tagged
}
