//! Users of this host.

use nix::unistd::{Gid, Uid, User};

/// The user that ticks if the node file names none, where there is one of that name.
const DEFAULT_NAME: &str = "weir";
/// `overflowuid` and `overflowgid`: nobody's on any Linux, whatever its passwd file says.
const NOBODY: u32 = 65534;

/// A user, as the system knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its primary group.
    pub gid: u32,
}

impl Account {
    /// The user of that name; `None` if there is none, or its number cannot be looked up.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        User::from_name(name).ok().flatten().map(|user| Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    /// The user `weir` if there is one, otherwise nobody.
    pub(super) fn by_default() -> Self {
        let weir = Self::of_name(DEFAULT_NAME).filter(|account| account.uid != 0);
        weir.unwrap_or_else(|| Self {
            name: NOBODY.to_string(),
            uid: NOBODY,
            gid: NOBODY,
        })
    }

    pub(super) const fn user(&self) -> Uid {
        Uid::from_raw(self.uid)
    }

    pub(super) const fn group(&self) -> Gid {
        Gid::from_raw(self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_root_and_not_everybody() {
        let root = Account::of_name("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(Account::of_name("weir-no-such-user"), None);
        assert_ne!(Account::by_default().uid, 0);
    }
}
