//! The event loop: hosts, network, ZooKeeper and faults on one virtual clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use weir_coord_core::timing::Timing;
use weir_model::{
    Nanos, NodeId, Policy, PolicyVersion, Term,
    message::{FromNode, ToNode},
};

use crate::{
    dice::Dice,
    faults::{Faults, PEACE_TICKS, RARITIES},
    host::Host,
    judge::Judge,
    kernel::Clock,
    keys::{Source, sources},
    limits::Policies,
    load::{Load, Pattern},
    mutation::Broken,
    network::Network,
    zookeeper::{Answer, Ask, ZooKeeper},
};

/// The protocol's times.
pub const TIMING: Timing = Timing::DEFAULT;
/// How often traffic arrives, and the oracle looks.
pub const STEP: Duration = Duration::from_millis(10);
/// When a run begins: clocks are about to show anything else.
pub const BEGINNING: Nanos = Nanos(1_000_000_000_000);
/// Lines of the event log that are kept.
const LOG_LINES: usize = 5_000;
/// A clock runs at most half of the declared drift too fast or too slow, so that two differ by no
/// more than all of it.
const DRIFT_PPM: u64 = 500;

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything that is random follows from it.
    pub seed: u64,
    /// Hosts.
    pub nodes: usize,
    /// Ticks of virtual time.
    pub ticks: u64,
    /// Whether anything goes wrong.
    pub faults: bool,
    /// Whether policies change, with floors that go up and down.
    pub policies: bool,
    /// The traffic; `None` for one that the seed chooses.
    pub pattern: Option<Pattern>,
    /// What is broken on purpose.
    pub broken: Option<Broken>,
    /// Commit by conditional writes to ZooKeeper, and not by a majority.
    pub by_zookeeper: bool,
    /// The limit that moves whole admits one token a second, and two at once.
    pub slow: bool,
    /// Whether there are an elastic limit, and limits with keys.
    pub keys: bool,
    /// With keys: for how many hosts fewer there is room than there are.
    pub spares: usize,
    /// The second policy, and those after it, have room for them.
    pub has_room_later: bool,
    /// Keep the last lines of an event log.
    pub logs: bool,
}

impl Settings {
    /// A run without faults, of traffic that the seed chooses.
    #[must_use]
    pub const fn calm(seed: u64, nodes: usize, ticks: u64) -> Self {
        Self {
            seed,
            nodes,
            ticks,
            faults: false,
            policies: false,
            pattern: None,
            broken: None,
            by_zookeeper: false,
            slow: false,
            keys: false,
            spares: 0,
            has_room_later: false,
            logs: false,
        }
    }

    /// A run with every fault.
    #[must_use]
    pub const fn rough(seed: u64, nodes: usize, ticks: u64) -> Self {
        Self {
            faults: true,
            policies: true,
            ..Self::calm(seed, nodes, ticks)
        }
    }
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub enum Event {
    /// Traffic arrives everywhere.
    Step,
    /// A daemon's tick.
    Tick {
        /// Whose.
        host: usize,
        /// Of which daemon.
        epoch: u64,
    },
    /// A message arrives.
    Arrival {
        /// From where.
        from: usize,
        /// Where.
        to: usize,
        /// What.
        message: Message,
    },
    /// An ask arrives at ZooKeeper.
    Asked {
        /// Whose.
        host: usize,
        /// Of which daemon.
        epoch: u64,
        /// In which session.
        session: u64,
        /// What.
        ask: Box<Ask>,
        /// Nobody hears the answer.
        is_forsaken: bool,
    },
    /// ZooKeeper's answer arrives; `None` if what came of it is unknown.
    Answered {
        /// Whose.
        host: usize,
        /// Of which daemon.
        epoch: u64,
        /// What was asked.
        ask: Box<Ask>,
        /// What is the answer.
        answer: Option<Box<Answer>>,
    },
    /// A watch fires.
    Watched {
        /// Whose.
        host: usize,
        /// Of which daemon.
        epoch: u64,
    },
    /// A daemon starts.
    Boot {
        /// On which host.
        host: usize,
    },
    /// A daemon that was paused goes on.
    Resume {
        /// Whose.
        host: usize,
        /// Of which daemon.
        epoch: u64,
    },
}

/// What hosts say to each other.
#[derive(Clone, Debug)]
pub enum Message {
    /// To whoever leads.
    Up(Box<FromNode>),
    /// From whoever leads.
    Down(Box<ToNode>),
    /// Does a voter suspect the leader of this term?
    Suspect(Term),
    /// Its answer.
    Suspected(Term, bool),
}

#[derive(Debug)]
struct Scheduled {
    at: Nanos,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A fleet and all that happens to it.
#[derive(Debug)]
pub struct World {
    /// What was asked for.
    pub settings: Settings,
    /// Virtual time; hosts see it through their clocks.
    pub now: Nanos,
    /// What everything random is drawn from.
    pub dice: Dice,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// Where each identity is.
    pub places: BTreeMap<NodeId, usize>,
    /// The servers.
    pub zookeeper: ZooKeeper,
    /// What lies between them.
    pub network: Network,
    /// What goes wrong, when.
    pub faults: Faults,
    /// The leased limits, as they are at first.
    pub policy: Policy,
    /// Members that the operator wants to be gone, and whether they are off.
    pub removals: BTreeMap<usize, bool>,
    /// Policies are in force as soon as they are written, and not when nodes have them ready.
    pub is_sudden: bool,
    /// What the fleet goes through.
    pub policies: Policies,
    /// The traffic, by limit.
    pub loads: Vec<Load>,
    /// The traffic of single keys.
    pub sources: Vec<Source>,
    /// The oracle.
    pub judge: Judge,
    /// The last lines of the log.
    pub log: VecDeque<String>,
    /// Events so far.
    pub events: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    steps: u64,
}

impl World {
    /// A fleet whose daemons start one after the other.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mut dice = Dice::new(settings.seed);
        let policies = Policies::new(
            settings.nodes,
            settings.slow,
            settings.keys,
            settings.spares,
            settings.has_room_later,
        );
        let sources = sources(&policies.of(PolicyVersion(1)).limits);
        let mut policy = policies.of(PolicyVersion(1)).clone();
        policy.limits = policies.leased(PolicyVersion(1)).to_vec().into();
        let now = BEGINNING;
        let kernel_fault = Broken::kernel(settings.broken);
        let hosts: Vec<Host> = (0..settings.nodes)
            .map(|number| {
                let drift = dice.roll(2 * DRIFT_PPM + 1) as i64 - DRIFT_PPM as i64;
                let shown = Nanos(1_000_000_000 * dice.roll(1_000_000));
                let clock = Clock::new(now, shown, drift);
                let id = NodeId::from_u128(number as u128 + 1);
                let mut host = Host::new(id, clock, policy.limits.len());
                host.kernel.fault = kernel_fault;
                host.prepare_kernel(&policies, clock.at(now));
                host
            })
            .collect();
        let pattern = settings
            .pattern
            .unwrap_or(Pattern::ALL[dice.index(Pattern::ALL.len())]);
        let loads = policy
            .limits
            .iter()
            .map(|limit| {
                let budget = limit.budget.rate.0 >> limit.scale.fraction_bits;
                Load::new(pattern, settings.nodes, budget)
            })
            .collect();
        let network = Network::new(settings.faults);
        let has_peace = dice.one_in(4) && settings.faults && settings.ticks >= 2 * PEACE_TICKS;
        let faults = Faults {
            rarity: RARITIES[dice.index(RARITIES.len())],
            cease_at_tick: has_peace.then(|| settings.ticks - PEACE_TICKS),
            ..Faults::default()
        };
        let is_sudden = dice.one_in(3);
        let places = hosts.iter().map(|host| host.id).zip(0..).collect();
        let mut world = Self {
            now,
            dice,
            places,
            zookeeper: ZooKeeper::new(),
            network,
            faults,
            judge: Judge::new(&policy, &settings),
            policy,
            removals: BTreeMap::new(),
            is_sudden,
            policies,
            sources,
            loads,
            hosts,
            log: VecDeque::new(),
            events: 0,
            queue: BinaryHeap::new(),
            steps: 0,
            settings,
        };
        world.schedule(Duration::ZERO, Event::Step);
        for host in 0..world.hosts.len() {
            let after = world
                .dice
                .up_to_ms(if world.settings.faults { 3_000 } else { 200 });
            world.schedule(after, Event::Boot { host });
        }
        world
    }

    /// Runs to the end, or to the first violation.
    pub fn run(&mut self) {
        let end = self.now + TIMING.tick * u32::try_from(self.settings.ticks).unwrap_or(u32::MAX);
        self.run_until(end);
    }

    /// Runs to a time, or to the first violation.
    pub fn run_until(&mut self, end: Nanos) {
        while self.judge.violation.is_none() {
            match self.queue.pop() {
                Some(Reverse(next)) if next.at <= end => {
                    self.now = next.at;
                    self.events += 1;
                    self.happen(next.event);
                }
                Some(next) => {
                    self.queue.push(next);
                    break;
                }
                None => break,
            }
        }
        self.now = self.now.max(end);
    }

    /// Puts an event into the future.
    pub fn schedule(&mut self, after: Duration, event: Event) {
        self.steps += 1;
        self.queue.push(Reverse(Scheduled {
            at: self.now + after,
            number: self.steps,
            event,
        }));
    }

    /// Writes a line of the log.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.settings.logs {
            if self.log.len() == LOG_LINES {
                self.log.pop_front();
            }
            let line = format!(
                "{:.6} {}",
                (self.now - BEGINNING).as_nanos() as f64 / 1e9,
                line()
            );
            self.log.push_back(line);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Step => self.step(),
            Event::Boot { host } => self.boot(host),
            Event::Asked {
                host,
                epoch,
                session,
                ask,
                is_forsaken,
            } => self.asked(host, epoch, session, ask, is_forsaken),
            Event::Arrival { from, to, message } => {
                if self.waits(to) {
                    let later = self.hosts[to].paused_until - self.now;
                    return self.schedule(later, Event::Arrival { from, to, message });
                }
                if let Some(later) = self.network.waits(to, self.now).filter(|_| from != to) {
                    return self.schedule(later, Event::Arrival { from, to, message });
                }
                if self.network.connects(from, to, self.now) {
                    self.note(|| format!("{from} -> {to}: {message:?}"));
                    self.arrive(from, to, message);
                }
            }
            Event::Tick { host, epoch } if self.lives(host, epoch) => {
                let next = self.hosts[host].clock.true_time(TIMING.tick);
                self.schedule(next, Event::Tick { host, epoch });
                if !self.waits(host) {
                    self.tick(host);
                }
            }
            Event::Answered {
                host,
                epoch,
                ask,
                answer,
            } if self.lives(host, epoch) => {
                if self.waits(host) {
                    let later = self.hosts[host].paused_until - self.now;
                    let event = Event::Answered {
                        host,
                        epoch,
                        ask,
                        answer,
                    };
                    return self.schedule(later, event);
                }
                self.note(|| format!("{host}: ZooKeeper on {ask:?}: {answer:?}"));
                self.answered(host, *ask, answer.map(|answer| *answer));
            }
            Event::Watched { host, epoch } if self.lives(host, epoch) => {
                if self.waits(host) || !self.reaches_zookeeper(host) {
                    let later = self.hosts[host].paused_until - self.now;
                    let later = later.max(Duration::from_millis(100));
                    return self.schedule(later, Event::Watched { host, epoch });
                }
                self.watched(host);
            }
            Event::Resume { host, epoch } if self.lives(host, epoch) => {
                if self.waits(host) {
                    let later = self.hosts[host].paused_until - self.now;
                    return self.schedule(later, Event::Resume { host, epoch });
                }
                self.resume(host);
            }
            Event::Tick { .. }
            | Event::Answered { .. }
            | Event::Watched { .. }
            | Event::Resume { .. } => {}
        }
    }

    fn lives(&self, host: usize, epoch: u64) -> bool {
        self.hosts[host].epoch == epoch && self.hosts[host].daemon.is_some()
    }

    /// Whether a daemon is stopped.
    #[must_use]
    pub fn waits(&self, host: usize) -> bool {
        self.hosts[host].paused_until > self.now
    }

    /// ZooKeeper is the place after the last host.
    #[must_use]
    pub fn zookeeper_place(&self) -> usize {
        self.hosts.len()
    }

    /// Whether a server with a quorum behind it answers a host.
    #[must_use]
    pub fn reaches_zookeeper(&self, host: usize) -> bool {
        let place = self.zookeeper_place();
        self.zookeeper.down_until <= self.now
            && self.network.connects(host, place, self.now)
            && self.network.connects(place, host, self.now)
    }

    /// Sends, and loses, delays and repeats.
    pub fn send(&mut self, from: usize, to: usize, message: &Message) {
        if !self.network.connects(from, to, self.now) {
            return;
        }
        let delays = if from == to {
            vec![Duration::from_micros(50)]
        } else {
            self.network.delays(&mut self.dice)
        };
        for delay in delays {
            let message = message.clone();
            self.schedule(delay, Event::Arrival { from, to, message });
        }
    }

    fn step(&mut self) {
        self.schedule(STEP, Event::Step);
        let steps_per_tick = (TIMING.tick.as_nanos() / STEP.as_nanos()) as u64;
        let step = self.judge.steps;
        if step.is_multiple_of(steps_per_tick) {
            let tick = step / steps_per_tick;
            for (index, load) in self.loads.iter_mut().enumerate() {
                let hosts = &self.hosts;
                let dropped = |host: usize| {
                    let counters = hosts[host].counters[index];
                    let (offered, admitted) = counters.before;
                    counters.offered - offered > counters.admitted - admitted
                };
                load.advance(tick, dropped, &mut self.dice);
            }
            let hosts = self.hosts.len();
            for source in &mut self.sources {
                source.advance(tick, hosts, &mut self.dice);
            }
            for host in &mut self.hosts {
                for counters in &mut host.counters {
                    counters.before = (counters.offered, counters.admitted);
                }
            }
            self.network.heal(self.now);
            self.keep_sessions();
            if self.faults.cease_at_tick == Some(tick) && self.settings.faults {
                self.cease_faults();
            }
            if tick.is_multiple_of(5) {
                self.insist();
            }
            if self.settings.faults {
                self.break_something();
            }
        }
        self.offer();
        self.offer_keys(step / steps_per_tick);
        self.judge_step();
    }

    /// Traffic arrives at every host that has power.
    fn offer(&mut self) {
        let now = self.now;
        for (index, host) in self.hosts.iter_mut().enumerate() {
            if !host.is_powered {
                continue;
            }
            let local = host.clock.at(now);
            for (number, limit) in self.policies.leased(host.policy).iter().enumerate() {
                let counters = &mut host.counters[number];
                counters.owed += self.loads[number].demand(index) * STEP.as_secs_f64();
                let offered = counters.owed as u64;
                counters.owed -= offered as f64;
                let bits = limit.scale.fraction_bits;
                let admitted = host.kernel.admit(limit.id, offered, bits, local);
                counters.offered += offered;
                counters.admitted += admitted;
                self.judge.count(number, index, offered, admitted);
            }
        }
    }
}
