//! Connections over which HTTP is spoken: so many, and each so long.

use std::{
    future::{Future as _, pending},
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    time::{Instant, Sleep, sleep},
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use weir_coord::grpc::Security;
use weir_tls::{Bounds, Connection, accept};

/// Open connections. Beyond it new ones wait unaccepted.
const MAX_CONNECTIONS: usize = 64;
/// A connection is read from for so long: who sends a request byte by byte does not hold its place for
/// ever. Who goes on asking connects again.
const LASTS: Duration = Duration::from_secs(60);

/// What `axum` serves.
pub(super) struct Incoming {
    connections: ReceiverStream<io::Result<Connection>>,
    address: SocketAddr,
}

impl Incoming {
    pub(super) fn new(listener: TcpListener, security: Security) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let bounds = Bounds {
            connections: MAX_CONNECTIONS,
            ..Bounds::default()
        };
        let connections = accept(listener, security, bounds);
        Ok(Self {
            connections,
            address,
        })
    }
}

impl Listener for Incoming {
    type Io = Passing;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Passing, SocketAddr) {
        while let Some(connection) = self.connections.next().await {
            if let Ok(connection) = connection {
                let address = connection.peer().address;
                let end = Box::pin(sleep(LASTS));
                return (Passing { connection, end }, address);
            }
        }
        pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// When the connection of a request comes to its end.
#[derive(Clone, Copy, Debug)]
pub(in crate::serve) struct Until(pub(in crate::serve) Instant);

impl Connected<IncomingStream<'_, Incoming>> for Until {
    fn connect_info(stream: IncomingStream<'_, Incoming>) -> Self {
        Self(stream.io().end.deadline())
    }
}

/// A connection that comes to an end.
pub(super) struct Passing {
    connection: Connection,
    end: Pin<Box<Sleep>>,
}

impl AsyncRead for Passing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Passing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
