//! Values that are lists of prefixes or ports.

use std::{format, vec::Vec};

use super::{document::Value, problem::Complaint};
use crate::{
    policy::PortRange,
    prefix::{Prefix, PrefixError},
};

impl<'d> Value<'d> {
    /// A list of one to `most` prefixes, each with its place. Those that are malformed are noted
    /// and left out.
    #[must_use]
    pub fn prefixes(&self, most: usize) -> Option<Vec<(Value<'d>, Prefix)>> {
        let elements = self.list(most)?;
        if elements.is_empty() {
            self.error(
                Complaint::new("an empty list would match everything")
                    .suggest("remove the key to match any address"),
            );
        }
        let read = |element: Value<'d>| Some((element.clone(), element.parsed(prefix)?));
        Some(elements.into_iter().filter_map(read).collect())
    }

    /// A list of one to `most` ports and ranges of ports: sorted, overlapping and adjacent ones
    /// merged. Those that are malformed are noted and left out.
    #[must_use]
    pub fn port_ranges(&self, most: usize) -> Option<Vec<PortRange>> {
        let elements = self.list(most)?;
        if elements.is_empty() {
            self.error(
                Complaint::new("an empty list would match every port")
                    .suggest("remove the key to match any port"),
            );
        }
        Some(merged(elements.iter().filter_map(port_range).collect()))
    }
}

fn prefix(text: &str) -> Result<Prefix, Complaint> {
    text.parse().map_err(|error: PrefixError| {
        let text = text.escape_debug();
        match error {
            PrefixError::HostBits { masked } => Complaint::new(format!(
                "\"{text}\" is not a prefix: bits after the length are set"
            ))
            .suggest(format!("did you mean \"{masked}\"?")),
            PrefixError::Address | PrefixError::Length { .. } => {
                Complaint::new(format!("\"{text}\" is not a prefix: {error}"))
                    .suggest("write it like \"192.0.2.0/24\" or \"2001:db8::/32\"")
            }
        }
    })
}

fn port_range(value: &Value<'_>) -> Option<PortRange> {
    if value.is_integer() {
        let port = value.integer(0..=u64::from(u16::MAX))?;
        let port = u16::try_from(port).ok()?;
        return Some(PortRange {
            first: port,
            last: port,
        });
    }
    if !value.is_string() {
        value.expected("a port like 53, or a range like \"8000-8099\"");
        return None;
    }
    value.parsed(|text| {
        let complain = || {
            Complaint::new(format!(
                "\"{}\" is not a port or a range of ports",
                text.escape_debug()
            ))
            .suggest("write 53 or \"8000-8099\"")
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |digits: &str| digits.trim().parse::<u16>().map_err(|_| complain());
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(
                Complaint::new(format!("the range \"{first}-{last}\" is backwards"))
                    .suggest(format!("did you mean \"{last}-{first}\"?")),
            );
        }
        Ok(PortRange { first, last })
    })
}

fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}
