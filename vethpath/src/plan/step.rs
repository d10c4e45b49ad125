//! One thing to do.

use std::{fmt, sync::Arc};

use ipnet::IpNet;

use super::{Change, NextHop};
use crate::{
    state::Offloads,
    topology::{
        Bridge, BridgeOption, Cable, IfName, Mac, Masquerade, Namespace, NsName, Pair, Place, Route, Sysctl,
        Trunk,
    },
};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Remove a masquerade table.
    Unmasquerade(Masquerade),
    /// Remove a link, and the other end of it with it.
    DeleteLink {
        /// Where.
        place: Place,
        /// Its device name.
        device: String,
        /// What it is in the lab: `pair`, `bridge`, ...
        kind: &'static str,
        /// What people call it: `ns0:eth0`.
        name: String,
    },
    /// Take the name of a namespace away, and with it all that is in it. An adopted one lives on.
    DeleteNamespace(Namespace),
    /// Make a namespace, with `lo` up and its settings.
    Namespace(Namespace),
    /// Make a bridge.
    Bridge(Bridge),
    /// Make a pair, its port on its bridge.
    Pair(Pair),
    /// Make a cable.
    Cable(Cable),
    /// Make a trunk.
    Trunk {
        /// Which.
        trunk: Trunk,
        /// The smaller MTU of its bridges, in bytes; `None` is the kernel's.
        mtu: Option<u32>,
    },
    /// Mark a link of ours that has no mark.
    Mark {
        /// Where.
        place: Place,
        /// Which.
        device: String,
        /// The mark.
        mark: String,
        /// Its alternative name, if it has one.
        altname: Option<String>,
        /// Settings that it may not have got either.
        settings: Vec<Sysctl>,
    },
    /// Put a port that is there on its bridge.
    Enslave {
        /// Where.
        place: Place,
        /// The port.
        device: String,
        /// The bridge that it is on.
        from: Option<String>,
        /// The bridge.
        bridge: IfName,
    },
    /// Give an interface that is there its MAC.
    Mac {
        /// Where.
        place: Place,
        /// Which.
        device: String,
        /// What it has.
        from: Option<[u8; 6]>,
        /// What it gets.
        mac: Mac,
    },
    /// Give an interface that is there its MTU.
    Mtu {
        /// Where.
        place: Place,
        /// Which.
        device: String,
        /// What it has, in bytes.
        from: u32,
        /// In bytes.
        mtu: u32,
    },
    /// Set an option of a bridge that is there.
    BridgeOption {
        /// Where.
        place: Place,
        /// Which.
        bridge: IfName,
        /// What it is.
        from: BridgeOption,
        /// What it becomes.
        to: BridgeOption,
    },
    /// Apply settings of an interface or bridge that is made.
    Sysctls {
        /// Where.
        place: Place,
        /// What.
        settings: Vec<Sysctl>,
    },
    /// Change a setting of what is there.
    Sysctl {
        /// Where.
        place: Place,
        /// What it is; `None` if it cannot be read.
        from: Option<String>,
        /// What it becomes.
        setting: Sysctl,
    },
    /// Take an address off an interface.
    DeleteAddress {
        /// Where.
        place: Place,
        /// On which interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
    },
    /// Give an interface an address.
    Address {
        /// Where.
        place: Place,
        /// On which interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
        /// Whether the kernel looks for duplicates of it first.
        dad: bool,
    },
    /// Add the route to the subnet of an address that an interface has and somebody removed it from.
    Subnet {
        /// Where.
        place: Place,
        /// By which interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
    },
    /// Bring an interface up.
    Up {
        /// Where.
        place: Place,
        /// Which.
        device: String,
        /// Whether it is a bridge port.
        port: bool,
    },
    /// Take an interface down.
    Down {
        /// Where.
        place: Place,
        /// Which.
        device: String,
    },
    /// Masquerade what leaves.
    Masquerade(Masquerade),
    /// Remove a route.
    DeleteRoute {
        /// Where.
        namespace: NsName,
        /// Which.
        route: Route,
    },
    /// Add all routes of a namespace that has none of them.
    Routes {
        /// Where.
        namespace: NsName,
        /// Which.
        routes: Arc<[Route]>,
    },
    /// Add a route, or put it in the place of another.
    Route {
        /// Where.
        namespace: NsName,
        /// What it replaces.
        from: Option<NextHop>,
        /// Which.
        route: Route,
    },
}

impl Step {
    /// Whether it writes a value that is there, because another step changes it.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        match self {
            Self::BridgeOption { from, to, .. } => from == to,
            Self::Sysctl { from, setting, .. } => from.as_deref() == Some(&*setting.value),
            _ => false,
        }
    }

    /// What the step changes, one by one.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let (one, routes) = match self {
            Self::Routes { namespace, routes } => (None, Some((namespace, routes))),
            other => (Some(other.change()), None),
        };
        let routes = routes.into_iter().flat_map(|(namespace, routes)| {
            routes.iter().map(move |route| Change::create("route", described(route, namespace)))
        });
        one.into_iter().chain(routes)
    }

    /// What the step changes, in one line.
    #[must_use]
    pub fn change(&self) -> Change {
        match self {
            Self::Unmasquerade(nat) => Change::delete("nat", &nat.table),
            Self::DeleteLink { kind, name, .. } => Change::delete(kind, name),
            Self::DeleteNamespace(namespace) => Change::delete("namespace", &namespace.name),
            Self::Namespace(namespace) => Change::create("namespace", &namespace.name),
            Self::Bridge(bridge) => Change::create("bridge", &bridge.name),
            Self::Pair(pair) => Change::create("pair", pair.name()),
            Self::Cable(cable) => Change::create("cable", cable.name()),
            Self::Trunk { trunk, .. } => Change::create("trunk", trunk.name()),
            Self::Mark { place, device, mark, .. } => {
                Change::of("mark", end(place, device)).values(None::<&str>, mark)
            }
            Self::Enslave { place, device, from, bridge } => {
                let from = from.as_deref().unwrap_or("none");
                Change::of("port", end(place, device)).property("bridge").values(Some(from), bridge)
            }
            Self::Mac { place, device, from, mac } => {
                let from = from.as_ref().map(hex);
                Change::of("mac", end(place, device)).values(from, mac)
            }
            Self::Mtu { place, device, from, mtu } => {
                Change::of("mtu", end(place, device)).values(Some(from), mtu)
            }
            Self::BridgeOption { bridge, from, to, .. } => {
                Change::of("bridge", bridge).property(to.key()).values(Some(from), to)
            }
            Self::Sysctls { place, .. } => Change::of("sysctl", place),
            Self::Sysctl { place, from, setting } => {
                let change = Change::of("sysctl", place).property(&setting.key);
                change.values(from.as_ref(), &setting.value)
            }
            Self::DeleteAddress { place, device, address } => {
                Change::delete("address", format_args!("{address} on {}", end(place, device)))
            }
            Self::Address { place, device, address, .. } => {
                Change::create("address", format_args!("{address} on {}", end(place, device)))
            }
            Self::Subnet { place, device, address } => {
                Change::create("route", format_args!("{} dev {device} in {place}", address.trunc()))
            }
            Self::Up { place, device, .. } => {
                Change::of("interface", end(place, device)).values(Some("down"), "up")
            }
            Self::Down { place, device } => {
                Change::of("interface", end(place, device)).values(Some("up"), "down")
            }
            Self::Masquerade(nat) => Change::create("nat", &nat.table),
            Self::DeleteRoute { namespace, route } => Change::delete("route", described(route, namespace)),
            Self::Route { namespace, from: Some(from), route } => {
                let change = Change::of("route", format_args!("{} in {namespace}", route.to));
                match from {
                    NextHop::Gateway(from) => change.property("via").values(Some(from), route.via),
                    NextHop::Other(from) => change.values(Some(from), format_args!("via {}", route.via)),
                }
            }
            Self::Route { namespace, from: None, route } => {
                Change::create("route", described(route, namespace))
            }
            Self::Routes { namespace, routes } => match &routes[..] {
                [route] => Change::create("route", described(route, namespace)),
                routes => Change::create("routes", format_args!("{} in {namespace}", routes.len())),
            },
        }
    }
}

/// A change of the programs of a port that is there, or of the offloads of its inner end.
#[derive(Clone, Debug, PartialEq)]
pub enum ProgramStep {
    /// Attach the program to a port that is there.
    Attach {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Take the program off a port.
    Detach {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Make an inner end that is there ready for XDP, which has these offloads now.
    SetUpXdp(Offloads),
    /// Attach the XDP program to a port that is there.
    AttachXdp {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Take the XDP program off a port.
    DetachXdp {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Put back the offloads that an inner end had before it was made ready for XDP.
    RestoreOffloads(Offloads),
}

impl ProgramStep {
    /// What it changes, in one line.
    #[must_use]
    pub fn change(&self) -> Change {
        match self {
            Self::Attach { place, port } => Change::create("program", end(place, port)),
            Self::Detach { place, port } => Change::delete("program", end(place, port)),
            Self::SetUpXdp(found) => offloads(found).values(None::<&str>, found.told(true)),
            Self::AttachXdp { place, port } => Change::create("xdp-program", end(place, port)),
            Self::DetachXdp { place, port } => Change::delete("xdp-program", end(place, port)),
            Self::RestoreOffloads(found) => offloads(found).values(None::<&str>, found.told(false)),
        }
    }
}

fn described(route: &Route, namespace: &NsName) -> String {
    format!("{} via {} in {namespace}", route.to, route.via)
}

fn offloads(found: &Offloads) -> Change {
    Change::of("offloads", format_args!("{}:{}", found.namespace, found.interface))
}

/// An interface as people write it: `ns0:eth0`.
pub(super) fn end(place: &Place, device: impl fmt::Display) -> String {
    format!("{place}:{device}")
}

fn hex(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
