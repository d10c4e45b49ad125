//! The programs of a lab's ports, and the sizes of their maps.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use vethpath_common::PortKey;

use super::{Error, execute::Executor, observe::ports_with_program, xdp_offloads};
use crate::{
    agent::{counted_pairs, largest_segment},
    datapath::{self, Copies, Hook, Maps, Pins, Receivers, Sizes},
    kernel::{self, LinkFacts, Netns, rcu::Expedited},
    state::{AgentLock, Directory, Record},
    topology::{GuestRange, IfName, LabName, Place, Topology},
};

/// How long the kernel may take to release a link, and the polling interval. Its work queue waits for the RTNL lock,
/// which takes long only under great load.
const TIMEOUT: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(2);

/// The copies of the programs, one for each bridge namespace. A lab without bridges has one too: its agent is no
/// special case.
pub(super) fn copies(topology: &Topology) -> Vec<Copies> {
    let copies = |(domain, place): &(u16, Place)| Copies {
        domain: (*domain).into(),
        xdp: topology.xdp_pairs(place).next().is_some(),
    };
    let copies: Vec<_> = topology.domains().iter().map(copies).collect();
    if copies.is_empty() { vec![Copies { domain: 0, xdp: false }] } else { copies }
}

/// Loads the programs and attaches them to the ports that want them. Returns whether there are new maps, which need a
/// new agent.
pub(super) async fn ensure(
    record: &Record,
    former: &[Topology],
    executor: &mut Executor<'_>,
) -> Result<bool, Error> {
    let topology = &record.topology;
    let pins = Pins::of(&topology.lab);
    // The topology when the lab was last complete.
    let loaded = copies(former.first().unwrap_or(topology));
    let (ports, bridges) = needed(topology);
    let left = datapath::left_over(&pins)?;
    let mut recreated = datapath::load(&pins, &copies(topology), &loaded, Sizes::of(ports, bridges))?;
    let mut goes_on = left.is_some() && !recreated;
    while goes_on || !datapath::has_room(&pins, Sizes::least(ports, bridges))? {
        executor.journal.append("make larger maps")?;
        if topology.guests.is_some() {
            // Only an agent switches the programs of guest ports. Until it does, no lease holds in the former maps.
            AgentLock::terminate_holder(&Directory::of(&topology.lab)).await?;
        }
        grow(record, &pins, Sizes::of(ports, bridges), executor).await?;
        (recreated, goes_on) = (true, false);
    }
    let mut maps = Maps::open(&pins)?;
    let mut found = Vec::new();
    for (domain, place) in topology.domains() {
        let rtnl = executor.namespaces().get(&place)?;
        let links = rtnl.socket().links()?;
        found.push((domain, place, rtnl, links));
    }
    let keys = found.iter().flat_map(|(domain, _, _, links)| {
        links.iter().map(|link| PortKey { ifindex: link.ifindex, domain: (*domain).into() })
    });
    // Ports that a run registered and then undid are known to no agent, and would fill the map. Guest ports that have left
    // while there was no agent are the next one's, which removes their links.
    maps.keep_ports(&keys.collect(), topology.guests.map(|range| range.numbers()).as_ref())?;
    for (domain, place, rtnl, links) in &found {
        let ports: Vec<_> = topology.ports_with_programs(place).collect();
        register_ports(topology, place, *domain, links, &mut maps)?;
        // Ports with a pin have the program already.
        let new = ports.iter().filter(|port| !pins.link(port).exists()).count();
        let _soon = Expedited::for_ports(new);
        let _ = datapath::attach(rtnl.netns(), &pins, (*domain).into(), record.hook, &ports)?;
        xdp_offloads::set_up(topology.xdp_pairs(place), executor).await?;
        let ports: Vec<_> = topology.xdp_pairs(place).map(|pair| &pair.port).collect();
        let _ = datapath::attach_xdp(rtnl.netns(), &pins, (*domain).into(), links, &ports)?;
    }
    Ok(recreated)
}

/// Detaches the program from a port. The kernel releases it later: see [`release`].
pub(super) fn detach(
    record: &Record,
    place: &Place,
    port: &IfName,
    executor: &mut Executor<'_>,
) -> Result<(), Error> {
    let rtnl = executor.namespaces().get(place)?;
    Ok(datapath::detach(rtnl.netns(), &Pins::of(&record.topology.lab), record.hook, &[port])?)
}

/// Waits until the kernel has released the detached programs of these ports. A link without a pin is released by a work
/// queue, and all wait together. A filter is removed at once.
pub(super) async fn release(
    record: &Record,
    detached: &[(&Place, &IfName)],
    executor: &mut Executor<'_>,
) -> Result<(), Error> {
    if record.hook != Hook::Tcx {
        return Ok(());
    }
    let pins = Pins::of(&record.topology.lab);
    // Each may take its own grace period, one after the other.
    let deadline = Instant::now() + TIMEOUT.max(INTERVAL * 10 * u32::try_from(detached.len()).unwrap_or(1));
    for (domain, place) in record.topology.domains() {
        let here: Vec<_> = detached.iter().filter(|(at, _)| **at == place).map(|(_, port)| *port).collect();
        if here.is_empty() {
            continue;
        }
        let rtnl = executor.namespaces().get(&place)?;
        while let Some(port) =
            ports_with_program(&rtnl, &[], &pins, domain, record.hook, &here).await?.first()
        {
            if Instant::now() > deadline {
                return Err(still_runs("take the program off", port));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
    Ok(())
}

/// A namespace with guest ports of a lab.
pub(super) struct WithGuests {
    domain: u16,
    netns: Netns,
    numbers: RangeInclusive<u32>,
}

/// The namespaces that have guest ports of present and former topologies, but for those in `kept`. They stay open: an adopted
/// one may lose its name.
pub(super) fn with_guests(topologies: &[Topology], kept: &[Place]) -> Vec<WithGuests> {
    let mut found: BTreeMap<(u16, Place), WithGuests> = BTreeMap::new();
    for topology in topologies {
        let Some(range) = topology.guests else { continue };
        for (domain, place) in topology.domains() {
            // One that is gone has no port.
            if !kept.contains(&place)
                && let Ok(netns) = Netns::of(&place)
            {
                found.insert((domain, place), WithGuests { domain, netns, numbers: range.numbers() });
            }
        }
    }
    found.into_values().collect()
}

/// Detaches the programs of a lab from its guest ports in these namespaces, and waits until the kernel has released them: a
/// lab that adopts the bridge at once would take them for another program's. Without maps there is nothing to do.
pub(super) async fn detach_guests(lab: &LabName, namespaces: &[WithGuests]) -> Result<(), Error> {
    let pins = Pins::of(lab);
    if !datapath::is_complete(&pins, &[]) {
        return Ok(());
    }
    for WithGuests { domain, netns, numbers } in namespaces {
        let mut ports = datapath::detach_guests(netns, &pins, *domain, numbers)?;
        let (deadline, _soon) = (Instant::now() + TIMEOUT, Expedited::for_ports(ports.len()));
        while !ports.is_empty() && Instant::now() < deadline {
            // Without the program, nothing can be waited for.
            let attached = datapath::attached_by_index(netns, &pins, (*domain).into(), &ports);
            let on = attached.map(|attached| attached.ours).unwrap_or_default();
            ports.retain(|port| on.contains(port));
            tokio::time::sleep(INTERVAL).await;
        }
    }
    Ok(())
}

fn still_runs(operation: &'static str, port: &IfName) -> Error {
    let cause = std::io::Error::other("the kernel still runs it: another process holds its link");
    kernel::Error::new(operation, port.as_str(), cause).into()
}

/// Detaches the XDP program from a port. Returns when it no longer runs there and no program redirects to the port, so
/// that the inner end can be restored.
pub(super) async fn detach_xdp(
    record: &Record,
    place: &Place,
    port: &IfName,
    executor: &mut Executor<'_>,
) -> Result<(), Error> {
    let topology = &record.topology;
    let pins = Pins::of(&topology.lab);
    let Some((domain, _)) = topology.domains().into_iter().find(|(_, one)| one == place) else {
        return Ok(());
    };
    let rtnl = executor.namespaces().get(place)?;
    datapath::detach_xdp(&pins, port)?;
    let Some(ours) = datapath::xdp_id(&pins, domain.into())? else { return Ok(()) };
    let deadline = Instant::now() + TIMEOUT;
    while let Some(link) = rtnl.link(port.as_str())? {
        if link.xdp_program != Some(ours) {
            if let Some(mut receivers) = Receivers::open(&pins, domain.into())? {
                receivers.remove(link.ifindex)?;
            }
            break;
        }
        if Instant::now() > deadline {
            // The offloads must not be restored while the program receives frames.
            return Err(still_runs("take the XDP program off", port));
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Ok(())
}

/// The number of ports or the highest number of a pair or a guest port, whichever is larger, and the number of bridges in the largest
/// segment.
fn needed(topology: &Topology) -> (usize, usize) {
    let guests = topology.guests.map(GuestRange::last);
    let highest = topology.pairs.iter().map(|pair| pair.number).chain(guests).max().unwrap_or_default();
    let ports = topology.pairs.len() + 2 * topology.trunks.len();
    (ports.max(usize::try_from(highest).unwrap_or(usize::MAX)), largest_segment(topology))
}

/// Replaces the lab's maps by larger ones.
async fn grow(record: &Record, pins: &Pins, sizes: Sizes, executor: &mut Executor<'_>) -> Result<(), Error> {
    let topology = &record.topology;
    let next = datapath::larger(pins, &copies(topology), sizes)?;
    let mut maps = Maps::open(&next)?;
    if let Some(range) = topology.guests {
        // Guest ports keep their numbers. The new agent replaces their programs.
        maps.copy_ports(&Maps::open(pins)?, &range.numbers())?;
    }
    for (domain, place) in topology.domains() {
        executor.journal.append(&format!("give ports in {place} larger maps"))?;
        let rtnl = executor.namespaces().get(&place)?;
        let links = rtnl.socket().links()?;
        register_ports(topology, &place, domain, &links, &mut maps)?;
        let is_there = |port: &&IfName| links.iter().any(|link| link.name == port.as_str());
        let ports: Vec<&IfName> = topology.ports(&place).filter(is_there).collect();
        let mut ours = ports_with_program(&rtnl, &links, pins, domain, record.hook, &ports).await?;
        ours.extend(ports_with_program(&rtnl, &links, &next, domain, record.hook, &ports).await?);
        datapath::switch_over(
            rtnl.netns(),
            pins,
            &next,
            domain.into(),
            record.hook,
            &ours.iter().collect::<Vec<_>>(),
        )?;
        let ours = [datapath::xdp_id(pins, domain.into())?, datapath::xdp_id(&next, domain.into())?];
        let runs_ours = |port: &&IfName| {
            let link = links.iter().find(|link| link.name == port.as_str());
            link.is_some_and(|link| link.xdp_program.is_some() && ours.contains(&link.xdp_program))
        };
        let ports: Vec<&IfName> = ports.into_iter().filter(runs_ours).collect();
        datapath::switch_over_xdp(pins, &next, domain.into(), &ports)?;
    }
    let journal = &mut executor.journal;
    datapath::finish(pins, &mut |step| Ok::<_, Error>(journal.append(step)?))
}

/// Registers the ports of a place in the maps, before the program is attached.
fn register_ports(
    topology: &Topology,
    place: &Place,
    domain: u16,
    links: &[LinkFacts],
    maps: &mut Maps,
) -> kernel::Result<()> {
    let links: std::collections::HashMap<&str, u32> =
        links.iter().map(|link| (link.name.as_str(), link.ifindex)).collect();
    for (counter, pair) in counted_pairs(topology).filter(|(_, pair)| &pair.place == place) {
        if let Some(&ifindex) = links.get(pair.port.as_str()) {
            let bridge = topology.bridge_number(place, &pair.bridge);
            maps.register_port(PortKey { ifindex, domain: domain.into() }, counter, bridge)?;
        }
    }
    Ok(())
}
