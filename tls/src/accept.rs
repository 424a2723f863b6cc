//! The end that is called: connections, within bounds.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::{Identity, Security, subject};

/// Open connections of all peers. Beyond it new ones wait unaccepted, and are tried again by who
/// waits for them.
pub const MAX_CONNECTIONS: usize = 4_096;
/// Open connections with one certificate. Beyond it a new one is closed: a node needs a stream to its
/// leader, and one for what it passes on or asks.
pub const MAX_CONNECTIONS_PER_CERTIFICATE: usize = 64;
/// Connections from one address that have not shown a certificate yet. Beyond it a new one is closed.
pub const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;
/// Who has not shown a certificate after so long is not going to.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that wait to be served. Beyond it none is accepted.
const READY: usize = 64;
/// After an accept that failed: most often there is no descriptor left, and one may be given back.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// [`MAX_CONNECTIONS`] unless a test says otherwise.
    pub connections: usize,
    /// [`MAX_CONNECTIONS_PER_CERTIFICATE`] likewise.
    pub per_certificate: usize,
    /// [`MAX_HANDSHAKES_PER_ADDRESS`] likewise.
    pub handshakes_per_address: usize,
    /// [`HANDSHAKE_TIMEOUT`] likewise.
    pub handshake: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: MAX_CONNECTIONS,
            per_certificate: MAX_CONNECTIONS_PER_CERTIFICATE,
            handshakes_per_address: MAX_HANDSHAKES_PER_ADDRESS,
            handshake: HANDSHAKE_TIMEOUT,
        }
    }
}

/// Who has the other end of a connection: an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// Who that is; `None` in plain text, and where nobody is asked.
    pub identity: Option<Identity>,
    /// What its certificate calls it, for people.
    pub name: Option<Arc<str>>,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: Transport,
    peer: Peer,
    _place: OwnedSemaphorePermit,
    _seat: Option<Seat<Vec<u8>>>,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connections of peers, for `serve_with_incoming`.
///
/// What a leader says goes out at once. By default TCP holds back a small message until the one
/// before is acknowledged, which the receiver may put off for 40 ms: half a tick for each round of
/// proposals. A server's own setting does not reach connections that it is handed.
///
/// It must be called within a tokio runtime, and ends when the stream is dropped.
#[must_use]
pub fn accept(
    listener: TcpListener,
    security: Security,
    bounds: Bounds,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY);
    let door = Door {
        security,
        bounds,
        places: Arc::new(Semaphore::new(bounds.connections)),
        handshakes: Seats::default(),
        certificates: Seats::default(),
        ready: ready.clone(),
    };
    tokio::spawn(async move {
        tokio::select! {
            () = ready.closed() => {}
            () = door.keep(listener) => {}
        }
    });
    ReceiverStream::new(connections)
}

#[derive(Clone)]
struct Door {
    security: Security,
    bounds: Bounds,
    places: Arc<Semaphore>,
    handshakes: Seats<IpAddr>,
    certificates: Seats<Vec<u8>>,
    ready: mpsc::Sender<io::Result<Connection>>,
}

impl Door {
    async fn keep(self, listener: TcpListener) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                return;
            };
            let accepted = listener.accept().await;
            let accepted = accepted.and_then(|(stream, address)| {
                stream.set_nodelay(true)?;
                Ok((stream, address))
            });
            match accepted {
                Ok((stream, address)) => self.let_in(stream, address, place).await,
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn let_in(&self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        let Security::Tls(credentials) = &self.security else {
            return self.anybody(Transport::Plain(stream), address, place).await;
        };
        let most = self.bounds.handshakes_per_address;
        let Some(seat) = self.handshakes.take(address.ip(), most) else {
            debug!(%address, "turned away: too many connections that show no certificate");
            return;
        };
        let acceptor = credentials.acceptor();
        let is_mutual = credentials.is_mutual();
        let door = self.clone();
        tokio::spawn(async move {
            let _seat = seat;
            let handshake = timeout(door.bounds.handshake, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(stream)) if is_mutual => door.known(stream, address, place).await,
                Ok(Ok(stream)) => {
                    let stream = Transport::Tls(Box::new(stream));
                    door.anybody(stream, address, place).await;
                }
                Ok(Err(error)) => debug!(%address, %error, "turned away"),
                Err(_) => debug!(%address, "turned away: it showed no certificate in time"),
            }
        });
    }

    async fn anybody(&self, stream: Transport, address: SocketAddr, place: OwnedSemaphorePermit) {
        let connection = Connection {
            stream,
            peer: Peer {
                address,
                identity: None,
                name: None,
            },
            _place: place,
            _seat: None,
        };
        let _ = self.ready.send(Ok(connection)).await;
    }

    /// The certificate is the authority's; whose is it?
    async fn known(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) {
        let shown = stream.get_ref().1.peer_certificates();
        let Some(certificate) = shown.and_then(<[_]>::first) else {
            return;
        };
        let identity = match Identity::of(certificate) {
            Ok(identity) => identity,
            Err(error) => {
                warn!(%address, %error, "turned away: its certificate is the authority's");
                return;
            }
        };
        let most = self.bounds.per_certificate;
        let Some(seat) = self.certificates.take(certificate.to_vec(), most) else {
            warn!(%address, ?identity, most, "turned away: too many connections of one peer");
            return;
        };
        let name = subject::common_name(certificate).map(Arc::from);
        let connection = Connection {
            stream: Transport::Tls(Box::new(stream)),
            peer: Peer {
                address,
                identity: Some(identity),
                name,
            },
            _place: place,
            _seat: Some(seat),
        };
        let _ = self.ready.send(Ok(connection)).await;
    }
}

/// How many of each there are.
#[derive(Clone, Debug)]
struct Seats<K: Ord> {
    taken: Arc<Mutex<BTreeMap<K, usize>>>,
}

impl<K: Ord> Default for Seats<K> {
    fn default() -> Self {
        let taken = Arc::default();
        Self { taken }
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
struct Seat<K: Ord> {
    seats: Arc<Mutex<BTreeMap<K, usize>>>,
    key: K,
}

impl<K: Ord + Clone> Seats<K> {
    /// `None` if there are as many already.
    fn take(&self, key: K, most: usize) -> Option<Seat<K>> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        let seats = self.taken.clone();
        Some(Seat { seats, key })
    }
}

impl<K: Ord> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.seats);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

fn lock<K: Ord>(
    taken: &Mutex<BTreeMap<K, usize>>,
) -> std::sync::MutexGuard<'_, BTreeMap<K, usize>> {
    // Every critical section is a single count.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Who has the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::pki_types::pem::PemObject as _;
    use tokio::io::AsyncReadExt as _;
    use tokio_stream::StreamExt as _;
    use tonic::transport::Endpoint;
    use weir_model::NodeId;

    use super::*;
    use crate::{
        Credentials, Expected, TlsFiles, connect,
        issue::{Authority, Subject},
    };

    const DAY: Duration = Duration::from_secs(86_400);
    const NODE: NodeId = NodeId::from_u128(1);
    /// Longer than any test.
    const NEVER: Duration = Duration::from_secs(3_600);

    fn node() -> Security {
        let authority = Authority::create(DAY * 2).expect("an authority");
        let issued = authority.issue(Subject::Node(NODE), "node", DAY);
        let issued = issued.expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let files = TlsFiles {
            ca: Some(write("ca.pem", authority.certificate())),
            certificate: write("node.pem", &issued.certificate),
            key: write("node.key", &issued.key),
        };
        Security::Tls(Credentials::load(files).expect("files of use"))
    }

    async fn bound() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        (listener, address)
    }

    /// Waits until the other side has closed it.
    async fn closed(mut stream: TcpStream) {
        let mut rest = Vec::new();
        // An end or a reset.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "nothing is said to who says nothing");
    }

    #[tokio::test]
    async fn what_is_said_is_not_held_back() {
        let (listener, address) = bound().await;
        let mut accepted = accept(listener, Security::Plain, Bounds::default());
        let _peer = TcpStream::connect(address).await.expect("a connection");
        let connection = accepted.next().await.expect("the same one");
        let connection = connection.expect("accepted");
        assert!(connection.peer.identity.is_none());
        let Transport::Plain(stream) = &connection.stream else {
            panic!("TLS was not asked for");
        };
        assert!(stream.nodelay().expect("its option"));
    }

    #[tokio::test]
    async fn who_shows_no_certificate_is_turned_away() {
        let (listener, address) = bound().await;
        let bounds = Bounds {
            handshake: Duration::from_millis(1),
            ..Bounds::default()
        };
        let _accepted = accept(listener, node(), bounds);
        closed(TcpStream::connect(address).await.expect("a connection")).await;
    }

    #[tokio::test]
    async fn one_address_holds_up_nobody_else() {
        let (listener, address) = bound().await;
        let bounds = Bounds {
            handshakes_per_address: 3,
            handshake: NEVER,
            ..Bounds::default()
        };
        let _accepted = accept(listener, node(), bounds);
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(TcpStream::connect(address).await.expect("a connection"));
        }
        closed(TcpStream::connect(address).await.expect("one too many")).await;
    }

    #[tokio::test]
    async fn one_certificate_has_so_many_connections() {
        let (listener, address) = bound().await;
        let bounds = Bounds {
            per_certificate: 2,
            ..Bounds::default()
        };
        let security = node();
        let mut accepted = accept(listener, security.clone(), bounds);
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        let mut connections = Vec::new();
        for _ in 0..2 {
            let channel = connect(&endpoint, &security, Expected::Node(NODE)).await;
            let connection = accepted.next().await.expect("one more");
            let connection = connection.expect("accepted");
            let identity = connection.peer.identity.expect("it was shown");
            assert_eq!(identity.node, Some(NODE));
            connections.push((channel.expect("connected"), connection));
        }
        // The third is closed once its certificate is known; when one ends there is room again.
        let Security::Tls(credentials) = &security else {
            panic!("it is TLS");
        };
        let third = TcpStream::connect(address).await.expect("a connection");
        let connector = credentials
            .connector(Expected::AnyNode)
            .expect("a connector");
        let name = rustls::pki_types::ServerName::try_from("weir").expect("a name");
        let third = connector.connect(name, third).await;
        let mut third = third.expect("its side of the handshake is over first");
        let mut rest = Vec::new();
        let _ = third.read_to_end(&mut rest).await;
        connections.pop();
        let again = connect(&endpoint, &security, Expected::Node(NODE)).await;
        assert!(again.is_ok(), "{again:?}");
        assert!(accepted.next().await.is_some());
    }

    #[tokio::test]
    async fn who_is_asked_for_no_certificate_needs_none() {
        let authority = Authority::create(DAY * 2).expect("an authority");
        let issued = authority.issue(Subject::Node(NODE), "node", DAY);
        let issued = issued.expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("own.pem"), &issued.certificate).expect("written");
        fs::write(path("own.key"), &issued.key).expect("written");
        let files = TlsFiles {
            ca: None,
            certificate: path("own.pem"),
            key: path("own.key"),
        };
        let security = Security::Tls(Credentials::load(files).expect("files of use"));
        let (listener, address) = bound().await;
        let mut accepted = accept(listener, security, Bounds::default());
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let authority = authority.certificate().as_bytes();
        let authority = rustls::pki_types::CertificateDer::from_pem_slice(authority);
        roots.add(authority.expect("PEM")).expect("an authority");
        let verifier = crate::verify::NodeVerifier {
            roots: std::sync::Arc::new(roots),
            expected: Expected::AnyNode,
            algorithms: provider.signature_verification_algorithms,
        };
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version")
            .dangerous()
            .with_custom_certificate_verifier(std::sync::Arc::new(verifier))
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
        let stream = TcpStream::connect(address).await.expect("a connection");
        let name = rustls::pki_types::ServerName::try_from("weir").expect("a name");
        let stream = connector.connect(name, stream).await;
        assert!(stream.is_ok(), "{stream:?}");
        let connection = accepted.next().await.expect("it").expect("accepted");
        assert!(connection.peer.identity.is_none());
    }
}
