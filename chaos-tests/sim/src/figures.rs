//! What a run is measured by, beside its violations: promises 2 and 3, for the limit that is
//! divided.

use weir_model::Nanos;

use crate::{
    fairness::{jain_index, max_min},
    faults::RECOVERY_TICKS,
    limits::FINEST,
    load::Pattern,
    world::{BEGINNING, STEP, Settings, TIMING, World},
};

/// A share is settled within this part of the budget of its optimum.
const TOLERANCE: f64 = 0.05;
/// The fleet is given so long to form: voters abstain at first, and members join one by one.
const FORMATION_MS: u64 = 8_000;
/// Ticks after a shift that are not judged for utilisation.
const SETTLE_TICKS: u64 = 4;
/// Ticks with a quarter of the budget idle that are allowed after a recovery: budget that moves is
/// with nobody for an instant.
const POOR_TICKS: u64 = 5;
/// A shift that is not followed after so many ticks counts as so many.
const NEVER_TICKS: u64 = 1_000;

/// The figures of one run.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Grants installed.
    pub installs: u64,
    /// Admitted and possible, outside settle intervals.
    pub admitted: f64,
    /// See `admitted`.
    pub possible: f64,
    /// Ticks from each shift to shares near their optimum.
    pub convergence_ticks: Vec<u64>,
    /// Longest time between two commits after the fleet was formed, in milliseconds.
    pub commit_gap_ms: u64,
    /// By host, since the fleet was formed.
    totals: Vec<f64>,
    tick: Vec<(u64, u64)>,
    unsettled_since: Option<u64>,
    shift_seen: u64,
    /// When anything was last committed.
    pub last_commit: Nanos,
    poor_ticks: u64,
}

impl Figures {
    /// Of a run that begins.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            totals: vec![0.0; settings.nodes],
            tick: vec![(0, 0); settings.nodes],
            ..Self::default()
        }
    }

    pub(super) fn count(&mut self, host: usize, offered: u64, admitted: u64) {
        self.tick[host].0 += offered;
        self.tick[host].1 += admitted;
    }

    pub(super) fn commit(&mut self, now: Nanos) {
        if (self.last_commit - BEGINNING).as_millis() as u64 > FORMATION_MS {
            let gap = (now - self.last_commit).as_millis() as u64;
            self.commit_gap_ms = self.commit_gap_ms.max(gap);
        }
        self.last_commit = now;
    }

    /// Utilisation, if anything was possible.
    #[must_use]
    pub fn utilisation(&self) -> Option<f64> {
        (self.possible > 0.0).then(|| self.admitted / self.possible)
    }

    /// Jain's index of what hosts that want the same got.
    #[must_use]
    pub fn jain(&self) -> Option<f64> {
        let total: f64 = self.totals.iter().sum();
        (total > 0.0).then(|| jain_index(&self.totals, &vec![1.0; self.totals.len()]))
    }
}

impl World {
    /// After a step; most is looked at once a tick.
    pub(super) fn judge_figures(&mut self) {
        let steps_per_tick = (TIMING.tick.as_nanos() / STEP.as_nanos()) as u64;
        let step = self.judge.steps;
        let is_formed = step * (STEP.as_millis() as u64) >= FORMATION_MS;
        let has_faults = self.settings.faults || self.faults.cease_at_tick.is_some();
        if is_formed && !has_faults {
            self.judge_convergence(step, steps_per_tick);
        }
        if !step.is_multiple_of(steps_per_tick) {
            return;
        }
        let tick = step / steps_per_tick;
        if is_formed {
            self.judge_tick(tick);
        }
        self.judge.figures.tick.fill((0, 0));
    }

    /// After some peace the fleet is at work: a leader commits, and the budget is used.
    fn judge_recovery(&mut self, tick: u64) {
        let Some(ceased) = self
            .faults
            .cease_at_tick
            .filter(|ceased| tick > ceased + RECOVERY_TICKS)
        else {
            return;
        };
        let gap = self.now - self.judge.figures.last_commit;
        if gap > TIMING.idle() {
            let details = format!(
                "no commit for {gap:?}, {} ticks after the last fault",
                tick - ceased
            );
            self.judge.blame("recovery", details);
        }
        let budget = self
            .policies
            .budget(self.zookeeper.in_force.version, 0)
            .rate
            .0;
        let held: u64 = self
            .hosts
            .iter()
            .filter_map(|host| {
                let limit = &self.policies.of(host.policy).limits[0];
                let effective = host
                    .kernel
                    .grant(limit.id)?
                    .effective(host.clock.at(self.now));
                Some(effective.rescaled_up(limit.scale, FINEST).rate.0)
            })
            .sum();
        // Operators may want nobody to have a share.
        let has_takers = self
            .zookeeper
            .roster
            .iter()
            .any(|member| !member.is_drained);
        let figures = &mut self.judge.figures;
        figures.poor_ticks = if has_takers && held < budget / 4 * 3 {
            figures.poor_ticks + 1
        } else {
            0
        };
        if figures.poor_ticks > POOR_TICKS {
            let details = format!("{held} of {budget} in use");
            self.judge.blame("recovery", details);
        }
    }

    fn judge_tick(&mut self, tick: u64) {
        self.judge_recovery(tick);
        let limit = &self.policy.limits[0];
        let unit = f64::from(1_u32 << limit.scale.fraction_bits);
        let (rate, floor) = (
            limit.budget.rate.0 as f64 / unit,
            limit.floor.rate.0 as f64 / unit,
        );
        let load = &self.loads[0];
        let moved = load.moved_at_tick();
        let settles = load.pattern() != Pattern::Moving && moved > 0 && tick < moved + SETTLE_TICKS;
        let figures = &mut self.judge.figures;
        let seconds = TIMING.tick.as_secs_f64();
        let mut offered = 0.0;
        let mut idle_floors = 0.0;
        for (host, (tick_offered, tick_admitted)) in figures.tick.iter().enumerate() {
            offered += *tick_offered as f64;
            idle_floors += (floor - *tick_offered as f64 / seconds).max(0.0);
            figures.totals[host] += *tick_admitted as f64;
        }
        if !settles {
            let admitted: u64 = figures.tick.iter().map(|(_, admitted)| *admitted).sum();
            figures.admitted += admitted as f64;
            figures.possible += offered.min((rate - idle_floors) * seconds);
        }
    }

    fn judge_convergence(&mut self, step: u64, steps_per_tick: u64) {
        let load = &self.loads[0];
        if load.pattern() != Pattern::Skewed {
            return;
        }
        let moved = load.moved_at_tick();
        let figures = &mut self.judge.figures;
        if moved > figures.shift_seen {
            let was_formed = figures.shift_seen > 0;
            figures.shift_seen = moved;
            if was_formed {
                if figures.unsettled_since.is_some() {
                    figures.convergence_ticks.push(NEVER_TICKS);
                }
                figures.unsettled_since = Some(moved * steps_per_tick);
            }
        }
        let Some(since) = figures.unsettled_since else {
            return;
        };
        let limit = &self.policy.limits[0];
        let unit = f64::from(1_u32 << limit.scale.fraction_bits);
        let rate = limit.budget.rate.0 as f64 / unit;
        let demands: Vec<f64> = (0..self.hosts.len())
            .map(|host| load.demand(host))
            .collect();
        let optimum = max_min(rate, &demands, &vec![1.0; demands.len()]);
        let now = self.now;
        let is_settled = self.hosts.iter().enumerate().all(|(index, host)| {
            let grant = host.kernel.grant(limit.id).expect("every kernel has it");
            let held = grant.effective(host.clock.at(now)).rate.0 as f64 / unit;
            (held.min(demands[index]) - optimum[index]).abs() <= TOLERANCE * rate
        });
        if is_settled {
            let ticks = (step - since).div_ceil(steps_per_tick);
            figures.convergence_ticks.push(ticks);
            figures.unsettled_since = None;
        }
    }
}
