//! Reads the present state of a lab.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    Error, NetnsCache,
    namespaces::{deserted, existing, is_moved, is_same_netns},
    nat,
};
use crate::{
    datapath::{self, Hook, Pins},
    firewall,
    kernel::{HopFacts, LinkFacts, Result, RouteFacts, Rtnl, netns, sysctl, xdp},
    plan::{
        Found, Master, Observed, ObservedHop, ObservedLink, ObservedRoute, Offloads, Routed, compares_dad,
        is_ours, owner, settings,
    },
    state::{Directory, Saved},
    topology::{
        Datapath, Family, IfName, LabName, Mac, Masquerade, NsName, Pair, Place, Rule, SysctlKey, Topology,
        overlap,
    },
};

/// The MACs with which a lab's links are, or were, created, by place and name.
pub(super) type Macs = HashMap<(Place, String), BTreeSet<[u8; 6]>>;

/// Identifies a lab's links.
#[derive(Clone, Copy)]
pub(super) struct Ours<'a> {
    /// The lab.
    pub(super) lab: &'a LabName,
    /// The MACs with which its links are, or were, created.
    pub(super) macs: &'a Macs,
    /// Whether these are from a record, not only from the user's file. Only then a link without a mark may be the
    /// lab's.
    pub(super) is_recorded: bool,
}

impl Ours<'_> {
    /// Whether a link of a place is the lab's: it carries the lab's mark, or it has the name and MAC of one and no
    /// mark. An alias that is no lab's mark, set by the user, is ignored.
    pub(super) fn has(&self, place: &Place, link: &LinkFacts) -> bool {
        let alias = link.alias.as_deref();
        let expected = self.macs.get(&(place.clone(), link.name.clone()));
        let has_mac = |macs: &BTreeSet<_>| link.mac.is_some_and(|mac| macs.contains(&mac));
        let is_unmarked = || self.is_recorded && owner(alias).is_none() && expected.is_some_and(has_mac);
        !link.loopback && (is_ours(alias, self.lab) || is_unmarked())
    }

    /// Whether a link that is not the lab's has the name of one, or its MAC with another name.
    pub(super) fn resembles(&self, place: &Place, link: &LinkFacts) -> bool {
        let has_mac = |((at, _), macs): (&(Place, String), &BTreeSet<[u8; 6]>)| {
            at == place && link.mac.is_some_and(|mac| macs.contains(&mac))
        };
        self.macs.contains_key(&(place.clone(), link.name.clone()))
            || self.is_recorded && self.macs.iter().any(has_mac)
    }
}

/// Reads everything that has a name of the lab, present or former (`former`).
///
/// If there is a former topology, the lab has a journal. A link without any mark is then the lab's if it has the name
/// *and* the derived MAC of one: a killed run created it and could not mark it.
///
/// # Errors
/// A kernel request fails, or the journal cannot be read.
pub async fn observe(
    topology: &Topology,
    former: &[Topology],
    hook: Option<Hook>,
    places: &mut NetnsCache,
) -> std::result::Result<Observed, Error> {
    let facts = Saved::read(&Directory::of(&topology.lab))?;
    let mut observed = Observed {
        is_settled: facts.is_settled,
        sysctls_before: facts.was.clone(),
        switched: facts.offloads.clone(),
        replaced_routes: facts.routes.keys().cloned().collect(),
        ..Observed::default()
    };
    let all: Vec<&Topology> = former.iter().chain([topology]).collect();
    let ours = Ours { lab: &topology.lab, macs: &expected_macs(&all), is_recorded: !former.is_empty() };
    let neighbours: BTreeSet<Place> = all.iter().flat_map(|lab| places_with_neighbours(lab)).collect();
    let links = places.get(&Place::Host)?.socket().links()?;
    read_namespace(&Place::Host, links, &mut observed, ours, places).await?;
    if neighbours.contains(&Place::Host) {
        read_neighbours(&Place::Host, &mut observed, places)?;
    }
    read_sysctls(&Place::Host, &all, &mut observed, places)?;
    if has_subnets_on_the_host(topology) {
        read_routes(&Place::Host, topology, &mut observed, places).await?;
    }
    let mut names: Vec<&NsName> = Vec::new();
    for namespace in all.iter().flat_map(|lab| &lab.namespaces) {
        if !names.contains(&&namespace.name) {
            names.push(&namespace.name);
        }
    }
    for name in names {
        let place = Place::Namespace(name.clone());
        let has_its_name = || {
            topology.namespaces.iter().any(|namespace| &namespace.name == name && namespace.has_its_name())
        };
        let found = find(name, topology, former, &facts, places).await?;
        // A namespace without a mark that is about to be adopted under its own name is no collision.
        let found = found.filter(|(found, _)| *found != Found::Foreign(None) || !has_its_name());
        let Some((found, links)) = found else { continue };
        if found == Found::Ours {
            read_namespace(&place, links, &mut observed, ours, places).await?;
            if neighbours.contains(&place) {
                read_neighbours(&place, &mut observed, places)?;
            }
            read_routes(&place, topology, &mut observed, places).await?;
            read_rules(name, &all, &mut observed, places)?;
            read_sysctls(&place, &all, &mut observed, places)?;
        }
        observed.namespaces.insert(name.clone(), found);
    }
    let directory = Directory::of(&topology.lab);
    observed.moved = topology
        .namespaces
        .iter()
        .filter(|namespace| is_moved(namespace, &facts, &directory, places.adoptions()))
        .map(|namespace| namespace.name.clone())
        .collect();
    // One that has moved, or does not exist, has no processes that count.
    observed.deserted = deserted(topology, places)?;
    if ours.is_recorded {
        own_other_ends(&all, &mut observed);
    }
    for nat in Masquerade::of(topology) {
        let known = nat.place == Place::Host
            || matches!(&nat.place, Place::Namespace(name) if observed.namespaces.get(name) == Some(&Found::Ours));
        if known && nat::is_there(places.get(&nat.place)?.netns(), &nat)? {
            observed.masquerading.insert(nat.place);
        }
    }
    read_accepted(topology, former, &mut observed, places)?;
    if let Some(hook) = hook {
        observed.programs = running(topology, &observed, hook, places).await?;
        observed.xdp_programs = running_xdp(topology, &observed)?;
    }
    read_offloads(topology, &mut observed, places).await?;
    Ok(observed)
}

/// Records the rules in Docker's chains, of each namespace that exists and whose rules packets of the lab meet or met.
fn read_accepted(
    topology: &Topology,
    former: &[Topology],
    observed: &mut Observed,
    places: &NetnsCache,
) -> Result<()> {
    let of = |lab: &Topology| firewall::places(lab).into_iter().collect::<BTreeSet<_>>();
    let (here, before) = (of(topology), former.iter().flat_map(of).collect::<BTreeSet<_>>());
    for place in here.union(&before) {
        let netns = match place {
            Place::Namespace(name) if observed.namespaces.get(name) != Some(&Found::Ours) => {
                // Only one that is to be adopted exists already. If it does not, that is reported later.
                let is_adopted = here.contains(place) && topology.adoption(name).is_some();
                if is_adopted { existing(place, topology, places.adoptions()).ok().flatten() } else { None }
            }
            _ => Some(places.netns(place)?),
        };
        if let Some(netns) = netns {
            observed.accepted.extend(nat::accepted(topology, place, &netns));
        }
    }
    Ok(())
}

/// Records the links of a place and their addresses.
async fn read_namespace(
    place: &Place,
    links: Vec<LinkFacts>,
    observed: &mut Observed,
    ours: Ours<'_>,
    places: &mut NetnsCache,
) -> Result<()> {
    let names: HashMap<u32, String> = links.iter().map(|link| (link.ifindex, link.name.clone())).collect();
    let kinds: HashMap<u32, Option<String>> =
        links.iter().map(|link| (link.ifindex, link.kind.clone())).collect();
    let master = |index: u32| match kinds.get(&index).and_then(Option::as_deref) {
        Some("bridge") => Master::Bridge,
        Some("vrf") => Master::Vrf,
        _ => Master::Bond,
    };
    let mut addresses: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for (ifindex, address) in places.get(place)?.socket().addresses()? {
        addresses.entry(ifindex).or_default().push(address);
    }
    for link in links {
        let key = (place.clone(), link.name.clone());
        let seen = ObservedLink {
            ours: ours.has(place, &link),
            marked: is_ours(link.alias.as_deref(), ours.lab),
            owner: owner(link.alias.as_deref()),
            ifindex: link.ifindex,
            peer: link.peer,
            mac: link.mac,
            up: link.up,
            bridge: link.controller.and_then(|index| names.get(&index).cloned()),
            master: link.controller.map_or(Master::None, master),
            mtu: link.mtu,
            addresses: addresses.remove(&link.ifindex).unwrap_or_default(),
            sizes: link.offload_sizes(),
            neighbours: Vec::new(),
            options: link.bridge_options(),
            xdp_program: link.xdp_program,
        };
        observed.links.insert(key, seen);
    }
    Ok(())
}

/// Finds what has a namespace's name in `/run/netns`, and reads its links.
async fn find(
    name: &NsName,
    topology: &Topology,
    former: &[Topology],
    saved: &Saved,
    places: &mut NetnsCache,
) -> std::result::Result<Option<(Found, Vec<LinkFacts>)>, Error> {
    if !netns::exists(name) {
        return Ok(None);
    }
    if netns::is_left_over(name) {
        // A run may have been killed between creating the file and mounting on it. It is the lab's if a former record
        // has a namespace of that name.
        let is_former = former.iter().flat_map(|lab| &lab.namespaces).any(|former| &former.name == name);
        let found = if is_former { Found::LeftOver } else { Found::Foreign(None) };
        return Ok(Some((found, Vec::new())));
    }
    let rtnl = places.get(&Place::Namespace(name.clone()))?;
    let links = rtnl.socket().links()?;
    let loopback = links.iter().find(|link| link.loopback).and_then(|lo| lo.alias.as_deref());
    let mut namespaces = former.iter().chain([topology]).flat_map(|lab| &lab.namespaces);
    let is_adopted = namespaces.any(|namespace| &namespace.name == name && namespace.adopt.is_some())
        && (is_same_netns(&saved.adopted, name, rtnl.netns())?
            || links.iter().any(|link| is_ours(link.alias.as_deref(), &topology.lab)));
    // Root of the namespace may have removed the mark.
    let is_made = is_ours(loopback, &topology.lab) || is_same_netns(&saved.made, name, rtnl.netns())?;
    let found = if is_made || is_adopted { Found::Ours } else { Found::Foreign(owner(loopback)) };
    Ok(Some((found, links)))
}

/// Reads the routes of a place whose links were read. On the host, only connected routes, and what is of use to the
/// fabric.
async fn read_routes(
    place: &Place,
    topology: &Topology,
    observed: &mut Observed,
    places: &mut NetnsCache,
) -> Result<()> {
    let routes = places.get(place)?.socket().routes()?;
    let links = observed.links.range((place.clone(), String::new())..).take_while(|((at, _), _)| at == place);
    let names: HashMap<u32, String> = links.map(|((_, name), link)| (link.ifindex, name.clone())).collect();
    let device = |route: &RouteFacts| route.ifindex.and_then(|index| names.get(&index).cloned());
    let of_subnets = routes.iter().filter(|route| route.is_of_subnet());
    let of_subnets = of_subnets.filter_map(|route| Some((place.clone(), device(route)?, route.to)));
    observed.subnets.extend(of_subnets);
    let by_uplinks = routes.iter().filter_map(|route| match route.via {
        Some(IpAddr::V6(via)) if via.is_unicast_link_local() && route.is_in_place => {
            Some((place.clone(), device(route)?, route.to, via))
        }
        _ => None,
    });
    observed.uplink_routes.extend(by_uplinks);
    if *place == Place::Host {
        observed.routed = routed(topology, &routes, &observed.links);
    }
    let Place::Namespace(name) = place else { return Ok(()) };
    let routes = routes.into_iter().filter(|route| route.is_any_tos);
    let routes = routes.map(|route| observed_route(route, &names)).collect();
    observed.routes.insert(name.clone(), routes);
    Ok(())
}

fn observed_route(route: RouteFacts, names: &HashMap<u32, String>) -> ObservedRoute {
    let hop = |hop: &HopFacts| {
        let HopFacts { via, ifindex, onlink, weight } = *hop;
        ObservedHop { via, device: names.get(&ifindex).cloned(), onlink, weight }
    };
    let hops: Vec<_> = route.hops.iter().map(hop).collect();
    let fate = route.fate.filter(|_| hops.is_empty());
    ObservedRoute { key: route.key, fate, hops, src: route.src, mtu: route.mtu }
}

/// The machine's routes and addresses in subnets of the fabric, but for those of the lab's devices.
pub(super) fn routed(
    topology: &Topology,
    routes: &[RouteFacts],
    links: &BTreeMap<(Place, String), ObservedLink>,
) -> Vec<Routed> {
    let subnets: Vec<&IpNet> = topology.machine_routes().map(|route| &route.to).collect();
    if subnets.is_empty() {
        return Vec::new();
    }
    // Some tools add a default route for each half of all addresses.
    let is_concerned = |to: &IpNet| to.prefix_len() > 1 && subnets.iter().any(|subnet| overlap(subnet, to));
    let on_machine = || links.iter().filter(|((place, _), _)| *place == Place::Host);
    let devices: HashMap<u32, (&str, &ObservedLink)> =
        on_machine().map(|((_, name), link)| (link.ifindex, (name.as_str(), link))).collect();
    let of_route = |route: &RouteFacts| {
        let device = route.ifindex.and_then(|index| devices.get(&index));
        if device.is_some_and(|(_, link)| link.ours) {
            return None;
        }
        let hop = device.map(|(name, _)| format!("dev {name}"));
        let hop = route.fate.clone().or(hop).unwrap_or_else(|| "elsewhere".to_owned());
        Some(Routed { to: route.to, hop, owner: device.and_then(|(_, link)| link.owner.clone()) })
    };
    let by_routes = routes.iter().filter(|route| is_concerned(&route.to)).filter_map(of_route);
    let others = on_machine().filter(|(_, link)| !link.ours);
    let by_addresses = others.flat_map(|((_, name), link)| {
        let addresses = link.addresses.iter().filter(|address| is_concerned(address));
        addresses.map(move |address| Routed {
            to: *address,
            hop: format!("an address of {name}"),
            owner: link.owner.clone(),
        })
    });
    by_routes.chain(by_addresses).collect()
}

/// Whether an interface or bridge of the lab on the host has an address.
fn has_subnets_on_the_host(topology: &Topology) -> bool {
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let ends = ends.map(|end| (&end.place, &end.interface.addresses));
    let bridges = topology.bridges.iter().map(|bridge| (&bridge.place, &bridge.addresses));
    ends.chain(bridges).any(|(place, addresses)| *place == Place::Host && !addresses.is_empty())
}

/// Reads the settings of a place that a present or former topology has.
fn read_sysctls(
    place: &Place,
    all: &[&Topology],
    observed: &mut Observed,
    places: &mut NetnsCache,
) -> Result<()> {
    let dad = compares_dad(all.iter().copied());
    let wanted: BTreeSet<SysctlKey> =
        all.iter().flat_map(|topology| settings(topology, place, dad)).map(|setting| setting.key).collect();
    let wanted: Vec<_> = wanted.into_iter().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let values = sysctl::read_all(places.get(place)?.netns(), &wanted)?;
    for (key, value) in wanted.into_iter().zip(values) {
        if let Some(value) = value {
            observed.sysctls.insert((place.clone(), key), value);
        }
    }
    Ok(())
}

/// The ports that run the lab's program.
async fn running(
    topology: &Topology,
    observed: &Observed,
    hook: Hook,
    places: &mut NetnsCache,
) -> Result<BTreeSet<(Place, String)>> {
    let pins = Pins::of(&topology.lab);
    let mut programs = BTreeSet::new();
    for (domain, place) in topology.domains() {
        let is_there = |port: &&IfName| observed.link(&place, port.as_str()).is_some();
        let ports: Vec<&IfName> = topology.ports(&place).filter(is_there).collect();
        if ports.is_empty() {
            continue;
        }
        let rtnl = places.get(&place)?;
        let links = if hook == Hook::Tcx { Vec::new() } else { rtnl.socket().links()? };
        let found = ports_with_program(&rtnl, &links, &pins, domain, hook, &ports).await?;
        // A tcx program without a pinned link is about to be released by the kernel.
        let stays = |port: &&IfName| hook == Hook::Clsact || pins.link(port).exists();
        programs.extend(found.iter().filter(stays).map(|port| (place.clone(), port.to_string())));
    }
    Ok(programs)
}

/// Those of `ports` that run the pinned program.
pub(super) async fn ports_with_program(
    rtnl: &Rtnl,
    links: &[LinkFacts],
    pins: &Pins,
    domain: u16,
    hook: Hook,
    ports: &[&IfName],
) -> Result<Vec<IfName>> {
    if !pins.program(domain.into()).exists() {
        return Ok(Vec::new());
    }
    if hook == Hook::Tcx {
        let found = datapath::attached(rtnl.netns(), pins, domain.into(), ports);
        return Ok(found.unwrap_or_default());
    }
    let (mut running, ours) = (Vec::new(), datapath::program_id(pins, domain.into())?);
    for &port in ports {
        let Some(link) = links.iter().find(|link| link.name == port.as_str()) else { continue };
        let (ingress, _) = rtnl.socket().clsact_filters(link.ifindex)?;
        if ingress.iter().any(|filter| datapath::is_our_filter(filter, ours)) {
            running.push(port.clone());
        }
    }
    Ok(running)
}

/// The ports that run the lab's XDP program with a pinned link.
fn running_xdp(
    topology: &Topology,
    observed: &Observed,
) -> std::result::Result<BTreeSet<(Place, String)>, Error> {
    let pins = Pins::of(&topology.lab);
    let mut programs = BTreeSet::new();
    for (domain, place) in topology.domains() {
        let Some(ours) = datapath::xdp_id(&pins, domain.into())? else { continue };
        let pairs = topology.pairs.iter().filter(|pair| pair.place == place);
        let runs_ours = |port: &&IfName| {
            let link = observed.link(&place, port.as_str());
            link.is_some_and(|link| link.xdp_program == Some(ours)) && pins.xdp_link(port).exists()
        };
        let ports = pairs.map(|pair| &pair.port).filter(runs_ours);
        programs.extend(ports.map(|port| (place.clone(), port.to_string())));
    }
    Ok(programs)
}

/// Reads the offloads of inner ends for which the file wants XDP.
async fn read_offloads(topology: &Topology, observed: &mut Observed, places: &mut NetnsCache) -> Result<()> {
    let pairs = topology.pairs.iter().filter(|pair| pair.datapath == Datapath::Xdp);
    for (namespace, pairs) in by_namespace(pairs) {
        if observed.namespaces.get(namespace) == Some(&Found::Ours) {
            let inside = places.get(&Place::Namespace(namespace.clone()))?;
            let unready = unready(&pairs, &inside).await?.into_iter();
            let keyed = unready.map(|found| ((found.namespace.clone(), found.interface.clone()), found));
            observed.unready.extend(keyed);
        }
    }
    Ok(())
}

/// The offloads to switch at the inner ends of `pairs` in one namespace, with their present state. Inner ends that are
/// ready or missing are left out.
///
/// # Errors
/// A kernel request fails.
pub(super) async fn unready(pairs: &[&Pair], inside: &Rtnl) -> Result<Vec<Offloads>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let mut features = xdp::unready(inside.netns())?;
    let links = inside.socket().links()?;
    let ifindexes: BTreeMap<&str, u32> =
        links.iter().map(|link| (link.name.as_str(), link.ifindex)).collect();
    let of_pair = |pair: &&Pair| {
        let ifindex = *ifindexes.get(pair.inner.name.as_str())?;
        Some(Offloads::at(pair, ifindex, features.remove(&ifindex)?))
    };
    Ok(pairs.iter().filter_map(of_pair).collect())
}

/// Groups pairs by the namespaces of their inner ends.
pub(super) fn by_namespace<'a>(pairs: impl Iterator<Item = &'a Pair>) -> BTreeMap<&'a NsName, Vec<&'a Pair>> {
    let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for pair in pairs {
        sorted.entry(&pair.namespace).or_default().push(pair);
    }
    sorted
}

/// Treats the other end of a lab's veth as the lab's, unless it carries another lab's mark. A run may have been killed
/// before it marked that end, whose MAC the user has changed since.
fn own_other_ends(all: &[&Topology], observed: &mut Observed) {
    for [(place, name, _), (other_place, other_name, _)] in all.iter().flat_map(|topology| veths(topology)) {
        let keys = [(place, name.to_string()), (other_place, other_name.to_string())];
        let [Some(one), Some(other)] = [0, 1].map(|end| observed.links.get(&keys[end])) else { continue };
        let is_one_veth = (one.peer, other.peer) == (Some(other.ifindex), Some(one.ifindex));
        if is_one_veth && (one.ours || other.ours) {
            for key in &keys {
                if let Some(link) = observed.links.get_mut(key).filter(|link| link.owner.is_none()) {
                    link.ours = true;
                }
            }
        }
    }
}

/// An end of a veth: its place, its name and the MAC with which it is created.
type End<'a> = (Place, &'a IfName, Mac);

/// The veths of a topology, each as its two ends.
fn veths(topology: &Topology) -> impl Iterator<Item = [End<'_>; 2]> {
    let pairs = topology.pairs.iter().map(|pair| {
        let inside = Place::Namespace(pair.namespace.clone());
        [(pair.place.clone(), &pair.port, pair.port_mac), (inside, &pair.inner.name, pair.inner.mac)]
    });
    let cables = topology.cables.iter().map(|cable| {
        [&cable.a, &cable.b].map(|end| (end.place.clone(), &end.interface.name, end.interface.mac))
    });
    let trunks = topology
        .trunks
        .iter()
        .map(|trunk| [&trunk.a, &trunk.b].map(|end| (end.place.clone(), &end.port, end.mac)));
    pairs.chain(cables).chain(trunks)
}

/// Records the rules of a namespace, of the families of which a present or former topology has any.
fn read_rules(
    name: &NsName,
    all: &[&Topology],
    observed: &mut Observed,
    places: &mut NetnsCache,
) -> Result<()> {
    let namespaces = all.iter().flat_map(|lab| &lab.namespaces).filter(|namespace| &namespace.name == name);
    let families: BTreeSet<Family> =
        namespaces.flat_map(|namespace| &namespace.rules).flat_map(Rule::families).collect();
    for family in families {
        let found = places.get(&Place::Namespace(name.clone()))?.socket().rules(family)?;
        let found = found.into_iter().map(|rule| (family, rule));
        observed.rules.entry(name.clone()).or_default().extend(found);
    }
    Ok(())
}

/// Records the permanent neighbours of a place whose links were read.
fn read_neighbours(place: &Place, observed: &mut Observed, places: &mut NetnsCache) -> Result<()> {
    for (ifindex, neighbour) in places.get(place)?.socket().permanent_neighbours()? {
        let mut links = observed.links.iter_mut().filter(|((at, _), _)| at == place);
        if let Some((_, link)) = links.find(|(_, link)| link.ifindex == ifindex) {
            link.neighbours.push(neighbour);
        }
    }
    Ok(())
}

/// The places with interfaces that have permanent neighbours.
fn places_with_neighbours(topology: &Topology) -> impl Iterator<Item = Place> {
    let inner = topology.pairs.iter().map(|pair| (Place::Namespace(pair.namespace.clone()), &pair.inner));
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let all = inner.chain(ends.map(|end| (end.place.clone(), &end.interface)));
    all.filter(|(_, interface)| !interface.neighbours.is_empty()).map(|(place, _)| place)
}

/// The MACs with which the lab's links are created.
pub(super) fn expected_macs(all: &[&Topology]) -> Macs {
    let mut macs = Macs::new();
    for topology in all {
        let bridges = topology.bridges.iter().map(|bridge| (bridge.place.clone(), &bridge.name, bridge.mac));
        for (place, name, mac) in bridges.chain(veths(topology).flatten()) {
            macs.entry((place, name.to_string())).or_default().insert(mac.bytes());
        }
    }
    macs
}
