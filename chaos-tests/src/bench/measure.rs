//! Measuring one group of variants: all are set up at once, and get a window each in every round,
//! so that whatever the machine does in between happens to all of them.

use std::{
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    flood::{FULL_SHARE, Flood, Generator, Running},
    ground::{Ground, PollThread, QUEUES, Site},
    method::Method,
    plan::Group,
    processor::{self, Ahead},
    row::{Sample, Series},
    variant::{Installed, Tools},
};
use crate::{clock, interrupt::Interrupt, progress::Progress};

/// How long a window is, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Of one window.
    pub window: Duration,
    /// Windows of each variant.
    pub rounds: usize,
}

/// Time for a flood to become steady, before each window.
const SETTLE: Duration = Duration::from_millis(40);
/// How often all sources are sent, at most, until a variant knows them.
const CIRCLES: usize = 10;
/// A variant that drops this part of what it receives knows them.
const KNOWN: f64 = 0.995;
/// How long a circle may take.
const KNOWN_WITHIN: Duration = Duration::from_secs(30);
/// A window may find the receiver not even running, when the machine is busy with something else.
const TRIES: usize = 3;
/// At least this part of what a limiter handled it must have dropped, by its own count.
pub const LEAST_DROPPED: f64 = 0.98;
/// Bursts of one cold window, and how long each is: some thousand packets, before which nothing
/// is in the cache.
const BURSTS: usize = 20;
/// See [`BURSTS`].
const BURST: Duration = Duration::from_millis(2);
/// Larger than what a CPU has to itself; what all share cannot be emptied from one.
const SWEEP_BYTES: usize = 16 << 20;
/// How long a receiver has nothing to do before a burst is over.
const QUIET: Duration = Duration::from_micros(300);

/// Everything that measuring needs.
pub struct Laboratory<'a> {
    /// Where sites are made.
    pub ground: &'a Ground,
    /// The flood.
    pub generator: &'a mut Generator,
    /// What variants are set up with.
    pub tools: Tools<'a>,
    /// How much is done.
    pub effort: Effort,
    /// The user's wish to stop.
    pub interrupt: &'a Interrupt,
}

/// A variant on its site.
struct Subject {
    name: String,
    // Taken down before its site is.
    installed: Box<dyn Installed>,
    site: Site,
}

impl Laboratory<'_> {
    /// Measures a group.
    ///
    /// # Errors
    ///
    /// If a variant cannot be set up, does not see its frames or does not drop them, or the user
    /// interrupts.
    pub fn measure(&mut self, group: &Group, progress: &mut Progress) -> Result<Vec<Series>> {
        let flood = Flood {
            family: group.family,
            sources: group.keys,
            share: FULL_SHARE,
        };
        let title = format!("{} sources, IPv{}", group.keys, group.family.version());
        let mut subjects = progress.step(&format!("{title}: set up"), || self.set_up(group))?;
        let ahead = Ahead::of_everything()?;
        progress.step(&format!("{title}: warm up"), || {
            for subject in &mut subjects {
                self.make_known(subject, &flood, &ahead)?;
            }
            Ok(())
        })?;
        let mut all = Vec::new();
        for &method in &group.methods {
            let name = format!("{title}: {}", method.name());
            all.extend(progress.step(&name, || {
                self.rounds(&mut subjects, &flood, method, false, &ahead)
            })?);
        }
        if group.cold {
            let name = format!("{title}: cold");
            all.extend(progress.step(&name, || {
                self.rounds(&mut subjects, &flood, Method::Split, true, &ahead)
            })?);
        }
        Ok(all)
    }

    fn set_up(&self, group: &Group) -> Result<Vec<Subject>> {
        let variants = group.variants.iter();
        variants
            .map(|variant| {
                self.interrupt.check()?;
                let name = variant.name();
                let site = self.ground.site(QUEUES)?;
                let installed = variant
                    .install(&site, group.family, &self.tools)
                    .with_context(|| format!("cannot set up {name}"))?;
                Ok(Subject {
                    name,
                    installed,
                    site,
                })
            })
            .collect()
    }

    /// Lets a variant see every source until it drops them all: the first packet of a source passes,
    /// and a table that is still growing may let others pass too.
    fn make_known(&mut self, subject: &mut Subject, flood: &Flood, ahead: &Ahead) -> Result<()> {
        subject.site.poll_where_sent()?;
        let circle = u64::from(flood.sources) * 5 / 4;
        for _ in 0..CIRCLES {
            let (dropped, before) = (subject.installed.dropped()?, subject.site.received()?);
            let (site, interrupt) = (&subject.site, self.interrupt);
            self.generator
                .during(site, flood, Method::Inline.flooding(), ahead, |_| {
                    clock::wait_for("a circle of all sources", KNOWN_WITHIN, interrupt, || {
                        match site.received() {
                            Ok(now) if now.packets - before.packets < circle => None,
                            other => Some(other.map(drop)),
                        }
                    })?
                })
                .with_context(|| subject.name.clone())?;
            let dropped = subject.installed.dropped()? - dropped;
            let received = subject.site.received()?.packets - before.packets;
            if dropped as f64 >= KNOWN * received as f64 {
                return Ok(());
            }
        }
        bail!(
            "{} does not drop the sources that it has seen {CIRCLES} times",
            subject.name
        )
    }

    fn rounds(
        &mut self,
        subjects: &mut [Subject],
        flood: &Flood,
        method: Method,
        cold: bool,
        ahead: &Ahead,
    ) -> Result<Vec<Series>> {
        let mut samples = vec![Vec::new(); subjects.len()];
        for _ in 0..self.effort.rounds {
            for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
                self.interrupt.check()?;
                let sample = self.sample(subject, flood, method, cold, ahead);
                samples.push(sample.with_context(|| subject.name.clone())?);
            }
        }
        let series = subjects
            .iter()
            .zip(samples)
            .map(|(subject, samples)| Series {
                variant: subject.name.clone(),
                keys: flood.sources,
                method,
                family: flood.family.version(),
                cold,
                samples,
            });
        Ok(series.collect())
    }

    /// One window, with proof that the variant saw its frames and dropped them.
    fn sample(
        &mut self,
        subject: &mut Subject,
        flood: &Flood,
        method: Method,
        cold: bool,
        ahead: &Ahead,
    ) -> Result<Sample> {
        let threads = match method.receiving() {
            Some(cpu) => subject.site.poll_on(cpu)?,
            None => subject.site.poll_where_sent().map(|()| Vec::new())?,
        };
        for _ in 0..TRIES {
            let (dropped, received) = (subject.installed.dropped()?, subject.site.received()?);
            let window = self.effort.window;
            let site = &subject.site;
            let sample =
                self.generator
                    .during(site, flood, method.flooding(), ahead, |running| {
                        let watch = Watch {
                            site,
                            running,
                            threads: &threads,
                            cpus: method.cpus(),
                        };
                        if cold {
                            watch.cold_bursts()
                        } else {
                            watch.window(window)
                        }
                    })?;
            let Some(sample) = sample else {
                continue;
            };
            let received = subject.site.received()?.packets - received.packets;
            let dropped = subject.installed.dropped()? - dropped;
            if (dropped as f64) < LEAST_DROPPED * received as f64 {
                bail!(
                    "of {received} packets that it received, it dropped {dropped} by its own count"
                );
            }
            return Ok(sample);
        }
        bail!(
            "the receiver did not run in {TRIES} windows: is the machine busy with something else?"
        )
    }
}

/// Looks at a flood from both ends.
struct Watch<'a, 'flood> {
    site: &'a Site,
    running: &'a Running<'flood>,
    threads: &'a [PollThread],
    cpus: usize,
}

/// What was counted up to a moment.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    sent: u64,
    received: u64,
    cpu: Duration,
}

impl Watch<'_, '_> {
    fn look(&self) -> Result<Moment> {
        let mut cpu = Duration::ZERO;
        for thread in self.threads {
            cpu += thread.cpu_time()?;
        }
        Ok(Moment {
            at: Instant::now(),
            sent: self.running.sent()?,
            received: self.site.received()?.packets,
            cpu,
        })
    }

    /// A window of a steady flood. `None` if nothing was received.
    fn window(&self, length: Duration) -> Result<Option<Sample>> {
        thread::sleep(SETTLE);
        let before = self.look()?;
        thread::sleep(length);
        let after = self.look()?;
        let passed = after.at - before.at;
        let cpu = match self.threads {
            [] => passed * u32::try_from(self.cpus)?,
            _ => after.cpu - before.cpu,
        };
        Ok(sample(
            after.sent - before.sent,
            after.received - before.received,
            passed,
            cpu,
        ))
    }

    /// Bursts that each begin with an empty cache on the receiver's CPU.
    fn cold_bursts(&self) -> Result<Option<Sample>> {
        let mut buffer = vec![1_u8; SWEEP_BYTES];
        let cpu = Method::Split.receiving().context("has a CPU of its own")?;
        processor::run_on(cpu)?;
        let (mut sent, mut received) = (0, 0);
        let (mut passed, mut cpu) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..BURSTS {
            self.running.set_share(0)?;
            self.wait_until_quiet()?;
            sweep(&mut buffer);
            let before = self.look()?;
            self.running.set_share(FULL_SHARE)?;
            thread::sleep(BURST);
            self.running.set_share(0)?;
            passed += before.at.elapsed();
            self.wait_until_quiet()?;
            let after = self.look()?;
            sent += after.sent - before.sent;
            received += after.received - before.received;
            cpu += after.cpu - before.cpu;
        }
        processor::run_anywhere()?;
        Ok(sample(sent, received, passed, cpu))
    }

    fn wait_until_quiet(&self) -> Result<()> {
        let mut last = self.site.received()?;
        loop {
            thread::sleep(QUIET);
            let now = self.site.received()?;
            if now == last {
                return Ok(());
            }
            last = now;
        }
    }
}

fn sample(sent: u64, received: u64, passed: Duration, cpu: Duration) -> Option<Sample> {
    (received > 0).then(|| Sample {
        offered_mpps: sent as f64 / passed.as_secs_f64() / 1e6,
        mpps: received as f64 / passed.as_secs_f64() / 1e6,
        ns_per_packet: cpu.as_secs_f64() * 1e9 / received as f64,
    })
}

/// Writes a word in each cache line.
fn sweep(buffer: &mut [u8]) {
    for line in buffer.chunks_mut(64) {
        line[0] = line[0].wrapping_add(1);
    }
    black_box(buffer);
}
