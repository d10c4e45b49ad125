//! Holds the parts of a file against each other and makes them a [`Topology`].

use super::{
    Bridge, Cable, CableEnd, IfName, Interface, LabName, Namespace, Pair, Place, Topology,
    declared::{BridgeDecl, Declared, Index, InterfaceDecl, NamespaceDecl},
    derived_mac,
    fault::Sink,
    interfaces,
    links::{self, Far, Links},
    meaning, port_mac, port_name,
    read::At,
    routes, trunks, unique,
};

/// The lab of a file; one with holes if the sink got a fault.
pub(super) fn topology(lab: LabName, declared: &Declared, sink: &mut Sink) -> Topology {
    let index = Index::new(declared);
    for bridge in &declared.bridges {
        index.check_place(&bridge.place.value, &bridge.place.span, sink);
    }
    let links = links::resolve(&index, sink);
    let joints = trunks::resolve(&index, sink);
    // Faults from here on are of what was read and leads somewhere: what it means can be told.
    let is_resolved = sink.is_fine();
    check_mtus(declared, &links, sink);
    routes::check(declared, sink);
    unique::check_declared(declared, sink);
    unique::check_ports(&declared.bridges, &links, &joints, sink);

    let bridges: Vec<Bridge> = bridges(&lab, declared);
    let mut topology = Topology {
        namespaces: namespaces(declared),
        // Links leave the host's interfaces out, so none is lost here.
        pairs: links
            .pairs
            .iter()
            .filter_map(|&(n, bridge)| pair(&lab, &declared.interfaces[n], &bridges[bridge]))
            .collect(),
        cables: links.cables.iter().map(|(n, far)| cable(&lab, declared, *n, far)).collect(),
        trunks: joints.iter().map(|joint| trunks::build(&lab, joint, &bridges)).collect(),
        bridges,
        lab,
        next_trunk: 0,
    };
    topology.number(&[]);
    unique::check_built(&topology, declared, &links, &joints, sink);
    if is_resolved {
        meaning::warn(declared, &links, &joints, sink);
    }
    topology
}

/// An interface that says no MTU gets that of its bridge or of its cable's other end, which may
/// be too small for its IPv6 addresses.
fn check_mtus(declared: &Declared, links: &Links, sink: &mut Sink) {
    let mut check = |near: &InterfaceDecl, theirs: Option<&At<u32>>| {
        if near.mtu.is_none() {
            interfaces::check_mtu(theirs, &near.addresses.items, sink);
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

fn bridges(lab: &LabName, declared: &Declared) -> Vec<Bridge> {
    let bridge = |decl: &BridgeDecl| Bridge {
        name: decl.name.value.clone(),
        place: decl.place.value.clone(),
        number: 0,
        domain: 0,
        addresses: values(&decl.addresses.items),
        mac: decl.mac.as_ref().map_or_else(
            || derived_mac(lab, &decl.place.value.to_string(), decl.name.value.as_str()),
            |mac| mac.value,
        ),
        mtu: decl.mtu.as_ref().map(|mtu| mtu.value),
        nat: decl.nat,
        stp: decl.stp,
        ageing_time: decl.ageing_time,
        vlan_filtering: decl.vlan_filtering,
        datapath: decl.datapath,
    };
    declared.bridges.iter().map(bridge).collect()
}

fn namespaces(declared: &Declared) -> Vec<Namespace> {
    let namespace = |decl: &NamespaceDecl| Namespace {
        name: decl.name.value.clone(),
        adopt: decl.adopt.as_ref().map(|path| path.value.clone()),
        routes: decl.routes.iter().map(|route| route.route.clone()).collect(),
        sysctls: decl.sysctls.clone(),
    };
    declared.namespaces.iter().map(namespace).collect()
}

fn pair(lab: &LabName, decl: &InterfaceDecl, bridge: &Bridge) -> Option<Pair> {
    let Place::Namespace(namespace) = &decl.place else { return None };
    let (place, name) = (namespace.as_str(), decl.name.value.as_str());
    Some(Pair {
        number: 0,
        namespace: namespace.clone(),
        inner: interface(lab, decl, bridge.mtu),
        bridge: bridge.name.clone(),
        place: bridge.place.clone(),
        port: port_name(lab, place, name),
        port_mac: port_mac(lab, place, name),
        datapath: decl.datapath.unwrap_or(bridge.datapath),
    })
}

fn cable(lab: &LabName, declared: &Declared, near: usize, far: &Far) -> Cable {
    let near = &declared.interfaces[near];
    let mtu = |decl: &InterfaceDecl| decl.mtu.as_ref().map(|mtu| mtu.value);
    let end = |decl: &InterfaceDecl, theirs| CableEnd {
        place: decl.place.clone(),
        interface: interface(lab, decl, theirs),
    };
    match far {
        Far::Declared(far) => {
            let far = &declared.interfaces[*far];
            Cable { a: end(near, mtu(far)), b: end(far, mtu(near)) }
        }
        Far::Bare(At { value: (place, name), .. }) => Cable {
            a: end(near, None),
            b: CableEnd { place: place.clone(), interface: bare(lab, place, name, mtu(near)) },
        },
    }
}

/// An interface as declared; `theirs` is the MTU of what it is linked to.
fn interface(lab: &LabName, decl: &InterfaceDecl, theirs: Option<u32>) -> Interface {
    let bare = bare(lab, &decl.place, &decl.name.value, theirs);
    Interface {
        mac: decl.mac.as_ref().map_or(bare.mac, |mac| mac.value),
        mtu: decl.mtu.as_ref().map(|mtu| mtu.value).or(theirs),
        addresses: values(&decl.addresses.items),
        sysctls: decl.sysctls.clone(),
        up: decl.up,
        ..bare
    }
}

/// An interface of which nothing is said but its name.
fn bare(lab: &LabName, place: &Place, name: &IfName, mtu: Option<u32>) -> Interface {
    Interface {
        name: name.clone(),
        mac: derived_mac(lab, &place.to_string(), name.as_str()),
        mtu,
        addresses: Vec::new(),
        sysctls: Vec::new(),
        up: true,
    }
}

fn values<T: Clone>(items: &[At<T>]) -> Vec<T> {
    items.iter().map(|at| at.value.clone()).collect()
}
