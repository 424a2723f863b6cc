//! What a good client gets while others flood: a request and its answer, again and again, through
//! the same queue as the flood.
//!
//! One CPU floods; the other receives, limits, and has client and server on it. The client keeps to
//! half of what each source may do.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{
    flood::{FULL_SHARE, Family, Flood, Generator},
    frame::PORT,
    ground::{Ground, RECEIVER_MAC, RECEIVER_V4, SENDER_MAC, Site, colons},
    method::Method,
    processor,
    row::{quantile, rounded},
    variant::{Allowance, Tools, Variant, Weir},
};
use crate::interrupt::Interrupt;

/// What each source may do.
pub const ALLOWANCE: Allowance = Allowance {
    packets: 1_000,
    hourly: false,
    burst: 100,
};
/// Time between two requests.
const PERIOD: Duration = Duration::from_millis(2);
/// An answer that takes longer than this is none.
const PATIENCE: Duration = Duration::from_millis(200);
/// The good client.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Few, so that what the limits let through is little.
const FLOODERS: u32 = 20;
/// Parts of the generator's maximum.
const LEVELS: [u32; 5] = [0, 25, 50, 75, 100];
/// Time for the flood to use up its bursts.
const SETTLE: Duration = Duration::from_millis(200);

/// One variant at one level of attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodputRow {
    /// The variant's name.
    pub variant: String,
    /// Of the generator's maximum, in percent.
    pub attack_percent: u32,
    /// Flood that was sent, in millions of frames per second.
    pub offered_mpps: f64,
    /// Flood that the receiver handled, in millions of frames per second.
    pub mpps: f64,
    /// Requests sent.
    pub requests: usize,
    /// Part of them that was answered in time.
    pub goodput: f64,
    /// Median time of an answer, in microseconds.
    pub p50_us: f64,
    /// Time within which 99 of 100 answers came, in microseconds.
    pub p99_us: f64,
}

/// Measures Weir, nftables and hashlimit.
///
/// # Errors
///
/// If a variant cannot be set up, or the user interrupts.
pub fn measure(
    ground: &Ground,
    generator: &mut Generator,
    tools: &Tools<'_>,
    window: Duration,
    interrupt: &Interrupt,
) -> Result<Vec<GoodputRow>> {
    let tools = Tools {
        allowance: ALLOWANCE,
        ..*tools
    };
    let mut rows = Vec::new();
    for variant in [Variant::Weir(Weir::KEYED), Variant::Nft, Variant::Hashlimit] {
        let site = ground.site(0, 1)?;
        introduce(ground, &site)?;
        let _installed = variant.install(&site, Family::V4, &tools)?;
        let receiving = Method::Split.receiving().context("has a CPU of its own")?;
        site.poll_on(receiving)?;
        for level in LEVELS {
            interrupt.check()?;
            let row = at_level(ground, generator, &site, level, window);
            let row = row.with_context(|| format!("{} at {level} %", variant.name()))?;
            rows.push(GoodputRow {
                variant: variant.name(),
                ..row
            });
        }
    }
    Ok(rows)
}

/// Gives the client its address, and tells both sides where the other is: while packets are being
/// dropped, nobody is to ask.
fn introduce(ground: &Ground, site: &Site) -> Result<()> {
    let near = &site.far_end;
    ground.sender().ip(&format!(
        "address add {CLIENT}/32 dev {near}\n\
         route add {RECEIVER_V4}/32 dev {near} src {CLIENT}\n\
         neighbour add {RECEIVER_V4} lladdr {} dev {near} nud permanent\n",
        colons(RECEIVER_MAC)
    ))?;
    site.namespace.ip(&format!(
        "neighbour add {CLIENT} lladdr {} dev {} nud permanent\n",
        colons(SENDER_MAC),
        site.interface
    ))
}

fn at_level(
    ground: &Ground,
    generator: &mut Generator,
    site: &Site,
    level: u32,
    window: Duration,
) -> Result<GoodputRow> {
    let server = site
        .namespace
        .inside(|| UdpSocket::bind((RECEIVER_V4, PORT)))??;
    let client = ground.sender().inside(|| UdpSocket::bind((CLIENT, 0)))??;
    client.connect((RECEIVER_V4, PORT))?;
    server.set_read_timeout(Some(PERIOD))?;
    let flood = Flood {
        family: Family::V4,
        sources: FLOODERS,
        share: FULL_SHARE,
    };
    let cpu = Method::Split.receiving().context("has a CPU of its own")?;
    generator.during(site, &flood, Method::Split.flooding(), |running| {
        running.set_share(FULL_SHARE / 100 * level)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&server, cpu, &stop));
            thread::sleep(SETTLE);
            let (begun, sent, received) = (Instant::now(), running.sent()?, site.received()?);
            let times = processor::measure_on(cpu).and_then(|()| ask(&client, window));
            let seconds = begun.elapsed().as_secs_f64();
            let mpps = |packets: u64| rounded(packets as f64 / seconds / 1e6);
            let (offered_mpps, mpps) = (
                mpps(running.sent()? - sent),
                mpps(site.received()?.packets - received.packets),
            );
            stop.store(true, Ordering::Relaxed);
            serving
                .join()
                .map_err(|_| anyhow!("the server panicked"))??;
            let times = times?;
            Ok(GoodputRow {
                variant: String::new(),
                attack_percent: level,
                offered_mpps,
                mpps,
                requests: times.requests,
                goodput: rounded(times.answers.len() as f64 / times.requests as f64),
                p50_us: rounded(quantile(times.answers.clone(), 0.5)),
                p99_us: rounded(quantile(times.answers, 0.99)),
            })
        })
    })
}

/// Answers the client; what else comes through was let through.
fn serve(socket: &UdpSocket, cpu: usize, stop: &AtomicBool) -> Result<()> {
    processor::measure_on(cpu)?;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if from.ip() == IpAddr::V4(CLIENT) => {
                answer(socket, &buffer[..length], from)?;
            }
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("the server cannot receive"),
        }
    }
    Ok(())
}

fn answer(socket: &UdpSocket, request: &[u8], to: SocketAddr) -> Result<()> {
    match socket.send_to(request, to) {
        Ok(_) => Ok(()),
        Err(error) if is_timeout(&error) => Ok(()),
        Err(error) => Err(error).context("the server cannot answer"),
    }
}

struct Times {
    requests: usize,
    /// In microseconds.
    answers: Vec<f64>,
}

/// Asks for as long as the window is, and waits for the last answers.
fn ask(socket: &UdpSocket, window: Duration) -> Result<Times> {
    let begun = Instant::now();
    let mut asked: Vec<Instant> = Vec::new();
    let mut answers = Vec::new();
    let mut buffer = [0; 64];
    loop {
        let due = begun + PERIOD * u32::try_from(asked.len())?;
        let over = begun.elapsed() > window + PATIENCE;
        if over {
            let requests = asked.len();
            return Ok(Times { requests, answers });
        }
        if due <= Instant::now() && begun.elapsed() < window {
            let number = u64::try_from(asked.len())?;
            asked.push(Instant::now());
            socket.send(&number.to_le_bytes()).context("cannot ask")?;
            continue;
        }
        let wait = due.saturating_duration_since(Instant::now());
        // Zero would mean for ever.
        socket.set_read_timeout(Some(wait.max(Duration::from_micros(50)).min(PERIOD)))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let number = <[u8; 8]>::try_from(&buffer[..length]).map(u64::from_le_bytes);
                let asked = number.ok().and_then(|number| asked.get(number as usize));
                let taken = asked
                    .map(Instant::elapsed)
                    .filter(|taken| *taken < PATIENCE);
                answers.extend(taken.map(|taken| taken.as_secs_f64() * 1e6));
            }
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("the client cannot receive"),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
