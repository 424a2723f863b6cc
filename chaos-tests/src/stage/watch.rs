//! What the daemons say of themselves: who leads, what they were granted, what they missed. Asked of
//! each over and over, beside everything else; a daemon that is stopped holds up nobody but its own
//! thread.
//!
//! Budgets are judged by the receivers alone. This is for what no receiver sees.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use super::recording::{LeaderSeen, Said, Served};
use crate::{
    clock,
    fleet::{Fleet, Probe, daemon, plan::Site},
    interrupt::Interrupt,
};

/// Time between two questions.
const PERIOD: Duration = Duration::from_millis(150);
/// The same, for ZooKeeper's servers: from when on they serve is known to within this.
const SERVER_PERIOD: Duration = Duration::from_millis(50);
/// A daemon that does not answer within this has nothing to say.
const PATIENCE: Duration = Duration::from_millis(400);

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    names: Vec<String>,
    said: Arc<Mutex<Vec<Vec<Said>>>>,
    served: Arc<Mutex<Vec<Served>>>,
    stop: Interrupt,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Asks daemons, and ZooKeeper's servers too if that is wanted.
    pub(super) fn start(fleet: &Fleet, asks_servers: bool) -> Self {
        let hosts = &fleet.plan.hosts;
        let said = Arc::new(Mutex::new(vec![Vec::new(); hosts.len()]));
        let stop = Interrupt::default();
        let threads = hosts.iter().enumerate().map(|(host, site)| {
            let (site, said, stop) = (site.clone(), Arc::clone(&said), stop.clone());
            std::thread::spawn(move || ask(&site, host, &said, &stop))
        });
        let mut threads: Vec<JoinHandle<()>> = threads.collect();
        let probes = if asks_servers {
            fleet.ensemble.probes()
        } else {
            Vec::new()
        };
        let served = Arc::new(Mutex::new(vec![Vec::new(); probes.len()]));
        threads.extend(probes.into_iter().enumerate().map(|(server, probe)| {
            let (served, stop) = (Arc::clone(&served), stop.clone());
            std::thread::spawn(move || ask_server(&probe, server, &served, &stop))
        }));
        Self {
            names: hosts.iter().map(|site| site.name.clone()).collect(),
            threads,
            said,
            served,
            stop,
        }
    }

    /// All that each host said.
    pub(super) fn said(&self) -> Vec<Vec<Said>> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// What each ZooKeeper server said of itself: whether it serves.
    pub(super) fn served(&self) -> Vec<Served> {
        let served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        served.clone()
    }

    /// Everybody who was seen leading, in the order of terms.
    pub(super) fn leaders(&self) -> Vec<LeaderSeen> {
        leaders(&self.names, &self.said())
    }

    /// Who leads, as far as was seen.
    pub(super) fn leader(&self) -> Option<usize> {
        let name = self.leaders().pop()?.name;
        self.names.iter().position(|other| *other == name)
    }
}

/// A deposed leader may not know it yet: only a higher term is news.
fn leaders(names: &[String], said: &[Vec<Said>]) -> Vec<LeaderSeen> {
    let claims = said.iter().zip(names).flat_map(|(said, name)| {
        let leads = said.iter().filter(|said| said.leads);
        leads.map(move |said| LeaderSeen {
            bin: said.bin,
            term: said.term,
            name: name.clone(),
        })
    });
    let mut claims: Vec<LeaderSeen> = claims.collect();
    claims.sort_by_key(|seen| (seen.term, seen.bin));
    claims.dedup_by_key(|seen| seen.term);
    claims
}

fn ask(site: &Site, host: usize, said: &Mutex<Vec<Vec<Said>>>, stop: &Interrupt) {
    if let Err(error) = site.namespace.enter() {
        eprintln!("cannot watch {}: {error:#}", site.name);
        return;
    }
    while !stop.is_raised() {
        if let Ok(text) = daemon::metrics(PATIENCE) {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said[host].push(read(&text));
        }
        std::thread::sleep(PERIOD);
    }
}

fn ask_server(probe: &Probe, server: usize, served: &Mutex<Vec<Served>>, stop: &Interrupt) {
    while !stop.is_raised() {
        let serves = probe.serves();
        // One that is stopped says nothing until the question is given up: until then it did not serve.
        let bin = clock::this_bin();
        let mut served = served.lock().unwrap_or_else(PoisonError::into_inner);
        served[server].push((bin, serves));
        drop(served);
        std::thread::sleep(SERVER_PERIOD);
    }
}

fn read(text: &str) -> Said {
    let value = |name: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().last());
        found.and_then(|value| value.parse::<f64>().ok())
    };
    let count = |name| value(name).unwrap_or(0.0);
    Said {
        bin: clock::this_bin(),
        term: count("weir_term ") as u64,
        leads: count("weir_is_leader ") > 0.0,
        connected: count("weir_zookeeper_connected ") > 0.0,
        granted: count("weir_grant_rate{"),
        gaps: count("weir_commit_gaps_total ") as u64,
        falls: count("weir_floor_falls_total ") as u64,
        events_lost: count("weir_events_lost_total ") as u64,
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.raise();
        for thread in self.threads.drain(..) {
            // A panic in there was already printed.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_daemon_says() {
        let text = "# HELP weir_term The term.\nweir_term 4\nweir_is_leader 1\n\
                    weir_grant_rate{limit=\"flood\"} 12000.5\nweir_commit_gaps_total 2\n";
        let said = read(text);
        assert!(said.leads);
        assert_eq!((said.term, said.gaps, said.falls), (4, 2, 0));
        assert!((said.granted - 12_000.5).abs() < 1e-9);
    }

    #[test]
    fn a_leader_that_was_deposed_is_no_news() {
        let names = ["a".to_owned(), "b".to_owned()];
        let claim = |bin, term| Said {
            bin,
            term,
            leads: true,
            ..Said::default()
        };
        let said = [vec![claim(1, 1), claim(9, 1)], vec![claim(5, 2)]];
        let found = leaders(&names, &said);
        let terms: Vec<(u64, u64)> = found.iter().map(|seen| (seen.bin, seen.term)).collect();
        assert_eq!(terms, [(1, 1), (5, 2)]);
    }
}
