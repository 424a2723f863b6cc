//! Packets without which the host loses its network: they pass before any limit is looked at.
//!
//! ARP is not IP and passes as such. Here are neighbour and router discovery (RFC 4861), ICMP's
//! error messages (RFC 792, RFC 4443: without "packet too big" connections hang), and DHCP
//! (RFC 2131, RFC 8415). None of them asks a host for more than a bounded amount of work.

use crate::packet::{Family, Packet, Transport, protocol};

const ICMP_UNREACHABLE: u8 = 3;
const ICMP_SOURCE_QUENCH: u8 = 4;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = 12;
/// ICMPv6: unreachable, packet too big, time exceeded, parameter problem.
const ICMP6_ERRORS: core::ops::RangeInclusive<u8> = 1..=4;
/// ICMPv6: router solicitation to redirect.
const ICMP6_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCP6_CLIENT: u16 = 546;
const DHCP6_SERVER: u16 = 547;

/// Whether the network needs this packet in order to work at all.
#[inline(always)]
pub(crate) fn is_essential(packet: &Packet) -> bool {
    let is_v6 = matches!(packet.destination.family, Family::V6);
    match packet.transport {
        Transport::Icmp if is_v6 => {
            ICMP6_ERRORS.contains(&packet.icmp_type) || ICMP6_DISCOVERY.contains(&packet.icmp_type)
        }
        Transport::Icmp => matches!(
            packet.icmp_type,
            ICMP_UNREACHABLE | ICMP_SOURCE_QUENCH | ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM
        ),
        Transport::Ports if packet.protocol == protocol::UDP => {
            let (client, server) = if is_v6 {
                (DHCP6_CLIENT, DHCP6_SERVER)
            } else {
                (DHCP_CLIENT, DHCP_SERVER)
            };
            let (source, destination) = (packet.source_port, packet.destination_port);
            // A relay speaks to the server from the server's port.
            (source == server && (destination == client || destination == server))
                || (source == client && destination == server)
        }
        _ => false,
    }
}
