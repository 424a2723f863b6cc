//! `management`: what passes before any limit is looked at, so that no limit locks anybody out.

use std::{fmt, net::IpAddr};

use weir_model::{
    file::{Complaint, Table, Value},
    policy::PortRange,
    prefix::Prefix,
};

/// Most entries.
const MAX_ENTRIES: usize = 32;
/// Most ports, and most prefixes, of one entry.
const MAX_PARTS: usize = 128;
/// SSH, BGP, and BFD (RFC 5881, RFC 5883, RFC 7130).
const ALWAYS_MANAGEMENT: [u16; 6] = [22, 179, 3784, 3785, 4784, 6784];

/// Packets from or to one of `ports`, TCP or UDP, whose source is in one of `from`, pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementEntry {
    /// At least one.
    pub ports: Vec<PortRange>,
    /// Source prefixes; empty for any source.
    pub from: Vec<Prefix>,
}

impl ManagementEntry {
    /// Whether packets of this source may pass by it.
    #[must_use]
    pub fn is_from(&self, source: IpAddr) -> bool {
        let width = if source.is_ipv4() { 32 } else { 128 };
        let source = Prefix::containing(source, width);
        let contains = |prefix: &Prefix| source.is_some_and(|source| prefix.contains(source));
        self.from.is_empty() || self.from.iter().any(contains)
    }

    fn includes(&self, port: u16) -> bool {
        let within = |range: &PortRange| (range.first..=range.last).contains(&port);
        self.ports.iter().any(within)
    }
}

impl fmt::Display for ManagementEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |texts: Vec<String>| texts.join(", ");
        let ports = self.ports.iter().map(|range| match range.last {
            last if last == range.first => last.to_string(),
            last => format!("{}-{last}", range.first),
        });
        let sources = match self.from.as_slice() {
            [] => String::from("anywhere"),
            prefixes => listed(prefixes.iter().map(ToString::to_string).collect()),
        };
        write!(f, "ports {} from {sources}", listed(ports.collect()))
    }
}

/// The entries of the file, or those that keep a host reachable if it has none. `coordination` are
/// the ports of ZooKeeper and of gRPC, each with what it is.
pub(super) fn read(
    root: &mut Table<'_>,
    coordination: &[(u16, &'static str)],
) -> Option<Vec<ManagementEntry>> {
    let Some(value) = root.optional("management") else {
        root.warning(
            Complaint::new(
                "no `management`: SSH, BGP, BFD and the fleet's own ports pass from any source, \
                 which whoever forges such a port can use to bypass every limit",
            )
            .suggest("add `management = [{ ports = [22], from = [\"…\"] }]`"),
        );
        return Some(default_management(coordination));
    };
    let elements = value.list(MAX_ENTRIES)?;
    let entries: Option<Vec<ManagementEntry>> = elements.iter().map(entry).collect();
    let entries = entries?;
    for (port, what) in coordination {
        if !entries.iter().any(|entry| entry.includes(*port)) {
            value.warning(
                Complaint::new(format!(
                    "no entry has port {port} ({what}): a broad limit would cut this node off"
                ))
                .suggest("add it"),
            );
        }
    }
    Some(entries)
}

/// What keeps a host reachable: SSH, BGP, BFD and the ports of `coordination`, from any source.
#[must_use]
pub fn default_management(coordination: &[(u16, &'static str)]) -> Vec<ManagementEntry> {
    let coordination = coordination.iter().map(|(port, _)| *port);
    let mut ports: Vec<u16> = ALWAYS_MANAGEMENT.into_iter().chain(coordination).collect();
    ports.sort_unstable();
    ports.dedup();
    let ranges = ports.into_iter().map(|port| PortRange {
        first: port,
        last: port,
    });
    vec![ManagementEntry {
        ports: ranges.collect(),
        from: Vec::new(),
    }]
}

fn entry(value: &Value<'_>) -> Option<ManagementEntry> {
    let mut table = value.table()?;
    let ports = table
        .required("ports", "[22]")
        .and_then(|value| value.port_ranges(MAX_PARTS));
    let from = match table.optional("from") {
        Some(value) => value.prefixes(MAX_PARTS),
        None => {
            value.warning(
                Complaint::new("an entry without `from` passes whoever forges its ports")
                    .suggest("name the prefixes that managers are in"),
            );
            Some(Vec::new())
        }
    };
    table.finish();
    Some(ManagementEntry {
        ports: ports?,
        from: from?.into_iter().map(|(_, prefix)| prefix).collect(),
    })
}
