//! A network between a client and a server that loses and delays on command.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
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

/// The operation codes of ZooKeeper's requests that faults are set for.
pub mod request {
    /// A single creation.
    pub const CREATE: i32 = 15;
    /// Several operations at once.
    pub const MULTI: i32 = 14;
}

/// A fault that begins with the next request of a kind.
type Armed = Arc<Mutex<Option<(i32, Fault)>>>;

/// A TCP relay on a port of the loopback, gone when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    armed: Armed,
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
        let fault = watch::Sender::new(Fault::None);
        let armed = Armed::default();
        let network = Network {
            server,
            fault: fault.clone(),
            armed: Arc::clone(&armed),
        };
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let network = network.clone();
                connections.spawn(async move {
                    // An error ends the connection, which is all that there is to say.
                    let _ = relay(client, network).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            fault,
            armed,
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

    /// Begins a fault just before the next request with this operation code is delivered.
    pub fn set_at(&self, operation: i32, fault: Fault) {
        *self.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some((operation, fault));
    }

    /// Waits until the fault is this one.
    pub async fn until(&self, wanted: Fault) {
        let reached = self
            .fault
            .subscribe()
            .wait_for(|fault| *fault == wanted)
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

#[derive(Clone)]
struct Network {
    server: String,
    fault: watch::Sender<Fault>,
    armed: Armed,
}

impl Network {
    /// Begins the fault that is armed for this request.
    fn trip(&self, frame: &[u8]) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((operation, fault)) = *armed
            && operation_of(frame) == Some(operation)
        {
            *armed = None;
            self.fault.send_replace(fault);
        }
    }
}

async fn relay(client: TcpStream, network: Network) -> io::Result<()> {
    let server = TcpStream::connect(&network.server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let faults = network.fault.subscribe();
    tokio::try_join!(
        requests(from_client, to_server, network),
        replies(from_server, to_client, faults)
    )?;
    Ok(())
}

/// Relays whole requests.
async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    network: Network,
) -> io::Result<()> {
    let mut faults = network.fault.subscribe();
    let mut waiting = Vec::new();
    let mut is_lossy = false;
    let mut is_closed = false;
    loop {
        while let Some(length) = frame_length(&waiting) {
            network.trip(&waiting[..length]);
            match *faults.borrow_and_update() {
                Fault::None if is_lossy => return Err(io::ErrorKind::ConnectionReset.into()),
                Fault::None | Fault::LoseReplies => {}
                Fault::HoldRequests => break,
                Fault::BlackHole => is_lossy = true,
            }
            let frame: Vec<u8> = waiting.drain(..length).collect();
            if !is_lossy {
                to.write_all(&frame).await?;
            }
        }
        let fault = *faults.borrow_and_update();
        if fault == Fault::None && is_lossy {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if is_closed && fault != Fault::HoldRequests {
            return to.shutdown().await;
        }
        tokio::select! {
            read = from.read_buf(&mut waiting), if !is_closed && waiting.len() < HELD_MAX => {
                is_closed = read? == 0;
            }
            changed = faults.changed() => changed.map_err(io::Error::other)?,
        }
    }
}

/// The length of the request at the beginning, if all of it is there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    let length = usize::try_from(length)
        .ok()?
        .checked_add(size_of::<u32>())?;
    (bytes.len() >= length).then_some(length)
}

/// The operation code of a request; a connection's first one, its handshake, has none.
fn operation_of(frame: &[u8]) -> Option<i32> {
    let request = i32::from_be_bytes(*frame.get(4..)?.first_chunk()?);
    let operation = i32::from_be_bytes(*frame.get(8..)?.first_chunk()?);
    (request > 0).then_some(operation)
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
