//! What a good client gets while others flood.
//!
//! One CPU floods; the other receives, limits, and has the server on it. The client's requests come
//! from the same generator, between the frames of the flood, so that they find the same queue as
//! everybody's; each says when it was sent. The client keeps to half of what each source may do.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{
    flood::{FULL_SHARE, Family, Flood, Generator, Running},
    frame::PORT,
    ground::{Ground, RECEIVER_V4, Site},
    method::Method,
    processor::Ahead,
    row::{quantile, rounded},
    variant::{Allowance, Tools, Variant, Weir},
};
use crate::{clock, interrupt::Interrupt};

/// What each source may do.
pub const ALLOWANCE: Allowance = Allowance {
    packets: 1_000,
    hourly: false,
    burst: 100,
};
/// Time between two requests.
const PERIOD: Duration = Duration::from_millis(2);
/// How long requests that are under way may take.
const PATIENCE: Duration = Duration::from_millis(100);
/// The good client.
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// Few, so that what the limits let through is little.
const FLOODERS: u32 = 20;
/// Attacks, in percent of the generator's maximum.
pub const LEVELS: [u32; 5] = [0, 25, 50, 75, 100];
/// The least of them that shows anything.
pub const FEW_LEVELS: [u32; 2] = [0, 100];
/// Time for the flood to use up its bursts.
const SETTLE: Duration = Duration::from_millis(200);
/// How often the server looks whether it should end.
const SERVER_PATIENCE: Duration = Duration::from_millis(2);

/// One variant at one level of attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodputRow {
    /// The variant's name.
    pub variant: String,
    /// Of the generator's maximum, in percent.
    pub attack_percent: u32,
    /// Frames that were sent, in millions per second.
    pub offered_mpps: f64,
    /// Frames that the receiver handled, in millions per second.
    pub mpps: f64,
    /// Requests sent.
    pub requests: u64,
    /// Part of them that the server got.
    pub goodput: f64,
    /// Median time until the server had a request, in microseconds; none if it got none.
    pub p50_us: Option<f64>,
    /// Time within which it had 99 of 100, in microseconds.
    pub p99_us: Option<f64>,
}

/// Measures Weir, nftables and hashlimit.
///
/// # Errors
///
/// If a variant cannot be set up, a request is lost without any attack, or the user interrupts.
pub fn measure(
    ground: &Ground,
    generator: &mut Generator,
    tools: &Tools<'_>,
    levels: &[u32],
    window: Duration,
    interrupt: &Interrupt,
) -> Result<Vec<GoodputRow>> {
    let tools = Tools {
        allowance: ALLOWANCE,
        ..*tools
    };
    let mut rows = Vec::new();
    for variant in [Variant::Weir(Weir::KEYED), Variant::Nft, Variant::Hashlimit] {
        let site = ground.site(1)?;
        let _installed = variant.install(&site, Family::V4, &tools)?;
        let receiving = Method::Split.receiving().context("has a CPU of its own")?;
        site.poll_on(receiving)?;
        for &level in levels {
            interrupt.check()?;
            let row = at_level(generator, &site, level, window);
            let row = row.with_context(|| format!("{} at {level} %", variant.name()))?;
            if level == 0 && row.goodput == 0.0 {
                anyhow::bail!(
                    "{}: no request came through without an attack",
                    variant.name()
                );
            }
            rows.push(GoodputRow {
                variant: variant.name(),
                ..row
            });
        }
    }
    Ok(rows)
}

fn at_level(
    generator: &mut Generator,
    site: &Site,
    level: u32,
    window: Duration,
) -> Result<GoodputRow> {
    let server = site
        .namespace
        .inside(|| UdpSocket::bind((RECEIVER_V4, PORT)))??;
    server.set_read_timeout(Some(SERVER_PATIENCE))?;
    let flood = Flood {
        family: Family::V4,
        sources: FLOODERS,
        share: FULL_SHARE,
    };
    let cpu = Method::Split.receiving().context("has a CPU of its own")?;
    let stop = AtomicBool::new(false);
    let ahead = Ahead::on(cpu)?;
    generator.during(site, &flood, Method::Split.flooding(), &ahead, |running| {
        thread::scope(|scope| {
            let serving = scope.spawn(|| serve(&server, cpu, &stop));
            let row = watch(running, site, level, window);
            stop.store(true, Ordering::Relaxed);
            let times = serving
                .join()
                .map_err(|_| anyhow!("the server panicked"))??;
            let row = row?;
            let quantile =
                |part| Some(rounded(quantile(times.clone(), part))).filter(|time| time.is_finite());
            Ok(GoodputRow {
                goodput: rounded(times.len() as f64 / row.requests.max(1) as f64),
                p50_us: quantile(0.5),
                p99_us: quantile(0.99),
                ..row
            })
        })
    })
}

/// Sends requests for as long as the window is, and counts what is sent and handled.
fn watch(running: &Running<'_>, site: &Site, level: u32, window: Duration) -> Result<GoodputRow> {
    running.set_share(FULL_SHARE / 100 * level)?;
    thread::sleep(SETTLE);
    running.set_client(CLIENT, PERIOD)?;
    let (begun, sent, received) = (Instant::now(), running.sent()?, site.received()?);
    thread::sleep(window);
    let seconds = begun.elapsed().as_secs_f64();
    let mpps = |packets: u64| rounded(packets as f64 / seconds / 1e6);
    let (sent, received) = (
        running.sent()? - sent,
        site.received()?.packets - received.packets,
    );
    running.set_client(CLIENT, Duration::ZERO)?;
    thread::sleep(PATIENCE);
    Ok(GoodputRow {
        variant: String::new(),
        attack_percent: level,
        offered_mpps: mpps(sent),
        mpps: mpps(received),
        requests: running.client_sent()?,
        goodput: 0.0,
        p50_us: None,
        p99_us: None,
    })
}

/// Takes requests until told to stop; how long each was under way, in microseconds. What else
/// comes through was let through.
fn serve(socket: &UdpSocket, cpu: usize, stop: &AtomicBool) -> Result<Vec<f64>> {
    let _ahead = Ahead::on(cpu)?;
    let mut buffer = [0; 64];
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((_, from)) if from.ip() == IpAddr::V4(CLIENT) => {
                let sent_at = buffer
                    .first_chunk()
                    .map(|bytes| Duration::from_nanos(u64::from_ne_bytes(*bytes)))
                    .context("the buffer holds a time")?;
                let taken = clock::boot_time().saturating_sub(sent_at);
                times.push(taken.as_secs_f64() * 1e6);
            }
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error).context("the server cannot receive"),
        }
    }
    Ok(times)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
