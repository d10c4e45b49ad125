//! Selects the two pairs to measure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::Path,
};

use ipnet::IpNet;

use super::error::Error;
use crate::{
    agent::{
        counted_pairs,
        status::{self, GuestStatus, Status},
    },
    datapath::GuestPort,
    kernel::{
        self, Netns, RouteSocket, engine, netns,
        residents::{Inhabited, Resident, residents},
    },
    state::Directory,
    topology::{Datapath, IfName, NsName, Pair, Place, Topology},
};

/// The state of a pair if the agent does not reply.
pub(super) const NO_AGENT: &str = "the agent does not answer";

/// A network namespace.
#[derive(Clone, Debug)]
pub enum Inside {
    /// One that has this name in `/run/netns`.
    Named(NsName),
    /// One that another program made, as the user called it.
    Open(Netns),
}

impl Inside {
    /// Opens it.
    ///
    /// # Errors
    /// It is gone.
    pub fn netns(&self) -> kernel::Result<Netns> {
        match self {
            Self::Named(name) => Netns::named(name),
            Self::Open(netns) => Ok(netns.clone()),
        }
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(f),
            Self::Open(netns) => netns.fmt(f),
        }
    }
}

/// One of the two pairs: of the lab, or a guest port and its inner end.
#[derive(Clone, Debug)]
pub struct Side {
    /// Its name in `stats`.
    pub name: String,
    /// The namespace of the inner end.
    pub inside: Inside,
    /// The MTU of the inner end in bytes, if the file sets it.
    pub mtu: Option<u32>,
    /// The namespace of the bridge.
    pub place: Place,
    /// The bridge.
    pub bridge: IfName,
    /// The port.
    pub port: IfName,
    /// The programs of the port.
    pub datapath: Datapath,
    /// Its index in the counter map.
    pub counter: u32,
    /// The address that is measured.
    pub address: IpAddr,
    /// Why the pair is not armed; `None` if it is.
    pub not_armed: Option<String>,
    /// The port, if another program made it.
    pub guest: Option<GuestPort>,
}

/// The two pairs to measure: ports of one segment, with addresses in one subnet.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The client side.
    pub from: Side,
    /// The server side.
    pub to: Side,
    /// How many bridges a frame crosses between them.
    pub bridges: usize,
}

impl Side {
    /// A pair of the lab that is armed, at its first address.
    #[must_use]
    pub fn of(pair: &Pair) -> Self {
        Self {
            name: pair.name(),
            inside: Inside::Named(pair.namespace.clone()),
            mtu: pair.inner.mtu,
            place: pair.place.clone(),
            bridge: pair.bridge.clone(),
            port: pair.port.clone(),
            datapath: pair.datapath,
            counter: pair.number,
            address: pair.inner.addresses.first().map_or(IpAddr::from([0; 4]), IpNet::addr),
            not_armed: None,
            guest: None,
        }
    }
}

impl Selection {
    /// Whether the fast path is available between the two.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.sides().iter().all(|side| side.not_armed.is_none())
    }

    /// Both sides.
    #[must_use]
    pub fn sides(&self) -> [&Side; 2] {
        [&self.from, &self.to]
    }
}

/// A bridge whose guest ports are measured, and two namespaces, by the name in `/run/netns`, by the pid of a process or
/// by the name of a container.
#[derive(Clone, Debug)]
pub struct AtBridge {
    /// Where it is.
    pub place: Place,
    /// Its name.
    pub bridge: IfName,
    /// The client's and the server's namespace; `None` selects the first two that are armed.
    pub between: Option<(String, String)>,
}

/// Selects two guest ports of a bridge: those that the user asked for, or the first two with addresses of one subnet,
/// preferably armed.
///
/// # Errors
/// There are no such ports, or the agent does not answer.
pub async fn select_guests(
    topology: &Topology,
    at: &AtBridge,
    directory: &Directory,
) -> Result<Selection, Error> {
    let none = || Error::NoGuests { bridge: at.bridge.clone() };
    let domains = topology.domains();
    let (domain, _) = domains.iter().find(|(_, place)| *place == at.place).ok_or_else(none)?;
    let status = status::query(&directory.socket()).map_err(|_| Error::NoAgent(topology.lab.clone()))?;
    let socket = RouteSocket::open(&Netns::of(&at.place)?)?;
    let prefix = crate::agent::guest_name(&at.place, &at.bridge, &at.bridge);
    let prefix = prefix.trim_end_matches(at.bridge.as_str());
    let here = status.guests.into_iter().filter(|guest| guest.name.starts_with(prefix));
    let (residents, mut guests) = (residents(&socket, &engine::names())?, Vec::new());
    for guest in here.filter(|guest| guest.number != 0) {
        guests.extend(guest_side(&residents, *domain, at, guest)?);
    }
    let wanted = match &at.between {
        None => None,
        Some((from, to)) => Some((open(from).await?, open(to).await?)),
    };
    let ids = match &wanted {
        None => None,
        Some((from, to)) => Some((socket.nsid_of(from)?, socket.nsid_of(to)?)),
    };
    let mut first = None;
    for from in &guests {
        for to in &guests {
            let is_wanted = match ids {
                Some(ids) => (from.netns, to.netns) == ids && from.side.port != to.side.port,
                None => from.netns != to.netns,
            };
            let Some((a, b)) = addresses(&from.addresses, &to.addresses).filter(|_| is_wanted) else {
                continue;
            };
            let mut selection = Selection {
                from: Side { address: a, ..from.side.clone() },
                to: Side { address: b, ..to.side.clone() },
                bridges: 1,
            };
            if let Some((from, to)) = &wanted {
                (selection.from.inside, selection.to.inside) =
                    (Inside::Open(from.clone()), Inside::Open(to.clone()));
            }
            if selection.is_armed() {
                return Ok(selection);
            }
            first.get_or_insert(selection);
        }
    }
    first.ok_or_else(|| match &at.between {
        Some((from, to)) => {
            Error::NotOnBridge { from: from.clone(), to: to.clone(), bridge: at.bridge.clone() }
        }
        None => none(),
    })
}

/// The namespace of this name, of the process with this pid, or of the container of this name.
async fn open(name: &str) -> Result<Netns, Error> {
    let named = name.parse::<NsName>().ok().filter(netns::exists).map(|known| Netns::named(&known));
    let pid = || name.parse::<u32>().ok().map(|pid| format!("/proc/{pid}/ns/net"));
    let by_pid =
        || pid().filter(|path| Path::new(path).exists()).map(|path| Netns::open(Path::new(&path), name));
    if let Some(found) = named.or_else(by_pid) {
        return Ok(found?);
    }
    let unknown = || Error::NoSuchNamespace(name.to_owned());
    engine::find_by_name(&name.parse().map_err(|_| unknown())?).await?.ok_or_else(unknown)
}

/// A guest port, and what is behind it.
struct GuestEnd {
    /// The port as a side. Its address is chosen later.
    side: Side,
    /// The id of the inner end's namespace.
    netns: Option<i32>,
    /// The addresses of the inner end.
    addresses: Vec<IpNet>,
}

/// A guest port and what is behind it. `None` if nobody lives in the inner end's namespace, or the inner end is gone.
fn guest_side(
    residents: &BTreeMap<i32, Inhabited>,
    domain: u16,
    at: &AtBridge,
    guest: GuestStatus,
) -> Result<Option<GuestEnd>, Error> {
    let Some(Inhabited { path, resident }) = guest.ends.netns.and_then(|id| residents.get(&id)) else {
        return Ok(None);
    };
    let name = match resident {
        Resident::Process { pid, .. } => pid.to_string(),
        named => named.to_string(),
    };
    let Ok(netns) = Netns::open(path, &name) else { return Ok(None) };
    let inner = RouteSocket::open(&netns)?;
    let GuestStatus { name, port, bridge, number, ends, reason } = guest;
    let addresses = inner.addresses()?.into_iter().filter(|(ifindex, _)| *ifindex == ends.inner);
    let mtu = inner.raw_links_at(&[ends.inner])?.pop().flatten().map(|link| link.read()).transpose()?;
    let side = Side {
        name,
        inside: Inside::Open(netns),
        mtu: mtu.map(|link| link.mtu),
        place: at.place.clone(),
        bridge,
        port: port.clone(),
        datapath: Datapath::Tc,
        counter: number,
        // Chosen later.
        address: IpAddr::from([0; 4]),
        not_armed: reason,
        guest: Some(GuestPort { domain, ifindex: ends.port, name: port }),
    };
    let addresses = addresses.map(|(_, address)| address).collect();
    Ok(Some(GuestEnd { side, netns: ends.netns, addresses }))
}

/// Selects the pairs that the user asked for, or the first two armed pairs of one segment. If no two are armed, it
/// selects the first two.
///
/// # Errors
/// There are no such pairs, or the requested ones do not match.
pub fn select(
    topology: &Topology,
    between: Option<&(NsName, NsName)>,
    directory: &Directory,
) -> Result<Selection, Error> {
    // If the agent does not reply, all pairs count as not armed.
    from_status(topology, between, status::query(&directory.socket()).ok().as_ref())
}

fn from_status(
    topology: &Topology,
    between: Option<&(NsName, NsName)>,
    status: Option<&Status>,
) -> Result<Selection, Error> {
    for namespace in between.iter().flat_map(|(from, to)| [from, to]) {
        if !topology.namespaces.iter().any(|known| &known.name == namespace) {
            let (lab, namespace) = (topology.lab.clone(), namespace.clone());
            return Err(Error::NoNamespace { lab, namespace });
        }
    }
    let wanted = |from: &Pair, to: &Pair| match between {
        Some((a, b)) => &from.namespace == a && &to.namespace == b,
        None => from.namespace != to.namespace,
    };
    let segments = topology.segments();
    let segment = |pair: &Pair| topology.bridge_position(&pair.place, &pair.bridge).map(|at| segments[at]);
    let pairs: Vec<_> = counted_pairs(topology).map(|(number, pair)| (number, pair, segment(pair))).collect();
    let mut first = None;
    for &(a, from, here) in &pairs {
        for &(b, to, there) in &pairs {
            if a == b || !wanted(from, to) || here != there {
                continue;
            }
            let Some((from_address, to_address)) = addresses(&from.inner.addresses, &to.inner.addresses)
            else {
                continue;
            };
            let bridges = bridges_between(topology, from, to);
            let selection = Selection {
                from: side(a, from, from_address, status),
                to: side(b, to, to_address, status),
                bridges,
            };
            if selection.is_armed() {
                return Ok(selection);
            }
            first.get_or_insert(selection);
        }
    }
    first.ok_or_else(|| match between {
        Some((from, to)) => Error::NotNeighbours(from.clone(), to.clone()),
        None => Error::NoPairs(topology.lab.clone()),
    })
}

fn side(counter: u32, pair: &Pair, address: IpAddr, status: Option<&Status>) -> Side {
    let not_armed = match status {
        None => Some(NO_AGENT.to_owned()),
        Some(status) => status.ports.get(&pair.name()).cloned().unwrap_or_else(|| Some(NO_AGENT.to_owned())),
    };
    Side { counter, address, not_armed, ..Side::of(pair) }
}

/// How many bridges are between two pairs of one segment, by the shortest path.
fn bridges_between(topology: &Topology, from: &Pair, to: &Pair) -> usize {
    let position = |place, bridge| topology.bridge_position(place, bridge);
    let trunks = topology.trunks.iter().filter_map(|trunk| {
        Some((position(&trunk.a.place, &trunk.a.bridge)?, position(&trunk.b.place, &trunk.b.bridge)?))
    });
    let trunks: Vec<_> = trunks.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
    let goal = position(&to.place, &to.bridge);
    let mut reached: BTreeSet<_> = position(&from.place, &from.bridge).into_iter().collect();
    // Each iteration extends the search by one bridge.
    for bridges in 1..=topology.bridges.len() {
        if goal.is_some_and(|goal| reached.contains(&goal)) {
            return bridges;
        }
        let next: Vec<_> = trunks.iter().filter(|(a, _)| reached.contains(a)).map(|&(_, b)| b).collect();
        reached.extend(next);
    }
    1
}

/// The first two addresses that reach each other without a router.
fn addresses(from: &[IpNet], to: &[IpNet]) -> Option<(IpAddr, IpAddr)> {
    from.iter().find_map(|a| {
        let b = to.iter().find(|b| a.contains(&b.addr()) && b.contains(&a.addr()))?;
        Some((a.addr(), b.addr()))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::topology::{Source, read};

    fn lab() -> Topology {
        let mut text = String::from("[bridge.br0]\n[bridge.br1]\n");
        for (name, bridge, address) in [
            ("a", "br0", "10.0.0.1/24"),
            ("b", "br1", "10.1.0.1/24"),
            ("c", "br0", "10.0.0.2/24"),
            ("d", "br1", "10.1.0.2/24"),
            ("e", "br0", "10.9.0.1/24"),
        ] {
            text += &format!(
                "[namespace.{name}.interface.eth0]\nlink = \"{bridge}\"\naddresses = [\"{address}\"]\n"
            );
        }
        read(Source { path: "lab.toml", text: &text }, Some("lab")).unwrap()
    }

    fn status(armed: &[&str]) -> Status {
        let state = |name: &str| (!armed.contains(&name)).then(|| "because".to_owned());
        let ports: BTreeMap<_, _> =
            ["a", "b", "c", "d", "e"].iter().map(|n| (format!("{n}:eth0"), state(n))).collect();
        Status {
            pid: 1,
            memory_kib: None,
            since: None,
            capabilities: Vec::new(),
            lease_ms: 3000,
            generation: 1,
            stations: 0,
            settled: true,
            announced: 1,
            confirmed: 1,
            polls: 0,
            steady: true,
            coming_up: false,
            failure: None,
            xdp_missed: None,
            ends: BTreeMap::new(),
            trunks: BTreeMap::new(),
            drops: BTreeSet::new(),
            guests: Vec::new(),
            words: BTreeMap::new(),
            ports,
        }
    }

    fn selection(
        between: Option<(&str, &str)>,
        status: Option<&Status>,
    ) -> Result<(String, String, bool), Error> {
        let between = between.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        from_status(&lab(), between.as_ref(), status)
            .map(|c| (c.from.name.clone(), c.to.name.clone(), c.is_armed()))
    }

    #[test]
    fn the_first_two_armed_on_one_bridge() {
        let all = status(&["a", "b", "c", "d", "e"]);
        assert_eq!(selection(None, Some(&all)).unwrap(), ("a:eth0".into(), "c:eth0".into(), true));
        let some = status(&["a", "b", "d", "e"]);
        assert_eq!(selection(None, Some(&some)).unwrap(), ("b:eth0".into(), "d:eth0".into(), true));
    }

    #[test]
    fn where_none_are_armed_the_first_two() {
        assert!(!selection(None, Some(&status(&["a", "b"]))).unwrap().2);
        assert_eq!(selection(None, None).unwrap(), ("a:eth0".into(), "c:eth0".into(), false));
    }

    #[test]
    fn what_was_asked_for_or_why_not() {
        let all = status(&["a", "b", "c", "d", "e"]);
        assert_eq!(
            selection(Some(("d", "b")), Some(&all)).unwrap(),
            ("d:eth0".into(), "b:eth0".into(), true)
        );
        assert!(matches!(selection(Some(("a", "x")), Some(&all)), Err(Error::NoNamespace { .. })));
        assert!(
            matches!(selection(Some(("a", "b")), Some(&all)), Err(Error::NotNeighbours(..))),
            "two bridges"
        );
        assert!(
            matches!(selection(Some(("a", "e")), Some(&all)), Err(Error::NotNeighbours(..))),
            "two subnets"
        );
    }
}
