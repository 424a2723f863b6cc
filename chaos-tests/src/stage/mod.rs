//! A fleet under traffic: what is sent to it, what is counted, and what is done to it.

mod fault;
mod inflict;
mod judge;
mod keys;
mod perform;
mod recording;
mod script;
mod settle;
mod watch;

use anyhow::Result;

use self::keys::Keys;
use crate::{
    fleet::{
        Plan,
        plan::{FLOW_PORT, INTERFACE, Site},
    },
    receiver::{Receiver, Side},
    series::Series,
    traffic::{Bulk, Flow, Generator, Sent, SourcePool},
};

pub use self::{
    fault::{Fault, Party, Server, Who},
    judge::{FULLY_IN_USE, Judgement, PhaseJudgement, ShiftJudgement, judge},
    keys::HotSource,
    perform::{Moment, perform},
    recording::{
        Episode, Event, Happening, HostRecord, LEAST_PACE, LeaderSeen, LimitUnderTest, Recording,
        Said, Served,
    },
    script::{Action, Script},
    settle::Settle,
};

/// What the packets look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    /// UDP destination port.
    pub port: u16,
    /// Where they come from.
    pub sources: SourcePool,
    /// Bytes of a frame, without its check sequence.
    pub size: usize,
}

/// Generators at every client, receivers on both sides of every host's limiter.
pub struct Stage {
    generators: Vec<Generator>,
    offered: Vec<Receiver>,
    admitted: Vec<Receiver>,
    flows: Vec<Receiver>,
    _bulk: Option<Bulk>,
    keys: Option<Keys>,
}

impl Stage {
    /// Sets up receivers and generators; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If one cannot be attached or started.
    pub fn set(plan: &Plan, packets: &Packets) -> Result<Self> {
        let in_front = |site: &Site| {
            let interface = &site.router_interface;
            Receiver::attach(&plan.router, interface, Side::Offered, packets.port)
        };
        let behind = |site: &Site| {
            Receiver::attach(&site.namespace, INTERFACE, Side::Admitted, packets.port)
        };
        let generator = |client: &Site| {
            let flow = |host: &Site| Flow {
                source_mac: client.mac(),
                gateway_mac: client.router_mac(),
                sources: packets.sources,
                destination: host.v4(),
                port: packets.port,
                size: packets.size,
            };
            let flows: Vec<Flow> = plan.hosts.iter().map(flow).collect();
            Generator::start(&client.namespace, INTERFACE, &flows)
        };
        Ok(Self {
            offered: plan.hosts.iter().map(in_front).collect::<Result<_>>()?,
            admitted: plan.hosts.iter().map(behind).collect::<Result<_>>()?,
            generators: plan.clients.iter().map(generator).collect::<Result<_>>()?,
            flows: Vec::new(),
            _bulk: None,
            keys: None,
        })
    }

    /// Adds TCP flows from the first client to every host, as many as it takes, and counts their
    /// segments behind the limiters.
    ///
    /// # Errors
    ///
    /// If one cannot be counted or begun.
    pub fn add_flows(&mut self, plan: &Plan, per_host: usize) -> Result<()> {
        let behind =
            |site: &Site| Receiver::attach(&site.namespace, INTERFACE, Side::Flows, FLOW_PORT);
        self.flows = plan.hosts.iter().map(behind).collect::<Result<_>>()?;
        self._bulk = Some(Bulk::start(plan, FLOW_PORT, per_host)?);
        Ok(())
    }

    /// Adds sources that are limited one by one. They send whenever anything is sent.
    ///
    /// # Errors
    ///
    /// If they cannot be counted or sent.
    pub fn add_keys(&mut self, plan: &Plan, sources: &[HotSource], size: usize) -> Result<()> {
        self.keys = Some(Keys::set(plan, sources, size)?);
        Ok(())
    }

    /// Sends so many packets per second to each host from now on, each client an equal part.
    pub fn shape(&self, rates: &[f64]) {
        if let Some(keys) = &self.keys {
            keys.send(rates.iter().any(|rate| *rate > 0.0));
        }
        let clients = self.generators.len() as f64;
        let part: Vec<f64> = rates.iter().map(|rate| rate / clients).collect();
        for generator in &self.generators {
            generator.set_rates(&part);
        }
    }

    /// Reads all receivers.
    ///
    /// # Errors
    ///
    /// If one was read too late.
    pub fn read(&mut self) -> Result<()> {
        let udp = self.offered.iter_mut().chain(&mut self.admitted);
        for receiver in udp.chain(&mut self.flows) {
            receiver.read()?;
        }
        self.keys.as_mut().map_or(Ok(()), Keys::read)
    }

    /// What was sent towards each host, as read last.
    pub fn offered(&self) -> impl ExactSizeIterator<Item = &Series> + Clone {
        self.offered.iter().map(Receiver::series)
    }

    /// What came through at each host, as read last.
    pub fn admitted(&self) -> impl ExactSizeIterator<Item = &Series> + Clone {
        self.admitted.iter().map(Receiver::series)
    }

    /// Segments of the flows that came through at each host, as read last; nothing where there are
    /// none.
    pub fn flows(&self) -> impl Iterator<Item = &Series> + Clone {
        static NONE: Series = Series::new(0, Vec::new());
        let flows = self.flows.iter().map(Receiver::series);
        flows.chain(std::iter::repeat(&NONE))
    }

    /// What came through of each hot source at a host, as read last; nothing where there are none.
    pub fn keys(&self, host: usize) -> impl Iterator<Item = &Series> {
        self.keys.iter().flat_map(move |keys| keys.of_host(host))
    }

    /// What all generators sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        let all = self.generators.iter().map(Generator::sent);
        all.fold(Sent::default(), |sum, sent| Sent {
            packets: sum.packets + sent.packets,
            refused: sum.refused + sent.refused,
            skipped: sum.skipped + sent.skipped,
        })
    }
}
