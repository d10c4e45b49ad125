//! The guest ports of a lab, and the kernel's counters at their inner ends.

use std::collections::BTreeMap;

use vethpath_common::PortKey;

use crate::{
    agent::guest_name,
    datapath::{Maps, Pins},
    kernel::{LinkCounters, Netns, Result, RouteSocket, engine, netns, residents::residents},
    state::{Before, Befores, Directory},
    topology::{ContainerName, IfName, Place, Topology},
};

/// The names of containers, by the inode of the network namespace of each.
pub type Containers = BTreeMap<u64, ContainerName>;

/// A guest port that exists.
pub(super) struct Guest {
    /// Its name in messages.
    pub(super) name: String,
    /// Its device name.
    pub(super) port: IfName,
    /// Its bridge.
    pub(super) bridge: IfName,
    /// Its number in the maps.
    pub(super) number: u32,
    /// What is behind it; `None` if that cannot be found.
    pub(super) behind: Option<String>,
    /// Its inner end, with what it counted since the program was attached; `None` if it is gone.
    pub(super) inner: Option<LinkCounters>,
}

/// Asks container engines for the names of their containers, if there are guest ports. This may take seconds.
///
/// # Errors
/// The pinned maps are of another version, or the kernel refuses the read.
pub fn containers(topology: &Topology) -> Result<Containers> {
    let pins = Pins::of(&topology.lab);
    Ok(if numbers(topology, &pins)?.is_empty() { Containers::new() } else { engine::names() })
}

/// What is behind each guest port, by the port's name in events, as far as it can be found.
///
/// # Errors
/// The kernel refuses a request that root may make, or the pinned maps are of another version.
pub fn behind_guests(topology: &Topology) -> Result<BTreeMap<String, String>> {
    let pins = Pins::of(&topology.lab);
    let guests = guests(topology, &pins, Some(&containers(topology)?))?;
    Ok(guests.into_iter().filter_map(|guest| Some((guest.name, guest.behind?))).collect())
}

/// The numbers of guest ports, by namespace and ifindex.
fn numbers(topology: &Topology, pins: &Pins) -> Result<BTreeMap<PortKey, u32>> {
    let Some(range) = topology.guests.filter(|_| pins.exist()) else { return Ok(BTreeMap::new()) };
    Ok(Maps::open(pins)?.numbered_ports(&range.numbers())?.into_iter().collect())
}

/// The guest ports that have numbers, by namespace and ifindex. Without `containers`, what is behind them is not looked
/// for.
pub(super) fn guests(
    topology: &Topology,
    pins: &Pins,
    containers: Option<&Containers>,
) -> Result<Vec<Guest>> {
    let numbers = numbers(topology, pins)?;
    let befores = Befores::read(&Directory::of(&topology.lab));
    let mut guests = Vec::new();
    for (domain, place) in topology.domains().into_iter().filter(|(_, place)| netns::place_exists(place)) {
        let here: Vec<(u32, u32)> = numbers
            .iter()
            .filter(|(key, _)| key.domain == u32::from(domain))
            .map(|(key, number)| (key.ifindex, *number))
            .collect();
        if !here.is_empty() {
            let before = |ifindex, number| {
                let before = befores.0.get(&PortKey { ifindex, domain: domain.into() });
                before.filter(|before| before.number == number).copied().unwrap_or_default()
            };
            guests.extend(guests_at(&place, topology, &here, containers, before)?);
        }
    }
    Ok(guests)
}

/// The guest ports in a place. `here` has ifindexes and numbers.
fn guests_at(
    place: &Place,
    topology: &Topology,
    here: &[(u32, u32)],
    containers: Option<&Containers>,
    before: impl Fn(u32, u32) -> Before,
) -> Result<Vec<Guest>> {
    let socket = RouteSocket::open(&Netns::of(place)?)?;
    let mut bridges = BTreeMap::new();
    for (_, bridge) in topology.bridges_with_guests().filter(|(at, _)| *at == place) {
        if let Some(link) = socket.link(bridge.as_str())? {
            bridges.insert(link.ifindex, bridge);
        }
    }
    let ifindexes: Vec<u32> = here.iter().map(|(ifindex, _)| *ifindex).collect();
    let mut ports = Vec::new();
    for (link, (_, number)) in socket.raw_links_at(&ifindexes)?.into_iter().zip(here) {
        let Some(link) = link.map(|link| link.read()).transpose()? else { continue };
        // It may be leaving.
        if let (Some(bridge), Ok(name)) = (link.controller.and_then(|on| bridges.get(&on)), link.name.parse())
        {
            ports.push((link, name, (*bridge).clone(), *number));
        }
    }
    let inner = socket.peers(ports.iter().map(|(link, ..)| link), true)?;
    let residents = match containers {
        Some(containers) if !ports.is_empty() => residents(&socket, containers)?,
        _ => BTreeMap::new(),
    };
    let mut guests = Vec::new();
    for ((link, port, bridge, number), inner) in ports.into_iter().zip(inner) {
        let inner = inner.map(|inner| inner.counters()).transpose()?;
        let resident = link.peer_netns.and_then(|id| residents.get(&id)).map(|found| &found.resident);
        guests.push(Guest {
            name: guest_name(place, &bridge, &port),
            behind: inner.as_ref().zip(resident).map(|(inner, resident)| resident.label(&inner.name)),
            inner: inner.map(|inner| (&before(link.ifindex, number).since(inner)).into()),
            port,
            bridge,
            number,
        });
    }
    Ok(guests)
}
