//! Packets of two CPUs at once: one is decided in the middle of another's decision, at every place
//! where memory is looked at.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use support::{
    Host, Random, any, from4,
    host::{START, Table},
    keyed, udp,
};
use weir_abi::{Reason, Rule};
use weir_limiter::{Memory, SharedMemory};

/// Memory at which something else may happen before each access.
struct Interrupted;

type Interrupt = Box<dyn Fn()>;

thread_local! {
    static ACCESSES: Cell<u32> = const { Cell::new(0) };
    /// At which accesses, in ascending order.
    static AT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static INTERRUPT: RefCell<Option<Rc<Interrupt>>> = const { RefCell::new(None) };
}

impl Interrupted {
    fn access() {
        let number = ACCESSES.get();
        ACCESSES.set(number + 1);
        let is_due = AT.with_borrow_mut(|at| {
            let is_due = at.first() == Some(&number);
            if is_due {
                at.remove(0);
            }
            is_due
        });
        if !is_due {
            return;
        }
        // What happens meanwhile is not interrupted itself, and its accesses do not count.
        let interrupt = INTERRUPT.take().unwrap();
        let later = AT.take();
        interrupt();
        ACCESSES.set(number + 1);
        AT.set(later);
        INTERRUPT.set(Some(interrupt));
    }

    /// Runs `act`, in the middle of which `interrupt` happens at these accesses; says how many
    /// accesses there were.
    fn run(at: &[u32], interrupt: Interrupt, act: impl FnOnce()) -> u32 {
        ACCESSES.set(0);
        AT.set(at.to_vec());
        INTERRUPT.set(Some(Rc::new(interrupt)));
        act();
        AT.take();
        INTERRUPT.take();
        ACCESSES.get()
    }
}

impl Memory for Interrupted {
    unsafe fn load(word: *const u64) -> u64 {
        Self::access();
        // SAFETY: as the caller promises.
        unsafe { SharedMemory::load(word) }
    }

    unsafe fn store(word: *mut u64, value: u64) {
        Self::access();
        // SAFETY: as the caller promises.
        unsafe { SharedMemory::store(word, value) };
    }

    unsafe fn compare_exchange(word: *mut u64, current: u64, new: u64) -> u64 {
        Self::access();
        // SAFETY: as the caller promises.
        unsafe { SharedMemory::compare_exchange(word, current, new) }
    }
}

const INTERVAL: u64 = 1_000_000;
const BURST: u64 = 4;

type SharedHost = Rc<Host<Interrupted>>;

fn by(source: u8) -> Vec<u8> {
    from4(udp(53), [10, 0, 0, source])
}

/// A table of two lines, so that every key may be in either.
fn two_lines(rules: impl IntoIterator<Item = (Rule, u64)>) -> Host<Interrupted> {
    let mut host = Host::with_memory(rules);
    host.keys = Table::new(2, START);
    host
}

fn one_limit() -> Host<Interrupted> {
    two_lines([(keyed(INTERVAL, BURST), 0)])
}

/// What each of these sources is admitted from now on, at one instant.
fn drained(host: &Host<Interrupted>, sources: &[u8]) -> Vec<u64> {
    let left = sources
        .iter()
        .map(|source| host.passed(&by(*source), 40) as u64);
    left.collect()
}

/// Decides about a packet of the first source, and in the middle of it, at every place in turn,
/// about so many of the second; then each must have been admitted `allowed` in all.
fn at_every_access(
    prepared: impl Fn() -> Host<Interrupted>,
    first: u8,
    second: u8,
    packets: usize,
    allowed: u64,
) {
    let mut at = 0;
    loop {
        let host: SharedHost = Rc::new(prepared());
        let passed = Rc::new(Cell::new([0_u64; 2]));
        let meanwhile = (Rc::clone(&host), Rc::clone(&passed));
        let interrupt = Box::new(move || {
            let [one, other] = meanwhile.1.get();
            let more = meanwhile.0.passed(&by(second), packets) as u64;
            meanwhile.1.set([one, other + more]);
        });
        let accesses = Interrupted::run(&[at], interrupt, || {
            let admitted = host.decide(&by(first)).passes();
            let [one, other] = passed.get();
            passed.set([one + u64::from(admitted), other]);
        });
        let [one, other] = passed.get();
        let left = drained(&host, &[first, second]);
        if first == second {
            assert_eq!(one + other + left[0], allowed, "at access {at}");
        } else {
            let all = [one + left[0], other + left[1]];
            assert_eq!(all, [allowed; 2], "at access {at}");
        }
        if at >= accesses {
            assert!(accesses > 8, "{accesses}");
            return;
        }
        at += 1;
    }
}

#[test]
fn a_new_key_from_two_cpus_is_charged_for_both() {
    at_every_access(one_limit, 1, 1, 1, BURST);
    at_every_access(one_limit, 1, 1, 2, BURST);
}

#[test]
fn two_new_keys_take_no_slot_from_each_other() {
    at_every_access(one_limit, 1, 2, 1, BURST);
    at_every_access(one_limit, 1, 2, BURST as usize, BURST);
}

#[test]
fn a_known_key_from_two_cpus_is_charged_for_both() {
    let known = || {
        let host = one_limit();
        assert_eq!(host.passed(&by(1), 1), 1);
        host
    };
    at_every_access(known, 1, 1, 1, BURST - 1);
}

/// Between the asking and the charging, either bucket may be spent by the other CPU.
#[test]
fn a_hot_key_from_two_cpus_gets_both_its_buckets_and_no_more() {
    const LEASED: u64 = 3;
    for packets in 1..=4 {
        for behind in [None, Some((any(), 1_000))] {
            let hot = || {
                let rules = [(keyed(INTERVAL, BURST), 0)];
                let mut host = two_lines(rules.into_iter().chain(behind));
                host.heat(0, [10, 0, 0, 1], LEASED);
                host
            };
            at_every_access(hot, 1, 1, packets, LEASED + BURST);
            let alone = || {
                let mut host = hot();
                host.rules[0].hot_alone = 1;
                host
            };
            at_every_access(alone, 1, 1, packets, LEASED);
        }
    }
}

/// Everything is full but for the idle slot of the first source, which a newcomer takes while the
/// source looks at it.
#[test]
fn a_slot_that_was_taken_from_an_idle_key_is_not_taken_back() {
    let full = || {
        let mut host = one_limit();
        assert_eq!(host.passed(&by(1), 1), 1);
        for source in 101..116 {
            assert_eq!(host.passed(&by(source), 40) as u64, BURST);
        }
        host.now += INTERVAL;
        host
    };
    // The newcomer owes as much as it had, whoever is first.
    let mut at = 0;
    loop {
        let host: SharedHost = Rc::new(full());
        let meanwhile = Rc::clone(&host);
        let passed = Rc::new(Cell::new(0));
        let counted = Rc::clone(&passed);
        let interrupt = Box::new(move || {
            counted.set(meanwhile.passed(&by(2), 40) as u64);
        });
        let accesses = Interrupted::run(&[at], interrupt, || {
            host.decide(&by(1));
        });
        // Between the two of them there is one slot, and a burst.
        let left = host.passed(&by(2), 40) as u64;
        assert!(passed.get() + left <= BURST, "at access {at}");
        if at >= accesses {
            return;
        }
        at += 1;
    }
}

/// The slot of an idle key goes to one that spends its whole burst at once.
#[test]
fn what_a_newcomer_owes_is_not_held_against_the_slots_old_owner() {
    for newcomer in 2..12 {
        let mut at = 0;
        loop {
            let mut host = one_limit();
            assert_eq!(host.passed(&by(1), 1), 1);
            host.now += INTERVAL;
            let host: SharedHost = Rc::new(host);
            let meanwhile = Rc::clone(&host);
            let interrupt = Box::new(move || {
                meanwhile.passed(&by(newcomer), 40);
            });
            let accesses = Interrupted::run(&[at], interrupt, || {
                assert_eq!(host.decide(&by(1)), Reason::Admitted, "at access {at}");
            });
            if at >= accesses {
                break;
            }
            at += 1;
        }
    }
}

#[test]
fn the_last_slot_is_given_to_one_of_two() {
    let nearly_full = || {
        let host = one_limit();
        for source in 101..116 {
            assert_eq!(host.passed(&by(source), 40) as u64, BURST);
        }
        host
    };
    let mut at = 0;
    loop {
        let host: SharedHost = Rc::new(nearly_full());
        let meanwhile = Rc::clone(&host);
        let interrupt = Box::new(move || {
            meanwhile.passed(&by(2), 1);
        });
        let accesses = Interrupted::run(&[at], interrupt, || {
            host.decide(&by(1));
        });
        // Whoever was second shares a bucket that is spent, or the other's.
        let [one, two] = [host.passed(&by(1), 40), host.passed(&by(2), 40)];
        assert!(
            one + two < 2 * BURST as usize - 1,
            "at access {at}: {one} {two}"
        );
        if at >= accesses {
            return;
        }
        at += 1;
    }
}

#[test]
fn key_and_aggregate_from_two_cpus() {
    let limits = || two_lines([(keyed(INTERVAL, BURST), 0), (any(), 3)]);
    let mut at = 0;
    loop {
        let host: SharedHost = Rc::new(limits());
        let meanwhile = Rc::clone(&host);
        let interrupt = Box::new(move || {
            meanwhile.passed(&by(1), 1);
        });
        let accesses = Interrupted::run(&[at], interrupt, || {
            host.decide(&by(1));
        });
        host.passed(&by(1), 10);
        let [key, aggregate] = [host.counted(0), host.counted(1)];
        assert_eq!(key.passed, aggregate.passed);
        // Nothing but what was charged in vain is missing.
        let vain = aggregate.charged_in_vain;
        assert_eq!(aggregate.passed.packets + vain, 3, "at access {at}");
        assert_eq!(key.charged_in_vain + key.contended.packets, 0);
        if at >= accesses {
            return;
        }
        at += 1;
    }
}

/// The key's last token goes to the other CPU's packet, between the asking and the charging.
#[test]
fn what_was_charged_before_a_lost_race_is_counted_and_not_given_back() {
    let limits = || two_lines([(keyed(INTERVAL, 1), 0), (any(), 10)]);
    let mut at = 0;
    let mut lost = 0;
    loop {
        let host: SharedHost = Rc::new(limits());
        let meanwhile = Rc::clone(&host);
        let interrupt = Box::new(move || {
            meanwhile.decide(&by(1));
        });
        let accesses = Interrupted::run(&[at], interrupt, || {
            host.decide(&by(1));
        });
        let vain = host.counted(1).charged_in_vain;
        lost += vain;
        assert_eq!(host.counted(0).passed.packets, 1, "at access {at}");
        assert_eq!(host.counted(0).charged_in_vain, 0);
        // Nine, or eight, of the aggregate's ten are left.
        let others = (2..30).filter(|other| host.decide(&by(*other)).passes());
        assert_eq!(others.count() as u64, 9 - vain, "at access {at}");
        if at >= accesses {
            break;
        }
        at += 1;
    }
    assert!(lost > 0, "no race was lost");
}

#[test]
fn a_bucket_that_never_stands_still_drops_and_says_so() {
    // At each access another CPU's packet is charged: after some attempts this one gives up.
    let host: SharedHost = Rc::new(Host::with_memory([(any(), 1 << 20)]));
    let meanwhile = Rc::clone(&host);
    let interrupt = Box::new(move || {
        assert!(meanwhile.decide(&by(2)).passes());
    });
    let every: Vec<u32> = (0..10_000).collect();
    Interrupted::run(&every, interrupt, || {
        assert_eq!(host.decide(&by(1)), Reason::Contended);
    });
    let counted = host.counted(0);
    assert_eq!(counted.contended.packets, 1);
    assert_eq!(
        counted.over_limit.packets + counted.refused_elsewhere.packets,
        0
    );
    let totals = host.totals();
    assert_eq!(totals.by_reason[Reason::Contended as usize].packets, 1);
}

/// Many packets, many interruptions, tables that overflow: no source is ever admitted more than
/// its burst, and packets are counted once.
#[test]
fn whatever_interrupts_no_source_gets_more_than_its_burst() {
    let other = Rule {
        key_seed: 5,
        ..keyed(INTERVAL, 2 * BURST)
    };
    let key = (keyed(INTERVAL, BURST), 0);
    for seed in 0..200 {
        interrupted_at_random(seed, &[key]);
        interrupted_at_random(seed, &[(other, 0), key, (any(), 1 << 20)]);
        interrupted_at_random(seed, &[key, (any(), 60)]);
    }
}

fn interrupted_at_random(seed: u64, rules: &[(Rule, u64)]) {
    let random = Rc::new(RefCell::new(Random(seed)));
    let sources = 2 + random.borrow_mut().below(22);
    let host: SharedHost = Rc::new(two_lines(rules.iter().copied()));
    let passed = Rc::new(RefCell::new(vec![0_u64; 32]));
    let packet = {
        let (host, passed) = (Rc::clone(&host), Rc::clone(&passed));
        let random = Rc::clone(&random);
        move || {
            let source = random.borrow_mut().below(sources) as u8;
            let admitted = host.decide(&by(source)).passes();
            passed.borrow_mut()[usize::from(source)] += u64::from(admitted);
        }
    };
    for _ in 0..100 {
        let mut at: Vec<u32> = (0..3)
            .map(|_| random.borrow_mut().below(80) as u32)
            .collect();
        at.sort_unstable();
        at.dedup();
        Interrupted::run(&at, Box::new(packet.clone()), &packet);
    }
    let most = *passed.borrow().iter().max().unwrap();
    assert!(most <= BURST, "seed {seed}: {most} of {BURST}");
    let totals = host.totals();
    let reasons: u64 = totals.by_reason.iter().map(|tally| tally.packets).sum();
    assert_eq!(totals.received.packets, reasons, "seed {seed}");
    for (slot, (_, tokens)) in rules.iter().enumerate() {
        let counted = host.counted(slot);
        assert_eq!(counted.would_drop.packets, 0, "seed {seed}, slot {slot}");
        if *tokens != 0 {
            let spent = counted.passed.packets + counted.charged_in_vain;
            assert!(spent <= *tokens, "seed {seed}, slot {slot}: {spent}");
        }
    }
}
