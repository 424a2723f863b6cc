//! Heavy and hot keys, to the wire and from it.

use std::{collections::BTreeSet, net::IpAddr};

use weir_model::{
    HeavyKey, HotKey, LimitId, UnitsPerSecond,
    hot::{MAX_HEAVY_KEYS, MAX_HOT_KEYS},
    prefix::Prefix,
};

use super::v1;
use crate::error::{WireError, required};

impl From<HeavyKey> for v1::HeavyKey {
    fn from(heavy: HeavyKey) -> Self {
        Self {
            limit: heavy.limit.0,
            key: Some(heavy.key.into()),
            offered: heavy.offered.0,
        }
    }
}

impl From<HotKey> for v1::HotKey {
    fn from(hot: HotKey) -> Self {
        Self {
            id: hot.id.0,
            limit: hot.limit.0,
            key: Some(hot.key.into()),
        }
    }
}

impl From<Prefix> for v1::Prefix {
    fn from(prefix: Prefix) -> Self {
        Self {
            address: match prefix.address() {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            },
            length: u32::from(prefix.length()),
        }
    }
}

/// Each key of a limit once.
pub(super) fn heavy_keys(
    field: &'static str,
    wire: Vec<v1::HeavyKey>,
) -> Result<Vec<HeavyKey>, WireError> {
    bounded(field, wire.len(), MAX_HEAVY_KEYS)?;
    let mut seen = BTreeSet::new();
    let heavy_key = |wire: v1::HeavyKey| {
        let limit = LimitId(wire.limit);
        let key = prefix(field, wire.key)?;
        if seen.insert((limit, key)) {
            let offered = UnitsPerSecond(wire.offered);
            Ok(HeavyKey {
                limit,
                key,
                offered,
            })
        } else {
            Err(repeated(field, limit))
        }
    };
    wire.into_iter().map(heavy_key).collect()
}

/// Each identity once.
pub(super) fn hot_keys(wire: v1::HotKeys) -> Result<Vec<HotKey>, WireError> {
    const FIELD: &str = "propose.hot";
    bounded(FIELD, wire.keys.len(), MAX_HOT_KEYS)?;
    let mut seen = BTreeSet::new();
    let hot_key = |wire: v1::HotKey| {
        let id = LimitId(wire.id);
        if !seen.insert(id) {
            return Err(repeated(FIELD, id));
        }
        Ok(HotKey {
            id,
            limit: LimitId(wire.limit),
            key: prefix(FIELD, wire.key)?,
        })
    };
    wire.keys.into_iter().map(hot_key).collect()
}

fn bounded(field: &'static str, found: usize, most: usize) -> Result<(), WireError> {
    if found <= most {
        Ok(())
    } else {
        Err(WireError::TooMany { field, found, most })
    }
}

const fn repeated(field: &'static str, limit: LimitId) -> WireError {
    let limit = limit.0;
    WireError::Repeated { field, limit }
}

fn prefix(field: &'static str, wire: Option<v1::Prefix>) -> Result<Prefix, WireError> {
    let wire = required(field, wire)?;
    let is_no_prefix = WireError::Prefix { field };
    let address: IpAddr = match wire.address.as_slice() {
        [a, b, c, d] => [*a, *b, *c, *d].into(),
        longer => match <[u8; 16]>::try_from(longer) {
            Ok(octets) => octets.into(),
            Err(_) => return Err(is_no_prefix),
        },
    };
    u8::try_from(wire.length)
        .ok()
        .and_then(|length| Prefix::containing(address, length))
        .filter(|prefix| prefix.address() == address)
        .ok_or(is_no_prefix)
}
