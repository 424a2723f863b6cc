//! What is measured, in which order.

use super::{
    flood::Family,
    method::Method,
    variant::{Variant, Weir},
};

/// Variants that are measured side by side, under the same conditions.
#[derive(Clone, Debug)]
pub struct Group {
    /// Different sources.
    pub keys: u32,
    /// Address family.
    pub family: Family,
    /// Who runs where.
    pub methods: Vec<Method>,
    /// Whether there is a part with emptied caches.
    pub cold: bool,
    /// Side by side, a round each in turn.
    pub variants: Vec<Variant>,
}

/// Numbers of sources.
pub const POOLS: [u32; 4] = [1, 1_000, FULL_POOL, LARGEST_POOL];
/// The one that has all of the parts.
const FULL_POOL: u32 = 100_000;
/// Where tables are larger than caches.
const LARGEST_POOL: u32 = 1_000_000;

/// Everything.
#[must_use]
pub fn full() -> Vec<Group> {
    let mut groups: Vec<Group> = POOLS
        .into_iter()
        .map(|keys| Group {
            keys,
            family: Family::V4,
            methods: vec![Method::Split, Method::Inline, Method::InlineTwo],
            cold: keys >= FULL_POOL,
            variants: floors()
                .into_iter()
                .chain(rivals())
                .chain(weirs(keys))
                .collect(),
        })
        .collect();
    groups.push(sixth_version(FULL_POOL));
    groups
}

/// The figures that have bars, and one group of each other kind.
#[must_use]
pub fn quick() -> Vec<Group> {
    let group = |keys, rivals: &[Variant]| Group {
        keys,
        family: Family::V4,
        methods: vec![Method::Split, Method::InlineTwo],
        cold: keys == LARGEST_POOL,
        variants: [Variant::BareDrop]
            .iter()
            .chain(rivals)
            .cloned()
            .chain([weir(Weir::WHOLE, keys)])
            .collect(),
    };
    let all = [
        Variant::XdpLru,
        Variant::TouchingDrop,
        Variant::Nft,
        Variant::Hashlimit,
    ];
    vec![
        group(1, &all),
        group(FULL_POOL, &all),
        group(LARGEST_POOL, &all[..1]),
        sixth_version(1_000),
    ]
}

/// IPv6, whose sources are told apart by longer addresses.
fn sixth_version(keys: u32) -> Group {
    Group {
        keys,
        family: Family::V6,
        methods: vec![Method::Split],
        cold: false,
        variants: vec![Variant::BareDrop, Variant::Nft, Variant::Weir(Weir::WHOLE)],
    }
}

fn floors() -> [Variant; 3] {
    [Variant::BareDrop, Variant::TouchingDrop, Variant::TcDrop]
}

fn rivals() -> [Variant; 5] {
    [
        Variant::XdpAggregate,
        Variant::XdpLru,
        Variant::XdpHash,
        Variant::Nft,
        Variant::Hashlimit,
    ]
}

fn weirs(keys: u32) -> [Variant; 4] {
    [
        weir(Weir::AGGREGATE, keys),
        weir(Weir::KEYED, keys),
        weir(Weir::WHOLE, keys),
        weir(Weir::WHOLE_AGGREGATE_DROPS, keys),
    ]
}

/// With room for the pool, as its operator would give it: a quarter full.
fn weir(weir: Weir, keys: u32) -> Variant {
    let table_slots = (keys > Weir::DEFAULT_SLOTS / 4).then(|| (4 * keys).next_power_of_two());
    Variant::Weir(Weir {
        table_slots,
        ..weir
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_what_ratios_are_made_of() {
        for group in full().into_iter().chain(quick()) {
            let names: Vec<String> = group.variants.iter().map(Variant::name).collect();
            for name in ["bare-drop", "weir"] {
                assert!(names.iter().any(|other| other == name), "{names:?}");
            }
        }
    }

    #[test]
    fn tables_grow_with_the_pool() {
        let slots = |keys| match weir(Weir::WHOLE, keys) {
            Variant::Weir(weir) => weir.table_slots,
            _ => None,
        };
        assert_eq!(slots(100_000), None);
        assert_eq!(slots(1_000_000), Some(1 << 22));
    }
}
