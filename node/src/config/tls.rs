//! Which files hold certificates and keys.

use weir_model::file::{Complaint, Value};
use weir_tls::TlsFiles;

use super::{ZooKeeperTls, read::path};

/// `[grpc] tls`: both sides show certificates.
pub(super) fn mutual(value: &Value<'_>) -> Option<TlsFiles> {
    let mut table = value.table()?;
    let mut file = |key, example| {
        let value = table.required(key, example);
        value.and_then(|value| path(Some(value), None, ""))
    };
    let ca = file("ca_file", "\"/etc/weir/ca.pem\"");
    let certificate = file("certificate_file", "\"/etc/weir/node.pem\"");
    let key = file("key_file", "\"/etc/weir/node.key\"");
    table.finish();
    Some(TlsFiles {
        ca: Some(ca?),
        certificate: certificate?,
        key: key?,
    })
}

/// `[zookeeper] tls`.
pub(super) fn zookeeper(value: &Value<'_>) -> Option<ZooKeeperTls> {
    let mut table = value.table()?;
    let ca_file = table
        .required("ca_file", "\"/etc/weir/zookeeper-ca.pem\"")
        .and_then(|value| path(Some(value), None, ""));
    let certificate = table.optional("certificate_file");
    let key = table.optional("key_file");
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let certificate = path(Some(certificate), None, "");
            certificate.zip(path(Some(key), None, "")).map(Some)
        }
        (None, None) => Some(None),
        (Some(alone), None) | (None, Some(alone)) => {
            alone.key_error(
                Complaint::new("`certificate_file` and `key_file` go together")
                    .suggest("name both, or neither"),
            );
            None
        }
    };
    table.finish();
    Some(ZooKeeperTls {
        ca_file: ca_file?,
        identity: identity?,
    })
}
