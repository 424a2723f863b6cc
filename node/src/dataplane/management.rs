//! The management allow-list: what passes before any limit is looked at.

use std::collections::BTreeMap;

use aya::maps::{Array, MapData};
use weir_abi::maps;
use weir_model::{policy::PortRange, prefix::Prefix};

use super::{
    compile::{everywhere, flatten},
    error::LoadError,
    maps::{Tries, refused},
};

/// One entry: a packet passes if its source port or its destination port, TCP or UDP, is among
/// `ports` *and* its source address is in `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementEntry {
    /// Ports, both ends included.
    pub ports: Vec<PortRange>,
    /// Source prefixes; empty for any source, which whoever forges the port can use.
    pub from: Vec<Prefix>,
}

/// The allow-list as tables.
struct Tables {
    ports: BTreeMap<u16, u32>,
    sources: Vec<(Prefix, u32)>,
}

/// Writes the allow-list into maps that are new, and so empty.
pub(crate) fn write(
    entries: &[ManagementEntry],
    ports: &mut Array<MapData, u32>,
    sources: &mut Tries<u32>,
) -> Result<(), LoadError> {
    let tables = compile(entries)?;
    for (port, bits) in tables.ports {
        for table in 0..2 {
            let index = table * maps::PORTS as u32 + u32::from(port);
            ports
                .set(index, bits, 0)
                .map_err(|error| refused(maps::MANAGEMENT_PORTS, error))?;
        }
    }
    for (prefix, bits) in tables.sources {
        sources
            .insert(0, prefix, bits)
            .map_err(|error| refused("the allow-list's sources", error))?;
    }
    Ok(())
}

fn compile(entries: &[ManagementEntry]) -> Result<Tables, LoadError> {
    bounded("entries", entries.len(), maps::MANAGEMENT_ENTRIES)?;
    let mut ports: BTreeMap<u16, u32> = BTreeMap::new();
    let mut of_prefix: BTreeMap<Prefix, Vec<usize>> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        for range in &entry.ports {
            for port in range.first..=range.last {
                *ports.entry(port).or_default() |= 1 << number;
            }
        }
        let from = if entry.from.is_empty() {
            everywhere().to_vec()
        } else {
            entry.from.clone()
        };
        for prefix in from {
            of_prefix.entry(prefix).or_default().push(number);
        }
    }
    let sources: Vec<_> = flatten(of_prefix)
        .into_iter()
        .map(|(prefix, numbers)| {
            let bits = numbers
                .into_iter()
                .fold(0, |bits, number| bits | 1 << number);
            (prefix, bits)
        })
        .collect();
    bounded("source prefixes", sources.len(), maps::MANAGEMENT_PREFIXES)?;
    Ok(Tables { ports, sources })
}

fn bounded(what: &'static str, found: usize, most: usize) -> Result<(), LoadError> {
    if found <= most {
        return Ok(());
    }
    Err(LoadError::ManagementTooLarge { what, found, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ports: &[u16], from: &[&str]) -> ManagementEntry {
        ManagementEntry {
            ports: ports
                .iter()
                .map(|port| PortRange {
                    first: *port,
                    last: *port,
                })
                .collect(),
            from: from.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_source_has_the_bits_of_all_prefixes_that_cover_it() {
        let tables = compile(&[
            entry(&[22], &["198.18.0.0/15"]),
            entry(&[22, 179], &["198.18.7.0/24"]),
            entry(&[3784], &[]),
        ])
        .unwrap();
        assert_eq!(tables.ports[&22], 0b011);
        assert_eq!(tables.ports[&179], 0b010);
        let bits: BTreeMap<_, _> = tables
            .sources
            .into_iter()
            .map(|(prefix, bits)| (prefix.to_string(), bits))
            .collect();
        assert_eq!(bits["198.18.0.0/15"], 0b101);
        assert_eq!(bits["198.18.7.0/24"], 0b111);
        assert_eq!(bits["0.0.0.0/0"], 0b100);
        assert_eq!(bits["::/0"], 0b100);
    }

    #[test]
    fn too_many_entries_are_refused() {
        let error = compile(&vec![entry(&[22], &[]); 33]).err().unwrap();
        assert!(error.to_string().contains("33 entries"), "{error}");
    }
}
