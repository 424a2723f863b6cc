//! The book as voters keep it.

use alloc::vec::Vec;

use weir_model::{
    Generation, LimitId,
    prefetch::{AT_ONCE, fetch},
};

use super::{Book, LimitSlot, NodeSlot};
use crate::record::{LimitEnvelope, NodeEnvelope};

impl Book {
    /// The book as a new leader would adopt it.
    #[must_use]
    pub fn envelopes(&self) -> Vec<NodeEnvelope> {
        self.envelopes_since(None)
    }

    /// What has changed since the proposal `base` was made: everything if there is none. Nodes, and the
    /// limits of each, are in the order of their identities.
    #[must_use]
    pub fn envelopes_since(&self, base: Option<Generation>) -> Vec<NodeEnvelope> {
        let changed = self.changed_since(base);
        let mut rows = alloc::vec![0; self.accounts.len()];
        for node in changed.iter().flatten() {
            rows[node.index()] += 1;
        }
        let mut by_node: Vec<Vec<LimitEnvelope>> =
            rows.into_iter().map(Vec::with_capacity).collect();
        // Limit by limit, as pages are: the other way round each entry is found somewhere else.
        for (limit, slot) in self.limits.iter() {
            self.add_envelopes(limit, slot, &changed[slot as usize], &mut by_node);
        }
        let nodes = self.nodes.iter().filter_map(|(node, slot)| {
            let limits = core::mem::take(&mut by_node[slot as usize]);
            (!limits.is_empty()).then_some(NodeEnvelope { node, limits })
        });
        nodes.collect()
    }

    /// By limit: the nodes whose entry is another one since `base`, each once.
    fn changed_since(&self, base: Option<Generation>) -> Vec<Vec<NodeSlot>> {
        let mut changed: Vec<Vec<NodeSlot>> = alloc::vec![Vec::new(); self.pages.len()];
        if let Some(news) = base.and_then(|base| self.news.0.since(base)) {
            for (generation, entries) in news {
                for some in entries.chunks(AT_ONCE) {
                    fetch(some.iter().map(|(node, limit)| self.hint(*node, *limit)));
                    for (node, limit) in some {
                        // One that has changed once more comes later.
                        if self.pages[limit.index()].backing(*node).changed == generation {
                            changed[limit.index()].push(*node);
                        }
                    }
                }
            }
            for nodes in &mut changed {
                // What was proposed, in the order of nodes; what was answered, in that of answers.
                nodes.sort_unstable();
                nodes.dedup();
            }
        } else {
            let is_new = |stamp: Generation| base.is_none_or(|base| stamp > base);
            for (nodes, page) in changed.iter_mut().zip(&self.pages) {
                let known = page.known();
                let known = known.filter(|(_, _, backing)| is_new(backing.changed));
                nodes.extend(known.map(|(node, _, _)| node));
            }
        }
        changed
    }

    /// Adds what each of these nodes may hold of a limit.
    fn add_envelopes(
        &self,
        limit: LimitId,
        slot: u32,
        nodes: &[NodeSlot],
        by_node: &mut [Vec<LimitEnvelope>],
    ) {
        let page = &self.pages[LimitSlot(slot).index()];
        for node in nodes {
            let holding = page.holding(*node);
            by_node[node.index()].push(LimitEnvelope {
                limit,
                scale: page.scale,
                amount: holding.envelope,
                floor: holding.floor,
            });
        }
    }
}
