//! Adds the MACs of hosts to the FDBs of bridges.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use netlink_packet_route::link::BridgePortState;

use super::{Error, NetnsCache};
use crate::{
    kernel::{FdbEntry, LinkFacts, PortAttribute, Result, RouteSocket, Rtnl, watch::Watch},
    plan::{Plan, Step},
    topology::{IfName, Mac, Pair, Place, Topology},
};

/// How long ports may take until their bridge forwards to them. A work queue of the kernel does that; it takes long
/// only under great load.
const FORWARDING: Duration = Duration::from_secs(30);

/// How often adding FDB entries is tried when a port has just left its bridge.
const TRIES: u32 = 3;

/// Ports that another program released from their bridges while `up` ran, such as a network manager that matches every
/// interface. Each is enslaved again once.
#[derive(Default)]
pub(super) struct Reattached(BTreeSet<(Place, IfName)>);

impl Reattached {
    /// Enslaves the lab's ports of a place that are on no bridge or on another one. Returns whether there were any.
    ///
    /// # Errors
    /// A port was released a second time, a device is missing, or a kernel request fails.
    async fn check(
        &mut self,
        topology: &Topology,
        place: &Place,
        rtnl: &Rtnl,
        links: &[LinkFacts],
    ) -> std::result::Result<bool, Error> {
        let links: HashMap<&str, &LinkFacts> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        let pairs = topology.pairs.iter().map(|pair| (&pair.place, &pair.port, &pair.bridge));
        let ends = topology.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]);
        let ports = pairs.chain(ends.map(|end| (&end.place, &end.port, &end.bridge)));
        let mut any = false;
        for (_, port, bridge) in ports.filter(|(at, ..)| *at == place) {
            let there = |device: &IfName| {
                let gone = || Error::Removed { device: device.clone(), place: place.clone() };
                links.get(device.as_str()).copied().ok_or_else(gone)
            };
            let (link, on) = (there(port)?, there(bridge)?);
            if link.controller == Some(on.ifindex) {
                continue;
            }
            if !self.0.insert((place.clone(), port.clone())) {
                let (port, bridge, place) = (port.clone(), bridge.clone(), place.clone());
                return Err(Error::TakenOff { port, bridge, place });
            }
            rtnl.enslave(link.ifindex, on.ifindex, port).await?;
            any = true;
        }
        Ok(any)
    }

    /// The same in all places. Also adds the FDB entries of these ports.
    ///
    /// # Errors
    /// As above.
    pub(super) async fn check_all(
        &mut self,
        topology: &Topology,
        plan: &Plan,
        places: &mut NetnsCache,
    ) -> std::result::Result<bool, Error> {
        let mut any = false;
        for (_, place) in topology.domains() {
            let rtnl = places.get(&place)?;
            any |= self.check(topology, &place, &rtnl, &rtnl.socket().links()?).await?;
        }
        if any {
            seed_fdb(topology, plan, places, self).await?;
        }
        Ok(any)
    }

    fn has(&self, pair: &Pair) -> bool {
        self.0.contains(&(pair.place.clone(), pair.port.clone()))
    }

    /// The names of these ports.
    pub(super) fn ports(self) -> Vec<IfName> {
        self.0.into_iter().map(|(_, port)| port).collect()
    }
}

/// Waits until bridges forward to the ports that the plan has brought up, and adds the assigned MACs to their FDBs, as
/// if each host had sent a frame. Does not wait for spanning tree. Ports that the plan does not change are left alone:
/// their hosts may have moved.
pub(super) async fn seed_fdb(
    topology: &Topology,
    plan: &Plan,
    places: &mut NetnsCache,
    reattached: &mut Reattached,
) -> std::result::Result<(), Error> {
    let new_ports = NewPorts::of(plan);
    let deadline = Instant::now() + FORWARDING;
    for (_, place) in topology.domains() {
        let quick = |pair: &&Pair| {
            pair.place == place
                && pair.inner.up
                && topology.bridge(&place, &pair.bridge).is_some_and(|bridge| !bridge.stp)
                && (new_ports.are_about(pair) || reattached.has(pair))
        };
        let pairs: Vec<_> = topology.pairs.iter().filter(quick).collect();
        if pairs.is_empty() {
            continue;
        }
        let rtnl = places.get(&place)?;
        let mut watch = Watch::links(rtnl.netns())?;
        let mut tries = TRIES;
        loop {
            let links = rtnl.socket().links()?;
            if reattached.check(topology, &place, &rtnl, &links).await? {
                continue;
            }
            let forwards = |link: &&LinkFacts| {
                let forwards = PortAttribute::State(BridgePortState::Forwarding);
                link.port.iter().flatten().any(|attribute| *attribute == forwards)
            };
            let forwarding: BTreeSet<&str> =
                links.iter().filter(forwards).map(|link| link.name.as_str()).collect();
            let left = deadline.saturating_duration_since(Instant::now());
            if !left.is_zero() && !pairs.iter().all(|pair| forwarding.contains(pair.port.as_str())) {
                // Read again after any event, or at the deadline.
                let _ = tokio::time::timeout(left, watch.next()).await;
                continue;
            }
            tries -= 1;
            match learn(&rtnl, topology, &pairs, &links).await {
                // A port has left its bridge since it was read.
                Err(error) if error.is_unsupported() && tries > 0 => {}
                done => break done?,
            }
        }
    }
    Ok(())
}

/// Adds the FDB entries of ports, and deletes those in VLANs that the kernel adds with them. Bridges that filter VLANs
/// keep these. A port that is gone is skipped.
async fn learn(rtnl: &Rtnl, topology: &Topology, pairs: &[&Pair], links: &[LinkFacts]) -> Result<()> {
    let mut socket = RouteSocket::open(rtnl.netns())?;
    let ports: HashMap<&str, u32> = links.iter().map(|link| (link.name.as_str(), link.ifindex)).collect();
    let station = |pair: &&Pair| Some((*ports.get(pair.port.as_str())?, pair.inner.mac));
    let stations: Vec<_> = pairs.iter().filter_map(station).collect();
    let learned = socket.learn(&stations)?;
    let filters =
        |pair: &Pair| topology.bridge(&pair.place, &pair.bridge).is_some_and(|bridge| bridge.vlan_filtering);
    let unfiltered: HashSet<_> = pairs.iter().filter(|pair| !filters(pair)).filter_map(station).collect();
    let is_added = |entry: &FdbEntry| {
        let station = Mac::unicast(entry.mac).map(|mac| (entry.port, mac));
        entry.vlan != 0 && entry.ages && station.is_ok_and(|station| unfiltered.contains(&station))
    };
    // The kernel goes through all entries of a bridge for each of its ports.
    if links.iter().any(LinkFacts::has_vlans) {
        let mut added = Vec::new();
        let _ = socket.fdb(None, |entry| {
            added.extend(Some(entry).filter(is_added));
            true
        })?;
        // A port that has left its bridge meanwhile has no entries.
        let _ = socket.forget(&added)?;
    }
    learned.into_iter().collect()
}

/// Interfaces of a plan whose steps make a bridge lack a host's FDB entry.
struct NewPorts(BTreeSet<(Place, String)>);

impl NewPorts {
    fn of(plan: &Plan) -> Self {
        let of_step = |step: &Step| match step {
            Step::Enslave { place, device, .. }
            | Step::Up { place, device, .. }
            | Step::Mac { place, device, .. } => Some((place.clone(), device.clone())),
            _ => None,
        };
        Self(plan.steps().filter_map(of_step).collect())
    }

    fn are_about(&self, pair: &Pair) -> bool {
        let inner = (Place::Namespace(pair.namespace.clone()), pair.inner.name.to_string());
        let bridge = (pair.place.clone(), pair.bridge.to_string());
        [(pair.place.clone(), pair.port.to_string()), inner, bridge].iter().any(|one| self.0.contains(one))
    }
}
