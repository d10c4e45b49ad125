//! The validated lab: everything named, every link resolved, every default filled in.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Adopt, Container, Expectation, Fabric, IfName, Ipv6, LabName, Mac, NsName, OffloadSizes, Resolver, Route,
    Rule, Stopped, SysctlKey, UplinkRoute,
};

/// A whole lab. Only validation creates one, so its parts are consistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The lab's name.
    pub lab: LabName,
    /// Whether IPv6 duplicate address detection is the default.
    #[serde(default)]
    pub dad: bool,
    /// The loopback address and port at which its metrics are served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// The namespace of bridges without a `namespace`, if the file asks for one and has such bridges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<Fabric>,
    /// Routes by the uplink of the fabric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplink_routes: Vec<UplinkRoute>,
    /// Namespaces, in the file's order, and then that of the fabric. The host is not among them.
    pub namespaces: Vec<Namespace>,
    /// Bridges, in the file's order.
    pub bridges: Vec<Bridge>,
    /// Bridges that other programs made, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adopted: Vec<AdoptedBridge>,
    /// Interfaces on bridges, in the file's order.
    pub pairs: Vec<Pair>,
    /// veth pairs without a bridge, among them the uplink of the fabric.
    pub cables: Vec<Cable>,
    /// veth pairs between two bridges.
    pub trunks: Vec<Trunk>,
    /// The number of the next trunk. A number is not reused while the lab is up.
    pub next_trunk: u16,
    /// The numbers in the maps of guest ports, if a bridge has or had `guests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests: Option<GuestRange>,
    /// What `vethpath test` expects of it, in the file's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expectations: Vec<Expectation>,
    /// Its hosts that are stopped. What they have only while they are up is in here, and not in the other fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<Stopped>,
}

/// The indexes in the counter map that a lab keeps for guest ports: ports of its bridges that other programs made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRange {
    /// The index at which all ports that have left are counted. Those of ports that are there follow it.
    pub former: u32,
}

impl GuestRange {
    /// How many guest ports a lab can have: as many as a bridge can have ports.
    pub const MOST: u32 = 1023;

    /// The indexes of ports that are there.
    #[must_use]
    pub fn numbers(self) -> RangeInclusive<u32> {
        self.former.saturating_add(1)..=self.last()
    }

    /// The last of them.
    #[must_use]
    pub fn last(self) -> u32 {
        self.former.saturating_add(Self::MOST)
    }

    /// Whether an index is one of them, or that of the ports that have left.
    #[must_use]
    pub fn contains(self, number: u32) -> bool {
        (self.former..=self.last()).contains(&number)
    }
}

/// The namespace that something is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// The namespace vethpath was started in.
    Host,
    /// A namespace of the lab.
    Namespace(NsName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.pad("host"),
            Self::Namespace(name) => name.fmt(f),
        }
    }
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name in `/run/netns`.
    pub name: NsName,
    /// How an adopted namespace, which another program created, is found. `up` enters it. `down` does not delete it.
    pub adopt: Option<Adopt>,
    /// Its routes, those without a gateway first: gateways may be reached by them. `gateway` is one of them, as a default
    /// route. The namespaces of a group share one list.
    #[serde(with = "shared")]
    pub routes: Arc<[Route]>,
    /// Settings under `/proc/sys/net` that do not belong to an interface of the lab. They are applied before the
    /// interfaces are created. The namespaces of a group share one list.
    #[serde(with = "shared")]
    pub sysctls: Arc<[Sysctl]>,
    /// Its routing rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Addresses of its loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loopback: Vec<IpNet>,
    /// Whether IPv6 duplicate address detection is the default of interfaces that are created in it.
    #[serde(default)]
    pub dad: bool,
    /// Its name servers, if the file has any.
    #[serde(default, skip_serializing_if = "Resolver::is_none")]
    pub resolver: Resolver,
}

impl Namespace {
    /// Whether it is adopted by the file of its own name in `/run/netns`, as `ip netns add` creates it. In that
    /// case the name does not belong to the lab either.
    #[must_use]
    pub fn has_its_name(&self) -> bool {
        let Some(Adopt::Path(path)) = &self.adopt else { return false };
        let is_it = |folder: &str| Path::new(path) == Path::new(folder).join(self.name.as_str());
        is_it("/run/netns") || is_it("/var/run/netns")
    }
}

/// One setting under `/proc/sys/net`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// Its name.
    #[serde(rename = "path")]
    pub key: SysctlKey,
    /// What to write there.
    #[serde(with = "shared_text")]
    pub value: Arc<str>,
}

/// Serializes a shared list as a copy for each holder.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(list: &Arc<[T]>, to: S) -> Result<S::Ok, S::Error> {
        list[..].serialize(to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<[T]>, D::Error> {
        Vec::deserialize(from).map(Into::into)
    }
}

/// The same for a shared string.
mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Into::into)
    }
}

/// The programs that are attached to ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// tc ingress and `bpf_redirect_peer`.
    Tc,
    /// XDP at the port, and the tc program for frames that XDP passes.
    Xdp,
    /// None: a plain bridge.
    Bridge,
}

impl Datapath {
    pub(super) const ALL: [Self; 3] = [Self::Tc, Self::Xdp, Self::Bridge];

    /// The value of `datapath` in the file.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::Bridge => "bridge",
        }
    }
}

/// A Linux bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The device's name.
    pub name: IfName,
    /// Its namespace.
    pub place: Place,
    /// Its number in the maps: unique in the lab, and not 0.
    pub number: u32,
    /// The number of its namespace in the maps. All bridges of a namespace have the same.
    pub domain: u16,
    /// Its own addresses, by which it is the gateway of its hosts.
    pub addresses: Vec<IpNet>,
    /// Its own MAC.
    pub mac: Mac,
    /// Its MTU in bytes. `None` is the kernel's default: the smallest of its ports'.
    pub mtu: Option<u32>,
    /// Masquerades packets from its subnets that leave its namespace, or the machine if it is in the fabric.
    pub nat: bool,
    /// Whether the machine has routes to its subnets, if it is in the fabric.
    #[serde(default = "yes")]
    pub host: bool,
    /// Its offload sizes, which are also the default of interfaces on it.
    #[serde(default, skip_serializing_if = "OffloadSizes::is_empty")]
    pub sizes: OffloadSizes,
    /// Spanning tree.
    pub stp: bool,
    /// FDB ageing time in seconds. `None` is the kernel's default of 300.
    pub ageing_time: Option<u32>,
    /// VLAN filtering. Its ports then stay on the slow path.
    pub vlan_filtering: bool,
    /// The programs of its ports, unless an interface has its own `datapath`.
    pub datapath: Datapath,
    /// Whether veth ports that other programs plug in take part in the fast path.
    #[serde(default)]
    pub guests: bool,
    /// Settings of the bridge device that are written in its namespace's table.
    #[serde(default)]
    pub sysctls: Vec<Sysctl>,
    /// IPv6 autoconfiguration.
    #[serde(default)]
    pub ipv6: Ipv6,
}

/// A bridge that another program made. The lab accelerates its ports, and changes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedBridge {
    /// The device's name.
    pub name: IfName,
    /// Its namespace.
    pub place: Place,
    /// Its number in the maps: unique in the lab, and not 0.
    pub number: u32,
    /// The number of its namespace in the maps. All bridges of a namespace have the same.
    pub domain: u16,
    /// The programs of its ports: tc, or none.
    pub datapath: Datapath,
}

/// The default of a key that is on.
fn yes() -> bool {
    true
}

/// `BR_DEFAULT_AGEING_TIME` of linux/if_bridge.h, in seconds.
const DEFAULT_AGEING_TIME: u32 = 300;

/// A bridge option that can be changed at run time, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeOption {
    /// Spanning tree.
    Stp(bool),
    /// FDB ageing time in whole seconds. A fraction of a second is ignored.
    AgeingTime(u32),
    /// VLAN filtering.
    VlanFiltering(bool),
}

impl BridgeOption {
    /// Its key in the file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Stp(_) => "stp",
            Self::AgeingTime(_) => "ageing_time",
            Self::VlanFiltering(_) => "vlan_filtering",
        }
    }
}

impl fmt::Display for BridgeOption {
    /// The value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stp(on) | Self::VlanFiltering(on) => on.fmt(f),
            Self::AgeingTime(seconds) => write!(f, "{seconds} s"),
        }
    }
}

impl Bridge {
    /// The options that the bridge must have. Those absent from the file have the kernel's default.
    #[must_use]
    pub fn options(&self) -> [BridgeOption; 3] {
        [
            BridgeOption::Stp(self.stp),
            BridgeOption::AgeingTime(self.ageing_time.unwrap_or(DEFAULT_AGEING_TIME)),
            BridgeOption::VlanFiltering(self.vlan_filtering),
        ]
    }
}

/// An interface in a namespace: one end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The device's name.
    pub name: IfName,
    /// Its MAC: from the file, or derived from lab, namespace and name.
    pub mac: Mac,
    /// Its MTU in bytes. The other end gets the same. `None` is the kernel's default of 1500.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Settings of it under `/proc/sys/net`, applied before it comes up.
    pub sysctls: Vec<Sysctl>,
    /// Whether it is brought up.
    pub up: bool,
    /// IPv6 autoconfiguration.
    #[serde(default)]
    pub ipv6: Ipv6,
    /// Its offload sizes. The other end gets the same.
    #[serde(default, skip_serializing_if = "OffloadSizes::is_empty")]
    pub sizes: OffloadSizes,
    /// Its permanent neighbours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Neighbour>,
}

/// A permanent neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC.
    pub mac: Mac,
}

/// A veth pair: the inner end in a namespace, the port on a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its index in the counter map: unique in the lab, and not 0.
    pub number: u32,
    /// The namespace of the inner end.
    pub namespace: NsName,
    /// The inner end.
    pub inner: Interface,
    /// The bridge.
    pub bridge: IfName,
    /// The bridge's namespace. The port is there too.
    pub place: Place,
    /// The port's device name, unique in the lab: see [`Topology::assign_ports`].
    pub port: IfName,
    /// Whether that name is in the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_own_port: bool,
    /// The port's own MAC, derived.
    pub port_mac: Mac,
    /// The programs of this port, from the interface's or the bridge's `datapath`.
    pub datapath: Datapath,
}

impl Pair {
    /// The name in messages: `ns0:eth0`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}:{}", self.namespace, self.inner.name)
    }
}

/// A veth pair between two namespaces, without a bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cable {
    /// The end that was declared first.
    pub a: CableEnd,
    /// The other end.
    pub b: CableEnd,
}

impl Cable {
    /// The name in messages: `ns0:eth0 - ns1:eth0`.
    #[must_use]
    pub fn name(&self) -> String {
        let end = |end: &CableEnd| format!("{}:{}", end.place, end.interface.name);
        format!("{} - {}", end(&self.a), end(&self.b))
    }
}

/// One end of a cable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CableEnd {
    /// Its namespace.
    pub place: Place,
    /// The interface.
    pub interface: Interface,
}

/// A veth pair whose ends are ports of two different bridges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// Its number in the maps: unique in the lab.
    pub number: u16,
    /// The end on the bridge that declares the trunk.
    pub a: TrunkEnd,
    /// The other end.
    pub b: TrunkEnd,
}

impl Trunk {
    /// The name in messages: `br0 - br1`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} - {}", self.a.bridge, self.b.bridge)
    }
}

/// One end of a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkEnd {
    /// The bridge.
    pub bridge: IfName,
    /// The bridge's namespace.
    pub place: Place,
    /// The port's device name.
    pub port: IfName,
    /// The port's own MAC.
    pub mac: Mac,
}

impl Topology {
    /// How an adopted namespace is found; `None` for one that the lab makes.
    #[must_use]
    pub fn adoption(&self, name: &NsName) -> Option<&Adopt> {
        self.namespaces.iter().find(|namespace| &namespace.name == name)?.adopt.as_ref()
    }

    /// The containers whose namespaces are adopted.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.namespaces.iter().filter_map(|namespace| namespace.adopt.as_ref()?.container())
    }

    /// The lab's interfaces in a place.
    pub fn interfaces_in<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Interface> {
        let is_here = move |name: &NsName| matches!(place, Place::Namespace(here) if here == name);
        let pairs = self.pairs.iter().filter(move |pair| is_here(&pair.namespace)).map(|pair| &pair.inner);
        let ends = self.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
        pairs.chain(ends.filter(move |end| &end.place == place).map(|end| &end.interface))
    }

    /// The bridge of this name in this namespace.
    #[must_use]
    pub fn bridge(&self, place: &Place, name: &IfName) -> Option<&Bridge> {
        self.bridges.get(self.bridge_position(place, name)?)
    }

    /// Its position among the lab's bridges.
    #[must_use]
    pub fn bridge_position(&self, place: &Place, name: &IfName) -> Option<usize> {
        self.bridges.iter().position(|b| &b.place == place && &b.name == name)
    }

    /// The number of a bridge in the maps. Unique in the lab. 0 if there is no such bridge.
    #[must_use]
    pub fn bridge_number(&self, place: &Place, name: &IfName) -> u32 {
        self.bridge(place, name).map(|bridge| bridge.number).unwrap_or_default()
    }

    /// For each bridge, the index of the first bridge of its segment. Only trunks within a namespace count.
    #[must_use]
    pub fn segments(&self) -> Vec<usize> {
        let position = |end: &TrunkEnd| self.bridge_position(&end.place, &end.bridge);
        let mut first: Vec<usize> = (0..self.bridges.len()).collect();
        for trunk in self.trunks.iter().filter(|trunk| trunk.a.place == trunk.b.place) {
            let (Some(a), Some(b)) = (position(&trunk.a), position(&trunk.b)) else { continue };
            let (from, to) = (first[a].max(first[b]), first[a].min(first[b]));
            first.iter_mut().filter(|one| **one == from).for_each(|one| *one = to);
        }
        first
    }

    /// Whether the bridge at this end of a trunk has a fast path.
    #[must_use]
    pub fn wants_programs(&self, end: &TrunkEnd) -> bool {
        self.bridge(&end.place, &end.bridge).is_some_and(|bridge| bridge.datapath != Datapath::Bridge)
    }

    /// The pairs with ports in a place that also get an XDP program.
    pub fn xdp_pairs<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a Pair> {
        self.pairs.iter().filter(move |pair| &pair.place == place && pair.datapath == Datapath::Xdp)
    }

    /// The ports in a place: those of pairs and those of trunks.
    pub fn ports<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a IfName> {
        let pairs = self.pairs.iter().filter(move |pair| &pair.place == place);
        let ends = self.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]);
        let ends = ends.filter(move |end| &end.place == place);
        pairs.map(|pair| &pair.port).chain(ends.map(|end| &end.port))
    }

    /// The ports in a place that get programs: those of pairs and trunks whose datapath is not the plain bridge.
    pub fn ports_with_programs<'a>(&'a self, place: &'a Place) -> impl Iterator<Item = &'a IfName> {
        let pairs = self.pairs.iter().filter(move |p| &p.place == place && p.datapath != Datapath::Bridge);
        let wants = move |end: &&TrunkEnd| &end.place == place && self.wants_programs(end);
        let ends = self.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]).filter(wants);
        pairs.map(|pair| &pair.port).chain(ends.map(|end| &end.port))
    }

    /// The bridges that other programs made, or the lab, whose guest ports are accelerated: where, and which.
    pub fn bridges_with_guests(&self) -> impl Iterator<Item = (&Place, &IfName)> {
        let own = self.bridges.iter().filter(|bridge| bridge.guests);
        let own = own.map(|bridge| (&bridge.place, &bridge.name));
        own.chain(self.adopted.iter().map(|bridge| (&bridge.place, &bridge.name)))
    }

    /// The namespaces that have bridges, each once with its number in the maps, in the order of their bridges.
    #[must_use]
    pub fn domains(&self) -> Vec<(u16, Place)> {
        let mut domains: Vec<(u16, Place)> = Vec::new();
        let own = self.bridges.iter().map(|bridge| (bridge.domain, &bridge.place));
        let adopted = self.adopted.iter().map(|bridge| (bridge.domain, &bridge.place));
        for (domain, place) in own.chain(adopted) {
            if !domains.iter().any(|(_, known)| known == place) {
                domains.push((domain, place.clone()));
            }
        }
        domains
    }
}
