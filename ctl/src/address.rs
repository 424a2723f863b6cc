//! Where a daemon answers.

use std::{fmt, path::PathBuf, str::FromStr};

use thiserror::Error;
use tonic::transport::Uri;

/// A daemon's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A unix socket.
    Socket(PathBuf),
    /// A TCP port, as `http://HOST:PORT`.
    Http(String),
    /// A TCP port where TLS is spoken, `HOST:PORT`.
    Https(String),
}

impl Address {
    /// The local daemon.
    pub(crate) const DEFAULT: &'static str = "unix:/run/weir/node.sock";
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("expected unix:/PATH, https://HOST:PORT (`[grpc] tls`) or http://HOST:PORT{hint}")]
pub(crate) struct AddressError {
    hint: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let path = match text.strip_prefix("unix:") {
            Some(path) => Some(path.strip_prefix("//").unwrap_or(path)),
            None => Some(text).filter(|text| text.starts_with('/')),
        };
        if let Some(path) = path {
            return match path {
                "" => Err(AddressError::of(text)),
                path => Ok(Self::Socket(path.into())),
            };
        }
        let uri: Uri = text.parse().map_err(|_| AddressError::of(text))?;
        let names_host_and_port =
            uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some();
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(_)) if names_host_and_port => Ok(Self::Http(text.to_owned())),
            (Some("https"), Some(authority)) if names_host_and_port => {
                Ok(Self::Https(authority.to_string()))
            }
            _ => Err(AddressError::of(text)),
        }
    }
}

impl AddressError {
    /// Whoever names a host and a port has left out the beginning.
    fn of(text: &str) -> Self {
        let completed = format!("http://{text}");
        let is_host_and_port = !text.contains('/') && completed.parse::<Address>().is_ok();
        Self {
            hint: if is_host_and_port {
                format!(": try {completed}, or https://{text}")
            } else {
                String::new()
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Http(url) => url.fmt(f),
            Self::Https(authority) => write!(f, "https://{authority}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_said() {
        let said = |text: &str| text.parse::<Address>().unwrap_err().to_string();
        assert!(said("edge:7946").ends_with(": try http://edge:7946, or https://edge:7946"));
        assert!(said("[::1]:7946").ends_with("https://[::1]:7946"));
        assert!(said("edge").ends_with("http://HOST:PORT"));
        assert!(said("ftp://edge:7946").ends_with("http://HOST:PORT"));
    }

    #[test]
    fn sockets_and_ports_are_addresses() {
        for (text, expected) in [
            (
                Address::DEFAULT,
                Some(Address::Socket("/run/weir/node.sock".into())),
            ),
            (
                "unix:///tmp/a.sock",
                Some(Address::Socket("/tmp/a.sock".into())),
            ),
            ("unix:a.sock", Some(Address::Socket("a.sock".into()))),
            ("/tmp/a.sock", Some(Address::Socket("/tmp/a.sock".into()))),
            (
                "http://edge:7946",
                Some(Address::Http("http://edge:7946".into())),
            ),
            (
                "http://[::1]:7946",
                Some(Address::Http("http://[::1]:7946".into())),
            ),
            ("http://edge", None),
            (
                "https://edge:7946",
                Some(Address::Https("edge:7946".into())),
            ),
            ("https://edge", None),
            ("ftp://edge:7946", None),
            ("edge:7946", None),
            ("unix:", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
