//! Plays a script on a fleet, and records.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{
    Stage,
    fault::Fault,
    inflict::{Hand, Inflicted},
    recording::{Event, Happening, HostRecord, LeaderSeen, Recording},
    script::{Action, Script},
    watch::Watch,
};
use crate::{
    clock,
    fleet::Fleet,
    interrupt::Interrupt,
    series::{Bin, Series},
};

/// How far behind the present a moment is shown: bins that young are still counted into.
const LAG_BINS: u64 = 30;

/// One tick of a performance, for a view.
#[derive(Debug)]
pub struct Moment<'a> {
    /// Since the beginning.
    pub elapsed: Duration,
    /// Of the whole script.
    pub length: Duration,
    /// The traffic's shape.
    pub label: &'a str,
    /// What was last done to the fleet.
    pub event: Option<&'a Event>,
    /// Who leads.
    pub leader: Option<&'a LeaderSeen>,
    /// Packets per second in front of each host's limiter, over the last tick.
    pub offered: Vec<f64>,
    /// Packets per second behind it.
    pub admitted: Vec<f64>,
}

/// Plays `script`, shows each tick to `view`, and returns the recording.
///
/// # Errors
///
/// If an action fails, a daemon ends by itself, a receiver loses counts, or the user interrupts.
pub fn perform(
    fleet: &mut Fleet,
    stage: &mut Stage,
    script: &Script,
    interrupt: &Interrupt,
    mut view: impl FnMut(&Moment<'_>),
) -> Result<Recording> {
    let is_of_servers = |(_, action): &(Duration, Action)| matches!(action, Action::Begin { fault, .. } if fault.is_of_servers());
    let asks_servers = script.actions.iter().any(is_of_servers);
    let watch = Watch::start(fleet, asks_servers);
    clock::wait_for(
        "a leader to be seen",
        Duration::from_secs(10),
        interrupt,
        || watch.leader(),
    )?;
    let tick = bins(fleet.timing.tick);
    let begin = clock::this_bin();
    let end = begin + bins(script.length);
    let mut player = Player {
        begin,
        events: Vec::new(),
        order: order(script, watch.leader(), fleet.plan.hosts.len()),
        hand: Hand::default(),
        inflicted: BTreeMap::new(),
    };
    let mut todo = script.actions.iter().peekable();
    let mut next_view = begin + tick;
    while clock::this_bin() < end {
        interrupt.check()?;
        while let Some((_, action)) =
            todo.next_if(|(time, _)| begin + bins(*time) <= clock::this_bin())
        {
            player.act(action, fleet, stage, &watch)?;
        }
        if clock::this_bin() >= next_view {
            if let Some(how) = fleet.casualty() {
                bail!(how);
            }
            stage.read()?;
            player.show(stage, tick, script.length, &watch.leaders(), &mut view);
            next_view = (next_view + tick).max(clock::this_bin());
        }
        let next_action = todo.peek().map_or(end, |(time, _)| begin + bins(*time));
        clock::sleep_until(next_action.min(next_view).min(end));
    }
    stage.shape(&vec![0.0; fleet.plan.hosts.len()]);
    clock::sleep_until(end + 2 * LAG_BINS);
    stage.read()?;
    Ok(player.recording(fleet, stage, end, &watch))
}

fn bins(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a script is shorter than 584 million years")
}

/// The hosts in the order in which a script means them.
fn order(script: &Script, leader: Option<usize>, hosts: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..hosts).collect();
    if script.is_leader_last {
        order.sort_by_key(|host| Some(*host) == leader);
    }
    order
}

struct Player {
    begin: Bin,
    events: Vec<Event>,
    /// The hosts in the order in which rates are given.
    order: Vec<usize>,
    hand: Hand,
    /// By their numbers.
    inflicted: BTreeMap<usize, (Fault, Inflicted)>,
}

impl Player {
    fn act(
        &mut self,
        action: &Action,
        fleet: &mut Fleet,
        stage: &Stage,
        watch: &Watch,
    ) -> Result<()> {
        let bin = clock::this_bin();
        let what = match action {
            Action::Shape { label, rates } => {
                let mut ordered = vec![0.0; rates.len()];
                for (host, rate) in self.order.iter().zip(rates) {
                    ordered[*host] = *rate;
                }
                stage.shape(&ordered);
                Happening::Shaped {
                    label: label.clone(),
                    rates: ordered,
                }
            }
            Action::Begin { episode, fault } => {
                let begun = self.hand.begin(fault, watch.leader(), fleet);
                let Some(inflicted) = begun.with_context(|| fault.label())? else {
                    return Ok(());
                };
                let hosts = inflicted.hosts.clone();
                let servers = inflicted.servers.clone();
                self.inflicted.insert(*episode, (fault.clone(), inflicted));
                Happening::Began {
                    episode: *episode,
                    fault: fault.clone(),
                    hosts,
                    servers,
                    done: clock::this_bin(),
                }
            }
            Action::End { episode } => {
                let Some((fault, inflicted)) = self.inflicted.remove(episode) else {
                    return Ok(());
                };
                let begun = bin;
                let ended = self.hand.end(&fault, &inflicted, fleet);
                ended.with_context(|| format!("the end of {}", fault.label()))?;
                // It lasted until now.
                self.events.push(Event {
                    bin: clock::this_bin(),
                    what: Happening::Ended {
                        episode: *episode,
                        fault,
                        hosts: inflicted.hosts,
                        begun,
                    },
                });
                return Ok(());
            }
        };
        self.events.push(Event { bin, what });
        Ok(())
    }

    fn show(
        &self,
        stage: &Stage,
        tick: u64,
        length: Duration,
        leaders: &[LeaderSeen],
        view: &mut impl FnMut(&Moment<'_>),
    ) {
        let now = clock::this_bin();
        let window = now - LAG_BINS - tick..now - LAG_BINS;
        let rates = |series: &Series| series.rate(window.clone());
        let label = self
            .events
            .iter()
            .rev()
            .find_map(|event| match &event.what {
                Happening::Shaped { label, .. } => Some(label.as_str()),
                _ => None,
            });
        view(&Moment {
            elapsed: Duration::from_millis(now - self.begin),
            length,
            label: label.unwrap_or(""),
            event: self
                .events
                .iter()
                .rev()
                .find(|event| !matches!(event.what, Happening::Shaped { .. })),
            leader: leaders.last(),
            offered: stage.offered().map(rates).collect(),
            admitted: stage.admitted().map(rates).collect(),
        });
    }

    fn recording(self, fleet: &Fleet, stage: &Stage, end: Bin, watch: &Watch) -> Recording {
        let counted = stage.offered().zip(stage.admitted()).zip(stage.flows());
        let hosts = fleet.plan.hosts.iter().zip(counted).enumerate();
        Recording {
            hosts: hosts
                .map(|(host, (site, ((offered, admitted), flows)))| HostRecord {
                    name: site.name.clone(),
                    offered: offered.clone(),
                    admitted: admitted.clone(),
                    flows: flows.clone(),
                    keys: stage.keys(host).cloned().collect(),
                })
                .collect(),
            events: self.events,
            leaders: watch.leaders(),
            said: watch.said(),
            served: watch.served(),
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_last_if_that_is_asked_for() {
        let script = Script::default();
        assert_eq!(order(&script, Some(0), 3), [0, 1, 2]);
        let script = script.leader_last();
        assert_eq!(order(&script, Some(0), 3), [1, 2, 0]);
        assert_eq!(order(&script, Some(1), 3), [0, 2, 1]);
        assert_eq!(order(&script, None, 3), [0, 1, 2]);
    }
}
