//! What operators see of hot keys.

use weir_model::Limit;
use weir_proto::admin::v1;

use super::{
    coordination::LeaderView,
    view::{TOP_MAX, View},
};
use crate::dataplane;

impl View<'_> {
    /// How many keys of a limit are hot, and the heaviest: over the fleet if this node leads,
    /// otherwise of those that are hot here and as they are seen here.
    pub(super) fn hot_of(
        &self,
        limit: &Limit,
        leader: Option<&LeaderView>,
    ) -> (u32, Option<v1::HotSource>) {
        if limit.per.is_none() {
            return (0, None);
        }
        let Some(leader) = leader else {
            return self.hot_here(limit);
        };
        let keys = leader.hot.iter().filter(|(key, _)| key.limit == limit.id);
        let heaviest = keys.clone().max_by_key(|(_, offered)| *offered);
        let heaviest = heaviest.map(|(key, offered)| v1::HotSource {
            source: key.key.to_string(),
            offered: limit.scale.tokens_per_second(*offered),
        });
        (count(keys), heaviest)
    }

    fn hot_here(&self, limit: &Limit) -> (u32, Option<v1::HotSource>) {
        let keys = self.enforcement.dataplane().hot_keys();
        let keys = keys.filter(|key| key.limit == limit.id);
        // The heaviest come first.
        let seen = self.heaviest(limit, TOP_MAX, dataplane::now());
        let hot = seen.into_iter().find(|source| source.leased.is_some());
        let heaviest = hot.map(|source| v1::HotSource {
            source: source.source,
            offered: source.offered,
        });
        (count(keys), heaviest)
    }
}

fn count(keys: impl Iterator) -> u32 {
    u32::try_from(keys.count()).unwrap_or(u32::MAX)
}
