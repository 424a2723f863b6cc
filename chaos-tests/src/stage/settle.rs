//! What is left out of the utilisation, and why. Pure.
//!
//! A fault that must not be noticed has no interval of its own: a daemon that is replaced, a ZooKeeper server
//! that dies. It gets one only where what is promised no longer holds, because something that is needed
//! is lost *together* with something else. Each such rule is as narrow as its reason.

use std::ops::Range;

use super::{
    fault::{Fault, Party, Server},
    recording::{Episode, Recording},
};
use crate::{fleet::Timing, series::Bin};

/// Ticks after a move of the traffic that its utilisation is not judged by.
const SETTLE_TICKS: u64 = 5;
/// Most voters of a fleet.
const MOST_VOTERS: usize = 7;

/// An interval in which utilisation is not judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    /// From when to when.
    pub bins: Range<Bin>,
    /// Why.
    pub why: String,
}

/// All of a run, whose traffic moves at `moves`.
pub(super) fn intervals(recording: &Recording, timing: &Timing, moves: &[Bin]) -> Vec<Settle> {
    let settler = Settler {
        recording,
        timing,
        episodes: recording.episodes(),
    };
    let moved = moves.iter().map(|start| Settle {
        bins: *start..*start + SETTLE_TICKS * bins(timing.tick),
        why: "the traffic moved".to_owned(),
    });
    let disturbed = settler
        .episodes
        .iter()
        .filter_map(|one| settler.disturbed(one));
    let voteless = settler.voteless();
    moved.chain(disturbed).chain(voteless).collect()
}

fn bins(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("timings are short")
}

struct Settler<'a> {
    recording: &'a Recording,
    timing: &'a Timing,
    episodes: Vec<Episode>,
}

impl Settler<'_> {
    /// A fault that is noticed settles when it is over. One that lost the leader, or a daemon that has to
    /// find its fleet again, while ZooKeeper has no quorum, settles from when it has: until then nobody
    /// can lead or be told who does. What needs no ZooKeeper is not excused by its absence.
    fn disturbed(&self, episode: &Episode) -> Option<Settle> {
        let ordinary = episode.fault.unsettles(self.timing);
        let outages = self.outages();
        let overlapping = outages.iter().filter(|outage| meet(outage, &episode.bins));
        let back = overlapping
            .map(|outage| outage.end)
            .max()
            .filter(|_| self.needs_zookeeper(episode));
        let (Some(after), end) = (match (ordinary, back) {
            (Some(after), back) => (Some(after), back.unwrap_or(0).max(episode.bins.end)),
            (None, Some(back)) => (Some(self.after()), back.max(episode.bins.end)),
            (None, None) => (None, 0),
        }) else {
            return None;
        };
        let why = match back {
            Some(_) => format!("{}, while ZooKeeper had no quorum", episode.fault.label()),
            None => episode.fault.label(),
        };
        Some(Settle {
            bins: episode.bins.start..end + bins(after),
            why,
        })
    }

    /// From when what is lost is back until all is as it was: W, and five ticks.
    fn after(&self) -> std::time::Duration {
        self.timing.wait_out() + 5 * self.timing.tick
    }

    /// When ZooKeeper had no quorum: its leader or a majority was hit, or two servers at a time were. It has
    /// one again when its servers say so, which is after the fault's end.
    fn outages(&self) -> Vec<Range<Bin>> {
        let of_servers = self.episodes.iter().filter(|one| !one.servers.is_empty());
        let of_servers: Vec<&Episode> = of_servers.collect();
        let again = |end: Bin| end.max(self.recording.quorum_since().unwrap_or(end));
        let mut outages = Vec::new();
        for (number, one) in of_servers.iter().enumerate() {
            let is_enough = matches!(
                one.fault,
                Fault::ServersKilled(Server::Leader | Server::Majority)
                    | Fault::ServersPaused(Server::Leader | Server::Majority)
            );
            if is_enough {
                outages.push(one.bins.start..again(one.bins.end));
            }
            for other in &of_servers[number + 1..] {
                let both = one.bins.start.max(other.bins.start)..one.bins.end.min(other.bins.end);
                if both.start < both.end {
                    outages.push(both.start..again(both.end));
                }
            }
        }
        outages
    }

    /// Whether what was hit cannot come back without ZooKeeper.
    fn needs_zookeeper(&self, episode: &Episode) -> bool {
        match episode.fault {
            // Anybody may lose touch with anybody, the leader included.
            Fault::Rough { .. } | Fault::Slow { .. } => true,
            // A daemon that starts asks ZooKeeper who leads.
            Fault::Killed(_) | Fault::PoweredOff(_) | Fault::Upgraded(_) | Fault::Joined => true,
            Fault::Paused(_) | Fault::LinkDown(_) | Fault::Cut { .. } => {
                let leads = |bin| self.recording.leader_at(bin);
                let leader = leads(episode.bins.start);
                // ZooKeeper alone is needed by nobody while the leader lives.
                episode.fault.unsettles(self.timing).is_some()
                    && leader.is_some_and(|leader| episode.hosts.contains(&leader))
            }
            _ => false,
        }
    }

    /// While a majority of the voters is away, or abstains since it started, nothing can be committed, and
    /// leases run out as they should. A daemon that is replaced is excused by that, and by nothing else.
    fn voteless(&self) -> Vec<Settle> {
        let most = self.recording.hosts.len().min(MOST_VOTERS);
        let voters = most - usize::from(most > 0 && most.is_multiple_of(2));
        let majority = voters / 2 + 1;
        let away: Vec<(usize, Range<Bin>)> = self
            .episodes
            .iter()
            .flat_map(|one| self.away(one))
            .collect();
        let mut edges: Vec<Bin> = away
            .iter()
            .flat_map(|(_, bins)| [bins.start, bins.end])
            .collect();
        edges.sort_unstable();
        edges.dedup();
        let has_none = |bin: Bin| {
            let mut hosts: Vec<usize> = away
                .iter()
                .filter(|(_, bins)| bins.contains(&bin))
                .map(|(host, _)| *host)
                .collect();
            hosts.sort_unstable();
            hosts.dedup();
            self.recording.hosts.len() - hosts.len() < majority
        };
        let stretches = edges.windows(2).filter(|pair| has_none(pair[0]));
        stretches
            .map(|pair| Settle {
                bins: pair[0]..pair[1] + bins(self.after()),
                why: "a majority of the voters was away or abstained".to_owned(),
            })
            .collect()
    }

    /// Who does not vote because of a fault, and when. A daemon that starts abstains for W.
    fn away(&self, episode: &Episode) -> Vec<(usize, Range<Bin>)> {
        let Range { start, end } = episode.bins;
        let end = match episode.fault {
            Fault::Killed(_) | Fault::PoweredOff(_) | Fault::Upgraded(_) => {
                end + bins(self.timing.wait_out())
            }
            Fault::Paused(_) | Fault::LinkDown(_) => end,
            Fault::Cut { from, to, .. } if ![from, to].contains(&Party::Servers) => end,
            _ => return Vec::new(),
        };
        episode
            .hosts
            .iter()
            .map(|host| (*host, start..end))
            .collect()
    }
}

fn meet(a: &Range<Bin>, b: &Range<Bin>) -> bool {
    a.start < b.end && b.start < a.end
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "one interval is meant, not its bins"
)]
mod tests {
    use super::*;
    use crate::stage::{Event, Happening, HostRecord, LeaderSeen, Who};

    const W: u64 = 2_024;
    const TICKS: u64 = 500;

    /// A fault, the hosts and the servers that it hits, from when to when.
    type Made<'a> = (Fault, &'a [usize], &'a [usize], Range<Bin>);

    /// Three hosts, of which the first leads, and what is done to them.
    fn found(faults: &[Made<'_>]) -> Vec<Range<Bin>> {
        let mut recording = Recording {
            hosts: ["a", "b", "c"].map(host).to_vec(),
            leaders: vec![LeaderSeen {
                bin: 0,
                term: 1,
                name: "a".to_owned(),
            }],
            end: 60_000,
            ..Recording::default()
        };
        for (episode, (fault, hosts, servers, bins)) in faults.iter().enumerate() {
            recording.events.push(Event {
                bin: bins.start,
                what: Happening::Began {
                    episode,
                    fault: fault.clone(),
                    hosts: hosts.to_vec(),
                    servers: servers.to_vec(),
                    done: bins.start,
                },
            });
            recording.events.push(Event {
                bin: bins.end,
                what: Happening::Ended {
                    episode,
                    fault: fault.clone(),
                    hosts: hosts.to_vec(),
                    begun: bins.end,
                },
            });
        }
        let found = intervals(&recording, &Timing::default(), &[]);
        found.into_iter().map(|settle| settle.bins).collect()
    }

    fn host(name: &str) -> HostRecord {
        HostRecord {
            name: name.to_owned(),
            ..HostRecord::default()
        }
    }

    const UPGRADED: Fault = Fault::Upgraded(Who::Leader);
    const KILLED: Fault = Fault::Killed(Who::Leader);
    const PAUSED: Fault = Fault::Paused(Who::Leader);
    const NO_QUORUM: Fault = Fault::ServersPaused(Server::Majority);

    #[test]
    fn what_must_not_be_noticed_is_judged() {
        assert_eq!(found(&[(UPGRADED, &[1], &[], 1_000..1_100)]), []);
        assert_eq!(found(&[(NO_QUORUM, &[], &[0, 1], 1_000..9_000)]), []);
        let one_after_the_other = [
            (UPGRADED, &[1_usize][..], &[][..], 1_000..1_100),
            (UPGRADED, &[2][..], &[][..], 3_500..3_600),
        ];
        assert_eq!(found(&one_after_the_other), []);
    }

    #[test]
    fn an_upgrade_is_excused_by_a_lost_majority_and_by_nothing_else() {
        // A host that was stopped votes when it goes on: two of three do, whatever is settled then.
        let paused = (PAUSED, &[2_usize][..], &[][..], 1_000..1_900);
        let settled = found(&[paused.clone(), (UPGRADED, &[1], &[], 2_000..2_100)]);
        assert_eq!(settled, [1_000..1_900 + W + TICKS]);
        // One that is stopped does not.
        let settled = found(&[paused, (UPGRADED, &[1], &[], 1_500..1_600)]);
        assert_eq!(
            settled,
            [1_000..1_900 + W + TICKS, 1_500..1_900 + W + TICKS]
        );
        // One that was started abstains.
        let settled = found(&[
            (UPGRADED, &[2], &[], 1_000..1_100),
            (UPGRADED, &[1], &[], 2_000..2_100),
        ]);
        assert_eq!(settled, [2_000..1_100 + W + W + TICKS]);
    }

    #[test]
    fn who_does_not_need_zookeeper_is_not_excused_by_its_absence() {
        let no_quorum = (NO_QUORUM, &[][..], &[0_usize, 1][..], 1_000..9_000);
        let with = |fault: Fault, host: usize| {
            let all = found(&[no_quorum.clone(), (fault, &[host], &[], 2_000..3_000)]);
            all.into_iter()
                .map(|bins| bins.end - W - TICKS)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            with(PAUSED, 1),
            [3_000],
            "a follower that goes on is told by its leader"
        );
        assert_eq!(with(PAUSED, 0), [9_000], "nobody can succeed a leader");
        assert_eq!(
            with(KILLED, 1),
            [9_000],
            "a daemon that starts asks who leads"
        );
        assert_eq!(with(UPGRADED, 1), [9_000]);
        let one_server = (
            Fault::ServersPaused(Server::Follower),
            &[][..],
            &[2_usize][..],
            1_000..9_000,
        );
        let settled = found(&[one_server, (KILLED, &[0], &[], 2_000..3_000)]);
        assert_eq!(
            settled,
            [2_000..3_000 + W + TICKS],
            "two of three servers are a quorum"
        );
    }

    #[test]
    fn two_servers_at_a_time_are_no_quorum() {
        let server = |server, bins| {
            let servers: &[usize] = if server == 0 { &[0] } else { &[1] };
            (
                Fault::ServersKilled(Server::Follower),
                &[][..],
                servers,
                bins,
            )
        };
        let killed = (KILLED, &[0_usize][..], &[][..], 2_000..3_000);
        let settled = found(&[
            server(0, 1_000..6_000),
            killed.clone(),
            server(1, 2_500..9_000),
        ]);
        assert_eq!(settled, [2_000..6_000 + W + TICKS]);
        let settled = found(&[server(0, 1_000..2_000), killed, server(1, 2_500..9_000)]);
        assert_eq!(settled, [2_000..3_000 + W + TICKS]);
    }
}
