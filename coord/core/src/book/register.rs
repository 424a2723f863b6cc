//! The book as voters keep it.

use alloc::vec::Vec;

use weir_model::Generation;

use super::{Book, LimitSlot, NodeSlot};
use crate::record::{LimitEnvelope, NodeEnvelope};

impl Book {
    /// The book as a new leader would adopt it.
    #[must_use]
    pub fn envelopes(&self) -> Vec<NodeEnvelope> {
        self.envelopes_since(None)
    }

    /// What has changed since the proposal `base` was made: everything if there is none.
    #[must_use]
    pub fn envelopes_since(&self, base: Option<Generation>) -> Vec<NodeEnvelope> {
        let mut by_node: Vec<Vec<LimitSlot>> = alloc::vec![Vec::new(); self.accounts.len()];
        match base.and_then(|base| self.news.0.since(base)) {
            Some(news) => {
                for (generation, node, limit) in news {
                    // One that has changed once more comes later.
                    if self.pages[limit.index()].backing(node).changed == generation {
                        by_node[node.index()].push(limit);
                    }
                }
            }
            None => {
                for (slot, page) in (0..).zip(&self.pages) {
                    for (node, _, backing) in page.known() {
                        if base.is_none_or(|base| backing.changed > base) {
                            by_node[node.index()].push(LimitSlot(slot));
                        }
                    }
                }
            }
        }
        let nodes = self.nodes.iter().filter_map(|(node, slot)| {
            let limits = core::mem::take(&mut by_node[slot as usize]);
            (!limits.is_empty()).then(|| NodeEnvelope {
                node,
                limits: self.envelopes_of(NodeSlot(slot), limits),
            })
        });
        nodes.collect()
    }

    fn envelopes_of(&self, node: NodeSlot, limits: Vec<LimitSlot>) -> Vec<LimitEnvelope> {
        let envelope = |slot: LimitSlot| {
            let (page, limit) = (&self.pages[slot.index()], self.limits.key(slot.0)?);
            let holding = page.holding(node);
            Some(LimitEnvelope {
                limit,
                scale: page.scale,
                amount: holding.envelope,
                floor: holding.floor,
            })
        };
        let mut envelopes: Vec<LimitEnvelope> = limits.into_iter().filter_map(envelope).collect();
        envelopes.sort_unstable_by_key(|envelope| envelope.limit);
        envelopes.dedup_by_key(|envelope| envelope.limit);
        envelopes
    }
}
