//! Whether a rule applies to a packet, and what the packet costs by it.

use weir_abi::{Cost, Protocol, Rule, maps};

use crate::packet::{Address, Packet, Transport, protocol};

/// Whether the rule applies. `sets` has a bit for each source set that the source is in.
///
/// A fragment but the first has no ports; it applies to every port, so it bypasses no limit.
#[inline(always)]
pub(crate) fn applies(rule: &Rule, packet: &Packet, sets: u64) -> bool {
    has_protocol(rule, packet) && has_source(rule, sets) && has_port(rule, packet)
}

#[inline(always)]
fn has_protocol(rule: &Rule, packet: &Packet) -> bool {
    let icmp = match packet.destination {
        Address::V4(_) => protocol::ICMP,
        Address::V6(_) => protocol::ICMP_V6,
    };
    if rule.protocol == Protocol::Any as u8 {
        true
    } else if rule.protocol == Protocol::Icmp as u8 {
        packet.protocol == icmp
    } else {
        packet.protocol == rule.protocol
    }
}

#[inline(always)]
fn has_source(rule: &Rule, sets: u64) -> bool {
    rule.source_set == 0 || sets >> ((rule.source_set - 1) & 63) & 1 == 1
}

#[inline(always)]
fn has_port(rule: &Rule, packet: &Packet) -> bool {
    if rule.port_ranges == 0 {
        return true;
    }
    let port = match packet.transport {
        Transport::Ports { destination, .. } => destination,
        Transport::LaterFragment => return true,
        Transport::Icmp { .. } | Transport::Other => return false,
    };
    for (index, range) in (0_u32..).zip(&rule.ports) {
        if index >= rule.port_ranges {
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
