//! Announcing what a run has changed of who has which address: neighbours would go on with what they knew until they
//! notice that nobody answers, which takes half a minute.

use std::collections::{BTreeMap, BTreeSet};

use super::NetnsCache;
use crate::{
    kernel::{
        LinkFacts, Result,
        announce::{Announcement, announce as send},
        sysctl,
    },
    plan::{Plan, Step},
    topology::{Mac, Place, SysctlKey},
};

/// What of the interfaces of a place neighbours do not know.
#[derive(Default)]
struct Announcements<'p> {
    /// Interfaces with another MAC: all their addresses are news.
    macs: BTreeSet<&'p str>,
    /// Addresses, by interface.
    addresses: BTreeSet<(&'p str, std::net::IpAddr)>,
}

/// Announces the addresses that the plan has added, and those of interfaces whose MAC it has changed. Bridges forward
/// to their ports by now.
pub(super) async fn announce(plan: &Plan, places: &mut NetnsCache) -> Result<()> {
    for (place, news) in news(plan) {
        let rtnl = places.get(place)?;
        let links: BTreeMap<u32, LinkFacts> = rtnl
            .links()
            .await?
            .into_iter()
            .filter(|link| link.up && (news.macs.contains(link.name.as_str()) || news.is_about(&link.name)))
            .map(|link| (link.ifindex, link))
            .collect();
        let mut announcements = Vec::new();
        let mut forwarding = BTreeMap::new();
        for (ifindex, net) in rtnl.addresses().await? {
            let address = net.addr();
            let Some(link) = links.get(&ifindex) else { continue };
            let name = link.name.as_str();
            let Some(mac) = link.mac.and_then(|mac| Mac::unicast(mac).ok()) else { continue };
            if news.macs.contains(name) || news.addresses.contains(&(name, address)) {
                let is_router = address.is_ipv6() && {
                    let key = || SysctlKey::of_interface("ipv6", name, "forwarding");
                    let read = || sysctl::read(rtnl.netns(), &key()).is_ok_and(|value| value != "0");
                    *forwarding.entry(ifindex).or_insert_with(read)
                };
                announcements.push(Announcement { ifindex, mac, address, is_router });
            }
        }
        send(rtnl.netns(), &announcements)?;
    }
    Ok(())
}

impl Announcements<'_> {
    fn is_about(&self, device: &str) -> bool {
        self.addresses.iter().any(|(of, _)| *of == device)
    }
}

fn news(plan: &Plan) -> BTreeMap<&Place, Announcements<'_>> {
    let made = made(plan);
    let mut news: BTreeMap<&Place, Announcements<'_>> = BTreeMap::new();
    for step in plan.steps() {
        match step {
            Step::Mac { place, device, .. } => {
                news.entry(place).or_default().macs.insert(device);
            }
            // One that is looked for duplicates of cannot be used yet, nor be announced.
            Step::Address { place, device, address, dad } if !dad || address.addr().is_ipv4() => {
                news.entry(place).or_default().addresses.insert((device, address.addr()));
            }
            // Neighbours may know what it had before it was taken down.
            Step::Up { place, device, port: false } if !made.contains(&(place.clone(), device.as_str())) => {
                news.entry(place).or_default().macs.insert(device);
            }
            _ => {}
        }
    }
    news
}

/// The interfaces that a plan makes, of which no neighbour knows anything.
fn made(plan: &Plan) -> BTreeSet<(Place, &str)> {
    let mut made = BTreeSet::new();
    for step in plan.steps() {
        match step {
            Step::Pair(pair) => {
                made.insert((Place::Namespace(pair.namespace.clone()), pair.inner.name.as_str()));
            }
            Step::Cable(cable) => {
                made.extend([&cable.a, &cable.b].map(|end| (end.place.clone(), end.interface.name.as_str())))
            }
            Step::Bridge(bridge) => {
                made.insert((bridge.place.clone(), bridge.name.as_str()));
            }
            _ => {}
        }
    }
    made
}
