//! The generator: live frames through the kernel's test-run, from as many sources as asked for.

use std::{
    cell::RefCell,
    io,
    net::Ipv4Addr,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf, EbpfLoader, Pod, include_bytes_aligned,
    maps::{Array, DevMap, MapData, PerCpuArray},
    programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
};

use super::{
    frame,
    ground::{Ground, Site},
    processor::{self, Ahead, Nudge},
};
use crate::{clock, interrupt::Interrupt, namespace::Namespace};

/// Frames of one test-run: more than anybody waits for. Each run begins and ends with waiting for
/// all CPUs, so a flood is one run, ended by a signal.
const FRAMES_PER_RUN: u32 = u32::MAX;
/// How often a run that should end is told to.
const NUDGE: Duration = Duration::from_millis(1);
/// How long it may take until frames flow.
const BEGUN_WITHIN: Duration = Duration::from_secs(5);
/// Frames that the kernel makes before it hands them over; its own upper bound.
const BATCH: u32 = 256;
/// Interfaces that can be flooded, as in the program.
pub const TARGETS: usize = 64;
/// A [`Flood::share`] of everything.
pub const FULL_SHARE: u32 = 1 << 16;

/// Address family of the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 60-byte frames, 64 with their check sequence.
    V4,
    /// 62-byte frames, 66 with it.
    V6,
}

impl Family {
    /// Its number.
    #[must_use]
    pub const fn version(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }
}

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Address family.
    pub family: Family,
    /// Different sources, taken in turn.
    pub sources: u32,
    /// Frames sent, of each 65,536 that could be.
    pub share: u32,
}

/// As in the program.
#[repr(C)]
#[derive(Clone, Copy)]
struct Settings {
    sources: u32,
    share: u32,
    target: u32,
    checksum_base: u32,
    client_period_ns: u64,
    client: u32,
    reserved: u32,
}
// SAFETY: integers without padding.
#[allow(unsafe_code)]
unsafe impl Pod for Settings {}

/// As in the program.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Progress {
    sent: u64,
    next: u64,
    owed: u64,
    runs: u64,
    client_due_ns: u64,
    client_sent: u64,
}
// SAFETY: integers without padding.
#[allow(unsafe_code)]
unsafe impl Pod for Progress {}

/// Floods one interface at a time.
pub struct Generator {
    object: Ebpf,
    settings: Array<MapData, Settings>,
    progress: PerCpuArray<MapData, Progress>,
    targets: DevMap<MapData>,
    namespace: Namespace,
}

impl Generator {
    /// Loads the programs.
    ///
    /// # Errors
    ///
    /// If the kernel refuses them.
    pub fn load(ground: &Ground) -> Result<Self> {
        let bytes = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-receiver.o"));
        let mut object = EbpfLoader::new()
            .load(bytes)
            .context("cannot load the generator's programs")?;
        for name in ["generate4", "generate6"] {
            xdp(&mut object, name)?.load()?;
        }
        let mut take = |name| object.take_map(name).context("the object has its maps");
        Ok(Self {
            settings: take("FLOOD")?.try_into()?,
            progress: take("PROGRESS")?.try_into()?,
            targets: take("TARGETS")?.try_into()?,
            object,
            namespace: ground.sender().clone(),
        })
    }

    /// Floods a site from each of `cpus` for as long as `act` runs, which has to be ahead of the flood
    /// to watch it and to end it.
    ///
    /// # Errors
    ///
    /// If the flood cannot begin, breaks off, or `act` fails.
    pub fn during<T>(
        &mut self,
        site: &Site,
        flood: &Flood,
        cpus: &[usize],
        _ahead: &Ahead,
        act: impl FnOnce(&Running<'_>) -> Result<T>,
    ) -> Result<T> {
        self.aim(site, flood)?;
        let name = match flood.family {
            Family::V4 => "generate4",
            Family::V6 => "generate6",
        };
        let program: &Xdp = self
            .object
            .program(name)
            .context("the object has its programs")?
            .try_into()?;
        let frame = frame::template(flood.family);
        let running = Running {
            progress: &self.progress,
            settings: RefCell::new(&mut self.settings),
        };
        let all_send = || -> Result<bool> {
            let sending = running.progress.get(&0, 0)?;
            Ok(cpus.iter().all(|&cpu| sending[cpu].sent > 0))
        };
        let others = (0..nr_cpus()?).filter(|cpu| !cpus.contains(cpu));
        let stop = AtomicBool::new(false);
        let occupied = Barrier::new(others.clone().count() + 1);
        thread::scope(|scope| {
            let (stop, occupied, frame, namespace) = (&stop, &occupied, &frame, &self.namespace);
            let (handles, nudges) = mpsc::channel();
            let threads: Vec<_> = cpus
                .iter()
                .map(|&cpu| {
                    let handles = handles.clone();
                    scope.spawn(move || -> Result<()> {
                        namespace.enter()?;
                        processor::work_on(0, cpu)?;
                        handles.send(Nudge::own()).context("nobody waits")?;
                        drop(handles);
                        while !stop.load(Ordering::Relaxed) {
                            send(program, frame)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            drop(handles);
            for cpu in others {
                scope.spawn(move || {
                    occupied.wait();
                    // Where this is refused, the processor is merely not kept free.
                    let placed = processor::occupy(cpu);
                    while placed.is_ok() && !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let begun = wait_for(&all_send, || {
                threads.iter().any(|thread| thread.is_finished())
            });
            occupied.wait();
            let result = begun.and_then(|()| act(&running));
            stop.store(true, Ordering::Relaxed);
            let nudges: Vec<Nudge> = nudges.iter().collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                for nudge in &nudges {
                    nudge.send();
                }
                thread::sleep(NUDGE);
            }
            for thread in threads {
                thread
                    .join()
                    .map_err(|_| anyhow!("the generator panicked"))?
                    .context("the generator broke off")?;
            }
            result
        })
    }

    fn aim(&mut self, site: &Site, flood: &Flood) -> Result<()> {
        let target = site.port % u32::try_from(TARGETS)?;
        // Interface indexes are of the thread's namespace.
        let (targets, namespace) = (&mut self.targets, &self.namespace);
        namespace.inside(|| targets.set(target, site.port, None, 0))??;
        let settings = Settings {
            sources: flood.sources,
            share: flood.share,
            target,
            checksum_base: frame::checksum_base(),
            client_period_ns: 0,
            client: 0,
            reserved: 0,
        };
        self.settings.set(0, settings, 0)?;
        // Each CPU has its own part of the circle to begin with.
        let cpus = nr_cpus()?;
        let begin = (0..cpus).map(|cpu| Progress {
            next: u64::from(flood.sources) * cpu as u64 / cpus as u64,
            ..Progress::default()
        });
        let begin = aya::maps::PerCpuValues::try_from(begin.collect::<Vec<_>>())?;
        self.progress.set(0, begin, 0)?;
        Ok(())
    }
}

/// A flood that flows.
pub struct Running<'a> {
    progress: &'a PerCpuArray<MapData, Progress>,
    settings: RefCell<&'a mut Array<MapData, Settings>>,
}

impl Running<'_> {
    /// Frames sent so far.
    ///
    /// # Errors
    ///
    /// If the kernel's count cannot be read.
    pub fn sent(&self) -> Result<u64> {
        Ok(self.progress.get(&0, 0)?.iter().map(|cpu| cpu.sent).sum())
    }

    /// Sends a frame of a good client among the others, from now on, so often. Its UDP data begin
    /// with the boot time at which it was sent, in nanoseconds, in the machine's byte order.
    ///
    /// # Errors
    ///
    /// If the kernel's map cannot be written.
    pub fn set_client(&self, client: Ipv4Addr, period: Duration) -> Result<()> {
        self.change(|settings| {
            settings.client = client.to_bits();
            settings.client_period_ns = period.as_nanos() as u64;
        })
    }

    /// Frames of the good client sent so far.
    ///
    /// # Errors
    ///
    /// If the kernel's count cannot be read.
    pub fn client_sent(&self) -> Result<u64> {
        let cpus = self.progress.get(&0, 0)?;
        Ok(cpus.iter().map(|cpu| cpu.client_sent).sum())
    }

    /// Changes [`Flood::share`], from the next frame on.
    ///
    /// # Errors
    ///
    /// If the kernel's map cannot be written.
    pub fn set_share(&self, share: u32) -> Result<()> {
        self.change(|settings| settings.share = share)
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<()> {
        let mut map = self.settings.borrow_mut();
        let mut settings = map.get(&0, 0)?;
        change(&mut settings);
        Ok(map.set(0, settings, 0)?)
    }
}

/// One run, until a signal.
fn send(program: &Xdp, frame: &[u8]) -> Result<()> {
    let mut run = TestRunOptions::new();
    run.data_in = Some(frame);
    run.repeat = FRAMES_PER_RUN;
    run.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    match program.test_run(run) {
        Err(ProgramError::SyscallError(error))
            if error.io_error.kind() == io::ErrorKind::Interrupted =>
        {
            Ok(())
        }
        other => Ok(other.map(drop)?),
    }
}

/// Waits until frames flow from every CPU.
fn wait_for(all_send: &dyn Fn() -> Result<bool>, failed: impl Fn() -> bool) -> Result<()> {
    let flows = clock::wait_for(
        "the flood",
        BEGUN_WITHIN,
        &Interrupt::default(),
        || match all_send() {
            Ok(false) if !failed() => None,
            other => Some(other.map(drop)),
        },
    );
    flows?
}

fn nr_cpus() -> Result<usize> {
    aya::util::nr_cpus().map_err(|(what, error)| anyhow!("{what}: {error}"))
}

fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object
        .program_mut(name)
        .context("the object has its programs")?;
    Ok(program.try_into()?)
}
