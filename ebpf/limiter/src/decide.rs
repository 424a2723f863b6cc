//! The way of a packet.

use weir_abi::{Event, HotKey, LimitCounters, PolicyRecord, Reason, Rule, Service, Totals, maps};

use crate::{
    charging::charge_all,
    counting::{count, sample},
    essential::is_essential,
    hopeless::is_hopeless,
    keyed::{KeyTable, Place, cost_ns, masked},
    matching::{applies, tokens, units},
    memory::LimitRef,
    packet::{Address, Family, Packet, Transport, protocol},
    parse::{Frame, Parsed, parse},
    work::{Match, Work},
};

/// What the decision rests on: maps and the clock.
///
/// Lookups return `None` for an entry that does not exist. Counters are the running CPU's own.
pub trait Environment {
    /// The buckets of keyed limits, and how all buckets are shared.
    type Keys: KeyTable;

    /// `CLOCK_BOOTTIME`, in nanoseconds.
    fn now(&self) -> u64;

    /// A number that is another one at least every 10 ms, and costs next to nothing to read.
    fn moment(&self) -> u64;

    /// The number of the policy in force, which no other ever had; it is on the side that the lowest
    /// bit says.
    fn generation(&self) -> u64;

    /// What holds for all of a policy.
    fn policy(&self, side: u32) -> Option<&PolicyRecord>;

    /// The allow-list's entries that this port is in, by index into
    /// [`maps::MANAGEMENT_PORTS`].
    fn management_port(&self, index: u32) -> u32;

    /// The allow-list's entries that this source is in.
    fn management_source(&self, source: &Address) -> u32;

    /// The number of a destination's service: that of the longest prefix.
    fn service_number(&self, side: u32, destination: &Address) -> Option<u32>;

    /// A service by its number.
    fn service(&self, side: u32, number: u32) -> Option<&Service>;

    /// The source sets that this source is in.
    fn source_sets(&self, side: u32, source: &Address) -> u64;

    /// What a slot's limit matches and costs.
    fn rule(&self, side: u32, slot: u32) -> Option<&Rule>;

    /// A limit's grant and bucket.
    fn limit(&self, slot: u32) -> Option<LimitRef<'_, <Self::Keys as KeyTable>::Memory>>;

    /// The buckets of keyed limits.
    fn keys(&self) -> &Self::Keys;

    /// The slot of the leased bucket that a key has; `None` if it has none.
    fn hot(&self, key: &HotKey) -> Option<u32>;

    /// For about how many packets there is to be one event; 0 for none.
    fn sampling(&self) -> u32;

    /// Tells user space about a packet. `false` if there is no room.
    fn emit(&self, event: &Event) -> bool;

    /// Memory to work in, of the running CPU alone; what is in it does not matter. `None` if there
    /// is none.
    ///
    /// It is not on the stack because the verifier follows every value there: it would look at each
    /// combination of the matches' answers apart, and give up.
    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> Option<R>;

    /// Counts for one limit.
    fn count_limit(&self, slot: u32, count: impl FnOnce(&mut LimitCounters));

    /// Counts for all.
    fn count_total(&self, count: impl FnOnce(&mut Totals));
}

/// Decides about a frame, charges what it costs, and counts it.
#[inline(always)]
pub fn decide<E: Environment>(environment: &E, frame: &impl Frame) -> Reason {
    let bytes = u64::from(frame.length());
    let reading = |work: &mut Work| match parse(frame, &mut work.packet) {
        Parsed::Ip => judge(environment, work),
        Parsed::NotIp => Reason::NotIp,
        Parsed::Malformed if passes_unparsed(environment) => Reason::UnparsedPassed,
        Parsed::Malformed => Reason::Unparsed,
        Parsed::TooManyHeaders if passes_unparsed(environment) => Reason::TooManyHeadersPassed,
        Parsed::TooManyHeaders => Reason::TooManyHeaders,
    };
    let reason = environment.work(reading).unwrap_or(Reason::Internal);
    environment.count_total(|totals| {
        totals.received.packets += 1;
        totals.received.bytes += bytes;
        let tally = &mut totals.by_reason[reason as usize];
        tally.packets += 1;
        tally.bytes += bytes;
    });
    reason
}

/// What the policy says of IP packets that cannot be parsed.
#[inline(always)]
fn passes_unparsed<E: Environment>(environment: &E) -> bool {
    let policy = environment.policy(side(environment.generation()));
    policy.is_some_and(|policy| policy.unparsed_passes != 0)
}

/// A function of its own in the kernel, so that the verifier goes through it once for all parsed
/// packets.
#[inline(never)]
fn judge<E: Environment>(environment: &E, work: &mut Work) -> Reason {
    if is_essential(&work.packet) || is_management(environment, &work.packet) {
        return Reason::Management;
    }
    let generation = environment.generation();
    work.side = side(generation);
    let Some(service) = service(environment, generation, work) else {
        return Reason::NoMatch;
    };
    if let Err(reason) = find(environment, service, work) {
        return reason;
    }
    if work.count() == 0 {
        return Reason::NoMatch;
    }
    let reason = if is_hopeless(environment, work) {
        Reason::OverLimit
    } else {
        // Read before any grant is: a grant is never looked at later than it was in force.
        work.read_clock(environment);
        charge_all(environment, work)
    };
    count(environment, reason, work);
    sample(environment, reason, work);
    reason
}

/// The side that a policy of this number is on.
#[inline(always)]
const fn side(generation: u64) -> u32 {
    (generation & 1) as u32
}

/// The limits of the packet's destination. A policy in which all destinations have the same needs
/// no search.
#[inline(always)]
fn service<'e, E: Environment>(
    environment: &'e E,
    generation: u64,
    work: &mut Work,
) -> Option<&'e Service> {
    let side = work.side;
    let [of_v4, of_v6] = environment.policy(side)?.services;
    let known = match work.packet.destination.family {
        Family::V4 => of_v4,
        Family::V6 => of_v6,
    };
    let number = match known {
        PolicyRecord::SEARCH => {
            let destination = &work.packet.destination;
            work.searches.find(generation, destination, || {
                environment.service_number(side, destination)
            })?
        }
        known => known.checked_sub(1)?,
    };
    environment.service(side, number)
}

/// Management traffic: an entry lists ports and sources, and a packet is on the list if a port of
/// it *and* its source are in the same entry. Both ports are looked at, since answers to the
/// host's own connections come from the listed port.
#[inline(always)]
fn is_management<E: Environment>(environment: &E, packet: &Packet) -> bool {
    if packet.transport != Transport::Ports {
        return false;
    }
    let table = if packet.protocol == protocol::TCP {
        maps::PORTS as u32
    } else {
        0
    };
    let entries = environment.management_port(table + u32::from(packet.destination_port))
        | environment.management_port(table + u32::from(packet.source_port));
    entries != 0 && entries & environment.management_source(&packet.source) != 0
}

/// Collects the limits that apply.
#[inline(always)]
fn find<E: Environment>(environment: &E, service: &Service, work: &mut Work) -> Result<(), Reason> {
    let sets = if service.asks_source == 0 {
        0
    } else {
        environment.source_sets(work.side, &work.packet.source)
    };
    work.clear();
    for (index, slot) in (0_u32..).zip(&service.slots) {
        if index >= service.count {
            break;
        }
        let rule = environment.rule(work.side, *slot);
        let rule = rule.ok_or(Reason::Internal)?;
        if applies(rule, &work.packet, sets) {
            note(environment, *slot, rule, work);
        }
    }
    Ok(())
}

/// Notes down what a limit that applies asks for the packet.
#[inline(always)]
fn note<E: Environment>(environment: &E, slot: u32, rule: &Rule, work: &mut Work) {
    let tokens = tokens(rule, work.packet.bytes);
    let key = masked(rule, &work.packet.source);
    let Some(one) = work.next() else {
        return;
    };
    *one = Match {
        slot,
        tokens,
        keyed: rule.keyed != 0,
        shadow: rule.shadow != 0,
        ..Match::default()
    };
    if one.keyed {
        one.place = Place::of(rule, &key, environment.keys().line_mask());
        one.cost = cost_ns(rule, tokens);
        one.burst_ns = rule.key_burst_ns;
        if rule.hot_keys != 0 {
            note_hot(environment, rule, &key, one);
        }
    } else {
        one.lease_slot = slot;
        one.lease_cost = units(rule, tokens);
        one.on_expiry = rule.on_expiry;
    }
}

/// Notes down the leased bucket of the key, if it has one.
#[inline(always)]
fn note_hot<E: Environment>(environment: &E, rule: &Rule, key: &Address, one: &mut Match) {
    let key = HotKey {
        slot: one.slot,
        family: key.family as u32,
        source: key.words,
    };
    if let Some(slot) = environment.hot(&key) {
        one.is_hot = true;
        one.hot_alone = rule.hot_alone != 0;
        one.lease_slot = slot;
        one.lease_cost = units(rule, one.tokens);
    }
}
