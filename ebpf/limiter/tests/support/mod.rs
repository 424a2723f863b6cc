//! Frames and an environment in memory.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::{
    cell::{RefCell, UnsafeCell},
    ptr::NonNull,
};

use weir_abi::{
    Event, InstallRequest, KeyLine, LimitCounters, LimitSlot, Operation, PolicyRecord, Reason,
    Rule, Service, Totals,
};
use weir_limiter::{
    Address, Environment, Frame, KeyTable, LimitRef, SharedMemory, Work, decide, install,
    multiplier, sweep,
};

pub const ETHERNET: [u8; 12] = [2; 12];
pub const V4: [u8; 2] = [0x08, 0x00];
pub const V6: [u8; 2] = [0x86, 0xdd];

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

/// A table of keys in memory.
pub struct Table(Vec<UnsafeCell<KeyLine>>);

impl Table {
    /// A swept table with a power of two of lines.
    pub fn new(lines: usize, now: u64) -> Self {
        let table = Self((0..lines).map(|_| UnsafeCell::default()).collect());
        table.sweep(now);
        table
    }

    /// Sweeps all of it; how many slots are busy.
    pub fn sweep(&self, now: u64) -> u32 {
        let lines = self.0.iter();
        lines
            .map(|line| sweep::<SharedMemory>(line.get(), now))
            .sum()
    }
}

impl KeyTable for Table {
    type Memory = SharedMemory;

    fn line_mask(&self) -> u32 {
        self.0.len() as u32 - 1
    }

    fn line(&self, number: u32) -> Option<*mut KeyLine> {
        Some(self.0.get(number as usize)?.get())
    }
}

/// A host on which every rule is for every destination.
pub struct Host {
    pub now: u64,
    pub policy: PolicyRecord,
    pub keys: Table,
    pub sampling: u32,
    pub events: RefCell<Vec<Event>>,
    pub event_room: usize,
    work: RefCell<Work>,
    pub service: Option<Service>,
    pub rules: Vec<Rule>,
    pub source_sets: u64,
    /// Entries of the allow-list, by index into the table of ports.
    pub management_ports: Vec<(u32, u32)>,
    pub management_sources: u32,
    slots: Vec<UnsafeCell<LimitSlot>>,
    counters: RefCell<Vec<LimitCounters>>,
    totals: RefCell<Totals>,
}

impl Host {
    /// Each rule with the tokens that its bucket holds, now and for ever.
    pub fn new(rules: impl IntoIterator<Item = (Rule, u64)>) -> Self {
        let (rules, tokens): (Vec<Rule>, Vec<u64>) = rules.into_iter().unzip();
        let mut service = Service {
            count: rules.len() as u32,
            asks_source: 1,
            ..Service::default()
        };
        for (slot, place) in (0..).zip(service.slots.iter_mut().take(rules.len())) {
            *place = slot;
        }
        let now = 1 << 40;
        let host = Self {
            now,
            policy: PolicyRecord {
                services: [PolicyRecord::SEARCH; 2],
                ..PolicyRecord::default()
            },
            keys: Table::new(64, now),
            sampling: 0,
            events: RefCell::default(),
            event_room: usize::MAX,
            work: RefCell::default(),
            service: (!rules.is_empty()).then_some(service),
            source_sets: 0,
            management_ports: Vec::new(),
            management_sources: 0,
            slots: rules.iter().map(|_| UnsafeCell::default()).collect(),
            counters: vec![LimitCounters::default(); rules.len()].into(),
            totals: RefCell::default(),
            rules,
        };
        for (slot, tokens) in (0_u32..).zip(tokens) {
            host.fill(slot, tokens);
        }
        host
    }

    /// A second at a rate fills the bucket; then the rate is zero.
    fn fill(&self, slot: u32, tokens: u64) {
        let units = tokens << self.rules[slot as usize].fraction_bits;
        let limit = self.limit(slot).expect("a slot for each rule");
        let before = self.now - 2_000_000_000;
        let mut create = InstallRequest {
            operation: Operation::Create as u16,
            ..InstallRequest::default()
        };
        install(limit, &mut create, before);
        let mut grant = InstallRequest {
            operation: Operation::Grant as u16,
            rate_multiplier: multiplier(units),
            burst: units,
            expires_ns: u64::MAX,
            ..InstallRequest::default()
        };
        install(limit, &mut grant, before);
        let mut nothing_more = InstallRequest {
            rate_multiplier: 0,
            ..grant
        };
        install(limit, &mut nothing_more, self.now);
    }

    pub fn decide(&self, frame: &[u8]) -> Reason {
        decide(self, &Bytes(frame))
    }

    pub fn counted(&self, slot: usize) -> LimitCounters {
        self.counters.borrow()[slot]
    }

    pub fn totals(&self) -> Totals {
        *self.totals.borrow()
    }
}

impl Environment for Host {
    type Keys = Table;

    fn now(&self) -> u64 {
        self.now
    }

    fn side(&self) -> u32 {
        0
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
        self.service.map(|_| 0)
    }

    fn service(&self, _: u32, _: u32) -> Option<&Service> {
        self.service.as_ref()
    }

    fn source_sets(&self, _: u32, _: &Address) -> u64 {
        self.source_sets
    }

    fn rule(&self, _: u32, slot: u32) -> Option<&Rule> {
        self.rules.get(slot as usize)
    }

    fn limit(&self, slot: u32) -> Option<LimitRef<'_, SharedMemory>> {
        let slot = NonNull::new(self.slots.get(slot as usize)?.get())?;
        // SAFETY: it lives as long as `self`, which never grows, and only accessed through `LimitRef`.
        Some(unsafe { LimitRef::new(slot) })
    }

    fn work<R>(&self, act: impl FnOnce(&mut Work) -> R) -> Option<R> {
        Some(act(&mut self.work.borrow_mut()))
    }

    fn keys(&self) -> &Table {
        &self.keys
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
