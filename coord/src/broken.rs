//! Breaking a rule on purpose, to prove that checks of whole fleets can fail.
//!
//! Only a build with the feature `broken-rules` can: there, the environment variable
//! `WEIR_BROKEN_RULE` names the one rule that this daemon breaks. In every other build all rules
//! hold, and nothing is looked at.

use weir_coord_core::rules::Rules;

/// The name of the rule that leases end, which is the kernel's and not the core's.
#[cfg(feature = "broken-rules")]
const ENDLESS_LEASE: &str = "EndlessLease";

/// The rules that this daemon keeps.
///
/// # Panics
///
/// In a build with the feature `broken-rules`, if the environment names a rule that there is not.
#[cfg(not(feature = "broken-rules"))]
#[must_use]
pub const fn rules() -> Rules {
    Rules::ALL
}

/// Whether the kernel is told that leases end long after they do.
#[cfg(not(feature = "broken-rules"))]
#[must_use]
pub const fn leases_are_endless() -> bool {
    false
}

#[cfg(feature = "broken-rules")]
pub use switch::{leases_are_endless, rules};

#[cfg(feature = "broken-rules")]
mod switch {
    use std::sync::OnceLock;

    use weir_coord_core::rules::Mutation;

    use super::{ENDLESS_LEASE, Rules};

    fn named() -> &'static str {
        static NAME: OnceLock<String> = OnceLock::new();
        NAME.get_or_init(|| std::env::var("WEIR_BROKEN_RULE").unwrap_or_default())
    }

    /// The rules that this daemon keeps.
    ///
    /// # Panics
    ///
    /// If the environment names a rule that there is not.
    #[must_use]
    pub fn rules() -> Rules {
        let name = named();
        if name.is_empty() || name == ENDLESS_LEASE {
            return Rules::ALL;
        }
        let is_named = |mutation: &Mutation| format!("{mutation:?}") == name;
        let found = Mutation::ALL.into_iter().find(is_named);
        Rules::without(found.unwrap_or_else(|| panic!("WEIR_BROKEN_RULE names no rule: {name}")))
    }

    /// Whether the kernel is told that leases end long after they do.
    #[must_use]
    pub fn leases_are_endless() -> bool {
        named() == ENDLESS_LEASE
    }
}
