//! What is sent to the hosts: who wants how much, when.

use crate::dice::Dice;

/// How the traffic is spread over hosts and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every host wants the same, always: 1.5 budgets together.
    Steady,
    /// A few hosts want most of it, and it moves every few seconds.
    Skewed,
    /// A hump of traffic goes round the hosts, a little further every tick.
    Moving,
    /// A tenth of the budget, and ten times that, in turns of some seconds.
    Steps,
    /// Sources that send a little more each tick until something is dropped, and then less.
    BackOff,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Steady,
        Self::Skewed,
        Self::Moving,
        Self::Steps,
        Self::BackOff,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Skewed => "skewed",
            Self::Moving => "moving",
            Self::Steps => "steps",
            Self::BackOff => "back-off",
        }
    }
}

/// What each host wants of one limit.
#[derive(Clone, Debug)]
pub struct Load {
    pattern: Pattern,
    /// Tokens a second that the whole fleet may admit.
    budget: f64,
    demands: Vec<f64>,
    moved_at_tick: u64,
}

/// Ticks between two moves of skewed and stepping traffic.
const MOVE_TICKS: u64 = 50;
/// Ticks in which moving traffic goes round once.
const ROUND_TICKS: f64 = 200.0;
/// What all hosts want together where it is more than the budget.
const OVERLOAD: f64 = 1.5;

impl Load {
    /// The load on one limit of this budget.
    #[must_use]
    pub fn new(pattern: Pattern, hosts: usize, budget: u64) -> Self {
        let budget = budget as f64;
        let each = OVERLOAD * budget / hosts as f64;
        Self {
            pattern,
            budget,
            demands: vec![each; hosts],
            moved_at_tick: 0,
        }
    }

    /// Tokens a second that a host wants.
    #[must_use]
    pub fn demand(&self, host: usize) -> f64 {
        self.demands[host]
    }

    /// A host wants so many from now on, until its pattern says otherwise.
    pub fn set_demand(&mut self, host: usize, demand: f64) {
        self.demands[host] = demand;
    }

    /// The pattern.
    #[must_use]
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// The tick of the last move.
    #[must_use]
    pub const fn moved_at_tick(&self) -> u64 {
        self.moved_at_tick
    }

    /// Moves on by a tick. `dropped` says of each host whether anything was dropped in the last.
    pub fn advance(&mut self, tick: u64, dropped: impl Fn(usize) -> bool, dice: &mut Dice) {
        let hosts = self.demands.len();
        match self.pattern {
            Pattern::Steady => {}
            Pattern::Skewed if tick.is_multiple_of(MOVE_TICKS) => self.skew(tick, dice),
            Pattern::Moving => self.go_round(tick),
            Pattern::Steps if tick.is_multiple_of(MOVE_TICKS) => {
                let is_high = (tick / MOVE_TICKS).is_multiple_of(2);
                let total = self.budget * if is_high { OVERLOAD } else { OVERLOAD / 10.0 };
                self.demands.fill(total / hosts as f64);
                self.moved_at_tick = tick;
            }
            Pattern::Skewed | Pattern::Steps => {}
            Pattern::BackOff => {
                let step = self.budget / hosts as f64 / 10.0;
                for (host, demand) in self.demands.iter_mut().enumerate() {
                    *demand = if dropped(host) {
                        *demand * 0.7
                    } else {
                        (*demand + step).min(self.budget)
                    };
                }
            }
        }
    }

    /// Hosts want between nothing and twice the mean, in a wave that moves on.
    fn go_round(&mut self, tick: u64) {
        let hosts = self.demands.len() as f64;
        let each = self.budget * OVERLOAD / hosts;
        let turns = tick as f64 / ROUND_TICKS;
        for (host, demand) in self.demands.iter_mut().enumerate() {
            let angle = std::f64::consts::TAU * (host as f64 / hosts - turns);
            *demand = each * (1.0 + angle.cos());
        }
    }

    /// A few hosts, or a quarter of them, want nearly everything.
    fn skew(&mut self, tick: u64, dice: &mut Dice) {
        let hosts = self.demands.len();
        let busy = [1, 3, hosts / 10, hosts / 4][dice.index(4)].clamp(1, hosts);
        let total = self.budget * OVERLOAD;
        self.demands.fill(total * 0.05 / hosts as f64);
        for _ in 0..busy {
            let host = dice.index(hosts);
            self.demands[host] += total * 0.95 / busy as f64;
        }
        self.moved_at_tick = tick;
    }
}
