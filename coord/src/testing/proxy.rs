//! A network between a client and a server that loses and delays on command.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Most bytes that one connection holds back.
const HELD_MAX: usize = 1 << 22;

/// What the network does to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It keeps requests and delivers them when the fault ends, even those of a client that has
    /// closed the connection meanwhile. Replies pass.
    HoldRequests,
    /// It delivers requests and loses replies. The connection is reset when the fault ends.
    LoseReplies,
    /// It loses everything, and nobody is told. The connection is reset when the fault ends.
    BlackHole,
}

/// A TCP relay on a port of the loopback, gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    held: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A relay to `server`, `host:port`.
    ///
    /// # Errors
    ///
    /// That there is no port for it.
    pub async fn start(server: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (fault, faults) = watch::channel(Fault::None);
        let held = watch::Sender::new(0);
        let counter = held.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, faults, held) = (server.clone(), faults.clone(), counter.clone());
                connections.spawn(async move {
                    // An error ends the connection, which is all that there is to say.
                    let _ = relay(client, &server, faults, held).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            fault,
            held,
            task,
        })
    }

    /// `host:port`.
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// Begins a fault, or ends it with [`Fault::None`].
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Waits until at least this many bytes of requests have been held back.
    pub async fn until_held(&self, bytes: usize) {
        let reached = self
            .held
            .subscribe()
            .wait_for(|held| *held >= bytes)
            .await
            .map(|_| ());
        reached.expect("the sender is in self");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(
    client: TcpStream,
    server: &str,
    faults: watch::Receiver<Fault>,
    held: watch::Sender<usize>,
) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = requests(from_client, to_server, faults.clone(), held);
    let replies = replies(from_server, to_client, faults);
    tokio::try_join!(requests, replies)?;
    Ok(())
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    held: watch::Sender<usize>,
) -> io::Result<()> {
    let mut waiting = Vec::new();
    let mut is_lossy = false;
    let mut is_closed = false;
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::None if is_lossy => return Err(io::ErrorKind::ConnectionReset.into()),
            Fault::None | Fault::LoseReplies => {
                to.write_all(&waiting).await?;
                waiting.clear();
                if is_closed {
                    return to.shutdown().await;
                }
            }
            Fault::HoldRequests => {}
            Fault::BlackHole => is_lossy = true,
        }
        tokio::select! {
            read = from.read_buf(&mut waiting), if !is_closed && waiting.len() < HELD_MAX => {
                let bytes = read?;
                is_closed = bytes == 0;
                if fault == Fault::BlackHole {
                    waiting.clear();
                } else if fault == Fault::HoldRequests {
                    held.send_modify(|held| *held += bytes);
                }
            }
            changed = faults.changed() => changed.map_err(io::Error::other)?,
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
) -> io::Result<()> {
    let mut waiting = Vec::new();
    let mut is_lossy = false;
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::None if is_lossy => return Err(io::ErrorKind::ConnectionReset.into()),
            Fault::None => {
                to.write_all(&waiting).await?;
            }
            // The client may be gone while its requests are held.
            Fault::HoldRequests => {
                let _ = to.write_all(&waiting).await;
            }
            Fault::LoseReplies | Fault::BlackHole => is_lossy = true,
        }
        waiting.clear();
        tokio::select! {
            read = from.read_buf(&mut waiting) => {
                if read? == 0 {
                    return to.shutdown().await;
                }
            }
            changed = faults.changed() => changed.map_err(io::Error::other)?,
        }
    }
}
