//! The decision on the host, for comparison: the same crate, on an environment that finds limits
//! by going through the policy, without any of the tables that the kernel has.

use std::{
    cell::{RefCell, UnsafeCell},
    collections::BTreeMap,
    net::IpAddr,
    ptr::NonNull,
};

use weir_abi::{
    Cost, Event, HotKey as Entry, InstallRequest, InstallStatus, KeyLine, LimitCounters, LimitSlot,
    OnExpiry, Operation, PolicyRecord, PortRange, Protocol, Reason, Rule, Service, Totals,
};
use weir_limiter::{
    Address, Environment, Family, Frame, KeyTable, LimitRef, SharedMemory, Work, decide,
    multiplier, sweep,
};
use weir_model::{
    HotKey, LimitId, Policy,
    policy::{self, Fragments, Unparsed},
    prefix::Prefix,
};
use weir_node::dataplane::{GrantRequest, InstallOutcome};

pub struct HostKernel {
    pub now: u64,
    policy: Policy,
    rules: Vec<Rule>,
    slots: Vec<UnsafeCell<LimitSlot>>,
    counters: RefCell<Vec<LimitCounters>>,
    totals: RefCell<Totals>,
    record: PolicyRecord,
    services: RefCell<Vec<&'static Service>>,
    keys: Keys,
    /// Slots of hot keys, behind those of limits.
    hot: BTreeMap<LimitId, (Entry, usize)>,
    /// One event for about so many packets of limits; 0 for none.
    pub sampling: u32,
    pub events: RefCell<Vec<Event>>,
    work: RefCell<Work>,
}

/// Keys that may be hot at once.
const HOT_KEYS: usize = 16;

/// A table of keys with this many lines.
const KEY_LINES: usize = 4_096;

pub struct Keys(Vec<UnsafeCell<KeyLine>>);

impl Keys {
    fn new(now: u64) -> Self {
        let keys = Self((0..KEY_LINES).map(|_| UnsafeCell::default()).collect());
        for line in &keys.0 {
            // SAFETY: lines of this table, which are accessed in this way alone.
            unsafe { sweep::<SharedMemory>(line.get(), now) };
        }
        keys
    }
}

impl KeyTable for Keys {
    type Memory = SharedMemory;

    fn line_mask(&self) -> u32 {
        self.0.len() as u32 - 1
    }

    fn line(&self, number: u32) -> Option<*mut KeyLine> {
        Some(self.0.get(number as usize)?.get())
    }
}

impl HostKernel {
    pub fn new(policy: Policy, now: u64) -> Self {
        let rules = policy.limits.iter().enumerate();
        let rules = rules.map(|(index, limit)| rule(index, limit)).collect();
        let slots = policy.limits.len() + HOT_KEYS;
        let counters = vec![LimitCounters::default(); slots];
        let slots = (0..slots).map(|_| UnsafeCell::default()).collect();
        let record = PolicyRecord {
            services: [PolicyRecord::SEARCH; 2],
            unparsed_passes: u32::from(policy.fleet.unparsed == Unparsed::Pass),
            ..PolicyRecord::default()
        };
        let host = Self {
            now,
            policy,
            rules,
            slots,
            counters: counters.into(),
            totals: RefCell::default(),
            record,
            services: RefCell::default(),
            keys: Keys::new(now),
            hot: BTreeMap::new(),
            sampling: 0,
            events: RefCell::default(),
            work: RefCell::default(),
        };
        for slot in 0..host.policy.limits.len() {
            let request = host.request(slot, Operation::Create);
            host.run(slot, request);
        }
        host
    }

    pub fn decide(&self, frame: &[u8]) -> bool {
        self.reason(frame).passes()
    }

    pub fn reason(&self, frame: &[u8]) -> Reason {
        decide(self, &Bytes(frame))
    }

    pub fn install(&self, grant: &GrantRequest) -> InstallOutcome {
        let Some(slot) = self.slot_of(grant.limit) else {
            return InstallOutcome::UnknownLimit;
        };
        let request = InstallRequest {
            rate_multiplier: multiplier(grant.amount.rate.0),
            burst: grant.amount.burst.0,
            floor_multiplier: multiplier(grant.floor.rate.0),
            floor_burst: grant.floor.burst.0,
            expires_ns: grant.expires.0,
            ..self.request(slot, Operation::Grant)
        };
        let at = weir_model::Nanos(self.now);
        match self.run(slot, request) {
            InstallStatus::Installed => InstallOutcome::Installed { at, renewed: false },
            InstallStatus::Renewed => InstallOutcome::Installed { at, renewed: true },
            InstallStatus::Expired => InstallOutcome::Expired { at },
            other => panic!("{other:?}"),
        }
    }

    pub fn counters(&self) -> (Totals, Vec<LimitCounters>) {
        let limits = &self.counters.borrow()[..self.policy.limits.len()];
        (*self.totals.borrow(), limits.to_vec())
    }

    /// What was counted of a hot key.
    pub fn counted(&self, id: LimitId) -> LimitCounters {
        self.counters.borrow()[self.slot_of(id).unwrap()]
    }

    /// As the data plane's call of this name.
    pub fn set_hot_keys(&mut self, keys: &[HotKey]) {
        self.hot
            .retain(|id, _| keys.iter().any(|key| key.id == *id));
        for key in keys {
            if self.hot.contains_key(&key.id) {
                continue;
            }
            let used: Vec<usize> = self.hot.values().map(|(_, slot)| *slot).collect();
            let first = self.policy.limits.len();
            let mut free = (first..first + HOT_KEYS).filter(|slot| !used.contains(slot));
            let slot = free.next().expect("room for all that tests make");
            let limits = &self.policy.limits;
            let limit = limits.iter().position(|one| one.id == key.limit).unwrap();
            self.hot
                .insert(key.id, (entry(limit as u32, key.key), slot));
            self.counters.borrow_mut()[slot] = LimitCounters::default();
            let create = self.request(slot, Operation::Create);
            self.run(slot, create);
        }
        for (slot, rule) in (0..).zip(&mut self.rules) {
            let of_limit = self.hot.values().filter(|(entry, _)| entry.slot == slot);
            rule.hot_keys = of_limit.count() as u16;
        }
    }

    fn slot_of(&self, id: LimitId) -> Option<usize> {
        let limits = &self.policy.limits;
        let named = limits.iter().position(|limit| limit.id == id);
        named.or_else(|| Some(self.hot.get(&id)?.1))
    }

    fn request(&self, slot: usize, operation: Operation) -> InstallRequest {
        let limit = self.policy.limits.get(slot).map(|limit| limit.id);
        let mut hot = self.hot.iter();
        let owner = limit.or_else(|| Some(*hot.find(|(_, (_, hot))| *hot == slot)?.0));
        InstallRequest {
            limit: owner.unwrap().0,
            operation: operation as u16,
            ..InstallRequest::default()
        }
    }

    fn run(&self, slot: usize, mut request: InstallRequest) -> InstallStatus {
        weir_limiter::install(self.slot(slot), &mut request, self.now)
    }

    fn slot(&self, slot: usize) -> LimitRef<'_, SharedMemory> {
        let slot = NonNull::new(self.slots[slot].get()).expect("not null");
        // SAFETY: it lives as long as `self`, which never grows, and only accessed through `LimitRef`.
        unsafe { LimitRef::new(slot) }
    }

    fn applicable(&self, destination: IpAddr) -> Vec<u32> {
        let host = host_prefix(destination);
        let applies = |to: &[Prefix]| to.is_empty() || to.iter().any(|one| one.contains(host));
        let limits = self.policy.limits.iter().enumerate();
        let mut found: Vec<_> = limits
            .filter(|(_, limit)| applies(&limit.matches.to))
            .collect();
        // Keyed limits are asked first.
        found.sort_by_key(|(_, limit)| limit.per.is_none());
        found.iter().map(|(index, _)| *index as u32).collect()
    }
}

fn rule(index: usize, limit: &policy::Limit) -> Rule {
    let mut rule = Rule {
        limit: limit.id.0,
        // A set for each limit that asks for one.
        source_set: if limit.matches.from.is_empty() {
            0
        } else {
            index as u16 + 1
        },
        protocol: match limit.matches.protocol {
            policy::Protocol::Any => Protocol::Any,
            policy::Protocol::Tcp => Protocol::Tcp,
            policy::Protocol::Udp => Protocol::Udp,
            policy::Protocol::Icmp => Protocol::Icmp,
        } as u8,
        cost: match limit.cost {
            policy::Cost::Packets => Cost::Packets,
            policy::Cost::Bits => Cost::Bits,
            policy::Cost::Connections => Cost::Connections,
        } as u8,
        fraction_bits: limit.scale.fraction_bits,
        shadow: u8::from(limit.mode == policy::Mode::Shadow),
        port_ranges: limit.matches.ports.len() as u8,
        overhead_bytes: limit.overhead_bytes,
        quic: u8::from(limit.quic),
        fragments_only: u8::from(limit.matches.fragments == Fragments::Only),
        tcp_flags: [limit.matches.tcp_flags.mask, limit.matches.tcp_flags.value],
        on_expiry: match limit.on_expiry {
            policy::OnExpiry::Floor => OnExpiry::Floor,
            policy::OnExpiry::Closed => OnExpiry::Closed,
            policy::OnExpiry::Open => OnExpiry::Open,
        } as u8,
        ..key(index, limit)
    };
    for (place, range) in rule.ports.iter_mut().zip(&limit.matches.ports) {
        *place = PortRange {
            first: range.first,
            last: range.last,
        };
    }
    rule
}

/// What a keyed limit says of its keys. Nanoseconds of a token have 43 bits, rounded up; what a
/// key may be ahead is what its burst costs, and pays for a frame of the largest size.
fn key(index: usize, limit: &policy::Limit) -> Rule {
    let (Some(key), Some(amount)) = (limit.per, limit.key_amount()) else {
        return Rule::default();
    };
    let token = 1_000_000_000_u128 << limit.scale.fraction_bits;
    let rate = u128::from(amount.rate.0);
    let bits = u128::BITS - token.div_ceil(rate).leading_zeros();
    let shift = 43_u32.saturating_sub(bits).min(32);
    let interval = (token << shift).div_ceil(rate);
    let cost = |tokens: u128| (tokens * interval).div_ceil(1 << shift);
    let burst = u128::from(amount.burst.0 >> limit.scale.fraction_bits);
    let burst = match limit.cost {
        policy::Cost::Packets | policy::Cost::Connections => burst * cost(1),
        policy::Cost::Bits => cost(burst),
    };
    let largest = u128::from(limit.smallest_burst.0 >> limit.scale.fraction_bits);
    let largest = cost(largest);
    let mask6 = !0_u128 << (128 - u32::from(key.source_v6));
    let mask6 = mask6.to_be_bytes();
    let word = |at: usize| u32::from_ne_bytes(mask6[at..at + 4].try_into().unwrap());
    Rule {
        keyed: 1,
        hot_alone: u32::from(limit.promise == policy::Promise::Elastic),
        key_shift: shift as u8,
        key_interval: interval as u64,
        key_burst_ns: burst.max(largest).min(u128::from(KeyLine::MAX_DEBT_NS)) as u64,
        // The kernel's are a secret; any other will do that tells the limits apart.
        key_seed: (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        key_mask4: (!0_u32 << (32 - u32::from(key.source_v4))).to_be(),
        key_mask6: [word(0), word(4), word(8), word(12)],
        ..Rule::default()
    }
}

fn address(address: &Address) -> IpAddr {
    if address.family == Family::V4 {
        return IpAddr::from(address.words[0].to_ne_bytes());
    }
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip(address.words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(bytes)
}

fn entry(slot: u32, key: Prefix) -> Entry {
    let mut entry = Entry {
        slot,
        ..Entry::default()
    };
    match key.address() {
        IpAddr::V4(address) => {
            entry.family = 4;
            entry.source[0] = u32::from_ne_bytes(address.octets());
        }
        IpAddr::V6(address) => {
            entry.family = 6;
            for (word, bytes) in entry
                .source
                .iter_mut()
                .zip(address.octets().chunks_exact(4))
            {
                *word = u32::from_ne_bytes(bytes.try_into().unwrap());
            }
        }
    }
    entry
}

fn host_prefix(address: IpAddr) -> Prefix {
    Prefix::containing(address, if address.is_ipv4() { 32 } else { 128 }).unwrap()
}

impl Environment for HostKernel {
    type Keys = Keys;

    fn now(&self) -> u64 {
        self.now
    }

    fn moment(&self) -> u64 {
        self.now >> 23
    }

    fn generation(&self) -> u64 {
        0
    }

    fn policy(&self, _: u32) -> Option<&PolicyRecord> {
        Some(&self.record)
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }

    fn hot(&self, key: &Entry) -> Option<u32> {
        let mut hot = self.hot.values();
        Some(hot.find(|(entry, _)| entry == key)?.1 as u32)
    }

    fn sampling(&self) -> u32 {
        self.sampling
    }

    fn emit(&self, event: &Event) -> bool {
        self.events.borrow_mut().push(*event);
        true
    }

    fn management_port(&self, _: u32) -> u32 {
        0
    }

    fn management_source(&self, _: &Address) -> u32 {
        0
    }

    fn service_number(&self, _: u32, destination: &Address) -> Option<u32> {
        let found = self.applicable(address(destination));
        if found.is_empty() {
            return None;
        }
        let mut service = Service {
            count: found.len() as u32,
            asks_source: 1,
            ..Service::default()
        };
        service.slots[..found.len()].copy_from_slice(&found);
        let mut services = self.services.borrow_mut();
        services.push(Box::leak(Box::new(service)));
        Some(services.len() as u32 - 1)
    }

    fn service(&self, _: u32, number: u32) -> Option<&Service> {
        Some(self.services.borrow()[number as usize])
    }

    fn source_sets(&self, _: u32, source: &Address) -> u64 {
        let source = host_prefix(address(source));
        let limits = self.policy.limits.iter().enumerate();
        limits
            .filter(|(_, limit)| limit.matches.from.iter().any(|from| from.contains(source)))
            .fold(0, |bits, (index, _)| bits | 1 << index)
    }

    fn rule(&self, _: u32, slot: u32) -> Option<&Rule> {
        self.rules.get(slot as usize)
    }

    fn limit(&self, slot: u32) -> Option<LimitRef<'_, SharedMemory>> {
        Some(self.slot(slot as usize))
    }

    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> Option<R> {
        Some(act(&mut self.work.borrow_mut()))
    }

    fn count_limit(&self, slot: u32, count: impl FnOnce(&mut LimitCounters)) {
        count(&mut self.counters.borrow_mut()[slot as usize]);
    }

    fn count_total(&self, count: impl FnOnce(&mut Totals)) {
        count(&mut self.totals.borrow_mut());
    }
}

/// A frame in memory.
struct Bytes<'a>(&'a [u8]);

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

/// Whether the sums of the totals agree.
pub fn check_totals(totals: &Totals) {
    let packets: u64 = totals.by_reason.iter().map(|tally| tally.packets).sum();
    let bytes: u64 = totals.by_reason.iter().map(|tally| tally.bytes).sum();
    assert_eq!(
        (packets, bytes),
        (totals.received.packets, totals.received.bytes)
    );
    assert_eq!(totals.by_reason[Reason::Internal as usize].packets, 0);
}
