//! Which ticks were kept: what a leader had proposed was committed at every node before the next.

use std::time::Duration;

use weir_model::{Generation, Nanos};

/// A commit that arrived at a node, whose kernel would hold it now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) generation: Generation,
    pub(crate) at: Nanos,
}

/// A proposal that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposal {
    pub(crate) generation: Generation,
    pub(crate) at: Nanos,
}

/// A tick of the leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    /// When it should have begun.
    pub(crate) due: Nanos,
    /// The latest proposal once it was done.
    pub(crate) proposed: Generation,
}

/// When all nodes, whose arrivals are in order, had committed to a proposal; `None` if one never had.
fn reached(generation: Generation, nodes: &[Vec<Arrival>]) -> Option<Nanos> {
    let first = |arrivals: &Vec<Arrival>| {
        let index = arrivals.partition_point(|arrival| arrival.generation < generation);
        arrivals.get(index).map(|arrival| arrival.at)
    };
    nodes
        .iter()
        .map(first)
        .try_fold(Nanos::ZERO, |latest, at| Some(latest.max(at?)))
}

/// How many ticks were kept: after these all nodes had committed to all that was proposed, before the
/// next was due.
pub(crate) fn kept(ticks: &[Tick], period: Duration, nodes: &[Vec<Arrival>]) -> usize {
    let is_kept = |tick: &&Tick| {
        let at = reached(tick.proposed, nodes);
        at.is_some_and(|at| at <= tick.due + period)
    };
    ticks.iter().filter(is_kept).count()
}

/// How long each proposal took that was committed to by all nodes, or that a later one was instead:
/// until the last node had heard so.
pub(crate) fn took(proposals: &[Proposal], nodes: &[Vec<Arrival>]) -> Vec<Duration> {
    let took = |proposal: &Proposal| Some(reached(proposal.generation, nodes)? - proposal.at);
    proposals.iter().filter_map(took).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Nanos {
        Nanos(ms * 1_000_000)
    }

    fn tick(due_ms: u64, proposed: u64) -> Tick {
        Tick {
            due: at(due_ms),
            proposed: Generation(proposed),
        }
    }

    fn arrivals(all: &[(u64, u64)]) -> Vec<Arrival> {
        let arrival = |(generation, ms): &(u64, u64)| Arrival {
            generation: Generation(*generation),
            at: at(*ms),
        };
        all.iter().map(arrival).collect()
    }

    #[test]
    fn the_slowest_node_decides() {
        let quick = arrivals(&[(1, 1_010), (2, 1_110)]);
        let slow = arrivals(&[(1, 1_030), (2, 1_201)]);
        let ticks = [tick(1_000, 1), tick(1_100, 2)];
        assert_eq!(kept(&ticks, PERIOD, &[quick.clone(), quick.clone()]), 2);
        assert_eq!(kept(&ticks, PERIOD, &[quick.clone(), slow.clone()]), 1);
        let proposals = [(1, 1_001), (2, 1_101)].map(|(generation, ms)| Proposal {
            generation: Generation(generation),
            at: at(ms),
        });
        let expected = [29, 100].map(Duration::from_millis);
        assert_eq!(took(&proposals, &[quick, slow]), expected);
    }

    #[test]
    fn a_later_commit_is_as_good_and_none_is_not() {
        let skipped = arrivals(&[(1, 1_010), (3, 1_150)]);
        let never = arrivals(&[(1, 1_010)]);
        let ticks = [tick(1_100, 2), tick(1_200, 2)];
        assert_eq!(kept(&ticks, PERIOD, std::slice::from_ref(&skipped)), 2);
        assert_eq!(kept(&ticks, PERIOD, &[skipped, never]), 0);
    }
}
