//! Whether a rule applies to a packet, and what the packet costs by it.

use weir_abi::{Cost, Protocol, Rule, maps};

use crate::packet::{Family, Packet, Transport, flag, protocol};

/// Whether the rule applies. `sets` has a bit for each source set that the source is in.
///
/// A fragment but the first has no ports; it applies to every port, so it bypasses no limit.
#[inline(always)]
pub(crate) fn applies(rule: &Rule, packet: &Packet, sets: u64) -> bool {
    has_protocol(rule, packet)
        && has_source(rule, sets)
        && has_port(rule, packet)
        && has_flags(rule, packet)
        && (rule.fragments_only == 0 || packet.is_fragment)
        && (rule.cost != Cost::Connections as u8 || opens(rule, packet))
}

/// A later fragment has no flags to look at, so it bypasses no limit that asks for some.
#[inline(always)]
fn has_flags(rule: &Rule, packet: &Packet) -> bool {
    let [mask, value] = rule.tcp_flags;
    matches!(packet.transport, Transport::LaterFragment) || packet.tcp_flags & mask == value
}

/// Whether the packet asks for a connection. A later fragment does not: its first one did.
#[inline(always)]
fn opens(rule: &Rule, packet: &Packet) -> bool {
    packet.tcp_flags & (flag::SYN | flag::ACK) == flag::SYN
        || (rule.quic != 0 && packet.is_quic_initial)
}

#[inline(always)]
fn has_protocol(rule: &Rule, packet: &Packet) -> bool {
    let icmp = match packet.destination.family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMP_V6,
    };
    if rule.protocol == Protocol::Any as u8 {
        return true;
    }
    let wanted = if rule.protocol == Protocol::Icmp as u8 {
        icmp
    } else {
        rule.protocol
    };
    packet.protocol == wanted || hides_protocol(packet)
}

/// Whether the protocol is in another fragment: what was cut up may begin with extension headers
/// of IPv6 (RFC 8200), and then it is a way round no rule.
#[inline(always)]
fn hides_protocol(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::LaterFragment)
        && matches!(packet.destination.family, Family::V6)
        && protocol::is_extension(packet.protocol)
}

#[inline(always)]
fn has_source(rule: &Rule, sets: u64) -> bool {
    rule.source_set == 0 || sets >> (u32::from(rule.source_set - 1) & 63) & 1 == 1
}

#[inline(always)]
fn has_port(rule: &Rule, packet: &Packet) -> bool {
    if rule.port_ranges == 0 {
        return true;
    }
    let port = match packet.transport {
        Transport::Ports => packet.destination_port,
        Transport::LaterFragment => return true,
        Transport::Icmp | Transport::Other => return false,
    };
    for (index, range) in (0_u32..).zip(&rule.ports) {
        if index >= u32::from(rule.port_ranges) {
            return false;
        }
        if range.first <= port && port <= range.last {
            return true;
        }
    }
    false
}

/// What a packet in a frame of this many bytes costs, in tokens.
#[inline(always)]
pub(crate) fn tokens(rule: &Rule, frame_bytes: u32) -> u32 {
    if rule.cost == Cost::Bits as u8 {
        frame_bytes
            .saturating_add(rule.overhead_bytes)
            .saturating_mul(8)
    } else {
        1
    }
}

/// Larger than any burst: a cost that no bucket ever admits.
const UNPAYABLE: u64 = 1 << 61;

/// Tokens as units. What does not fit is more than any burst, and so is the result.
#[inline(always)]
pub(crate) fn units(rule: &Rule, tokens: u32) -> u64 {
    let tokens = u64::from(tokens);
    let bits = u32::from(rule.fraction_bits) & 63;
    if tokens >> (61_u32.saturating_sub(bits) & 63) == 0 {
        tokens << bits
    } else {
        UNPAYABLE
    }
}

const _: () = assert!(maps::SOURCE_SETS == 64);
