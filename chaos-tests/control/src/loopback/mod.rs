//! The same over real gRPC on loopback, in real time: the service and the streams of a leader on
//! one thread, the clients of all nodes on another, and nothing left out but the kernel (what is to
//! be installed is, at once) and ZooKeeper.

mod clock;
mod leading;
mod nodes;
mod payload;
mod reach;

use std::{io, time::Duration};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};
use weir_coord_core::timing::Timing;

use crate::{
    load::Load,
    measure::{Plan, Row, percentile, round},
    processor::{process_time, process_waiting, resident_mib},
    start::Start,
};
use clock::Clock;
use leading::{Leading, Service, Spent};
use nodes::Nodes;
use reach::{Arrival, Proposal, Tick, kept, took};

const TICK: Duration = Timing::DEFAULT.tick;
/// Until every node is attached, and again until every node has a grant.
const PATIENCE: Duration = Duration::from_secs(20);
/// Ticks from then on until what is measured begins: every row of every report has been sent again.
const WARM_UP: usize = 15;
/// Ticks after what is measured, for its last commits to arrive.
const COOL_DOWN: usize = 3;
/// A fleet is carried if its commits reach all nodes within so many of its ticks ...
const KEPT: f64 = 0.99;
/// ... and if so much of two cores is not used up.
const PROCESSOR: f64 = 1.8;
/// The node that leads reaches itself over loopback too, and is not counted among the others.
const OWN: usize = 0;
const VOTERS: usize = 1;
const OTHERS: usize = 2;

/// What came of a row.
pub(crate) enum Outcome {
    Measured(Box<Row>),
    /// It did not get so far that there was something to measure.
    NeverBegan(String),
}

/// A thread's own.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

pub(crate) fn measure(plan: &Plan) -> Result<Outcome> {
    // Two descriptors for each node.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    runtime()?.block_on(run(plan))
}

async fn run(plan: &Plan) -> Result<Outcome> {
    let start = Start::new(plan.nodes, plan.limits);
    let kinds: Vec<usize> = start
        .nodes
        .iter()
        .map(|node| match start.voters.contains(node) {
            _ if *node == start.nodes[0] => OWN,
            true => VOTERS,
            false => OTHERS,
        })
        .collect();
    let clock = Clock::start();
    let mut service = Service::<3>::start().await?;
    let addresses = kinds.iter().map(|kind| service.addresses[*kind].clone());
    let followers = start.followers().zip(addresses).collect();
    let load = Load::new(&start.policy, plan.nodes, plan.changing);
    let nodes = Nodes::spawn(followers, load, clock)?;
    if !service.is_attached(plan.nodes, PATIENCE).await {
        nodes.end()?;
        return Ok(never(format!(
            "not every node was attached in {PATIENCE:?}"
        )));
    }
    let payloads = service.payloads.clone();
    let mut leading = Leading::begin(service, start.mandate(), clock)?;
    let begun = clock.now();
    let before = (process_time()?, process_waiting());
    while nodes.granted() < plan.nodes {
        leading.tick().await?;
        if clock.now() > begun + PATIENCE || leading.stepped_down.is_some() {
            let (granted, why) = (nodes.granted(), leading.stepped_down);
            let (spent, waited) = (process_time()? - before.0, process_waiting() - before.1);
            nodes.end()?;
            let what = match why {
                Some(why) => {
                    format!("the leader stepped down when {granted} nodes had a grant: {why:?}")
                }
                None => format!("{granted} nodes had a grant after {PATIENCE:?}"),
            };
            return Ok(never(format!(
                "{what}; of {:.1} s, threads ran for {:.1} s and waited {:.1} s for a processor",
                (clock.now() - begun).as_secs_f64(),
                spent.as_secs_f64(),
                waited.as_secs_f64(),
            )));
        }
    }
    for _ in 0..WARM_UP {
        leading.tick().await?;
    }
    let window = Window::open(&mut leading, plan, clock, || {
        payloads.each_ref().map(|payload| payload.bytes())
    })
    .await?;
    for _ in 0..COOL_DOWN {
        leading.tick().await?;
    }
    if let (true, Some(why)) = (window.ticks.is_empty(), leading.stepped_down) {
        nodes.end()?;
        return Ok(never(format!("the leader stepped down: {why:?}")));
    }
    let arrivals = nodes.end()?;
    let counts = [VOTERS, OTHERS].map(|kind| kinds.iter().filter(|of| **of == kind).count());
    let row = window.row(plan, &arrivals, counts, &leading);
    Ok(Outcome::Measured(Box::new(row)))
}

const fn never(why: String) -> Outcome {
    Outcome::NeverBegan(why)
}

/// What was seen while it was measured.
struct Window {
    ticks: Vec<Tick>,
    proposals: Vec<Proposal>,
    spent: Vec<Spent>,
    seconds: f64,
    /// CPU time of the process.
    processor: Duration,
    /// For how long its threads waited for one.
    waited: Duration,
    /// Payload of each kind of nodes.
    bytes: [u64; 3],
    resident_mib: f64,
}

impl Window {
    /// As many ticks as planned, or what a leader that does not keep up does in their time.
    async fn open(
        leading: &mut Leading,
        plan: &Plan,
        clock: Clock,
        bytes: impl Fn() -> [u64; 3],
    ) -> Result<Self> {
        let (begun, processor, before) = (clock.now(), process_time()?, bytes());
        let waited = process_waiting();
        let planned = u32::try_from(plan.ticks).unwrap_or(u32::MAX);
        // The last tick is due a moment before.
        let end = begun + (TICK * planned - TICK / 2);
        let (mut ticks, mut spent) = (Vec::new(), Vec::new());
        leading.proposals.clear();
        while clock.now() < end && leading.stepped_down.is_none() {
            let (tick, cost) = leading.tick().await?;
            ticks.push(tick);
            spent.push(cost);
        }
        let after = bytes();
        Ok(Self {
            ticks,
            proposals: std::mem::take(&mut leading.proposals),
            spent,
            seconds: (clock.now() - begun).as_secs_f64(),
            processor: process_time()? - processor,
            waited: process_waiting() - waited,
            bytes: std::array::from_fn(|kind| after[kind] - before[kind]),
            resident_mib: resident_mib(),
        })
    }

    fn row(
        self,
        plan: &Plan,
        arrivals: &[Vec<Arrival>],
        counts: [usize; 2],
        leading: &Leading,
    ) -> Row {
        let times = |of: fn(&Spent) -> Duration| self.spent.iter().map(of).collect::<Vec<_>>();
        let mut tick = times(|spent| spent.tick);
        let mut answers = times(|spent| spent.answers);
        let mut took = took(&self.proposals, arrivals);
        let leader: Duration = self.spent.iter().map(|spent| spent.thread).sum();
        let rate = |kind: usize, nodes: usize| {
            (nodes > 0).then(|| self.bytes[kind] as f64 / nodes as f64 / self.seconds)
        };
        let committed =
            kept(&self.ticks, TICK, arrivals) as f64 / plan.ticks.max(self.ticks.len()) as f64;
        let processor = self.processor.as_secs_f64() / self.seconds;
        let shortfall = if let Some(why) = leading.stepped_down {
            Some(format!("the leader stepped down: {why:?}"))
        } else if committed < KEPT {
            let percent = 100.0 * committed;
            Some(format!(
                "commits reached all nodes in {percent:.1} % of the ticks"
            ))
        } else if processor >= PROCESSOR {
            Some(format!("{processor:.2} cores are used"))
        } else {
            None
        };
        Row {
            transport: "grpc".to_owned(),
            nodes: plan.nodes,
            limits: plan.limits,
            changing: plan.changing,
            tick_ms_p50: percentile(&mut tick, 50),
            tick_ms_p99: percentile(&mut tick, 99),
            answers_ms_p99: percentile(&mut answers, 99),
            bytes_per_node_s: rate(OTHERS, counts[1]),
            bytes_per_voter_s: rate(VOTERS, counts[0]),
            convergence_ticks_p99: None,
            shifts: 0,
            resident_mib: round(self.resident_mib),
            committed_share: Some(round(committed)),
            commit_ms_p50: (!took.is_empty()).then(|| percentile(&mut took, 50)),
            commit_ms_p99: (!took.is_empty()).then(|| percentile(&mut took, 99)),
            leader_cores: Some(round(leader.as_secs_f64() / self.seconds)),
            processor_cores: Some(round(processor)),
            waited_cores: Some(round(self.waited.as_secs_f64() / self.seconds)),
            shortfall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_fleet_is_measured_over_real_streams() {
        let outcome = measure(&Plan {
            nodes: 3,
            limits: 10,
            changing: 10,
            ticks: 20,
        });
        let row = match outcome.unwrap() {
            Outcome::Measured(row) => row,
            Outcome::NeverBegan(why) => panic!("{why}"),
        };
        // The one that leads, and two voters: there is no other node.
        assert_eq!(row.bytes_per_node_s, None);
        assert!(row.bytes_per_voter_s.is_some_and(|bytes| bytes > 0.0));
        assert!(row.committed_share.is_some_and(|share| share > 0.0));
        assert!(row.commit_ms_p99 >= row.commit_ms_p50 && row.commit_ms_p50.is_some());
        assert!(row.leader_cores.is_some_and(|cores| cores > 0.0));
        assert!(row.processor_cores > row.leader_cores);
    }
}
