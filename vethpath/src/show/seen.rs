//! The links and addresses of the namespaces that a lab has.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Interface;
use crate::{
    kernel::{LinkFacts, Result, Rtnl},
    topology::{IfName, Place},
};

/// The links and addresses in one namespace.
pub(super) struct Seen {
    rtnl: Rtnl,
    /// Its links.
    pub(super) links: Vec<LinkFacts>,
    addresses: BTreeMap<u32, Vec<IpNet>>,
}

impl Seen {
    pub(super) async fn at(rtnl: Rtnl) -> Result<Self> {
        let links = rtnl.links().await?;
        let mut addresses: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (ifindex, address) in rtnl.addresses().await? {
            addresses.entry(ifindex).or_default().push(address);
        }
        Ok(Self { rtnl, links, addresses })
    }

    /// The link of this name.
    pub(super) fn link(&self, name: &IfName) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.name == name.as_str())
    }

    /// A link in the form that `show` prints.
    pub(super) async fn interface(&self, link: &LinkFacts) -> Result<Interface> {
        let peer = self.rtnl.peer_of(link).await?.map(|peer| peer.name);
        let addresses = self.addresses.get(&link.ifindex).cloned().unwrap_or_default();
        Ok(Interface::of(link, peer, addresses))
    }
}

/// The namespaces of a lab that exist.
pub(super) type Everywhere = BTreeMap<Place, Seen>;
