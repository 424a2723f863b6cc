//! What this host gives keys of strict limits by itself: its part of their budget, or nothing.
//!
//! It has a place among `max_members`, and nobody can take it back from a host that is cut off. So only a
//! member has it, and one that is to leave has stopped, durably, before it acknowledges.

use tracing::{error, info};

use super::Enforcement;

impl Enforcement {
    /// Makes the kernel's rules say what is right now. `false` if that fails; it is tried again.
    pub(super) fn settle_gives(&mut self) -> bool {
        if let Some(gives) = self.gives_wanted {
            if !self.memory.set_given_up(!gives) {
                return false;
            }
            self.gives_wanted = None;
        }
        let gives = self.may_give && !self.memory.has_given_up();
        if self.dataplane.gives() == gives {
            return true;
        }
        // What lies ready was compiled for what was right before.
        self.give_up_aside();
        self.dataplane.set_gives(gives);
        let Some((version, policy)) = &self.policy else {
            return true;
        };
        match self.dataplane.activate(policy, *version) {
            Ok(()) => {
                info!(
                    gives,
                    "keys of strict limits have another part of this host"
                );
                true
            }
            Err(error) => {
                error!(%error, gives, "what keys of strict limits get could not be changed");
                self.dataplane.set_gives(!gives);
                false
            }
        }
    }
}
