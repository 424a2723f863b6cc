//! The maps, with their types. Descriptors only: nothing here needs a privilege.

use std::{os::fd::AsFd as _, path::Path};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf, lpm_trie::Key},
};
use weir_abi::{
    HotKey, LimitCounters, LimitSlot, Plain, PolicyRecord, Rule, Service, Totals,
    maps::{self, SIDE_BITS},
};
use weir_model::prefix::Prefix;

use super::{
    batch::Batch,
    error::{DataplaneError, LoadError},
    sys,
};

/// A value of the layouts, for aya.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raw<T>(pub(crate) T);

// SAFETY: `Plain` asks for what `Pod` does.
unsafe impl<T: Plain> Pod for Raw<T> {}

/// What a trie compares, and the length of it that a prefix fixes.
pub(crate) type Key4 = Key<[u8; 8]>;
pub(crate) type Key6 = Key<[u8; 20]>;

/// All maps that are pinned.
pub(crate) struct Maps {
    /// On a descriptor that cannot write: only the kernel changes grants and buckets.
    pub(crate) limits: Array<MapData, Raw<LimitSlot>>,
    pub(crate) counters: PerCpuArray<MapData, Raw<LimitCounters>>,
    /// The same, to be read.
    pub(crate) counts: Batch<LimitCounters>,
    pub(crate) totals: PerCpuArray<MapData, Raw<Totals>>,
    pub(crate) inherited_counters: HashMap<MapData, u32, Raw<LimitCounters>>,
    pub(crate) inherited_totals: Array<MapData, Raw<Totals>>,
    /// Read only too.
    pub(crate) key_seed: Array<MapData, u64>,
    /// Lines of the table of keys, which only the kernel reads and writes.
    pub(crate) key_lines: u32,
    pub(crate) hot: HashMap<MapData, Raw<HotKey>, u64>,
    pub(crate) events: RingBuf<MapData>,
    pub(crate) sampling: Array<MapData, u64>,
    pub(crate) side: Array<MapData, u64>,
    pub(crate) policies: Array<MapData, Raw<PolicyRecord>>,
    pub(crate) rules: Array<MapData, Raw<Rule>>,
    pub(crate) services: Array<MapData, Raw<Service>>,
    pub(crate) destinations: Tries<u32>,
    pub(crate) sources: Tries<[u32; 2]>,
}

/// A trie for each address family.
pub(crate) struct Tries<V: Pod> {
    v4: LpmTrie<MapData, [u8; 8], V>,
    v6: LpmTrie<MapData, [u8; 20], V>,
    names: [&'static str; 2],
}

impl Maps {
    /// Slots for limits. Those for hot keys come behind them.
    pub(crate) fn slots(&self) -> u32 {
        self.limits.len() - maps::HOT_SLOTS as u32
    }

    /// Opens the map of hot keys that is pinned here: it has the same form in every layout.
    pub(crate) fn open_hot(path: &Path) -> Result<HashMap<MapData, Raw<HotKey>, u64>, LoadError> {
        typed(maps::HOT, open(path, false)?)
    }

    /// Opens what is pinned. `path` says where each map is.
    pub(crate) fn open(path: impl Fn(&str) -> std::path::PathBuf) -> Result<Self, LoadError> {
        let open = |name| open(&path(name), false);
        Ok(Self {
            limits: typed(maps::LIMITS, self::open(&path(maps::LIMITS), true)?)?,
            counters: typed(maps::COUNTERS, open(maps::COUNTERS)?)?,
            counts: Batch::open(&path(maps::COUNTERS))?,
            totals: typed(maps::TOTALS, open(maps::TOTALS)?)?,
            inherited_counters: typed(maps::INHERITED_COUNTERS, open(maps::INHERITED_COUNTERS)?)?,
            inherited_totals: typed(maps::INHERITED_TOTALS, open(maps::INHERITED_TOTALS)?)?,
            key_seed: typed(maps::KEY_SEED, self::open(&path(maps::KEY_SEED), true)?)?,
            key_lines: entries(&path(maps::KEYS))?,
            hot: Self::open_hot(&path(maps::HOT))?,
            events: typed(maps::EVENTS, open(maps::EVENTS)?)?,
            sampling: typed(maps::SAMPLING, open(maps::SAMPLING)?)?,
            side: typed(maps::SIDE, open(maps::SIDE)?)?,
            policies: typed(maps::POLICIES, open(maps::POLICIES)?)?,
            rules: typed(maps::RULES, open(maps::RULES)?)?,
            services: typed(maps::SERVICES, open(maps::SERVICES)?)?,
            destinations: Tries {
                v4: typed(maps::DESTINATIONS4, open(maps::DESTINATIONS4)?)?,
                v6: typed(maps::DESTINATIONS6, open(maps::DESTINATIONS6)?)?,
                names: [maps::DESTINATIONS4, maps::DESTINATIONS6],
            },
            sources: Tries {
                v4: typed(maps::SOURCES4, open(maps::SOURCES4)?)?,
                v6: typed(maps::SOURCES6, open(maps::SOURCES6)?)?,
                names: [maps::SOURCES4, maps::SOURCES6],
            },
        })
    }
}

/// How many entries a pinned map has room for.
fn entries(path: &Path) -> Result<u32, LoadError> {
    let failed = |source| super::pins::file_error(path, source);
    let fd = sys::open_pinned_read_only(path).map_err(failed)?;
    let info: sys::MapInfo = sys::info(fd.as_fd()).map_err(failed)?;
    Ok(info.max_entries)
}

fn open(path: &Path, read_only: bool) -> Result<Map, LoadError> {
    let fd = if read_only {
        sys::open_pinned_read_only(path)
    } else {
        sys::open_pinned(path)
    };
    let fd = fd.map_err(|source| super::pins::file_error(path, source))?;
    MapData::from_fd(fd)
        .and_then(Map::from_map_data)
        .map_err(|source| refused(&path.display().to_string(), source))
}

/// A map as the type that it is to have.
pub(crate) fn typed<T>(name: &str, map: Map) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = MapError>,
{
    T::try_from(map).map_err(|source| refused(name, source))
}

pub(crate) fn refused(
    what: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> LoadError {
    LoadError::Refused {
        what: what.to_owned(),
        source: source.into(),
    }
}

impl<V: Pod> Tries<V> {
    /// Two tries by name.
    pub(crate) fn new(names: [&'static str; 2], v4: Map, v6: Map) -> Result<Self, LoadError> {
        Ok(Self {
            v4: typed(names[0], v4)?,
            v6: typed(names[1], v6)?,
            names,
        })
    }

    /// Sets the value of a prefix on one side.
    pub(crate) fn insert(
        &mut self,
        side: u32,
        prefix: Prefix,
        value: V,
    ) -> Result<(), DataplaneError> {
        let [v4, v6] = self.names;
        match key(side, prefix) {
            AnyKey::V4(key) => self.v4.insert(&key, value, 0).map_err(map_error(v4)),
            AnyKey::V6(key) => self.v6.insert(&key, value, 0).map_err(map_error(v6)),
        }
    }

    /// Takes away every prefix of one side.
    pub(crate) fn clear(&mut self, side: u32) -> Result<(), DataplaneError> {
        let [v4, v6] = self.names;
        let of_side = |data: &[u8]| data.starts_with(&side.to_ne_bytes());
        // Collected first: the order of a trie's keys does not survive a removal.
        let keys = self.v4.keys().collect::<Result<Vec<Key4>, _>>();
        for key in keys.map_err(map_error(v4))? {
            if of_side(&key.data()) {
                self.v4.remove(&key).map_err(map_error(v4))?;
            }
        }
        let keys = self.v6.keys().collect::<Result<Vec<Key6>, _>>();
        for key in keys.map_err(map_error(v6))? {
            if of_side(&key.data()) {
                self.v6.remove(&key).map_err(map_error(v6))?;
            }
        }
        Ok(())
    }
}

enum AnyKey {
    V4(Key4),
    V6(Key6),
}

fn key(side: u32, prefix: Prefix) -> AnyKey {
    let length = SIDE_BITS + u32::from(prefix.length());
    let side = side.to_ne_bytes();
    match prefix.address() {
        std::net::IpAddr::V4(address) => {
            let mut data = [0; 8];
            data[..4].copy_from_slice(&side);
            data[4..].copy_from_slice(&address.octets());
            AnyKey::V4(Key::new(length, data))
        }
        std::net::IpAddr::V6(address) => {
            let mut data = [0; 20];
            data[..4].copy_from_slice(&side);
            data[4..].copy_from_slice(&address.octets());
            AnyKey::V6(Key::new(length, data))
        }
    }
}

/// Names the map that refused.
pub(crate) fn map_error(map: &'static str) -> impl Fn(MapError) -> DataplaneError {
    move |source| DataplaneError::Map { map, source }
}
