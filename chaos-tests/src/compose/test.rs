//! The test of the cluster: a limit is applied, every host is flooded, a daemon and then the
//! leader's are killed and come back, and receivers in the hosts' containers count what arrives.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use weir_model::file;

use super::{
    cluster::{Cluster, NODES},
    engine::Engine,
};
use crate::{
    clock,
    interrupt::Interrupt,
    oracle::{Budget, over_admission},
    progress::Progress,
    receiver::{Receiver, Side},
    series::{Bin, Series},
};

const PORT: u16 = 9_000;
/// Packets a second to each host: several times the budget together, and each more than a third of it.
const FLOOD: [(&str, u64); 3] = [("node1", 5_000), ("node2", 3_000), ("node3", 2_500)];
/// How long the flood lasts: longer than all that happens meanwhile.
const FLOOD_S: u64 = 45;
/// The flood is there, and has its shares.
const SETTLING_MS: u64 = 4_000;
const CALM_MS: u64 = 5_000;
/// How long a daemon is away: longer than its lease, so that its share is somebody else's.
const AWAY_MS: u64 = 4_000;
/// A daemon that is back has joined, and a new leader leads.
const RECOVERY_MS: u64 = 5_000;
/// The receiver is read before its ring is full.
const READING: Duration = Duration::from_millis(500);

/// One thing that has to hold.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// The figure.
    pub measured: f64,
    /// What it may be.
    pub bar: (f64, f64),
}

impl Check {
    /// Whether it does.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.bar.0..=self.bar.1).contains(&self.measured)
    }
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Everything that was judged.
    pub checks: Vec<Check>,
    /// Whether all of it holds.
    pub verdict: &'static str,
}

/// Brings the cluster up, does it harm, judges, and takes it down.
///
/// # Errors
///
/// If the cluster cannot be made. A promise that is broken is no error.
pub fn test(
    repository: &Path,
    binaries: &Path,
    files: &Path,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Outcome> {
    let engine = progress.step("docker", || Engine::find_or_start(files, interrupt))?;
    progress.step("images", || engine.make_images(repository, binaries))?;
    let cluster = progress.step("up", || Cluster::up(&engine, repository, interrupt))?;
    progress.step("apply", || cluster.apply())?;
    let seen = progress.step("flood", || flood(&cluster, interrupt))?;
    let shown = progress.step("metrics", || metrics(&cluster, repository))?;
    let mut checks = judge(&seen, &budget(repository)?);
    checks.extend(shown);
    progress.step("down", || {
        drop(cluster);
        Ok(())
    })?;
    let holds = checks.iter().all(Check::holds);
    Ok(Outcome {
        checks,
        verdict: if holds { "pass" } else { "fail" },
    })
}

fn limits_file(repository: &Path) -> PathBuf {
    repository.join("deploy/compose/config/limits.toml")
}

/// The oracle knows the limits file, and nothing else.
fn budget(repository: &Path) -> Result<Budget> {
    let text = fs::read_to_string(limits_file(repository))?;
    let policy = file::parse(&text).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let limit = policy.limits.first().context("the file has a limit")?;
    Ok(Budget {
        rate: limit.scale.tokens_per_second(limit.budget.rate),
        burst: limit.scale.tokens(limit.budget.burst),
        drift: 1e-3,
    })
}

/// What was counted, and when.
struct Seen {
    admitted: Series,
    calm: Range<Bin>,
    /// A daemon is away for so long that its lease has ended: others have its share.
    away: Range<Bin>,
    /// Everybody is back.
    recovered: Range<Bin>,
}

fn flood(cluster: &Cluster<'_>, interrupt: &Interrupt) -> Result<Seen> {
    let receivers = cluster
        .hosts()?
        .iter()
        .map(|host| Receiver::attach(host, "eth0", Side::Admitted, PORT))
        .collect::<Result<Vec<_>>>()?;
    let mut watch = Watch {
        receivers,
        interrupt,
    };
    let mut traffic = cluster.flood(FLOOD_S, &FLOOD)?;
    let played = play(cluster, &mut watch);
    // The container goes when its client has.
    let _ended = traffic.kill().and_then(|()| traffic.wait());
    let (calm, away, recovered) = played?;
    watch.read()?;
    let admitted = Series::total(
        watch
            .receivers
            .iter()
            .map(Receiver::series)
            .collect::<Vec<_>>(),
    );
    Ok(Seen {
        admitted,
        calm,
        away,
        recovered,
    })
}

type Intervals = (Range<Bin>, Range<Bin>, Range<Bin>);

fn play(cluster: &Cluster<'_>, watch: &mut Watch<'_>) -> Result<Intervals> {
    watch.until_traffic()?;
    watch.go_on(SETTLING_MS)?;
    let calm = watch.go_on(CALM_MS)?;
    let leader = cluster.leader()?;
    let other = NODES.into_iter().find(|node| *node != leader);
    let other = other.context("somebody does not lead")?;
    cluster.kill(other)?;
    watch.go_on(AWAY_MS)?;
    let away = watch.go_on(AWAY_MS / 2)?;
    cluster.start(other)?;
    watch.go_on(RECOVERY_MS)?;
    cluster.kill(leader)?;
    watch.go_on(AWAY_MS)?;
    cluster.start(leader)?;
    watch.go_on(RECOVERY_MS)?;
    let recovered = watch.go_on(CALM_MS)?;
    Ok((calm, away, recovered))
}

/// Keeps reading while time goes by.
struct Watch<'a> {
    receivers: Vec<Receiver>,
    interrupt: &'a Interrupt,
}

impl Watch<'_> {
    fn read(&mut self) -> Result<()> {
        self.interrupt.check()?;
        for receiver in &mut self.receivers {
            receiver.read()?;
        }
        Ok(())
    }

    fn until_traffic(&mut self) -> Result<()> {
        loop {
            self.read()?;
            let begun = clock::this_bin().saturating_sub(1_000);
            let all = self.receivers.iter();
            if all
                .map(Receiver::series)
                .all(|series| series.sum(begun..Bin::MAX) > 100)
            {
                return Ok(());
            }
            thread::sleep(READING);
        }
    }

    fn go_on(&mut self, ms: u64) -> Result<Range<Bin>> {
        let begun = clock::this_bin();
        while clock::this_bin() < begun + ms {
            thread::sleep(READING.min(Duration::from_millis(ms)));
            self.read()?;
        }
        Ok(begun..clock::this_bin())
    }
}

fn judge(seen: &Seen, budget: &Budget) -> Vec<Check> {
    let used = |bins: &Range<Bin>| seen.admitted.rate(bins.clone()) / budget.rate;
    let check = |what, measured, bar| Check {
        what,
        measured,
        bar,
    };
    vec![
        check(
            "over-admission, throughout, in seconds of budget",
            over_admission(&seen.admitted, budget),
            (0.0, 0.005),
        ),
        check("utilisation, all well", used(&seen.calm), (0.97, 1.01)),
        check(
            "utilisation, one daemon gone for good",
            used(&seen.away),
            (0.6, 1.01),
        ),
        check(
            "utilisation, all back again",
            used(&seen.recovered),
            (0.97, 1.01),
        ),
    ]
}

/// What Grafana puts into expressions.
const DASHBOARD_VARIABLES: [(&str, &str); 3] = [
    ("$__rate_interval", "5s"),
    ("$fleet", ".*"),
    ("$limit", ".*"),
];

/// Prometheus has the fleet's metrics, and accepts every expression of the dashboard.
fn metrics(cluster: &Cluster<'_>, repository: &Path) -> Result<Vec<Check>> {
    let dashboard = repository.join("deploy/grafana/dashboards/weir.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dashboard)?)?;
    let panels = dashboard["panels"].as_array().context("it has panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let mut empty = 0;
    for target in targets {
        let expression = target["expr"].as_str().context("a target has one")?;
        let asked = DASHBOARD_VARIABLES
            .iter()
            .fold(expression.to_owned(), |text, (variable, value)| {
                text.replace(variable, value)
            });
        let found = cluster.query(&asked).context(asked)?;
        empty += usize::from(found == 0);
    }
    let alerts = cluster.test_alerts().map_or(1, |()| 0);
    let up = cluster.query("up{job=\"weir\"} == 1")?;
    Ok(vec![
        Check {
            what: "hosts that Prometheus reads",
            measured: up as f64,
            bar: (NODES.len() as f64, NODES.len() as f64),
        },
        Check {
            what: "tests of the alert rules that fail",
            measured: f64::from(alerts),
            bar: (0.0, 0.0),
        },
        Check {
            what: "expressions of the dashboard without a series",
            measured: empty as f64,
            bar: (0.0, 0.0),
        },
    ])
}
