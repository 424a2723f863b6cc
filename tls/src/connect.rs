//! The end that calls.

use std::io;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use tower::service_fn;

use crate::{Credentials, Expected, Security};

/// Connects to an endpoint, which is `http://host:port` whatever is spoken.
///
/// # Errors
///
/// That it cannot be reached, or that somebody else than `expected` answers.
pub async fn connect(
    endpoint: &Endpoint,
    security: &Security,
    expected: Expected,
) -> Result<Channel, Error> {
    match security {
        Security::Plain => endpoint.connect().await,
        Security::Tls(credentials) => {
            let credentials = credentials.clone();
            let connector = service_fn(move |uri: Uri| {
                let credentials = credentials.clone();
                async move {
                    secured(&uri, &credentials, expected)
                        .await
                        .map(TokioIo::new)
                }
            });
            endpoint.connect_with_connector(connector).await
        }
    }
}

async fn secured(
    uri: &Uri,
    credentials: &Credentials,
    expected: Expected,
) -> io::Result<TlsStream<TcpStream>> {
    let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
    let stream = TcpStream::connect(authority.as_str()).await?;
    stream.set_nodelay(true)?;
    let connector = credentials.connector(expected).map_err(io::Error::other)?;
    // Nobody looks at it: who answers is told by the node that its certificate names.
    let name = ServerName::try_from("weir").map_err(io::Error::other)?;
    connector.connect(name, stream).await
}
