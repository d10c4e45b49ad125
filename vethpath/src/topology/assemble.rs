//! Cross-checks the parts of a file and builds the [`Topology`].

use std::{collections::HashMap, sync::Arc};

use super::{
    AdoptedBridge, Bridge, Cable, CableEnd, Fabric, IfName, Interface, Ipv6, LabName, Namespace,
    OffloadSizes, Pair, Place, Scope, Topology,
    declared::{AdoptedDecl, BridgeDecl, Declared, Index, InterfaceDecl, NamespaceDecl},
    derived_mac, expect, fabric,
    fault::Sink,
    links::{self, Far, Links},
    lint, port_mac, port_name,
    read::At,
    routes, rules,
    sysctls::Settings,
    tables, unique,
};

/// Builds the lab of a file. The result is incomplete if the sink got a fault.
pub(super) fn topology(lab: LabName, declared: &Declared, sink: &mut Sink) -> Topology {
    let index = Index::new(declared);
    for bridge in &declared.bridges {
        index.check_place(&bridge.place.value, &bridge.place.span, sink);
    }
    for bridge in &declared.adopted {
        index.check_place(&bridge.place.value, &bridge.place.span, sink);
        if let Some(other) = index.bridge_at(&bridge.place.value, &bridge.name.value) {
            let message = format!("bridge `{}` is adopted, and made as well", bridge.name.value);
            sink.add(&bridge.name.span, message, "rename one of the two, or leave the other out")
                .also(&other.name.span, "the other");
        }
    }
    let links = links::resolve(&index, sink);
    let joints = links::resolve_trunks(&index, sink);
    // Warnings are only given for a file that was read completely and whose links resolve.
    let is_resolved = sink.is_fine();
    check_mtus(declared, &links, sink);
    check_settings(declared, sink);
    routes::check(declared, sink);
    expect::check(&index, sink);
    rules::check(declared, sink);
    unique::check_declared(declared, sink);
    unique::check_ports(&declared.bridges, &links, &joints, sink);

    let maker = Maker { lab: &lab, declared, settings: Settings::of(declared, &links, sink) };
    let bridges: Vec<Bridge> = declared.bridges.iter().map(|decl| maker.bridge(decl)).collect();
    let mut topology = Topology {
        dad: declared.dad,
        metrics: declared.metrics,
        namespaces: maker.namespaces(),
        // `links.pairs` has no interfaces of the host, so no pair is lost here.
        pairs: links
            .pairs
            .iter()
            .filter_map(|&(n, bridge)| maker.pair(&declared.interfaces[n], &bridges[bridge]))
            .collect(),
        cables: links.cables.iter().map(|(n, far)| maker.cable(*n, far)).collect(),
        trunks: joints.iter().map(|joint| links::trunk(&lab, joint, &bridges)).collect(),
        bridges,
        adopted: declared.adopted.iter().map(adopted).collect(),
        fabric: declared
            .fabric
            .as_ref()
            .map(|fabric| Fabric { namespace: fabric.namespace.clone(), uplink: fabric.uplink.clone() }),
        uplink_routes: Vec::new(),
        lab: lab.clone(),
        next_trunk: 0,
        guests: None,
        expectations: expect::made(declared),
        stopped: Vec::new(),
    };
    topology.uplink_routes = fabric::routes(&topology);
    topology.assign_ports(&[]);
    topology.assign_numbers(&[]);
    unique::check_built(&topology, declared, &links, &joints, sink);
    if is_resolved {
        expect::check_paths(&topology, declared, sink);
        lint::warn(declared, &links, &joints, sink);
    }
    topology
}

fn adopted(decl: &AdoptedDecl) -> AdoptedBridge {
    AdoptedBridge {
        name: decl.name.value.clone(),
        place: decl.place.value.clone(),
        number: 0,
        domain: 0,
        datapath: decl.datapath,
    }
}

/// An interface without `mtu` gets that of its bridge or of its cable's other end. This may be too small for its
/// IPv6 addresses.
fn check_mtus(declared: &Declared, links: &Links, sink: &mut Sink) {
    let mut check = |near: &InterfaceDecl, theirs: Option<&At<u32>>| {
        if near.mtu.is_none() {
            tables::check_mtu(theirs, &near.addresses.items, sink);
        }
    };
    for &(n, bridge) in &links.pairs {
        check(&declared.interfaces[n], declared.bridges[bridge].mtu.as_ref());
    }
    for (n, far) in &links.cables {
        if let Far::Declared(far) = far {
            let (near, far) = (&declared.interfaces[*n], &declared.interfaces[*far]);
            check(near, far.mtu.as_ref());
            check(far, near.mtu.as_ref());
        }
    }
}

/// Reports settings that contradict the rest of the file.
fn check_settings(declared: &Declared, sink: &mut Sink) {
    let of_namespaces: HashMap<_, _> =
        declared.namespaces.iter().map(|namespace| (&namespace.name.value, &namespace.sysctls)).collect();
    let of = |place: &Place| match place {
        Place::Namespace(name) => of_namespaces.get(name).map_or(&[][..], |sysctls| sysctls),
        Place::Host => &[],
    };
    for interface in &declared.interfaces {
        for sysctl in interface.sysctls.iter().chain(of(&interface.place)) {
            tables::check_ipv6(interface, sysctl, sink);
        }
    }
    for bridge in declared.bridges.iter().filter(|bridge| bridge.nat) {
        for sysctl in of(&bridge.place.value) {
            let key = &sysctl.value.key;
            let is_forwarding =
                key.scope() == Scope::All && key.name() == "forwarding" || key.name() == "ip_forward";
            if is_forwarding && &*sysctl.value.value == "0" {
                let message =
                    format!("`{key}` = 0 switches off what `nat` of bridge `{}` needs", bridge.name.value);
                sink.add(&sysctl.span, message, "leave it out, or leave `nat` out");
            }
        }
    }
}

/// A switch, if it is written.
type Written<'d> = Option<&'d At<bool>>;

/// Builds the parts of a lab.
struct Maker<'d> {
    lab: &'d LabName,
    declared: &'d Declared,
    settings: Settings,
}

impl Maker<'_> {
    fn bridge(&self, decl: &BridgeDecl) -> Bridge {
        let (place, name) = (&decl.place.value, &decl.name.value);
        let derived = || derived_mac(self.lab, &place.to_string(), name.as_str());
        Bridge {
            name: name.clone(),
            place: place.clone(),
            number: 0,
            domain: 0,
            addresses: values(&decl.addresses.items),
            mac: decl.mac.as_ref().map_or_else(derived, |mac| mac.value),
            mtu: decl.mtu.as_ref().map(|mtu| mtu.value),
            nat: decl.nat,
            host: decl.is_reached(),
            sizes: decl.sizes,
            stp: decl.stp,
            ageing_time: decl.ageing_time,
            vlan_filtering: decl.vlan_filtering,
            datapath: decl.datapath,
            guests: decl.guests,
            sysctls: self.settings.of_device(place, name.as_str()).to_vec(),
            ipv6: self.ipv6((None, decl.accept_ra.as_ref(), None), place, name),
        }
    }

    /// Consecutive namespaces with equal lists, as in a group, share one copy.
    fn namespaces(&self) -> Vec<Namespace> {
        let mut made: Vec<Namespace> = Vec::with_capacity(self.declared.namespaces.len());
        let mut before: Option<&NamespaceDecl> = None;
        for decl in &self.declared.namespaces {
            let routes = match (made.last(), before) {
                (Some(last), Some(before)) if Arc::ptr_eq(&before.routes, &decl.routes) => {
                    Arc::clone(&last.routes)
                }
                _ => decl.routes.iter().map(|route| route.route.clone()).collect(),
            };
            let settings = self.settings.of_place(&Place::Namespace(decl.name.value.clone()));
            let sysctls = match made.last() {
                Some(last) if *last.sysctls == *settings => Arc::clone(&last.sysctls),
                _ => settings.into(),
            };
            let adopt = decl.adopt.as_ref().map(|path| path.value.clone());
            made.push(Namespace {
                name: decl.name.value.clone(),
                adopt,
                routes,
                sysctls,
                rules: decl.rules.iter().map(|rule| rule.rule.clone()).collect(),
                loopback: values(&decl.loopback.items),
                dad: self.declared.dad,
                resolver: decl.resolver.clone(),
            });
            before = Some(decl);
        }
        made
    }

    fn pair(&self, decl: &InterfaceDecl, bridge: &Bridge) -> Option<Pair> {
        let Place::Namespace(namespace) = &decl.place else { return None };
        let (place, name) = (namespace.as_str(), decl.name.value.as_str());
        let written = decl.port.as_ref();
        Some(Pair {
            number: 0,
            namespace: namespace.clone(),
            inner: self.interface(decl, (bridge.mtu, bridge.sizes)),
            bridge: bridge.name.clone(),
            place: bridge.place.clone(),
            port: written
                .map_or_else(|| port_name(self.lab, namespace, &decl.name.value), |at| at.value.clone()),
            has_own_port: written.is_some(),
            port_mac: port_mac(self.lab, place, name),
            datapath: decl.datapath.unwrap_or(bridge.datapath),
        })
    }

    fn cable(&self, near: usize, far: &Far) -> Cable {
        let near = &self.declared.interfaces[near];
        let mtu = |decl: &InterfaceDecl| (decl.mtu.as_ref().map(|mtu| mtu.value), decl.sizes);
        let end = |decl: &InterfaceDecl, theirs| CableEnd {
            place: decl.place.clone(),
            interface: self.interface(decl, theirs),
        };
        match far {
            Far::Declared(far) => {
                let far = &self.declared.interfaces[*far];
                Cable { a: end(near, mtu(far)), b: end(far, mtu(near)) }
            }
            Far::Bare(At { value: (place, name), .. }) => Cable {
                a: end(near, (None, OffloadSizes::default())),
                b: CableEnd { place: place.clone(), interface: self.bare(place, name, mtu(near)) },
            },
        }
    }

    /// An interface as declared. `theirs` are MTU and offload sizes of its bridge or of the cable's other end.
    fn interface(&self, decl: &InterfaceDecl, theirs: (Option<u32>, OffloadSizes)) -> Interface {
        let name = &decl.name.value;
        let bare = self.bare(&decl.place, name, theirs);
        Interface {
            mac: decl.mac.as_ref().map_or(bare.mac, |mac| mac.value),
            mtu: decl.mtu.as_ref().map(|mtu| mtu.value).or(theirs.0),
            sizes: decl.sizes.or(theirs.1),
            addresses: values(&decl.addresses.items),
            up: decl.up,
            ipv6: self.ipv6(
                (decl.dad.as_ref(), decl.accept_ra.as_ref(), decl.autoconf.as_ref()),
                &decl.place,
                name,
            ),
            neighbours: decl.neighbours.clone(),
            ..bare
        }
    }

    /// An interface of which only the name is declared.
    fn bare(&self, place: &Place, name: &IfName, (mtu, sizes): (Option<u32>, OffloadSizes)) -> Interface {
        Interface {
            name: name.clone(),
            mac: derived_mac(self.lab, &place.to_string(), name.as_str()),
            mtu,
            addresses: Vec::new(),
            sysctls: self.settings.of_device(place, name.as_str()).to_vec(),
            up: true,
            ipv6: self.ipv6((None, None, None), place, name),
            sizes,
            neighbours: Vec::new(),
        }
    }

    fn ipv6(
        &self,
        (dad, accept_ra, autoconf): (Written<'_>, Written<'_>, Written<'_>),
        place: &Place,
        name: &IfName,
    ) -> Ipv6 {
        let value = |at: Written<'_>| at.map(|at| at.value);
        let keys = (value(dad), value(accept_ra), value(autoconf));
        let own = self.settings.of_device(place, name.as_str());
        Ipv6::of(keys, place, own, self.settings.of_place(place), self.declared.dad)
    }
}

fn values<T: Clone>(items: &[At<T>]) -> Vec<T> {
    items.iter().map(|at| at.value.clone()).collect()
}
