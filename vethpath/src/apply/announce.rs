//! Announces changed MACs and addresses. Otherwise neighbours use stale entries until they find them unreachable, which
//! takes half a minute.

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

/// What to announce in one place.
#[derive(Default)]
struct Announcements<'p> {
    /// Interfaces whose MAC changed: all their addresses are announced.
    macs: BTreeSet<&'p str>,
    /// Single addresses, with their interface.
    addresses: BTreeSet<(&'p str, std::net::IpAddr)>,
}

/// Announces the addresses that the plan has added, and those of interfaces whose MAC it has changed. Must run once
/// bridges forward to their ports.
pub(super) async fn announce(plan: &Plan, places: &mut NetnsCache) -> Result<()> {
    for (place, announcements) in announcements(plan) {
        let rtnl = places.get(place)?;
        let links: BTreeMap<u32, LinkFacts> = rtnl
            .socket()
            .links()?
            .into_iter()
            .filter(|link| {
                link.up
                    && (announcements.macs.contains(link.name.as_str()) || announcements.is_about(&link.name))
            })
            .map(|link| (link.ifindex, link))
            .collect();
        let mut messages = Vec::new();
        let mut forwarding = BTreeMap::new();
        for (ifindex, net) in rtnl.socket().addresses()? {
            let address = net.addr();
            let Some(link) = links.get(&ifindex) else { continue };
            let name = link.name.as_str();
            let Some(mac) = link.mac.and_then(|mac| Mac::unicast(mac).ok()) else { continue };
            if announcements.macs.contains(name) || announcements.addresses.contains(&(name, address)) {
                let is_router = address.is_ipv6() && {
                    let key = || SysctlKey::of_interface("ipv6", name, "forwarding");
                    let read = || sysctl::read(rtnl.netns(), &key()).is_ok_and(|value| value != "0");
                    *forwarding.entry(ifindex).or_insert_with(read)
                };
                messages.push(Announcement { ifindex, mac, address, is_router });
            }
        }
        send(rtnl.netns(), &messages)?;
    }
    Ok(())
}

impl Announcements<'_> {
    fn is_about(&self, device: &str) -> bool {
        self.addresses.iter().any(|(of, _)| *of == device)
    }
}

fn announcements(plan: &Plan) -> BTreeMap<&Place, Announcements<'_>> {
    let made = made(plan);
    let mut announcements: BTreeMap<&Place, Announcements<'_>> = BTreeMap::new();
    for step in plan.steps() {
        match step {
            Step::Mac { place, device, .. } => {
                announcements.entry(place).or_default().macs.insert(device);
            }
            // An address that undergoes DAD cannot be used or announced yet.
            Step::Address { place, device, address, dad } if !dad || address.addr().is_ipv4() => {
                announcements.entry(place).or_default().addresses.insert((device, address.addr()));
            }
            // Neighbours may have stale entries from before it was taken down.
            Step::Up { place, device, port: false } if !made.contains(&(place.clone(), device.as_str())) => {
                announcements.entry(place).or_default().macs.insert(device);
            }
            _ => {}
        }
    }
    announcements
}

/// The interfaces that a plan creates, of which no neighbour has an entry.
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
