//! The interfaces that the program is attached to, and whether they are still there.

use nix::net::if_::if_nametoindex;
use thiserror::Error;

use crate::config::XdpMode;

/// The interfaces of this daemon.
#[derive(Clone, Debug)]
pub struct Attachments {
    mode: XdpMode,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Debug)]
struct Interface {
    name: String,
    index: u32,
}

/// An interface is gone, so that nothing is enforced on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Lost {
    /// There is none of that name any more.
    #[error(
        "interface {name} is gone, and its limits with it; start weir-node again when it is back \
         (the systemd unit does so by itself)"
    )]
    Gone {
        /// Its name.
        name: String,
    },
    /// There is another one of that name.
    #[error(
        "interface {name} was replaced: it had index {expected} and now has {found}; start \
         weir-node again to attach to it"
    )]
    Replaced {
        /// Its name.
        name: String,
        /// The index when the program was attached.
        expected: u32,
        /// The index now.
        found: u32,
    },
}

impl Attachments {
    /// The program has been attached to these interfaces just now.
    ///
    /// # Errors
    ///
    /// [`Lost`] if one is gone already.
    pub fn new(mode: XdpMode, names: &[String]) -> Result<Self, Lost> {
        let interfaces = names
            .iter()
            .map(|name| {
                let index =
                    if_nametoindex(name.as_str()).map_err(|_| Lost::Gone { name: name.clone() })?;
                Ok(Interface {
                    name: name.clone(),
                    index,
                })
            })
            .collect::<Result<_, Lost>>()?;
        Ok(Self { mode, interfaces })
    }

    /// Looks whether all are still there.
    ///
    /// # Errors
    ///
    /// The first one that is not.
    pub fn check(&self) -> Result<(), Lost> {
        self.interfaces.iter().try_for_each(Interface::check)
    }

    /// Each interface, and whether it is still there.
    pub fn states(&self) -> impl Iterator<Item = (&str, bool)> {
        self.interfaces
            .iter()
            .map(|interface| (interface.name.as_str(), interface.check().is_ok()))
    }

    /// How the program is attached, as metrics say it.
    #[must_use]
    pub const fn mode(&self) -> &'static str {
        match self.mode {
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        }
    }
}

impl Interface {
    fn check(&self) -> Result<(), Lost> {
        match if_nametoindex(self.name.as_str()) {
            Ok(found) if found == self.index => Ok(()),
            Ok(found) => {
                let (name, expected) = (self.name.clone(), self.index);
                Err(Lost::Replaced {
                    name,
                    expected,
                    found,
                })
            }
            Err(_) => Err(Lost::Gone {
                name: self.name.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_named() {
        let lost = Attachments::new(XdpMode::Native, &["weir-none".to_owned()]).unwrap_err();
        assert_eq!(
            lost,
            Lost::Gone {
                name: "weir-none".to_owned()
            }
        );
        assert!(lost.to_string().contains("weir-none"));
    }

    #[test]
    fn a_replaced_interface_is_noticed() {
        let index = if_nametoindex("lo").unwrap();
        let interfaces = vec![Interface {
            name: "lo".to_owned(),
            index: index + 1,
        }];
        let attachments = Attachments {
            mode: XdpMode::Native,
            interfaces,
        };
        assert!(matches!(attachments.check(), Err(Lost::Replaced { .. })));
        assert!(attachments.states().all(|(_, attached)| !attached));
    }
}
