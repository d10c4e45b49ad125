//! The steps of a plan.

use std::{fmt, sync::Arc};

use ipnet::IpNet;

use super::{Accepted, Change, ObservedRoute, Offloads};
use crate::topology::{
    AcceptRule, Bridge, BridgeOption, Cable, Family, IfName, Mac, Masquerade, Namespace, Neighbour, NsName,
    OffloadSizes, Pair, Place, Route, RouteKey, Rule, Sysctl, Trunk, UplinkRoute,
};

/// One operation of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Remove a masquerade table.
    Unmasquerade(Masquerade),
    /// Remove a link. A veth's other end goes with it.
    DeleteLink {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
        /// Its kind in the lab: `pair`, `bridge`, ...
        kind: &'static str,
        /// Its name in output: `ns0:eth0`.
        name: String,
    },
    /// Remove a namespace and what is in it. An adopted namespace only loses its name.
    DeleteNamespace(Namespace),
    /// Create a namespace with its settings and with `lo` up.
    Namespace(Namespace),
    /// Create a bridge.
    Bridge(Bridge),
    /// Create a pair, with its port on its bridge.
    Pair(Pair),
    /// Create a cable.
    Cable(Cable),
    /// Create a trunk.
    Trunk {
        /// The trunk.
        trunk: Trunk,
        /// The smaller MTU of its bridges, in bytes; `None` is the kernel's default.
        mtu: Option<u32>,
    },
    /// Mark a link of the lab that has no mark.
    Mark {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
        /// The mark.
        mark: String,
        /// Its alternative name, if it has one.
        altname: Option<String>,
        /// Settings that may not have been applied either.
        settings: Vec<Sysctl>,
    },
    /// Enslave an existing port to its bridge.
    Enslave {
        /// The place.
        place: Place,
        /// The port.
        device: String,
        /// Its present bridge.
        from: Option<String>,
        /// The bridge.
        bridge: IfName,
    },
    /// Set the MAC of an existing interface.
    Mac {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
        /// The present MAC.
        from: Option<[u8; 6]>,
        /// The new MAC.
        mac: Mac,
    },
    /// Set the MTU of an existing interface.
    Mtu {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
        /// The present MTU in bytes.
        from: u32,
        /// The new MTU in bytes.
        mtu: u32,
    },
    /// Set offload sizes of an interface, a port or a bridge.
    Sizes {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
        /// The present sizes.
        from: OffloadSizes,
        /// Those that change.
        to: OffloadSizes,
    },
    /// Set an option of an existing bridge.
    BridgeOption {
        /// The place.
        place: Place,
        /// The bridge.
        bridge: IfName,
        /// The present value.
        from: BridgeOption,
        /// The new value.
        to: BridgeOption,
    },
    /// Apply the settings of a new interface or bridge.
    Sysctls {
        /// The place.
        place: Place,
        /// The settings.
        settings: Vec<Sysctl>,
    },
    /// Change a setting of an existing object.
    Sysctl {
        /// The place.
        place: Place,
        /// The present value; `None` if it cannot be read.
        from: Option<String>,
        /// The new value.
        setting: Sysctl,
    },
    /// Delete an address from an interface.
    DeleteAddress {
        /// The place.
        place: Place,
        /// The interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
    },
    /// Add an address to an interface.
    Address {
        /// The place.
        place: Place,
        /// The interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
        /// Whether the kernel performs DAD for it.
        dad: bool,
    },
    /// Add the connected route of an address again, which was removed from the interface.
    Subnet {
        /// The place.
        place: Place,
        /// The interface.
        device: String,
        /// The address and its subnet.
        address: IpNet,
    },
    /// Bring an interface up.
    Up {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
        /// Whether it is a bridge port.
        port: bool,
    },
    /// Take an interface down.
    Down {
        /// The place.
        place: Place,
        /// The device name.
        device: String,
    },
    /// Add a masquerade table.
    Masquerade(Masquerade),
    /// Make these the rules of the lab in a chain `DOCKER-USER`: the wanted ones, or none.
    Accept(Accepted),
    /// Remove a route.
    DeleteRoute {
        /// The namespace.
        namespace: NsName,
        /// The route.
        route: Route,
    },
    /// Restore the routes of an adopted namespace that the lab's route has replaced.
    RestoreRoutes {
        /// The namespace.
        namespace: NsName,
        /// What is unique among routes.
        key: RouteKey,
    },
    /// Add all routes of a namespace that has none.
    Routes {
        /// The namespace.
        namespace: NsName,
        /// The routes.
        routes: Arc<[Route]>,
    },
    /// Add a route, or replace one with the same key.
    Route {
        /// The namespace.
        namespace: NsName,
        /// The route that it replaces.
        from: Option<ObservedRoute>,
        /// The route.
        route: Route,
    },
    /// Remove a routing rule.
    DeleteRule {
        /// The namespace.
        namespace: NsName,
        /// The address family.
        family: Family,
        /// The rule.
        rule: Rule,
    },
    /// Add a routing rule.
    Rule {
        /// The namespace.
        namespace: NsName,
        /// The address family.
        family: Family,
        /// The rule.
        rule: Rule,
    },
    /// Remove a permanent neighbour.
    DeleteNeighbour {
        /// The place.
        place: Place,
        /// The interface.
        device: String,
        /// The neighbour.
        neighbour: Neighbour,
    },
    /// Add a permanent neighbour, or replace the entry of its address.
    Neighbour {
        /// The place.
        place: Place,
        /// The interface.
        device: String,
        /// The MAC of the permanent entry that it replaces.
        from: Option<Mac>,
        /// The neighbour.
        neighbour: Neighbour,
    },
    /// Remove a route by the uplink.
    DeleteUplinkRoute(UplinkRoute),
    /// Add a route by the uplink.
    UplinkRoute(UplinkRoute),
}

impl Step {
    /// Whether it writes the present value again, because another step overwrites it.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        match self {
            Self::BridgeOption { from, to, .. } => from == to,
            Self::Sysctl { from, setting, .. } => from.as_deref() == Some(&*setting.value),
            _ => false,
        }
    }

    /// Whether it adopts a namespace under this name.
    #[must_use]
    pub fn adopts(&self, name: &NsName) -> bool {
        matches!(self, Self::Namespace(namespace) if &namespace.name == name && namespace.adopt.is_some())
    }

    /// The changes that the step makes, one by one.
    pub fn changes(&self) -> impl Iterator<Item = Change> {
        let (some, routes) = match self {
            Self::Routes { namespace, routes } => (Vec::new(), Some((namespace, routes))),
            Self::Accept(accepted) => (accept_changes(accepted), None),
            other => (vec![other.change()], None),
        };
        let routes = routes.into_iter().flat_map(|(namespace, routes)| {
            routes.iter().map(move |route| Change::create("route", described(route, namespace)))
        });
        some.into_iter().chain(routes)
    }

    /// The change that the step makes, in one line.
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
            Self::Sizes { place, device, from, to } => {
                let changed = to.each().into_iter().zip(from.each()).filter(|((_, to), _)| to.is_some());
                let from: Vec<String> =
                    changed.filter_map(|(_, (key, from))| Some(format!("{key} {}", from?))).collect();
                let from = (!from.is_empty()).then(|| from.join(", "));
                Change::of("offload-sizes", end(place, device)).values(from, to)
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
            Self::Accept(accepted) => Change::of("accept-rules", accepted.chain())
                .values(Some(accepted.present.len()), accepted.wanted.len()),
            Self::DeleteRoute { namespace, route } => Change::delete("route", described(route, namespace)),
            Self::Route { namespace, from: Some(from), route } => {
                let change = Change::of("route", format_args!("{} in {namespace}", route.to));
                match (from.gateway(), route.via) {
                    (Some(from), Some(via)) if *route == Route::by(route.to, via) => {
                        change.property("via").values(Some(from), via)
                    }
                    _ => change.values(Some(from.way(route)), route.way()),
                }
            }
            Self::Route { namespace, from: None, route } => {
                Change::create("route", described(route, namespace))
            }
            Self::DeleteRule { namespace, family, rule } => {
                Change::delete("rule", ruled(rule, *family, namespace))
            }
            Self::Rule { namespace, family, rule } => Change::create("rule", ruled(rule, *family, namespace)),
            Self::DeleteNeighbour { place, device, neighbour } => {
                Change::delete("neighbour", next_to(neighbour, place, device))
            }
            Self::Neighbour { place, device, from: None, neighbour } => {
                Change::create("neighbour", next_to(neighbour, place, device))
            }
            Self::Neighbour { place, device, from, neighbour } => {
                Change::of("neighbour", format_args!("{} on {}", neighbour.address, end(place, device)))
                    .values(*from, neighbour.mac)
            }
            Self::DeleteUplinkRoute(route) => Change::delete("route", by_uplink(route)),
            Self::UplinkRoute(route) => Change::create("route", by_uplink(route)),
            Self::RestoreRoutes { namespace, key } => {
                Change::create("route", format_args!("{} in {namespace}, as it was before the lab", key.to))
            }
            Self::Routes { namespace, routes } => match &routes[..] {
                [route] => Change::create("route", described(route, namespace)),
                routes => Change::create("routes", format_args!("{} in {namespace}", routes.len())),
            },
        }
    }
}

/// A change of the programs of an existing port, or of the offloads of its inner end.
#[derive(Clone, Debug, PartialEq)]
pub enum ProgramStep {
    /// Attach the program to an existing port.
    Attach {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Detach the program from a port.
    Detach {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Prepare an existing inner end for XDP. It has these offloads now.
    SetUpXdp(Offloads),
    /// Attach the XDP program to an existing port.
    AttachXdp {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Detach the XDP program from a port.
    DetachXdp {
        /// Where.
        place: Place,
        /// Which.
        port: IfName,
    },
    /// Restore the offloads that an inner end had before it was prepared for XDP.
    RestoreOffloads(Offloads),
    /// Accelerate ports that other programs plug into a bridge, or stop that. The agent does it.
    Guests {
        /// Where.
        place: Place,
        /// Which bridge.
        bridge: IfName,
        /// Whether they are accelerated.
        on: bool,
        /// Whether the bridge is another program's.
        adopted: bool,
    },
}

impl ProgramStep {
    /// What it changes, in one line.
    #[must_use]
    pub fn change(&self) -> Change {
        match self {
            Self::Attach { place, port } => Change::create("program", end(place, port)),
            Self::Detach { place, port } => Change::delete("program", end(place, port)),
            Self::SetUpXdp(found) => offloads(found).values(None::<&str>, found.switched()),
            Self::AttachXdp { place, port } => Change::create("xdp-program", end(place, port)),
            Self::DetachXdp { place, port } => Change::delete("xdp-program", end(place, port)),
            Self::RestoreOffloads(found) => offloads(found).values(None::<&str>, found.original()),
            Self::Guests { place, bridge, on: true, adopted: true } => {
                Change::create("acceleration", end(place, bridge))
            }
            Self::Guests { place, bridge, on: false, adopted: true } => {
                Change::delete("acceleration", end(place, bridge))
            }
            Self::Guests { place, bridge, on, adopted: false } => {
                Change::of("bridge", end(place, bridge)).property("guests").values(Some(!on), on)
            }
        }
    }
}

/// The kind of a change of one rule in `DOCKER-USER`.
pub const ACCEPT_RULE: &str = "accept-rule";

/// Each rule that comes or goes. If none does, their order or their text is mended.
fn accept_changes(accepted: &Accepted) -> Vec<Change> {
    let Accepted { present, wanted, .. } = accepted;
    let named = |rule: &AcceptRule| format!("{rule} in {}", accepted.chain());
    let gone = present.iter().flatten().filter(|rule| !wanted.contains(rule));
    let new = wanted.iter().filter(|rule| !present.iter().flatten().any(|there| there == *rule));
    let gone = gone.map(|rule| Change::delete(ACCEPT_RULE, named(rule)));
    let all: Vec<_> = gone.chain(new.map(|rule| Change::create(ACCEPT_RULE, named(rule)))).collect();
    if all.is_empty() { vec![Step::Accept(accepted.clone()).change()] } else { all }
}

fn described(route: &Route, namespace: &NsName) -> String {
    format!("{route} in {namespace}")
}

fn next_to(neighbour: &Neighbour, place: &Place, device: &str) -> String {
    format!("{} lladdr {} on {}", neighbour.address, neighbour.mac, end(place, device))
}

/// The text has the address family where the rule's subnets do not show it.
fn ruled(rule: &Rule, family: Family, namespace: &NsName) -> String {
    let of = match family {
        _ if rule.families().count() == 1 => "",
        Family::Ipv4 => "IPv4 ",
        Family::Ipv6 => "IPv6 ",
    };
    format!("{of}{rule} in {namespace}")
}

fn by_uplink(route: &UplinkRoute) -> String {
    let UplinkRoute { place, device, to, via, .. } = route;
    format!("{to} via {via} dev {device} in {place}")
}

fn offloads(found: &Offloads) -> Change {
    Change::of("offloads", format_args!("{}:{}", found.namespace, found.interface))
}

/// An interface in output: `ns0:eth0`.
pub(super) fn end(place: &Place, device: impl fmt::Display) -> String {
    format!("{place}:{device}")
}

fn hex(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
