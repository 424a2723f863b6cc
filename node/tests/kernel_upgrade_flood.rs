//! Twenty times killed while it upgrades, under a flood: what reaches the receiver stays within the
//! bounds, in every window, and close to what an undisturbed limiter would have admitted.

#![allow(clippy::unwrap_used)]

mod kernel_support;

use std::{
    env,
    io::Write as _,
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use kernel_support::{
    TestHost, Wire, amount, frames, policy, udp_limit,
    upgrade::{self, Build, Counted, Loaded},
    wait_for,
};
use weir_model::{
    Limit, LimitId, Nanos, Policy,
    policy::{Key, Promise},
};
use weir_node::dataplane::GrantRequest;

const KILLS: usize = 20;
/// In turns: other values, other numbers of slots, other tables of keys.
const BUILDS: [Build; 4] = [
    Build::own(64, 1 << 10),
    Build::other(64, 1 << 10),
    Build::own(128, 1 << 12),
    Build::other(128, 1 << 10),
];

/// Packets a second, and packets; the default burst is a tenth of a second.
const LEASED: Bound = Bound {
    rate: 4_000.0,
    burst: 400.0,
};
const OF_SOURCE: Bound = Bound {
    rate: 250.0,
    burst: 25.0,
};
const SOURCES: u8 = 4;
/// Of a batch of frames to the leased limit, and of each source to the keyed one.
const BATCH: [usize; 2] = [15, 1];
/// Time between two batches: three times what the limits admit, on a machine that has the time.
const PACE: Duration = Duration::from_millis(1);
/// What comes late, because the machine was busy elsewhere, is not made up for beyond this.
const MOST_LATE: Duration = Duration::from_millis(20);
/// The clocks of the bound and of the bucket may differ by so much.
const DRIFT: f64 = 1e-3;
/// Packets that the program has decided about and the stack has not seen yet: a poll of the driver
/// at most.
const IN_FLIGHT: f64 = 64.0;

#[derive(Clone, Copy)]
struct Bound {
    rate: f64,
    burst: f64,
}

fn the_policy() -> Policy {
    let mut keyed = udp_limit("keyed", &["198.18.0.3/32"], &[]);
    keyed.promise = Promise::Local;
    keyed.per = Some(Key::default());
    keyed.budget = amount(OF_SOURCE.rate as u64, OF_SOURCE.burst as u64);
    keyed.floor = keyed.budget;
    let leased: Limit = udp_limit("leased", &["198.18.0.2/32"], &[]);
    policy([leased, keyed])
}

fn frame(source: u8, host: u8) -> Vec<u8> {
    let source: IpAddr = [198, 18, 7, source].into();
    frames::udp(source, [198, 18, 0, host].into(), (4_000, 53), 60)
}

/// The other process of these tests.
#[test]
#[ignore = "started by the others"]
fn another_process() {
    upgrade::be_started(the_policy());
}

/// When packets were sent, or came in: nanoseconds, in order, of each bucket.
#[derive(Default)]
struct Times {
    leased: Vec<u64>,
    keyed: [Vec<u64>; SOURCES as usize],
}

impl Times {
    fn each(&self) -> impl Iterator<Item = (Bound, &[u64])> {
        let keyed = self.keyed.iter().map(|times| (OF_SOURCE, times.as_slice()));
        std::iter::once((LEASED, self.leased.as_slice())).chain(keyed)
    }

    fn keyed(&self) -> u64 {
        self.keyed.iter().map(|times| times.len() as u64).sum()
    }
}

/// The receiver's own bucket: packets above the bound in any window.
fn excess(bound: Bound, times: &[u64]) -> f64 {
    let (mut level, mut highest, mut last) = (0.0_f64, 0.0_f64, 0);
    for time in times {
        let drained = bound.rate * (1.0 + DRIFT) * time.saturating_sub(last) as f64 / 1e9;
        level = (level - drained).max(0.0) + 1.0;
        highest = highest.max(level);
        last = *time;
    }
    highest - bound.burst
}

/// What a limiter that nobody disturbs admits of packets that are sent at these times.
fn admissible(bound: Bound, times: &[u64]) -> f64 {
    let (mut tokens, mut admitted, mut last) = (0.0_f64, 0.0, times.first().copied().unwrap_or(0));
    for time in times {
        tokens = (tokens + bound.rate * (time - last) as f64 / 1e9).min(bound.burst);
        last = *time;
        if tokens >= 1.0 {
            tokens -= 1.0;
            admitted += 1.0;
        }
    }
    admitted
}

#[test]
fn the_receivers_bucket_sees_a_burst_that_is_spent_twice() {
    let steady = |from: u64| (0..2_000).map(move |packet| from + packet * 250_000);
    let burst = |at: u64| std::iter::repeat_n(at, 400);
    let once: Vec<u64> = burst(0).chain(steady(0)).collect();
    assert!(excess(LEASED, &once) < 2.0);
    let twice: Vec<u64> = once.iter().copied().chain(burst(500_000_000)).collect();
    assert!(excess(LEASED, &twice) > 390.0);
    assert!((admissible(LEASED, &once) - 2_000.0).abs() < 2.0);
}

/// Sends until it is told to stop.
fn send(far: &Wire, stop: &AtomicBool) -> Times {
    let leased = frame(0, 2);
    let keyed: Vec<_> = (0..SOURCES).map(|source| frame(source, 3)).collect();
    let mut sent = Times::default();
    let begin = Instant::now();
    let now = || u64::try_from(begin.elapsed().as_nanos()).unwrap();
    let mut due = begin;
    while !stop.load(Relaxed) {
        for _ in 0..BATCH[0] {
            far.send(&leased);
            sent.leased.push(now());
        }
        for (frame, times) in keyed.iter().zip(&mut sent.keyed) {
            for _ in 0..BATCH[1] {
                far.send(frame);
                times.push(now());
            }
        }
        due = (due + PACE).max(Instant::now() - MOST_LATE);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sent
}

/// Receives until it is told to stop, and then what there still is.
fn receive(near: &Wire, stop: &AtomicBool) -> Times {
    let mut received = Times::default();
    loop {
        let is_last = stop.load(Relaxed);
        while let Some((frame, time)) = near.receive_timed() {
            if frame[33] == 2 {
                received.leased.push(time);
            } else {
                received.keyed[usize::from(frame[29])].push(time);
            }
        }
        if is_last {
            return received;
        }
        thread::sleep(PACE);
    }
}

/// xorshift64 (Marsaglia, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn seed() -> u64 {
    let seed = env::var("WEIR_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    seed.unwrap_or(20)
}

#[test]
fn killed_twenty_times_within_the_bounds() {
    let seed = seed();
    println!("WEIR_SEED={seed}");
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    TestHost::run(|host| {
        host.wire("near", "far");
        let [first, ..] = BUILDS;
        let mut loaded = first.load(&first.options(host, None)).unwrap();
        loaded.activate(&the_policy());
        let Loaded::Own(dataplane) = &mut loaded else {
            panic!("the first build is our own")
        };
        let for_ever = GrantRequest {
            limit: LimitId::of("leased"),
            amount: amount(LEASED.rate as u64, LEASED.burst as u64),
            floor: amount(0, 0),
            expires: Nanos::NEVER,
        };
        dataplane.install(&[for_ever]).unwrap();
        drop(loaded);

        let (stop_sending, stop_receiving) = (AtomicBool::new(false), AtomicBool::new(false));
        let near = Wire::open("near");
        near.enable_timestamps();
        thread::scope(|scope| {
            let sender =
                scope.spawn(|| send(&Wire::open_in("far", host.namespace()), &stop_sending));
            let receiver = scope.spawn(|| receive(&near, &stop_receiving));
            let finished = upgrade_and_kill(host, &mut random);

            stop_sending.store(true, Relaxed);
            let sent = sender.join().unwrap();
            let all = sent.leased.len() as u64 + sent.keyed();
            let loaded = first
                .load(&first.options(host, Some(the_policy())))
                .unwrap();
            wait_for("all packets", || loaded.received() >= all);
            stop_receiving.store(true, Relaxed);
            let received = receiver.join().unwrap();
            judge(&loaded, &sent, &received);
            assert!(finished > 0, "no start ever came to its end");
        });
    });
}

/// Kills as often as it must; returns how many starts had come to their end by then.
fn upgrade_and_kill(host: &TestHost, random: &mut Random) -> usize {
    let options = |build: Build| build.options(host, Some(the_policy()));
    let begin = Instant::now();
    let mut child = upgrade::start(&options(BUILDS[1]), BUILDS[1], None);
    assert_eq!(upgrade::outcome(&mut child).unwrap(), "yes");
    let undisturbed = u64::try_from(begin.elapsed().as_micros()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut finished = 0;
    for kill in 0..KILLS {
        let build = BUILDS[(kill + 2) % BUILDS.len()];
        let begin = Instant::now();
        let mut child = upgrade::start(&options(build), build, None);
        let lives = Duration::from_micros(random.below(undisturbed * 3 / 2));
        thread::sleep(lives.saturating_sub(begin.elapsed()));
        child.kill().unwrap();
        finished += usize::from(upgrade::outcome(&mut child).is_some());
        child.wait().unwrap();
    }
    println!("{KILLS} killed within {undisturbed} us times 1.5, {finished} of them when loaded");
    finished
}

fn judge(loaded: &Loaded, sent: &Times, received: &Times) {
    let all = sent.leased.len() as u64 + sent.keyed();
    assert_eq!(loaded.received(), all, "every packet is counted once");
    let leased = Counted {
        offered: sent.leased.len() as u64,
        passed: received.leased.len() as u64,
    };
    assert_eq!(loaded.counted("leased"), leased);
    let keyed = Counted {
        offered: sent.keyed(),
        passed: received.keyed(),
    };
    assert_eq!(loaded.counted("keyed"), keyed);

    let buckets = sent.each().zip(received.each());
    for ((bound, sent), (_, received)) in buckets {
        let admissible = admissible(bound, sent);
        let ratio = received.len() as f64 / admissible;
        let excess = excess(bound, received);
        println!(
            "offered {} in {:.1} s, admitted {}: {:.4} of {admissible}; {excess:.1} above the bound",
            sent.len(),
            (sent[sent.len() - 1] - sent[0]) as f64 / 1e9,
            received.len(),
            ratio,
        );
        let _ = std::io::stdout().flush();
        assert!(
            sent.len() as f64 > 1.2 * admissible,
            "no flood: the machine was too busy to send one"
        );
        assert!(
            excess <= IN_FLIGHT.min(bound.burst / 2.0),
            "{excess} above the bound"
        );
        assert!(ratio >= 0.9, "{ratio} of what was due");
    }
}
