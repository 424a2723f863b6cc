//! TCP flows that send as much as they may, and back off when segments are lost: the kernel's own.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{command, fleet::Plan, fleet::plan::INTERFACE, interrupt::Interrupt};

/// How often threads look whether they should end.
const PATIENCE: Duration = Duration::from_millis(200);
/// The pause before a broken connection is made anew.
const RETRY: Duration = Duration::from_millis(50);
const CHUNK: usize = 16 * 1024;

/// Flows from one client to every host, until this is dropped.
#[derive(Debug)]
pub struct Bulk {
    stop: Interrupt,
    threads: Vec<JoinHandle<()>>,
}

impl Bulk {
    /// Starts a server on every host, and flows to it from the first client. Both ends hand over
    /// single segments, so that a limiter sees what a wire would carry.
    ///
    /// # Errors
    ///
    /// If an address cannot be listened on, or an interface not be configured.
    pub fn start(plan: &Plan, port: u16, per_host: usize) -> Result<Self> {
        let client = plan.clients.first().context("a plan has clients")?;
        let mut bulk = Self {
            stop: Interrupt::default(),
            threads: Vec::new(),
        };
        let single = ["tso", "off", "gso", "off", "gro", "off"];
        let mut ethtool = client.namespace.command("ethtool");
        command::run(ethtool.args(["-K", INTERFACE]).args(single))?;
        for site in &plan.hosts {
            let address = SocketAddr::from((site.v4(), port));
            let listener = site.namespace.inside(|| TcpListener::bind(address))??;
            listener.set_nonblocking(true)?;
            let stop = bulk.stop.clone();
            bulk.threads
                .push(std::thread::spawn(move || serve(&listener, &stop)));
            for _ in 0..per_host {
                let (stop, namespace) = (bulk.stop.clone(), client.namespace.clone());
                let to = address;
                bulk.threads
                    .push(std::thread::spawn(move || match namespace.enter() {
                        Ok(()) => send(to, &stop),
                        Err(error) => eprintln!("no flow to {to}: {error:#}"),
                    }));
            }
        }
        Ok(bulk)
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.stop.raise();
        for thread in self.threads.drain(..) {
            // A panic in there was already printed.
            let _ended = thread.join();
        }
    }
}

/// Takes in what comes over any connection.
fn serve(listener: &TcpListener, stop: &Interrupt) {
    std::thread::scope(|scope| {
        while !stop.is_raised() {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || take_in(stream, stop));
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    });
}

fn take_in(mut stream: TcpStream, stop: &Interrupt) {
    let mut buffer = [0; CHUNK];
    if stream.set_read_timeout(Some(PATIENCE)).is_err() {
        return;
    }
    while !stop.is_raised() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if is_impatience(&error) => {}
            Err(_) => return,
        }
    }
}

/// Sends over one connection after the other.
fn send(to: SocketAddr, stop: &Interrupt) {
    let chunk = [0; CHUNK];
    while !stop.is_raised() {
        let Ok(mut stream) = TcpStream::connect_timeout(&to, PATIENCE) else {
            std::thread::sleep(RETRY);
            continue;
        };
        if stream.set_write_timeout(Some(PATIENCE)).is_err() {
            continue;
        }
        while !stop.is_raised() {
            match stream.write(&chunk) {
                Ok(_) => {}
                Err(error) if is_impatience(&error) => {}
                Err(_) => break,
            }
        }
    }
}

fn is_impatience(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
