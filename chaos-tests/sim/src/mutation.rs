//! What can be broken on purpose, to prove that breaking it is found.

use weir_coord_core::rules::{Mutation, Rules};

/// One thing that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A rule of the protocol.
    Rule(Mutation),
    /// A property of the kernel's buckets.
    Kernel(KernelFault),
}

/// A property of the kernel's buckets that the protocol relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFault {
    /// After a lease its burst may still be spent, while its new holder spends it too.
    BurstOutlivesLease,
    /// A grant fills the bucket: whoever is granted anew each tick has a new burst each tick.
    GrantRefills,
}

impl Broken {
    /// Everything that can be broken.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let kernel = [KernelFault::BurstOutlivesLease, KernelFault::GrantRefills];
        let rules = Mutation::ALL.into_iter().map(Self::Rule);
        rules.chain(kernel.map(Self::Kernel)).collect()
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Rule(mutation) => format!("{mutation:?}"),
            Self::Kernel(fault) => format!("{fault:?}"),
        }
    }

    /// The rules that are left.
    #[must_use]
    pub fn rules(this: Option<Self>) -> Rules {
        match this {
            Some(Self::Rule(mutation)) => Rules::without(mutation),
            _ => Rules::ALL,
        }
    }

    /// What is broken in every kernel.
    #[must_use]
    pub fn kernel(this: Option<Self>) -> Option<KernelFault> {
        match this {
            Some(Self::Kernel(fault)) => Some(fault),
            _ => None,
        }
    }

    /// Whether this rule is broken.
    #[must_use]
    pub fn breaks(this: Option<Self>, mutation: Mutation) -> bool {
        this == Some(Self::Rule(mutation))
    }
}
