//! What happened, and what was counted while it did.

use std::ops::Range;

use super::fault::{Fault, Who};
use crate::{
    oracle::Budget,
    series::{BINS_PER_SECOND, Bin, Series},
};

/// With less of what was asked for than this on the wire, nothing that depends on time is judged.
pub const LEAST_PACE: f64 = 0.99;

/// A daemon that is not heard for so long at either end of a run may have counted something unseen.
const UNHEARD_BINS: u64 = 2_000;

/// A run, complete enough to be judged without anything else.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The hosts, in the plan's order.
    pub hosts: Vec<HostRecord>,
    /// What was done, in order.
    pub events: Vec<Event>,
    /// Who was seen leading, in order; one entry for each change.
    pub leaders: Vec<LeaderSeen>,
    /// What each daemon said of itself, by host.
    pub said: Vec<Vec<Said>>,
    /// Whether each ZooKeeper server served, by its own word, by server. Asked where servers are hit.
    pub served: Vec<Served>,
    /// The bin in which it ended.
    pub end: Bin,
}

/// What a ZooKeeper server said of itself, and when: whether it serves.
pub type Served = Vec<(Bin, bool)>;

/// What a daemon said at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Said {
    /// When.
    pub bin: Bin,
    /// Its term.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
    /// Whether it reaches ZooKeeper.
    pub connected: bool,
    /// Its grant on the first limit, in units per second.
    pub granted: f64,
    /// Gaps of more than 300 ms between commits, in this life.
    pub gaps: u64,
    /// Falls to its floor, in this life.
    pub falls: u64,
    /// Events that found the ring full, in this life.
    pub events_lost: u64,
}

/// A fault, as it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// What was done.
    pub fault: Fault,
    /// The hosts that were hit.
    pub hosts: Vec<usize>,
    /// The ZooKeeper servers that were hit.
    pub servers: Vec<usize>,
    /// From when to when.
    pub bins: Range<Bin>,
    /// From when all of it was done until its undoing began, either of which may take a tenth of a second:
    /// meanwhile it was surely in force.
    pub in_force: Range<Bin>,
}

/// What was counted at one host.
#[derive(Clone, Debug, Default)]
pub struct HostRecord {
    /// Its name.
    pub name: String,
    /// In front of the limiter.
    pub offered: Series,
    /// Behind it.
    pub admitted: Series,
    /// TCP segments of the flows that back off, behind it.
    pub flows: Series,
    /// Packets of each hot source, behind it.
    pub keys: Vec<Series>,
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub bin: Bin,
    /// What.
    pub what: Happening,
}

/// Kinds of events.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// The traffic took another shape.
    Shaped {
        /// What people call it.
        label: String,
        /// Packets per second to each host.
        rates: Vec<f64>,
    },
    /// A fault began.
    Began {
        /// Its number.
        episode: usize,
        /// What was done.
        fault: Fault,
        /// The hosts that were hit.
        hosts: Vec<usize>,
        /// The ZooKeeper servers that were hit.
        servers: Vec<usize>,
        /// When all of it was done.
        done: Bin,
    },
    /// A fault ended.
    Ended {
        /// Its number.
        episode: usize,
        /// What had been done.
        fault: Fault,
        /// The hosts that were hit.
        hosts: Vec<usize>,
        /// When its undoing began.
        begun: Bin,
    },
}

/// A leader, from the moment in which it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderSeen {
    /// When.
    pub bin: Bin,
    /// Its term.
    pub term: u64,
    /// Its name.
    pub name: String,
}

/// What the limit under test promises.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitUnderTest {
    /// Rate and burst of the whole fleet.
    pub budget: Budget,
    /// What each member may always spend, in packets per second.
    pub floor: f64,
}

impl Recording {
    /// The whole fleet, in front of the limiter.
    #[must_use]
    pub fn offered(&self) -> Series {
        Series::total(self.hosts.iter().map(|host| &host.offered))
    }

    /// The whole fleet, behind the limiter.
    #[must_use]
    pub fn admitted(&self) -> Series {
        Series::total(self.hosts.iter().map(|host| &host.admitted))
    }

    /// What was offered, as a part of what the script asked for. Senders, limiters and receivers
    /// share the machine's cores: if the senders were held up, so was everybody else, and what
    /// depends on time says more about the machine than about Weir. What was sent to a host whose
    /// link was down is left out: nothing counts it.
    #[must_use]
    pub fn pace(&self) -> f64 {
        let shapes = self.events.iter().filter_map(|event| match &event.what {
            Happening::Shaped { rates, .. } => Some((event.bin, rates.as_slice())),
            _ => None,
        });
        let shapes: Vec<(Bin, &[f64])> = shapes.collect();
        let ends = shapes.iter().skip(1).map(|(bin, _)| *bin).chain([self.end]);
        let episodes = self.episodes();
        let is_unreached = |host: usize, bin: Bin| {
            let holds = |episode: &&Episode| episode.bins.contains(&bin);
            let mut down = episodes.iter().filter(holds);
            down.any(|episode| episode.fault.is_link_down() && episode.hosts.contains(&host))
        };
        let (mut asked, mut sent) = (0.0, 0.0);
        for ((begin, rates), end) in shapes.iter().zip(ends) {
            for (host, (rate, record)) in rates.iter().zip(&self.hosts).enumerate() {
                for bin in (*begin..end).filter(|bin| !is_unreached(host, *bin)) {
                    asked += rate / BINS_PER_SECOND;
                    sent += f64::from(record.offered.at(bin));
                }
            }
        }
        sent / asked
    }

    /// Every bin of the run as comma-separated values: milliseconds since the first event, then
    /// packets offered to and admitted by each host.
    #[must_use]
    pub fn csv(&self) -> String {
        let begin = self.events.first().map_or(self.end, |event| event.bin);
        let mut text = String::from("ms");
        for host in &self.hosts {
            text.push_str(&format!(",{0} offered,{0} admitted", host.name));
        }
        text.push('\n');
        for bin in begin..self.end {
            text.push_str(&(bin - begin).to_string());
            for host in &self.hosts {
                text.push_str(&format!(
                    ",{},{}",
                    host.offered.at(bin),
                    host.admitted.at(bin)
                ));
            }
            text.push('\n');
        }
        text
    }

    /// When the leader was killed, and on which host, if it was.
    #[must_use]
    pub fn kill(&self) -> Option<(Bin, usize)> {
        let episodes = self.episodes();
        let killed = episodes
            .iter()
            .find(|episode| episode.fault == Fault::Killed(Who::Leader))?;
        Some((killed.bins.start, *killed.hosts.first()?))
    }

    /// The faults that happened, in the order in which they began. One without an end lasted to the
    /// end of the run.
    #[must_use]
    pub fn episodes(&self) -> Vec<Episode> {
        let begun = self.events.iter().filter_map(|event| match &event.what {
            Happening::Began {
                episode,
                fault,
                hosts,
                servers,
                done,
            } => {
                let whom = (fault.clone(), hosts.clone(), servers.clone());
                Some((event.bin, *episode, *done, whom))
            }
            _ => None,
        });
        let end_of = |number: usize| {
            let end = self.events.iter().find_map(|event| match event.what {
                Happening::Ended { episode, begun, .. } if episode == number => {
                    Some((begun, event.bin))
                }
                _ => None,
            });
            end.unwrap_or((self.end, self.end))
        };
        begun
            .map(|(bin, number, done, (fault, hosts, servers))| {
                let (begun, ended) = end_of(number);
                Episode {
                    fault,
                    hosts,
                    servers,
                    bins: bin..ended,
                    in_force: done..begun,
                }
            })
            .collect()
    }

    /// How much a count of one daemon grew within a range, over all its lives.
    #[must_use]
    pub fn grew(&self, host: usize, bins: &Range<Bin>, count: fn(&Said) -> u64) -> u64 {
        let empty = Vec::new();
        let said = self.said.get(host).unwrap_or(&empty);
        let within = said.windows(2).filter(|pair| bins.contains(&pair[1].bin));
        within
            .map(|pair| {
                let (before, after) = (count(&pair[0]), count(&pair[1]));
                // A new life counts from zero.
                after.checked_sub(before).unwrap_or(after)
            })
            .sum()
    }

    /// Whether a daemon was heard so often that its counts are known for the whole run: at its beginning
    /// and at its end.
    #[must_use]
    pub fn was_heard(&self, host: usize) -> bool {
        let begin = self.events.first().map_or(self.end, |event| event.bin);
        let said = self.said.get(host).map_or(&[][..], Vec::as_slice);
        let is_early = said
            .first()
            .is_some_and(|said| said.bin <= begin + UNHEARD_BINS);
        let is_late = said
            .last()
            .is_some_and(|said| said.bin + UNHEARD_BINS >= self.end);
        is_early && is_late
    }

    /// From when on a majority of ZooKeeper's servers served to the end, by their own word; `None` if
    /// they did not, or nobody asked.
    #[must_use]
    pub fn quorum_since(&self) -> Option<Bin> {
        let since = self.served.iter().map(|served| {
            let (last_without, after) = match served.iter().rposition(|(_, serves)| !serves) {
                Some(last) => (served[last].0, &served[last + 1..]),
                None => (0, served.as_slice()),
            };
            // It began to serve after the last time that it said that it did not.
            (!after.is_empty()).then_some(last_without)
        });
        let mut since: Vec<Bin> = since.flatten().collect();
        since.sort_unstable();
        since.get(self.served.len() / 2).copied()
    }

    /// The rate in force at a moment, where operators change it and it is `initial` at first.
    #[must_use]
    pub fn rate_at(&self, bin: Bin, initial: f64) -> f64 {
        let mut rates = self.events.iter().filter_map(|event| match event.what {
            Happening::Began {
                fault: Fault::Rate(rate),
                ..
            } if event.bin <= bin => Some(rate as f64),
            _ => None,
        });
        rates.next_back().unwrap_or(initial)
    }

    /// The host that was seen leading last before a moment.
    #[must_use]
    pub fn leader_at(&self, bin: Bin) -> Option<usize> {
        let seen = self.leaders.iter().rev().find(|seen| seen.bin <= bin)?;
        self.hosts.iter().position(|host| host.name == seen.name)
    }

    /// Changes of leader, the first election left out.
    #[must_use]
    pub fn leader_changes(&self) -> usize {
        self.leaders.len().saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_what_went_out_of_what_was_asked() {
        let host = HostRecord {
            offered: Series::new(10, vec![2, 2, 2, 2, 0, 0, 3, 3]),
            ..HostRecord::default()
        };
        let shaped = |bin, rates: Vec<f64>| Event {
            bin,
            what: Happening::Shaped {
                label: String::new(),
                rates,
            },
        };
        let recording = Recording {
            hosts: vec![host],
            events: vec![shaped(10, vec![2_000.0]), shaped(16, vec![3_000.0])],
            end: 18,
            ..Recording::default()
        };
        assert!(
            (recording.pace() - 14.0 / 18.0).abs() < 1e-9,
            "{}",
            recording.pace()
        );
    }

    #[test]
    fn what_a_link_that_is_down_keeps_back_does_not_slow_the_pace() {
        let host = HostRecord {
            offered: Series::new(0, vec![2, 2, 0, 0, 2]),
            ..HostRecord::default()
        };
        let event = |bin, what| Event { bin, what };
        let shaped = Happening::Shaped {
            label: String::new(),
            rates: vec![2_000.0],
        };
        let (episode, fault) = (0, Fault::LinkDown(Who::Host(0)));
        let hosts = vec![0];
        let began = Happening::Began {
            episode,
            fault: fault.clone(),
            hosts: hosts.clone(),
            servers: Vec::new(),
            done: 2,
        };
        let ended = Happening::Ended {
            episode,
            fault,
            hosts,
            begun: 4,
        };
        let mut recording = Recording {
            hosts: vec![host],
            events: vec![event(0, shaped), event(2, began), event(4, ended)],
            end: 5,
            ..Recording::default()
        };
        assert!((recording.pace() - 1.0).abs() < 1e-9);
        recording.events.truncate(1);
        assert!((recording.pace() - 0.6).abs() < 1e-9);
    }

    #[test]
    fn counts_go_on_over_lives_and_faults_end() {
        let said = |bin, gaps| Said {
            bin,
            gaps,
            ..Said::default()
        };
        let fault = Fault::Killed(Who::Leader);
        let event = |bin, what| Event { bin, what };
        let recording = Recording {
            said: vec![vec![said(1, 3), said(5, 4), said(8, 1), said(12, 2)]],
            events: vec![
                event(
                    4,
                    Happening::Began {
                        episode: 1,
                        fault: fault.clone(),
                        hosts: vec![2],
                        servers: vec![],
                        done: 4,
                    },
                ),
                event(
                    6,
                    Happening::Ended {
                        episode: 1,
                        fault: fault.clone(),
                        hosts: vec![2],
                        begun: 6,
                    },
                ),
                event(
                    7,
                    Happening::Began {
                        episode: 2,
                        fault: Fault::Joined,
                        hosts: vec![],
                        servers: vec![],
                        done: 7,
                    },
                ),
            ],
            end: 20,
            ..Recording::default()
        };
        assert_eq!(recording.grew(0, &(0..10), |said| said.gaps), 2);
        assert_eq!(recording.grew(0, &(0..20), |said| said.gaps), 3);
        assert_eq!(recording.grew(3, &(0..20), |said| said.gaps), 0);
        let bins: Vec<_> = recording
            .episodes()
            .into_iter()
            .map(|episode| episode.bins)
            .collect();
        assert_eq!(bins, [4..6, 7..20]);
        assert_eq!(recording.kill(), Some((4, 2)));
    }

    #[test]
    fn values_begin_with_the_first_event() {
        let host = HostRecord {
            name: "a".to_owned(),
            offered: Series::new(8, vec![9, 9, 3, 4]),
            admitted: Series::new(10, vec![1, 2]),
            flows: Series::default(),
            keys: Vec::new(),
        };
        let event = Event {
            bin: 10,
            what: Happening::Began {
                episode: 0,
                fault: Fault::Killed(Who::Leader),
                hosts: vec![0],
                servers: vec![],
                done: 10,
            },
        };
        let recording = Recording {
            hosts: vec![host],
            events: vec![event],
            end: 12,
            ..Recording::default()
        };
        assert_eq!(recording.csv(), "ms,a offered,a admitted\n0,3,1\n1,4,2\n");
    }
}
