//! The parsed file, before its parts are cross-checked.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::Arc,
};

use ipnet::IpNet;

use super::{
    Adopt, Datapath, IfName, Mac, Neighbour, NsName, OffloadSizes, Place, Resolver, Route, Rule, Sysctl,
    Target, Way,
    fault::{Sink, listed},
    parse::Link,
    read::{At, List},
    route::is_link_local,
};

/// A `[bridge.NAME]`.
#[derive(Clone, Debug)]
pub(super) struct BridgeDecl {
    pub(super) name: At<IfName>,
    pub(super) place: At<Place>,
    /// Whether its `namespace` is written.
    pub(super) is_placed: bool,
    pub(super) addresses: List<IpNet>,
    pub(super) mac: Option<At<Mac>>,
    pub(super) mtu: Option<At<u32>>,
    pub(super) nat: bool,
    pub(super) host: Option<At<bool>>,
    pub(super) sizes: OffloadSizes,
    pub(super) stp: bool,
    pub(super) ageing_time: Option<u32>,
    pub(super) vlan_filtering: bool,
    pub(super) datapath: Datapath,
    pub(super) guests: bool,
    pub(super) accept_ra: Option<At<bool>>,
    pub(super) trunks: Vec<At<String>>,
}

/// A `[bridge.NAME]` with `adopt = true`.
#[derive(Debug)]
pub(super) struct AdoptedDecl {
    pub(super) name: At<IfName>,
    pub(super) place: At<Place>,
    pub(super) datapath: Datapath,
}

impl BridgeDecl {
    /// Whether the machine has a route to it, if it is in the fabric.
    pub(super) fn is_reached(&self) -> bool {
        self.host.as_ref().is_none_or(|host| host.value)
    }
}

/// A `[namespace.NAME]` without its interfaces. The host is not among them.
#[derive(Debug)]
pub(super) struct NamespaceDecl {
    pub(super) name: At<NsName>,
    pub(super) adopt: Option<At<Adopt>>,
    /// One list for all namespaces of a group. The same holds for `sysctls`.
    pub(super) routes: Arc<[RouteDecl]>,
    pub(super) sysctls: Arc<[At<Sysctl>]>,
    pub(super) resolver: Resolver,
    pub(super) rules: Vec<RuleDecl>,
    /// The addresses of its loopback.
    pub(super) loopback: List<IpNet>,
}

/// A gateway or one of `routes`.
#[derive(Clone, Debug)]
pub(super) struct RouteDecl {
    pub(super) route: Route,
    /// Where its destination is written. For a default route, where the gateway is written.
    pub(super) span: Range<usize>,
    /// Its ways, as they are written. A blackhole has none.
    pub(super) hops: Vec<HopDecl>,
    /// Where its source address is written.
    pub(super) src: Option<Range<usize>>,
}

/// A rule, and where its interfaces are written.
#[derive(Clone, Debug)]
pub(super) struct RuleDecl {
    pub(super) rule: Rule,
    pub(super) interfaces: Vec<(String, Range<usize>)>,
}

/// A way of a route.
#[derive(Clone, Debug)]
pub(super) struct HopDecl {
    pub(super) via: Option<At<IpAddr>>,
    pub(super) dev: Option<At<IfName>>,
    pub(super) onlink: bool,
}

impl RouteDecl {
    /// A route by one gateway.
    pub(super) fn by(to: IpNet, via: At<IpAddr>) -> Self {
        let hop = HopDecl { via: Some(via.clone()), dev: None, onlink: false };
        Self { route: Route::by(to, via.value), span: via.span, hops: vec![hop], src: None }
    }

    /// The gateways.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &At<IpAddr>> {
        self.hops.iter().filter_map(|hop| hop.via.as_ref())
    }

    /// The gateway of a route that has one of its own family and is used for every packet to its destination.
    pub(super) fn gateway(&self) -> Option<&At<IpAddr>> {
        let [HopDecl { via: Some(via), onlink: false, .. }] = &self.hops[..] else { return None };
        let is_plain = self.route.table.is_none() && via.value.is_ipv4() == self.route.to.addr().is_ipv4();
        (is_plain && !is_link_local(via.value)).then_some(via)
    }
}

/// A `[namespace.NAME.interface.NAME]`.
#[derive(Debug)]
pub(super) struct InterfaceDecl {
    pub(super) place: Place,
    pub(super) name: At<IfName>,
    /// `None` if the key is missing or invalid. The fault is already reported.
    pub(super) link: Option<At<Link>>,
    pub(super) addresses: List<IpNet>,
    pub(super) mac: Option<At<Mac>>,
    pub(super) mtu: Option<At<u32>>,
    pub(super) sysctls: Vec<At<Sysctl>>,
    pub(super) up: bool,
    pub(super) dad: Option<At<bool>>,
    pub(super) accept_ra: Option<At<bool>>,
    pub(super) autoconf: Option<At<bool>>,
    pub(super) sizes: OffloadSizes,
    pub(super) neighbours: Vec<Neighbour>,
    /// `None` means that of the bridge.
    pub(super) datapath: Option<Datapath>,
    /// The name of its port.
    pub(super) port: Option<At<IfName>>,
}

impl InterfaceDecl {
    /// The name in messages: `ns0:eth0`.
    pub(super) fn title(&self) -> String {
        format!("{}:{}", self.place, self.name.value)
    }
}

/// An `[[expect]]`.
#[derive(Debug)]
pub(super) struct ExpectDecl {
    pub(super) from: At<NsName>,
    pub(super) to: At<Target>,
    pub(super) reaches: bool,
    pub(super) port: Option<u16>,
    pub(super) path: Option<At<Way>>,
    pub(super) within_ms: u32,
}

/// A group whose namespaces are distributed over several bridges.
#[derive(Debug)]
pub(super) struct Spread {
    /// Where the bridges are written.
    pub(super) span: Range<usize>,
    /// The group.
    pub(super) group: String,
    /// The bridges, by name.
    pub(super) bridges: Vec<String>,
}

/// The fabric. Its namespace, and its uplink as two interfaces, are among the declared ones.
#[derive(Debug)]
pub(super) struct FabricDecl {
    pub(super) namespace: NsName,
    /// The machine's end of the uplink.
    pub(super) uplink: Option<IfName>,
}

/// Everything in a file that could be read.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// The lab's own `dad`.
    pub(super) dad: bool,
    /// Where its metrics are served.
    pub(super) metrics: Option<SocketAddr>,
    pub(super) fabric: Option<FabricDecl>,
    pub(super) bridges: Vec<BridgeDecl>,
    /// Bridges that other programs made. They are not among `bridges`.
    pub(super) adopted: Vec<AdoptedDecl>,
    pub(super) namespaces: Vec<NamespaceDecl>,
    pub(super) interfaces: Vec<InterfaceDecl>,
    /// What is expected of the lab.
    pub(super) expectations: Vec<ExpectDecl>,
    /// Groups on more than one bridge.
    pub(super) spreads: Vec<Spread>,
    /// Bridges that were left out for an invalid name. A reference to one is not reported again.
    pub(super) unusable: HashSet<String>,
    /// Namespaces in which an interface was left out. A missing interface is not reported there.
    pub(super) partial: HashSet<Place>,
}

/// Finds declared things by name.
pub(super) struct Index<'d> {
    pub(super) declared: &'d Declared,
    bridges: HashMap<&'d str, usize>,
    namespaces: HashSet<&'d NsName>,
    interfaces: HashMap<(&'d Place, &'d IfName), usize>,
}

impl<'d> Index<'d> {
    pub(super) fn new(declared: &'d Declared) -> Self {
        let bridges = declared.bridges.iter().enumerate().map(|(n, b)| (b.name.value.as_str(), n)).collect();
        let namespaces = declared.namespaces.iter().map(|namespace| &namespace.name.value).collect();
        let interfaces =
            declared.interfaces.iter().enumerate().map(|(n, i)| ((&i.place, &i.name.value), n)).collect();
        Self { declared, bridges, namespaces, interfaces }
    }

    /// The interface declared at this place.
    pub(super) fn interface(&self, place: &Place, name: &IfName) -> Option<usize> {
        self.interfaces.get(&(place, name)).copied()
    }

    /// The bridge of this name in this namespace.
    pub(super) fn bridge_at(&self, place: &Place, name: &IfName) -> Option<&'d BridgeDecl> {
        let bridge = &self.declared.bridges[*self.bridges.get(name.as_str())?];
        (&bridge.place.value == place).then_some(bridge)
    }

    /// Whether the place is the host or a declared namespace. Reports a fault if not.
    pub(super) fn check_place(&self, place: &Place, span: &Range<usize>, sink: &mut Sink) -> bool {
        let Place::Namespace(name) = place else { return true };
        if self.namespaces.contains(name) {
            return true;
        }
        let all = self.declared.namespaces.iter().map(|namespace| namespace.name.value.as_str());
        let hint = match sink.closest(name.as_str(), all) {
            Some(closest) => format!("did you mean `{closest}`?"),
            None => format!("declare it: [namespace.{name}]"),
        };
        sink.add(span, format!("there is no namespace `{name}`"), hint).label("not declared");
        false
    }

    /// The bridge that a link or trunk names. Reports a fault if there is none.
    pub(super) fn bridge(&self, name: &At<String>, sink: &mut Sink) -> Option<usize> {
        let text = name.value.as_str();
        if let Some(&bridge) = self.bridges.get(text) {
            return Some(bridge);
        }
        if self.declared.unusable.contains(text) {
            return None;
        }
        if let Some(adopted) = self.declared.adopted.iter().find(|bridge| bridge.name.value.as_str() == text)
        {
            let hint =
                "plug it in as the bridge's owner does; with `guests`, a bridge of the lab's own takes both";
            sink.add(&name.span, format!("`{text}` is another program's bridge"), hint)
                .also(&adopted.name.span, "adopted here");
            return None;
        }
        let mut names = self.declared.bridges.iter().map(|bridge| bridge.name.value.as_str());
        let is_namespace = text.parse().is_ok_and(|name: NsName| self.namespaces.contains(&name));
        let hint = if is_namespace || text == "host" {
            format!("`{text}` is a namespace: name an interface in it for a cable, \"{text}:eth0\"")
        } else if let Some(closest) = sink.closest(text, names.clone()) {
            format!("did you mean `{closest}`?")
        } else if names.next().is_some() {
            let some = self.declared.bridges.iter().take(8).map(|bridge| bridge.name.value.as_str());
            format!("the bridges are {}; a cable is \"ns1:eth0\"", listed(some))
        } else {
            format!("declare it: [bridge.{text}]; or write \"ns1:eth0\" for a cable")
        };
        sink.add(&name.span, format!("there is no bridge `{text}`"), hint).label("not declared");
        None
    }
}
