//! The decision's surroundings in memory.

use std::{
    cell::{Cell, RefCell, UnsafeCell},
    collections::BTreeMap,
    marker::PhantomData,
    ptr::NonNull,
};

use weir_abi::{
    Event, HotKey, InstallRequest, InstallStatus, KeyLine, LimitCounters, LimitSlot, Operation,
    PolicyRecord, PortRange, Protocol, Reason, Rule, Service, Totals,
};
use weir_limiter::{
    Address, Environment, KeyTable, LimitRef, Memory, SharedMemory, Work, decide, install,
    multiplier, sweep,
};

use super::frames::Bytes;

/// When tests begin: nanoseconds of the boot clock.
pub const START: u64 = 1 << 40;

/// A rule for every packet.
pub fn any() -> Rule {
    Rule {
        limit: 1,
        ..Rule::default()
    }
}

/// A rule for UDP datagrams to a port.
pub fn on_port(port: u16) -> Rule {
    let mut rule = Rule {
        protocol: Protocol::Udp as u8,
        port_ranges: 1,
        ..any()
    };
    rule.ports[0] = PortRange {
        first: port,
        last: port,
    };
    rule
}

/// A rule by source: a token each `interval` nanoseconds, `burst` of them at once.
pub fn keyed(interval: u64, burst: u64) -> Rule {
    const SHIFT: u8 = 8;
    Rule {
        keyed: 1,
        key_shift: SHIFT,
        key_interval: interval << SHIFT,
        key_burst_ns: burst * interval,
        key_mask4: !0,
        key_mask6: [!0, !0, 0, 0],
        key_seed: 0x5eed_0f1e_c0de_cafe,
        ..any()
    }
}

/// A table of keys in memory.
pub struct Table<M = SharedMemory> {
    lines: Vec<UnsafeCell<KeyLine>>,
    memory: PhantomData<M>,
}

impl<M: Memory> Table<M> {
    /// A swept table with a power of two of lines.
    pub fn new(lines: usize, now: u64) -> Self {
        let table = Self::unswept(lines);
        table.sweep(now);
        table
    }

    /// A table of zeros.
    pub fn unswept(lines: usize) -> Self {
        Self {
            lines: (0..lines).map(|_| UnsafeCell::default()).collect(),
            memory: PhantomData,
        }
    }

    /// Sweeps all of it; how many slots are busy.
    pub fn sweep(&self, now: u64) -> u32 {
        let lines = self.lines.iter();
        // SAFETY: lines of this table, which are accessed through `M` alone.
        lines
            .map(|line| unsafe { sweep::<M>(line.get(), now) })
            .sum()
    }
}

impl<M: Memory> KeyTable for Table<M> {
    type Memory = M;

    fn line_mask(&self) -> u32 {
        self.lines.len() as u32 - 1
    }

    fn line(&self, number: u32) -> Option<*mut KeyLine> {
        Some(self.lines.get(number as usize)?.get())
    }
}

/// Leased buckets of keys that there is room for.
const HOT_SLOTS: usize = 8;

/// A host on which every rule is for every destination.
pub struct Host<M: Memory = SharedMemory> {
    pub now: u64,
    /// How often the clock was read.
    pub readings: Cell<u64>,
    /// How long the kernel's tick is, in nanoseconds.
    pub tick: u64,
    pub policy: PolicyRecord,
    /// Even, for there is one side only.
    pub generation: u64,
    pub keys: Table<M>,
    /// Slots of keys that have leased buckets.
    pub hot: BTreeMap<HotKey, u32>,
    /// How often a key was looked for among them.
    pub hot_searches: Cell<u32>,
    pub sampling: u32,
    pub events: RefCell<Vec<Event>>,
    pub event_room: usize,
    pub services: Vec<Service>,
    /// The number that the search for a destination finds.
    pub found: Option<u32>,
    pub searches: Cell<u32>,
    pub rules: Vec<Rule>,
    pub source_sets: u64,
    /// Entries of the allow-list, by index into the table of ports.
    pub management_ports: Vec<(u32, u32)>,
    pub management_sources: u32,
    work: RefCell<Work>,
    slots: Vec<UnsafeCell<LimitSlot>>,
    counters: RefCell<Vec<LimitCounters>>,
    totals: RefCell<Totals>,
}

impl Host {
    /// Each rule with the tokens that its bucket holds, now and for ever; a rule by source has
    /// its own.
    pub fn new(rules: impl IntoIterator<Item = (Rule, u64)>) -> Self {
        Self::with_memory(rules)
    }
}

impl<M: Memory> Host<M> {
    pub fn with_memory(rules: impl IntoIterator<Item = (Rule, u64)>) -> Self {
        let (rules, tokens): (Vec<Rule>, Vec<u64>) = rules.into_iter().unzip();
        let mut service = Service {
            count: rules.len() as u32,
            asks_source: 1,
            ..Service::default()
        };
        for (slot, place) in (0..).zip(service.slots.iter_mut().take(rules.len())) {
            *place = slot;
        }
        let host = Self {
            now: START,
            readings: Cell::new(0),
            tick: 10_000_000,
            generation: 2,
            policy: PolicyRecord {
                services: [PolicyRecord::SEARCH; 2],
                ..PolicyRecord::default()
            },
            keys: Table::new(64, START),
            hot: BTreeMap::new(),
            hot_searches: Cell::new(0),
            sampling: 0,
            events: RefCell::default(),
            event_room: usize::MAX,
            found: (!rules.is_empty()).then_some(0),
            searches: Cell::new(0),
            services: vec![service],
            source_sets: 0,
            management_ports: Vec::new(),
            management_sources: 0,
            work: RefCell::default(),
            slots: (0..rules.len() + HOT_SLOTS)
                .map(|_| UnsafeCell::default())
                .collect(),
            counters: vec![LimitCounters::default(); rules.len() + HOT_SLOTS].into(),
            totals: RefCell::default(),
            rules,
        };
        for (slot, tokens) in (0_u32..).zip(tokens) {
            host.fill(slot, tokens << host.rules[slot as usize].fraction_bits);
        }
        host
    }

    /// Gives a source's key a leased bucket that holds so many tokens, now and for ever; where it
    /// is.
    pub fn heat(&mut self, slot: u32, source: [u8; 4], tokens: u64) -> u32 {
        let hot_slot = (self.rules.len() + self.hot.len()) as u32;
        self.heat_at(slot, source, hot_slot, tokens);
        hot_slot
    }

    /// The same in this slot.
    pub fn heat_at(&mut self, slot: u32, source: [u8; 4], hot_slot: u32, tokens: u64) {
        let rule = &mut self.rules[slot as usize];
        rule.hot_keys += 1;
        let units = tokens << rule.fraction_bits;
        let key = HotKey {
            slot,
            family: 4,
            source: [u32::from_ne_bytes(source) & rule.key_mask4, 0, 0, 0],
        };
        assert_eq!(self.hot.insert(key, hot_slot), None, "it is hot already");
        self.fill(hot_slot, units);
    }

    /// A second at a rate fills the bucket; then the rate is zero.
    fn fill(&self, slot: u32, units: u64) {
        let before = self.now - 2_000_000_000;
        let mut create = InstallRequest {
            operation: Operation::Create as u16,
            ..InstallRequest::default()
        };
        self.install_at(slot, &mut create, before);
        let mut grant = InstallRequest {
            operation: Operation::Grant as u16,
            rate_multiplier: multiplier(units),
            burst: units,
            expires_ns: u64::MAX,
            ..InstallRequest::default()
        };
        self.install_at(slot, &mut grant, before);
        let mut nothing_more = InstallRequest {
            rate_multiplier: 0,
            ..grant
        };
        self.install_at(slot, &mut nothing_more, self.now);
    }

    fn install_at(&self, slot: u32, request: &mut InstallRequest, now: u64) -> InstallStatus {
        install(self.limit(slot).unwrap(), request, now)
    }

    /// Hands a slot a request, now.
    pub fn install(&self, slot: u32, mut request: InstallRequest) -> InstallStatus {
        self.install_at(slot, &mut request, self.now)
    }

    pub fn decide(&self, frame: &[u8]) -> Reason {
        decide(self, &Bytes(frame))
    }

    /// How many of so many packets pass.
    pub fn passed(&self, frame: &[u8], packets: usize) -> usize {
        (0..packets).filter(|_| self.decide(frame).passes()).count()
    }

    pub fn counted(&self, slot: usize) -> LimitCounters {
        self.counters.borrow()[slot]
    }

    pub fn totals(&self) -> Totals {
        *self.totals.borrow()
    }
}

impl<M: Memory> Environment for Host<M> {
    type Keys = Table<M>;

    fn now(&self) -> u64 {
        self.readings.set(self.readings.get() + 1);
        self.now
    }

    fn moment(&self) -> u64 {
        self.now / self.tick
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn policy(&self, _: u32) -> Option<&PolicyRecord> {
        Some(&self.policy)
    }

    fn management_port(&self, index: u32) -> u32 {
        let entries = self.management_ports.iter();
        entries
            .filter(|(port, _)| *port == index)
            .fold(0, |bits, (_, entry)| bits | entry)
    }

    fn management_source(&self, _: &Address) -> u32 {
        self.management_sources
    }

    fn service_number(&self, _: u32, _: &Address) -> Option<u32> {
        self.searches.set(self.searches.get() + 1);
        self.found
    }

    fn service(&self, _: u32, number: u32) -> Option<&Service> {
        self.services.get(number as usize)
    }

    fn source_sets(&self, _: u32, _: &Address) -> u64 {
        self.source_sets
    }

    fn rule(&self, _: u32, slot: u32) -> Option<&Rule> {
        self.rules.get(slot as usize)
    }

    fn limit(&self, slot: u32) -> Option<LimitRef<'_, M>> {
        let slot = NonNull::new(self.slots.get(slot as usize)?.get())?;
        // SAFETY: it lives as long as `self`, which never grows, and only accessed through `LimitRef`.
        Some(unsafe { LimitRef::new(slot) })
    }

    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> Option<R> {
        // What happens while a packet is decided happens on another CPU.
        Some(match self.work.try_borrow_mut() {
            Ok(mut work) => act(&mut work),
            Err(_) => act(&mut Work::default()),
        })
    }

    fn keys(&self) -> &Table<M> {
        &self.keys
    }

    fn hot(&self, key: &HotKey) -> Option<u32> {
        self.hot_searches.set(self.hot_searches.get() + 1);
        self.hot.get(key).copied()
    }

    fn sampling(&self) -> u32 {
        self.sampling
    }

    fn emit(&self, event: &Event) -> bool {
        let mut events = self.events.borrow_mut();
        let has_room = events.len() < self.event_room;
        if has_room {
            events.push(*event);
        }
        has_room
    }

    fn count_limit(&self, slot: u32, count: impl FnOnce(&mut LimitCounters)) {
        count(&mut self.counters.borrow_mut()[slot as usize]);
    }

    fn count_total(&self, count: impl FnOnce(&mut Totals)) {
        count(&mut self.totals.borrow_mut());
    }
}
