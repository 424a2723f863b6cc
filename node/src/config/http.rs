//! `[http]`: who may look at metrics, health and the console from elsewhere.

use std::{net::SocketAddr, path::PathBuf};

use weir_model::file::{Complaint, Table, Value};
use weir_tls::TlsFiles;

use super::{Overrides, address::socket_address, read::path};

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where the daemon listens.
    pub listen: SocketAddr,
    /// What is spoken over; `None` for plain text. Nobody is asked for a certificate.
    pub tls: Option<TlsFiles>,
    /// The file whose first line whoever asks has to know.
    pub token_file: Option<PathBuf>,
}

/// Reads `[http]`; `Some(None)` if nothing is listened on.
pub(super) fn read(root: &mut Table<'_>, overrides: &Overrides) -> Option<Option<HttpSettings>> {
    let mut table = root.table_or_empty("http")?;
    let place = table.optional("listen");
    let in_file = match &place {
        Some(value) => value.clone().parsed(socket_address).map(Some),
        None => Some(None),
    };
    let tls = match table.optional("tls") {
        Some(value) => server(&value).map(Some),
        None => Some(None),
    };
    let token_file = match table.optional("token_file") {
        Some(value) => path(Some(value), None, "").map(Some),
        None => Some(None),
    };
    let insecure = match table.optional("insecure") {
        Some(value) => value.boolean(),
        None => Some(false),
    };
    table.finish();
    let listen = match overrides.http_listen {
        Some(listen) => Some(listen),
        None => in_file?,
    };
    let (tls, token_file, insecure) = (tls?, token_file?, insecure?);
    let Some(listen) = listen else {
        return Some(None);
    };
    let is_protected = tls.is_some() && token_file.is_some();
    if !listen.ip().is_loopback() && !is_protected && !insecure {
        let complaint = Complaint::new(format!(
            "[http] listens on {listen}, where others reach it, without `tls` and `token_file`"
        ))
        .suggest(
            "add both, or listen on 127.0.0.1, or write `insecure = true` on a network of its own",
        );
        match place {
            Some(value) if overrides.http_listen.is_none() => value.error(complaint),
            _ => root.error(complaint),
        }
        return None;
    }
    Some(Some(HttpSettings {
        listen,
        tls,
        token_file,
    }))
}

/// `[http] tls`: peers show no certificate.
fn server(value: &Value<'_>) -> Option<TlsFiles> {
    let mut table = value.table()?;
    let certificate = table.required("certificate_file", "\"/etc/weir/http.pem\"");
    let certificate = certificate.and_then(|value| path(Some(value), None, ""));
    let key = table.required("key_file", "\"/etc/weir/http.key\"");
    let key = key.and_then(|value| path(Some(value), None, ""));
    table.finish();
    Some(TlsFiles {
        ca: None,
        certificate: certificate?,
        key: key?,
    })
}
