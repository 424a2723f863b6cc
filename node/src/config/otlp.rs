//! `[otlp]`: who is told of take-overs and of changes of policy, as traces.

use weir_model::file::{Complaint, Table};

use super::address::host_and_port;

/// `[otlp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// The collector, `http://host:port`: OTLP over gRPC, in plain text.
    pub endpoint: String,
}

/// Whether this build can send any.
const IS_BUILT: bool = cfg!(feature = "otlp");

/// Reads `[otlp]`; `Some(None)` if nothing is sent.
pub(super) fn read(root: &mut Table<'_>) -> Option<Option<OtlpSettings>> {
    let Some(value) = root.optional("otlp") else {
        return Some(None);
    };
    if !IS_BUILT {
        value.key_error(
            Complaint::new("[otlp] for a daemon that was built without the feature `otlp`")
                .suggest("remove it, or build with `--features otlp`"),
        );
    }
    let mut table = value.table()?;
    let endpoint = table.required("endpoint", "\"http://127.0.0.1:4317\"");
    let endpoint = endpoint.and_then(|value| value.parsed(collector));
    table.finish();
    let endpoint = endpoint?;
    IS_BUILT.then_some(Some(OtlpSettings { endpoint }))
}

/// A collector's address. TLS is the business of one on this host, which every collector can be.
fn collector(text: &str) -> Result<String, Complaint> {
    let example = "write it like \"http://127.0.0.1:4317\"";
    let wrong = |what: &str| {
        let found = text.escape_debug();
        Complaint::new(format!("\"{found}\" {what}")).suggest(example)
    };
    let Some(address) = text.strip_prefix("http://") else {
        return Err(wrong(
            "is not the http:// address of a collector that speaks OTLP over gRPC",
        ));
    };
    let address = host_and_port(address.trim_end_matches('/'))
        .map_err(|_| wrong("has no host and port after http://"))?;
    Ok(format!("http://{address}"))
}
