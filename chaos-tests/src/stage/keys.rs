//! Sources that are limited one by one: a hot one that sends to all hosts, and many that send little.
//!
//! A hot source alone sends to its port, so that a receiver that counts a port counts a source.

use anyhow::Result;

use crate::{
    fleet::{
        Plan,
        plan::{INTERFACE, Site},
    },
    receiver::{Receiver, Side},
    series::Series,
    traffic::{Flow, Generator, SourcePool},
};

/// A hot source, and those beside it, all under one keyed limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HotSource {
    /// The hot source: one address.
    pub source: SourcePool,
    /// UDP port that it alone sends to.
    pub port: u16,
    /// Its packets per second to each host.
    pub rate: f64,
    /// The others.
    pub others: SourcePool,
    /// UDP port that they send to.
    pub others_port: u16,
    /// Packets per second to each host of all others together.
    pub others_rate: f64,
}

/// What sends and counts them.
pub(super) struct Keys {
    generator: Generator,
    rates: Vec<f64>,
    /// Of each hot source, by host.
    hot: Vec<Vec<Receiver>>,
    /// They take the others' packets in.
    others: Vec<Receiver>,
}

impl Keys {
    /// Sets up generator and receivers; nothing is sent yet.
    pub(super) fn set(plan: &Plan, sources: &[HotSource], size: usize) -> Result<Self> {
        let behind =
            |site: &Site, port| Receiver::attach(&site.namespace, INTERFACE, Side::Admitted, port);
        let (mut hot, mut others) = (Vec::new(), Vec::new());
        let (mut flows, mut rates) = (Vec::new(), Vec::new());
        let client = &plan.clients[0];
        for host in &plan.hosts {
            let flow = |sources, port| Flow {
                source_mac: client.mac(),
                gateway_mac: client.router_mac(),
                sources,
                destination: host.v4(),
                port,
                size,
            };
            let mut of_host = Vec::new();
            for source in sources {
                flows.push(flow(source.source, source.port));
                flows.push(flow(source.others, source.others_port));
                rates.extend([source.rate, source.others_rate]);
                of_host.push(behind(host, source.port)?);
                others.push(behind(host, source.others_port)?);
            }
            hot.push(of_host);
        }
        Ok(Self {
            generator: Generator::start(&client.namespace, INTERFACE, &flows)?,
            rates,
            hot,
            others,
        })
    }

    /// Sends at the full rates, or nothing.
    pub(super) fn send(&self, all: bool) {
        let none = vec![0.0; self.rates.len()];
        self.generator
            .set_rates(if all { &self.rates } else { &none });
    }

    pub(super) fn read(&mut self) -> Result<()> {
        for receiver in self.hot.iter_mut().flatten().chain(&mut self.others) {
            receiver.read()?;
        }
        Ok(())
    }

    /// What a host admitted of each hot source.
    pub(super) fn of_host(&self, host: usize) -> impl Iterator<Item = &Series> {
        self.hot[host].iter().map(Receiver::series)
    }
}
