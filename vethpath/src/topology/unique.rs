//! Checks what must be unique (addresses, MACs, device names, adopted namespaces) and the number of ports.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    net::IpAddr,
    ops::Range,
};

use super::{
    Adopt, IfName, Mac, Place, Topology,
    declared::{BridgeDecl, Declared},
    fault::Sink,
    keys::MOST_PORTS,
    links::{Far, Joint, Links},
    parse::Link,
    read::At,
};

/// Records where each key was seen first.
struct Firsts<K>(HashMap<K, Range<usize>>);

impl<K: Hash + Eq> Firsts<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Reports the second position of a key. Positions need not come in the file's order.
    fn see(
        &mut self,
        key: K,
        span: &Range<usize>,
        sink: &mut Sink,
        fault: impl FnOnce() -> (String, &'static str),
    ) {
        let Some(other) = self.0.get_mut(&key) else {
            self.0.insert(key, span.clone());
            return;
        };
        let (message, hint) = fault();
        let (first, second) = if other.start <= span.start {
            (other.clone(), span.clone())
        } else {
            (span.clone(), other.clone())
        };
        sink.add(&second, message, hint).label("used again").also(&first, "first used here");
        *other = first;
    }
}

/// Reports duplicates that are written in the file.
pub(super) fn check_declared(declared: &Declared, sink: &mut Sink) {
    addresses(declared, sink);
    let mut adopted = Firsts::new();
    for namespace in &declared.namespaces {
        if let Some(adopt) = &namespace.adopt {
            adopted.see(&adopt.value, &adopt.span, sink, || {
                let what = match &adopt.value {
                    Adopt::Path(path) => format!("`{path}`"),
                    Adopt::Container(container) => container.to_string(),
                };
                (format!("{what} is adopted twice"), "a namespace is one place: give it one name")
            });
        }
    }
}

/// A link-local address is only unique on its link.
fn addresses(declared: &Declared, sink: &mut Sink) {
    let mut seen = Firsts::new();
    let scope = |address: IpAddr, link: &str| match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => link.to_owned(),
        _ => String::new(),
    };
    let of_bridges = declared.bridges.iter().flat_map(|bridge| {
        bridge.addresses.items.iter().map(|at| (at, bridge.name.value.as_str().to_owned()))
    });
    let of_interfaces = declared.interfaces.iter().flat_map(|interface| {
        let link = match &interface.link {
            Some(link) => match &link.value {
                Link::Bridge(bridge) => bridge.clone(),
                Link::Interface(..) => interface.title(),
            },
            None => interface.title(),
        };
        interface.addresses.items.iter().map(move |at| (at, link.clone()))
    });
    let of_loopbacks = declared.namespaces.iter().flat_map(|namespace| {
        namespace.loopback.items.iter().map(|at| (at, format!("{}:lo", namespace.name.value)))
    });
    for (at, link) in of_bridges.chain(of_interfaces).chain(of_loopbacks) {
        let address = at.value.addr();
        seen.see((address, scope(address, &link)), &at.span, sink, || {
            (format!("address {address} is used twice"), "give each interface an address of its own")
        });
    }
}

/// Reports duplicates among MACs and device names once all defaults are filled in.
pub(super) fn check_built(
    topology: &Topology,
    declared: &Declared,
    links: &Links,
    joints: &[Joint],
    sink: &mut Sink,
) {
    let mut macs = Macs { seen: Firsts::new(), derived: HashSet::new() };
    let mut devices = Devices { seen: Firsts::new(), ports: Firsts::new() };
    for (bridge, decl) in topology.bridges.iter().zip(&declared.bridges) {
        macs.see(bridge.mac, &decl.mac, (&bridge.place, &bridge.name), &decl.name.span, sink);
        devices.see(&bridge.place, &bridge.name, &decl.name.span, sink);
    }
    for decl in &declared.interfaces {
        devices.see(&decl.place, &decl.name.value, &decl.name.span, sink);
    }
    for (pair, (n, _)) in topology.pairs.iter().zip(&links.pairs) {
        let decl = &declared.interfaces[*n];
        macs.see(pair.inner.mac, &decl.mac, (&decl.place, &pair.inner.name), &decl.name.span, sink);
        macs.see_port(pair.port_mac, &decl.name.span, sink);
        let written = decl.port.as_ref().map_or(&decl.name.span, |port| &port.span);
        devices.see_port(&pair.place, &pair.port, written, sink);
    }
    for (cable, (n, far)) in topology.cables.iter().zip(&links.cables) {
        let decl = &declared.interfaces[*n];
        let (a, b) = (&cable.a, &cable.b);
        macs.see(a.interface.mac, &decl.mac, (&a.place, &a.interface.name), &decl.name.span, sink);
        let device = (&b.place, &b.interface.name);
        match far {
            Far::Declared(far) => {
                let far = &declared.interfaces[*far];
                macs.see(b.interface.mac, &far.mac, device, &far.name.span, sink);
            }
            Far::Bare(at) => {
                macs.see(b.interface.mac, &None, device, &at.span, sink);
                devices.see(device.0, device.1, &at.span, sink);
            }
        }
    }
    for (trunk, joint) in topology.trunks.iter().zip(joints) {
        for end in [&trunk.a, &trunk.b] {
            macs.see_port(end.mac, &joint.span, sink);
            devices.see_port(&end.place, &end.port, &joint.span, sink);
        }
    }
}

/// MACs are unique in the lab, whether written or derived.
struct Macs<'t> {
    seen: Firsts<Mac>,
    derived: HashSet<(&'t Place, &'t IfName)>,
}

impl<'t> Macs<'t> {
    fn see(
        &mut self,
        mac: Mac,
        written: &Option<At<Mac>>,
        device: (&'t Place, &'t IfName),
        name: &Range<usize>,
        sink: &mut Sink,
    ) {
        // Two devices of the same name have the same derived MAC. Only the name is reported.
        if written.is_some() || self.derived.insert(device) {
            self.see_port(mac, written.as_ref().map_or(name, |at| &at.span), sink);
        }
    }

    fn see_port(&mut self, mac: Mac, span: &Range<usize>, sink: &mut Sink) {
        self.seen.see(mac, span, sink, || {
            (format!("MAC address {mac} is used twice"), "give each interface a MAC of its own, or none")
        });
    }
}

/// Device names are unique in their namespace. Port names are unique in the whole lab.
struct Devices<'t> {
    seen: Firsts<(&'t Place, &'t IfName)>,
    ports: Firsts<&'t IfName>,
}

impl<'t> Devices<'t> {
    fn see(&mut self, place: &'t Place, name: &'t IfName, span: &Range<usize>, sink: &mut Sink) {
        self.seen.see((place, name), span, sink, || {
            let message = format!("`{place}` would have two devices called `{name}`");
            (message, "rename one of them: bridges, interfaces and ports share their namespace's names")
        });
    }

    fn see_port(&mut self, place: &'t Place, port: &'t IfName, span: &Range<usize>, sink: &mut Sink) {
        let before = self.ports.0.contains_key(port);
        self.ports.see(port, span, sink, || {
            (format!("two ports would be called `{port}`"), "give each `port` a name of its own in the lab")
        });
        if !before {
            self.see(place, port, span, sink);
        }
    }
}

/// Reports bridges with more ports than the kernel allows.
pub(super) fn check_ports(bridges: &[BridgeDecl], links: &Links, joints: &[Joint], sink: &mut Sink) {
    let mut ports = vec![0_usize; bridges.len()];
    let of_pairs = links.pairs.iter().map(|&(_, bridge)| bridge);
    let of_trunks = joints.iter().flat_map(|joint| [joint.value.0, joint.value.1]);
    for bridge in of_pairs.chain(of_trunks) {
        ports[bridge] += 1;
    }
    for (bridge, ports) in bridges.iter().zip(ports).filter(|&(_, ports)| ports > MOST_PORTS) {
        let name = &bridge.name.value;
        let message = format!("bridge `{name}` has {ports} ports, and Linux gives one at most {MOST_PORTS}");
        sink.add(
            &bridge.name.span,
            message,
            "share the interfaces out over two bridges with a trunk between (in a group: bridges = [\"br0\", \"br1\"])",
        )
        .label("too many ports");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_name_are_a_fault() {
        let (host, fabric) = (Place::Host, "fabric".parse().map(Place::Namespace).expect("a name"));
        let port: IfName = "vpabcdefghij".parse().expect("a name");
        let mut devices = Devices { seen: Firsts::new(), ports: Firsts::new() };
        let mut sink = Sink::default();
        devices.see_port(&host, &port, &(10..14), &mut sink);
        devices.see_port(&fabric, &port, &(20..24), &mut sink);
        let faults = sink.into_faults().faults;
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].span, 20..24);
        assert_eq!(faults[0].also, Some((10..14, String::from("first used here"))));
        assert!(faults[0].message.contains("two ports would be called `vpabcdefghij`"));
    }
}
