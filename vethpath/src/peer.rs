//! Which interface is the other end of a veth, and where both of them are. The data of `peer`.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    kernel::{
        LinkFacts, Netns, Result, RouteSocket, engine, netns,
        residents::{Resident, lowest_process, residents},
    },
    plan::owner,
    topology::{ContainerName, IfName, LabName},
};

/// Kinds of devices that are made in pairs.
/// Minimum kernel of `netkit`: Linux 6.7.
const PAIRED: [&str; 2] = ["veth", "netkit"];

/// The two ends of a veth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// The end that was asked about.
    #[serde(flatten)]
    pub this: End,
    /// The other end.
    pub peer: End,
}

/// One end of a veth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// Its device name.
    pub interface: String,
    /// Its index in its namespace.
    pub ifindex: u32,
    /// Its namespace.
    #[serde(flatten)]
    pub place: Place,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// The lab that made it.
    pub lab: Option<LabName>,
}

/// A namespace, as it can be found again: by the container whose namespace it is, or else by its name, or else by a
/// process in it. None of these is known of a namespace that is held open or mounted elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The container of Docker or podman.
    pub container: Option<ContainerName>,
    /// Its name in `/run/netns`, or `host` for the caller's.
    pub namespace: Option<String>,
    /// The pid of a process in it: the lowest one.
    pub pid: Option<i32>,
    /// The name of that process (`/proc/PID/comm`).
    pub command: Option<String>,
}

impl Place {
    fn named(name: impl Into<String>) -> Self {
        Self { namespace: Some(name.into()), ..Self::default() }
    }
}

impl From<Resident> for Place {
    fn from(resident: Resident) -> Self {
        match resident {
            Resident::Container(name) => Self { container: Some(name), ..Self::default() },
            Resident::Name(name) => Self::named(name),
            Resident::Process { pid, name } => {
                Self { pid: Some(pid), command: Some(name), ..Self::default() }
            }
        }
    }
}

/// `host:ns0-eth0 (ifindex 7, port of docker0, lab three-hosts)`.
impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, ifindex, place, bridge, lab } = self;
        let name = place.container.as_ref().map(ContainerName::as_str).or(place.namespace.as_deref());
        match (name, place.pid, &place.command) {
            (Some(name), ..) => write!(f, "{name}:{interface}")?,
            (None, Some(pid), Some(command)) => write!(f, "{interface} in pid {pid} ({command})")?,
            _ => write!(f, "{interface} in a namespace without a name or a process")?,
        }
        write!(f, " (ifindex {ifindex}")?;
        bridge.as_ref().map_or(Ok(()), |bridge| write!(f, ", port of {bridge}"))?;
        lab.as_ref().map_or(Ok(()), |lab| write!(f, ", lab {lab}"))?;
        f.write_str(")")
    }
}

/// Why an interface has no other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPeer {
    /// There is no such interface. These are there.
    Missing(Vec<String>),
    /// It is not a veth: what it is instead, such as `a bridge`.
    OtherKind(String),
    /// The other end is being removed with its namespace.
    Leaving,
}

/// Finds the other end of an interface of `netns`. Names and processes are those that the caller sees. Engines that have a
/// socket are asked for their containers.
///
/// # Errors
/// A kernel request fails, or `/proc` cannot be read.
pub fn find(netns: &Netns, interface: &str) -> Result<std::result::Result<Ends, NoPeer>> {
    let socket = RouteSocket::open(netns)?;
    // The kernel has no longer names, and refuses to look for one.
    let is_name = interface.len() <= IfName::MOST;
    let Some(this) = (if is_name { socket.link(interface)? } else { None }) else {
        return Ok(Err(NoPeer::Missing(socket.links()?.into_iter().map(|link| link.name).collect())));
    };
    if !this.kind.as_deref().is_some_and(|kind| PAIRED.contains(&kind)) {
        return Ok(Err(NoPeer::OtherKind(what(&this, &socket)?)));
    }
    let peer = socket.peers(std::iter::once(&this), false)?.pop().flatten();
    let Some(peer) = peer.map(|peer| peer.read()).transpose()? else { return Ok(Err(NoPeer::Leaving)) };
    let containers = engine::names();
    let here = place_of(netns, &containers)?;
    let there = match this.peer_netns {
        None => here.clone(),
        Some(id) => place_with_id(&socket, id, &containers)?,
    };
    let ends = Ends {
        this: end(&this, here, bridge(&this, None, &socket)?),
        peer: end(&peer, there, bridge(&peer, this.peer_netns, &socket)?),
    };
    Ok(Ok(ends))
}

fn end(link: &LinkFacts, place: Place, bridge: Option<String>) -> End {
    let place = if place == Place::default() { place_of_mark(link).unwrap_or_default() } else { place };
    End {
        interface: link.name.clone(),
        ifindex: link.ifindex,
        place,
        bridge,
        lab: owner(link.alias.as_deref()),
    }
}

/// The namespace that a lab's mark names, for an inner end of a lab whose names are in another mount namespace.
fn place_of_mark(link: &LinkFacts) -> Option<Place> {
    let alias = link.alias.as_deref()?;
    let _ = owner(Some(alias))?;
    let (namespace, interface) = alias.split_once(' ')?.1.split_once(':')?;
    (interface == link.name).then(|| Place::named(namespace))
}

/// Where an open namespace is.
fn place_of(netns: &Netns, containers: &BTreeMap<u64, ContainerName>) -> Result<Place> {
    let inode = netns.inode()?;
    if Netns::current()?.inode()? == inode {
        return Ok(Place::named(netns::HOST));
    }
    if let Some(name) = containers.get(&inode) {
        return Ok(Resident::Container(name.clone()).into());
    }
    // As in `residents`, the last of several names counts.
    if let Some(name) = netns::names().into_iter().rfind(|name| netns.has_name(name)) {
        return Ok(Place::named(name));
    }
    Ok(lowest_process(inode)?.map_or_else(Place::default, Place::from))
}

/// Where a namespace is that is known by its id in the socket's namespace.
fn place_with_id(socket: &RouteSocket, id: i32, containers: &BTreeMap<u64, ContainerName>) -> Result<Place> {
    if socket.nsid_of(&Netns::current()?)? == Some(id) {
        return Ok(Place::named(netns::HOST));
    }
    Ok(residents(socket, containers)?.remove(&id).map_or_else(Place::default, |found| found.resident.into()))
}

/// The bridge that a link is a port of. `id` is that of the link's namespace, if it is another than the socket's.
fn bridge(link: &LinkFacts, id: Option<i32>, socket: &RouteSocket) -> Result<Option<String>> {
    let Some(controller) = link.controller else { return Ok(None) };
    // It is read as if it were the other end of a veth.
    let leads_to = LinkFacts { peer: Some(controller), peer_netns: id, ..link.clone() };
    let master = socket.peers(std::iter::once(&leads_to), false)?.pop().flatten();
    let master = master.map(|master| master.read()).transpose()?;
    Ok(master.filter(|master| master.kind.as_deref() == Some("bridge")).map(|master| master.name))
}

/// What an interface is that is no veth.
fn what(link: &LinkFacts, socket: &RouteSocket) -> Result<String> {
    let kind = match link.kind.as_deref() {
        _ if link.loopback => return Ok("the loopback".to_owned()),
        None if link.is_physical => return Ok("a device of the machine".to_owned()),
        None => return Ok("a device of a driver".to_owned()),
        Some(kind) => kind,
    };
    let below = socket.peers(std::iter::once(link), false)?.pop().flatten();
    let below = below.map(|below| below.read()).transpose()?;
    let below = below.map_or(String::new(), |below| format!(" on top of {}", below.name));
    Ok(format!("{} {kind}{below}", if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(place: Place, bridge: Option<&str>, lab: Option<&str>) -> String {
        let (bridge, lab) = (bridge.map(str::to_owned), lab.map(|lab| lab.parse().unwrap()));
        End { interface: "eth0".to_owned(), ifindex: 7, place, bridge, lab }.to_string()
    }

    #[test]
    fn an_end_is_named_by_what_finds_it_again() {
        let process = Resident::Process { pid: 42, name: "nginx".to_owned() };
        assert_eq!(end(Place::named("ns0"), None, None), "ns0:eth0 (ifindex 7)");
        assert_eq!(
            end(Place::named("host"), Some("br0"), Some("lab")),
            "host:eth0 (ifindex 7, port of br0, lab lab)"
        );
        assert_eq!(end(process.into(), None, None), "eth0 in pid 42 (nginx) (ifindex 7)");
        assert_eq!(
            end(Place::default(), None, None),
            "eth0 in a namespace without a name or a process (ifindex 7)"
        );
    }

    #[test]
    fn a_mark_names_the_namespace_of_an_inner_end_and_not_that_of_its_port() {
        let link = |name: &str, alias: &str| LinkFacts {
            name: name.to_owned(),
            alias: Some(alias.to_owned()),
            ..LinkFacts::default()
        };
        assert_eq!(place_of_mark(&link("eth0", "vethpath:lab ns0:eth0")), Some(Place::named("ns0")));
        for (name, alias) in [
            ("ns0-eth0", "vethpath:lab ns0:eth0"),
            ("eth0", "vethpath:lab"),
            ("eth0", "ns0:eth0"),
            ("eth0", "other ns0:eth0"),
        ] {
            assert_eq!(place_of_mark(&link(name, alias)), None, "{alias}");
        }
    }
}
