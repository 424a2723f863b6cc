//! A thread that sends from inside a client's namespace.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use super::{
    frame::Flow,
    pace::Pace,
    socket::{BATCH, FrameSocket},
};
use crate::{clock, namespace::Namespace};

/// Time between two chunks. Below a millisecond, so that every bin of the receiver gets its part.
const CHUNK: Duration = Duration::from_micros(500);
/// Different frames of each flow; more sources than this are not used.
const FRAMES_PER_FLOW: u64 = 1_024;

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames that the kernel took.
    pub packets: u64,
    /// Frames that it refused.
    pub refused: u64,
    /// Time that was not made up for after late wake-ups.
    pub skipped: Duration,
}

/// Sends its flows until it is dropped.
#[derive(Debug)]
pub struct Generator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Packets per second of each flow, as the bits of an `f64`.
    rates: Vec<AtomicU64>,
    stop: AtomicBool,
    packets: AtomicU64,
    refused: AtomicU64,
    skipped_ns: AtomicU64,
}

impl Generator {
    /// Starts a thread in `namespace` that sends out of `interface`. All rates begin at zero.
    ///
    /// # Errors
    ///
    /// If the interface cannot be used, or a flow cannot be made.
    pub fn start(namespace: &Namespace, interface: &str, flows: &[Flow]) -> Result<Self> {
        let frames = flows.iter().map(frames_of).collect::<Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            rates: flows.iter().map(|_| AtomicU64::default()).collect(),
            stop: AtomicBool::default(),
            packets: AtomicU64::default(),
            refused: AtomicU64::default(),
            skipped_ns: AtomicU64::default(),
        });
        let (ready, opened) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn({
                let (shared, namespace) = (Arc::clone(&shared), namespace.clone());
                let interface = interface.to_owned();
                move || {
                    let socket = namespace
                        .enter()
                        .and_then(|()| FrameSocket::open(&interface));
                    match socket {
                        Ok(socket) => {
                            // The caller waits for this; if it is gone, `stop` is set.
                            let _heard = ready.send(Ok(()));
                            send_until_stopped(&socket, &frames, &shared);
                        }
                        Err(error) => {
                            let _heard = ready.send(Err(error));
                        }
                    }
                }
            })?;
        opened
            .recv()
            .map_err(|_| anyhow!("the generator's thread ended"))??;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Sets the rate of every flow, in packets per second, from the next chunk on.
    pub fn set_rates(&self, rates: &[f64]) {
        for (shared, rate) in self.shared.rates.iter().zip(rates) {
            shared.store(rate.to_bits(), Ordering::Relaxed);
        }
    }

    /// What was sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        Sent {
            packets: self.shared.packets.load(Ordering::Relaxed),
            refused: self.shared.refused.load(Ordering::Relaxed),
            skipped: Duration::from_nanos(self.shared.skipped_ns.load(Ordering::Relaxed)),
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there was already printed.
            let _ended = thread.join();
        }
    }
}

fn frames_of(flow: &Flow) -> Result<Vec<Vec<u8>>> {
    let count = u32::try_from(flow.sources.len().min(FRAMES_PER_FLOW))?;
    let frames = (0..count).map(|index| flow.frame(index));
    frames
        .collect::<Result<_, _>>()
        .context("a flow that cannot be sent")
}

fn send_until_stopped(socket: &FrameSocket, flows: &[Vec<Vec<u8>>], shared: &Shared) {
    let now_ns = || u64::try_from(clock::boot_time().as_nanos()).unwrap_or(u64::MAX);
    let mut pace = Pace::new(now_ns(), flows.len());
    let mut next_frame = vec![0_usize; flows.len()];
    let mut batch: Vec<&[u8]> = Vec::with_capacity(BATCH);
    let mut due = clock::boot_time();
    while !shared.stop.load(Ordering::Relaxed) {
        let rates: Vec<f64> = shared
            .rates
            .iter()
            .map(|rate| f64::from_bits(rate.load(Ordering::Relaxed)))
            .collect();
        let skipped = pace.advance(now_ns(), &rates);
        shared.skipped_ns.fetch_add(skipped, Ordering::Relaxed);
        while let Some(flow) = pace.next_flow() {
            batch.push(&flows[flow][next_frame[flow]]);
            next_frame[flow] = (next_frame[flow] + 1) % flows[flow].len();
            if batch.len() == BATCH {
                flush(socket, &mut batch, shared);
            }
        }
        flush(socket, &mut batch, shared);
        // What is late is not slept for, and the grid does not run behind for ever.
        due = (due + CHUNK).max(clock::boot_time().saturating_sub(CHUNK));
        std::thread::sleep(due.saturating_sub(clock::boot_time()));
    }
}

/// Sends a batch. A frame that the kernel refuses is counted and left out, as on a full wire.
fn flush(socket: &FrameSocket, batch: &mut Vec<&[u8]>, shared: &Shared) {
    let mut rest = batch.as_slice();
    while !rest.is_empty() {
        let sent = socket.send(rest).unwrap_or(0);
        shared.packets.fetch_add(sent as u64, Ordering::Relaxed);
        rest = &rest[sent..];
        if sent == 0 {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            rest = &rest[1..];
        }
    }
    batch.clear();
}
