//! Who is where: names, addresses and interfaces of a fleet. Pure.
//!
//! All addresses are from 198.18.0.0/15 and 2001:db8::/32, which exist for tests. Subnets 1 to 50
//! hold a host each, 51 to 57 a ZooKeeper server each, 64 to 72 a client each; the router is the
//! last-but-one address of each. Sources of test traffic are from 198.19.0.0/16.

use std::net::{Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::namespace::Namespace;

/// Most hosts.
pub const MAX_HOSTS: usize = 50;
/// Most clients.
pub const MAX_CLIENTS: usize = 9;
/// Sizes of a ZooKeeper ensemble.
pub const ENSEMBLES: [usize; 4] = [1, 3, 5, 7];
/// Longest name of a fleet: names of namespaces, and paths of sockets, are made from it.
pub const MAX_NAME_BYTES: usize = 32;

/// The interface of every host and client.
pub const INTERFACE: &str = "eth0";
/// Where management traffic comes from: control plane and hosts, but no client.
pub const MANAGEMENT: &str = "198.18.0.0/18";
/// Prefix of the sources of test traffic.
pub const SOURCES: &str = "198.19.0.0/16";
/// ZooKeeper's port for clients.
pub const ZOOKEEPER_PORT: u16 = 2181;
/// The nodes' gRPC port.
pub const GRPC_PORT: u16 = 7946;
/// UDP port of the flood, and of the limits that the demonstration applies.
pub const LIMITED_PORT: u16 = 53;
/// TCP port of the flows that back off.
pub const FLOW_PORT: u16 = 8080;

const FIRST_HOST_SUBNET: u8 = 1;
const FIRST_SERVER_SUBNET: u8 = FIRST_HOST_SUBNET + MAX_HOSTS as u8;
const FIRST_CLIENT_SUBNET: u8 = 64;
const ROUTER: u8 = 254;

/// A plan that cannot be built.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Too few or too many of something.
    #[error("{found} {what}: expected {expected}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many were asked for.
        found: usize,
        /// What is possible.
        expected: String,
    },
    /// A fleet's name that cannot be part of a namespace's.
    #[error("the name '{0}' is not of the form [a-z0-9-]{{1,{MAX_NAME_BYTES}}}")]
    Name(String),
}

/// One end in its own namespace, linked to the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// What it is called.
    pub name: String,
    /// Where it lives; its end of the link is [`INTERFACE`].
    pub namespace: Namespace,
    /// The router's end of the link.
    pub router_interface: String,
    subnet: u8,
}

impl Site {
    fn new(fleet: &str, name: String, subnet: u8) -> Self {
        Self {
            namespace: Namespace::named(format!("weir-{fleet}-{name}")),
            router_interface: format!("to-{name}"),
            name,
            subnet,
        }
    }

    /// Its IPv4 address, in a /24.
    #[must_use]
    pub const fn v4(&self) -> Ipv4Addr {
        self.v4_of(1)
    }

    /// Its IPv6 address, in a /64.
    #[must_use]
    pub const fn v6(&self) -> Ipv6Addr {
        self.v6_of(1)
    }

    /// The router's IPv4 address on this link.
    #[must_use]
    pub const fn router_v4(&self) -> Ipv4Addr {
        self.v4_of(ROUTER)
    }

    /// The router's IPv6 address on this link.
    #[must_use]
    pub const fn router_v6(&self) -> Ipv6Addr {
        self.v6_of(ROUTER)
    }

    const fn v4_of(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, host)
    }

    const fn v6_of(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, self.subnet as u16, 0, 0, 0, host as u16)
    }

    /// The hardware address of its end.
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, self.subnet, 1]
    }

    /// The hardware address of the router's end.
    #[must_use]
    pub const fn router_mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, self.subnet, ROUTER]
    }
}

/// A fleet's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Unique on the machine; part of every name that is made.
    pub name: String,
    /// In the middle of everything.
    pub router: Namespace,
    /// Run one ZooKeeper server each.
    pub servers: Vec<Site>,
    /// Run one daemon each.
    pub hosts: Vec<Site>,
    /// Send the traffic.
    pub clients: Vec<Site>,
}

impl Plan {
    /// Lays a fleet out.
    ///
    /// # Errors
    ///
    /// If the name or a count is out of range.
    pub fn new(
        name: &str,
        hosts: usize,
        clients: usize,
        zookeeper: usize,
    ) -> Result<Self, PlanError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(legal) {
            return Err(PlanError::Name(name.to_owned()));
        }
        at_most("hosts", hosts, MAX_HOSTS)?;
        at_most("clients", clients, MAX_CLIENTS)?;
        if !ENSEMBLES.contains(&zookeeper) {
            return Err(PlanError::Count {
                what: "ZooKeeper servers",
                found: zookeeper,
                expected: format!("one of {ENSEMBLES:?}"),
            });
        }
        let sites = |kind: &str, count: usize, first: u8| {
            (1..)
                .zip(first..)
                .take(count)
                .map(|(number, subnet)| Site::new(name, format!("{kind}{number}"), subnet))
                .collect()
        };
        Ok(Self {
            router: Namespace::named(format!("weir-{name}-router")),
            servers: sites("zookeeper", zookeeper, FIRST_SERVER_SUBNET),
            hosts: sites("host", hosts, FIRST_HOST_SUBNET),
            clients: sites("client", clients, FIRST_CLIENT_SUBNET),
            name: name.to_owned(),
        })
    }

    /// Every site, the control plane first.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.servers.iter().chain(&self.hosts).chain(&self.clients)
    }

    /// Every namespace.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.router).chain(self.sites().map(|site| &site.namespace))
    }

    /// Addresses of the ZooKeeper servers.
    pub fn zookeeper_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.servers.iter().map(Site::v4)
    }
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), PlanError> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    let expected = format!("1 to {most}");
    Err(PlanError::Count {
        what,
        found,
        expected,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_address_and_name_is_unique() {
        let plan = Plan::new("demo", MAX_HOSTS, MAX_CLIENTS, 7).unwrap();
        let sites = 7 + MAX_HOSTS + MAX_CLIENTS;
        let unique = |count: usize| assert_eq!(count, sites);
        unique(plan.sites().map(Site::v4).collect::<BTreeSet<_>>().len());
        unique(plan.sites().map(Site::v6).collect::<BTreeSet<_>>().len());
        unique(plan.sites().map(Site::mac).collect::<BTreeSet<_>>().len());
        unique(
            plan.sites()
                .map(|site| &site.name)
                .collect::<BTreeSet<_>>()
                .len(),
        );
        assert!(plan.sites().all(|site| site.router_interface.len() < 16));
        assert!(plan.sites().all(|site| site.v4() != site.router_v4()));
    }

    #[test]
    fn clients_are_outside_the_management_prefix() {
        let plan = Plan::new("demo", MAX_HOSTS, MAX_CLIENTS, 1).unwrap();
        let (prefix, bits) = MANAGEMENT.split_once('/').unwrap();
        let mask = u32::MAX << (32 - bits.parse::<u32>().unwrap());
        let inside = |address: Ipv4Addr| {
            address.to_bits() & mask == prefix.parse::<Ipv4Addr>().unwrap().to_bits()
        };
        assert!(plan.hosts.iter().all(|site| inside(site.v4())));
        assert!(plan.zookeeper_addresses().all(inside));
        assert!(!plan.clients.iter().any(|site| inside(site.v4())));
    }

    #[test]
    fn refuses_what_cannot_be_built() {
        for (name, hosts, clients, zookeeper) in [
            ("", 3, 1, 1),
            ("Upper", 3, 1, 1),
            ("a-name-that-is-far-too-long-for-a-socket", 3, 1, 1),
            ("demo", 0, 1, 1),
            ("demo", MAX_HOSTS + 1, 1, 1),
            ("demo", 3, 0, 1),
            ("demo", 3, 1, 2),
        ] {
            assert!(
                Plan::new(name, hosts, clients, zookeeper).is_err(),
                "{name} {hosts}"
            );
        }
    }
}
