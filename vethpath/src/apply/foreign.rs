//! Foreign devices that depend on what a lab would delete: ports of its bridges, devices on top of its own, and devices that
//! were moved into its namespaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{
    cleanup::{self, Marked},
    error::Error,
    observe::{Ours, expected_macs},
};
use crate::{
    kernel::{LinkFacts, Netns, Result, RouteSocket, netns, pool},
    plan::{Plan, Step, is_ours},
    state::Saved,
    topology::{LabName, NsName, Place, Topology},
};

/// The ifindex of the loopback in each namespace (`LOOPBACK_IFINDEX` in include/net/flow.h).
const LOOPBACK: u32 = 1;

/// A foreign device, and what it depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ForeignDevice {
    /// A port of a bridge that is to be deleted. It stays.
    Port {
        /// The bridge.
        bridge: String,
        /// The place of both.
        place: Place,
        /// The port.
        port: String,
    },
    /// A device on top of one that is to be deleted, such as a macvlan. The kernel deletes it too.
    Stacked {
        /// The device of the lab.
        below: String,
        /// The place of both.
        place: Place,
        /// The device on top.
        device: String,
    },
    /// A device in a namespace that is to be deleted.
    Device {
        /// The namespace.
        namespace: NsName,
        /// The device.
        device: String,
        /// Why it does not belong to the namespace.
        origin: Origin,
    },
}

/// Where a device of a namespace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is on a bus of the machine. The kernel moves it to the initial namespace.
    Physical,
    /// Its other end, or the device or namespace below it, is outside the lab. The kernel deletes it.
    Linked,
}

impl ForeignDevice {
    /// The command that detaches it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let at = |place: &Place| match place {
            Place::Host => String::new(),
            Place::Namespace(name) => format!("-n {name} "),
        };
        match self {
            Self::Port { place, port, .. } => format!("ip {}link set {port} nomaster", at(place)),
            Self::Stacked { place, device, .. } => format!("ip {}link del {device}", at(place)),
            Self::Device { namespace, device, .. } => format!("ip -n {namespace} link set {device} netns 1"),
        }
    }
}

impl fmt::Display for ForeignDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { bridge, place, port } => {
                write!(f, "{port} in {place} is a port of bridge {bridge}, and not the lab's")
            }
            Self::Stacked { below, place, device } => {
                write!(f, "{device} in {place} is on top of {below}, and not the lab's")
            }
            Self::Device { namespace, device, origin: Origin::Physical } => {
                write!(f, "{device} in namespace {namespace} is a device of the machine")
            }
            Self::Device { namespace, device, origin: Origin::Linked } => {
                write!(f, "{device} in namespace {namespace} is connected to what is outside the lab")
            }
        }
    }
}

/// Which of the lab's devices in a place are to be deleted.
enum Which<'a> {
    All,
    Named(BTreeSet<&'a str>),
}

/// What is to be deleted.
pub(super) struct Doomed<'a> {
    /// The lab's devices in places that stay.
    devices: BTreeMap<Place, Which<'a>>,
    /// Namespaces that the lab has made.
    namespaces: BTreeSet<&'a NsName>,
}

impl<'a> Doomed<'a> {
    /// What goes with a whole lab, whose present and former topologies these are; `marked` are namespaces that were found
    /// by their marks. On the host nothing goes if its namespace is gone already.
    pub(super) fn of_lab(topologies: &'a [Topology], marked: &'a Marked, has_host: bool) -> Self {
        let all = topologies.iter().flat_map(|topology| &topology.namespaces);
        let (made, adopted): (Vec<_>, Vec<_>) = all.partition(|namespace| namespace.adopt.is_none());
        let namespaces: BTreeSet<_> =
            made.into_iter().map(|namespace| &namespace.name).chain(&marked.made).collect();
        let adopted = adopted.into_iter().map(|namespace| &namespace.name).chain(&marked.adopted);
        let stay = adopted.filter(|name| !namespaces.contains(name)).cloned().map(Place::Namespace);
        let stay = stay.chain(has_host.then_some(Place::Host));
        Self { devices: stay.map(|place| (place, Which::All)).collect(), namespaces }
    }

    /// What a plan deletes: bridges and namespaces.
    pub(super) fn of_plan(plan: &'a Plan) -> Self {
        let mut bridges: BTreeMap<Place, BTreeSet<&str>> = BTreeMap::new();
        let mut namespaces = BTreeSet::new();
        for step in plan.steps() {
            match step {
                Step::DeleteLink { place, device, kind: "bridge", .. } => {
                    bridges.entry(place.clone()).or_default().insert(device);
                }
                Step::DeleteNamespace(namespace) if namespace.adopt.is_none() => {
                    namespaces.insert(&namespace.name);
                }
                _ => {}
            }
        }
        // What was made in a namespace goes with it.
        bridges.retain(|place, _| !matches!(place, Place::Namespace(name) if namespaces.contains(name)));
        let devices = bridges.into_iter().map(|(place, names)| (place, Which::Named(names))).collect();
        Self { devices, namespaces }
    }

    /// Fails if foreign devices depend on it. `topologies` are all of the lab.
    ///
    /// # Errors
    /// There are such devices, or a kernel request fails.
    pub(super) fn check(
        &self,
        lab: &LabName,
        topologies: &[&Topology],
        saved: &Saved,
    ) -> std::result::Result<(), Error> {
        // What has the name and the MAC of a device of the lab is no other's, whoever knows them.
        let ours = Ours { lab, macs: &expected_macs(topologies), is_recorded: true };
        let devices = self.foreign_devices(ours, saved)?;
        if devices.is_empty() { Ok(()) } else { Err(Error::Foreign { lab: lab.clone(), devices }) }
    }

    /// The foreign devices that depend on it. Namespaces that are not the lab's are skipped: they stay.
    fn foreign_devices(&self, ours: Ours<'_>, saved: &Saved) -> Result<Vec<ForeignDevice>> {
        let mut found = Vec::new();
        for (place, which) in &self.devices {
            if netns::place_exists(place) {
                let socket = RouteSocket::open(&Netns::of(place)?)?;
                found.extend(dependants(place, which, &socket, ours)?);
            }
        }
        let namespaces: Vec<&NsName> = self.namespaces.iter().copied().collect();
        for devices in pool::io_bound(&namespaces, |name| devices(name, ours, saved)) {
            found.extend(devices?);
        }
        found.sort();
        Ok(found)
    }
}

/// The foreign devices in a place that stays, which depend on devices that are deleted there.
fn dependants(
    place: &Place,
    which: &Which<'_>,
    socket: &RouteSocket,
    ours: Ours<'_>,
) -> Result<Vec<ForeignDevice>> {
    let (own, others): (Vec<_>, Vec<_>) = socket.links()?.into_iter().partition(|link| ours.has(place, link));
    let is_doomed = |link: &&LinkFacts| match which {
        Which::All => true,
        Which::Named(names) => names.contains(link.name.as_str()),
    };
    let doomed: Vec<_> = own.iter().filter(is_doomed).collect();
    let mut found = Vec::new();
    for link in others.iter().filter(|link| !link.loopback) {
        let is_on = |below: &&&LinkFacts| {
            link.kind.as_deref() != Some("veth")
                && link.peer_netns.is_none()
                && link.peer == Some(below.ifindex)
        };
        let name = |link: &LinkFacts| link.name.clone();
        if let Some(bridge) = doomed.iter().find(|bridge| link.controller == Some(bridge.ifindex)) {
            if !is_end_of_ours(link, socket, ours)? && loopback_there(link, socket)?.is_some() {
                found.push(ForeignDevice::Port {
                    bridge: name(bridge),
                    place: place.clone(),
                    port: name(link),
                });
            }
        } else if let Some(below) = doomed.iter().find(is_on) {
            found.push(ForeignDevice::Stacked {
                below: name(below),
                place: place.clone(),
                device: name(link),
            });
        }
    }
    Ok(found)
}

/// The devices in a namespace that belong to the outside. Leaves the calling thread in it.
fn devices(name: &NsName, ours: Ours<'_>, saved: &Saved) -> Result<Vec<ForeignDevice>> {
    if !netns::is_present(name) {
        return Ok(Vec::new());
    }
    let there = match Netns::named(name) {
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        other => other?,
    };
    let socket = RouteSocket::entering(&there)?;
    let links = socket.links()?;
    if !cleanup::has_made(name, &there, &links, ours.lab, saved)? {
        return Ok(Vec::new());
    }
    let place = Place::Namespace(name.clone());
    let mut devices = Vec::new();
    for link in links.iter().filter(|link| !link.loopback && !ours.has(&place, link)) {
        let origin = match link.peer_netns {
            _ if link.is_physical => Origin::Physical,
            Some(_) if !is_inside(link, &socket, ours)? => Origin::Linked,
            _ => continue,
        };
        devices.push(ForeignDevice::Device { namespace: name.clone(), device: link.name.clone(), origin });
    }
    Ok(devices)
}

/// Whether a device leads to a device of the lab, to a namespace that the lab has made, or to one that is being destroyed.
fn is_inside(link: &LinkFacts, socket: &RouteSocket, ours: Ours<'_>) -> Result<bool> {
    let Some(loopback) = loopback_there(link, socket)? else { return Ok(true) };
    Ok(is_ours(loopback.alias.as_deref(), ours.lab) || is_end_of_ours(link, socket, ours)?)
}

/// The loopback of the namespace that a device leads to, which may be its own. `None` if that namespace is being
/// destroyed: its last user is gone, and its devices still exist.
fn loopback_there(link: &LinkFacts, socket: &RouteSocket) -> Result<Option<LinkFacts>> {
    peer(&LinkFacts { peer: Some(LOOPBACK), ..link.clone() }, socket)
}

/// Whether the other end of a device carries the lab's mark. The user may have changed the device itself.
fn is_end_of_ours(link: &LinkFacts, socket: &RouteSocket, ours: Ours<'_>) -> Result<bool> {
    Ok(peer(link, socket)?.is_some_and(|peer| is_ours(peer.alias.as_deref(), ours.lab)))
}

fn peer(link: &LinkFacts, socket: &RouteSocket) -> Result<Option<LinkFacts>> {
    socket
        .peers(std::iter::once(link), false)?
        .into_iter()
        .flatten()
        .next()
        .map(|peer| peer.read())
        .transpose()
}
