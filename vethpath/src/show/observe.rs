//! Reads the current state of a lab.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    Cable, Interface, Lab, LinkState, Namespace,
    bridges::{bridges, trunks},
};
use crate::{
    apply::NetnsCache,
    kernel::{LinkFacts, Result, Rtnl},
    stats::{AgentView, place_exists},
    topology::{CableEnd, IfName, NsName, Place, Topology},
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

/// Reads the current state of a lab. What does not exist is reported as missing. Must be called in a tokio runtime.
///
/// # Errors
/// The kernel refuses a request that root may make.
pub async fn observe(topology: &Topology) -> Result<Lab> {
    let view = AgentView::of(&topology.lab);
    let mut places = NetnsCache::open()?;
    let mut everywhere = Everywhere::new();
    let named = topology.namespaces.iter().map(|namespace| Place::Namespace(namespace.name.clone()));
    for place in named.chain([Place::Host]).filter(place_exists) {
        let seen = Seen::at(places.get(&place)?).await?;
        everywhere.insert(place, seen);
    }
    Ok(Lab {
        lab: topology.lab.clone(),
        namespaces: namespaces(topology, &everywhere).await?,
        bridges: bridges(topology, &everywhere, &view).await?,
        cables: topology.cables.iter().map(|cable| shown(&cable.a, &cable.b, &everywhere)).collect(),
        trunks: trunks(topology, &everywhere),
        agent: view.agent,
    })
}

async fn namespaces(topology: &Topology, everywhere: &Everywhere) -> Result<Vec<Namespace>> {
    let mut namespaces = Vec::new();
    for namespace in &topology.namespaces {
        let place = Place::Namespace(namespace.name.clone());
        let expected = expected_in(topology, &place);
        let adopted = namespace.adopt.clone();
        let shown = match everywhere.get(&place) {
            None => absent(&namespace.name, adopted, &expected),
            Some(seen) => {
                // Other interfaces of an adopted namespace do not belong to the lab and are not shown.
                let interfaces = interfaces(seen, &expected, adopted.is_none()).await?;
                Namespace { name: namespace.name.to_string(), present: true, adopted, interfaces }
            }
        };
        namespaces.push(shown);
    }
    let expected = expected_in(topology, &Place::Host);
    if let Some(seen) = everywhere.get(&Place::Host)
        && !expected.is_empty()
    {
        let interfaces = interfaces(seen, &expected, false).await?;
        namespaces.push(Namespace {
            name: Place::Host.to_string(),
            present: true,
            adopted: None,
            interfaces,
        });
    }
    Ok(namespaces)
}

fn absent(name: &NsName, adopted: Option<String>, expected: &[&IfName]) -> Namespace {
    let interfaces = expected.iter().map(|name| Interface::missing(name.as_str())).collect();
    Namespace { name: name.to_string(), present: false, adopted, interfaces }
}

/// The expected interfaces, existing or missing. If `all`, others that are up follow, in the kernel's order.
async fn interfaces(seen: &Seen, expected: &[&IfName], all: bool) -> Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    for name in expected {
        interfaces.push(match seen.link(name) {
            Some(link) => seen.interface(link).await?,
            None => Interface::missing(name.as_str()),
        });
    }
    let others = |link: &&LinkFacts| {
        let on_a_bridge = link.port.is_some() || link.bridge.is_some();
        link.up && !link.loopback && !on_a_bridge && !expected.iter().any(|name| name.as_str() == link.name)
    };
    for link in seen.links.iter().filter(others).filter(|_| all) {
        interfaces.push(seen.interface(link).await?);
    }
    Ok(interfaces)
}

/// The interfaces that the file declares in a place.
fn expected_in<'a>(topology: &'a Topology, place: &Place) -> Vec<&'a IfName> {
    let pairs = topology
        .pairs
        .iter()
        .filter(|pair| matches!(place, Place::Namespace(name) if *name == pair.namespace))
        .map(|pair| &pair.inner.name);
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    pairs.chain(ends.filter(|end| end.place == *place).map(|end| &end.interface.name)).collect()
}

fn shown(a: &CableEnd, b: &CableEnd, everywhere: &Everywhere) -> Cable {
    let label = |end: &CableEnd| format!("{}:{}", end.place, end.interface.name);
    let link = |end: &CableEnd| everywhere.get(&end.place).and_then(|seen| seen.link(&end.interface.name));
    Cable { a: label(a), b: label(b), state: LinkState::of(link(a)).max(LinkState::of(link(b))) }
}
