//! Prints a lab as a file with every value explicit: no shorthand, no defaults that depend on the version.

use std::{
    fmt::{self, Write},
    net::IpAddr,
};

use super::{
    Adopt, AdoptedBridge, Bridge, Container, Datapath, Fate, IfName, Interface, Ipv6, Namespace, Neighbour,
    NextHop, OffloadSizes, Place, Resolver, Route, Rule, Sysctl, Topology, derived_mac, expect,
};

/// The plain TOML of a lab, with one table for each bridge, namespace and interface. It parses to the same lab. MAC
/// addresses that are derived from names are left out.
#[must_use]
pub fn expand(topology: &Topology) -> Expanded<'_> {
    Expanded(topology)
}

/// A lab that is formatted when it is displayed: see [`expand()`].
#[derive(Clone, Copy, Debug)]
pub struct Expanded<'t>(&'t Topology);

impl fmt::Display for Expanded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = {}", quoted(self.0.lab.as_str()))?;
        if self.0.dad {
            writeln!(f, "dad = true")?;
        }
        if let Some(address) = self.0.metrics {
            writeln!(f, "metrics = {}", quoted(&address.to_string()))?;
        }
        if self.0.fabric.is_some() {
            writeln!(f, "fabric = true")?;
        }
        write(self.0, f)
    }
}

fn write(topology: &Topology, out: &mut dyn Write) -> fmt::Result {
    for bridge in &topology.bridges {
        self::bridge(topology, bridge, out)?;
    }
    topology.adopted.iter().try_for_each(|bridge| adopted(bridge, out))?;
    // `fabric` stands for its namespace, and for the uplink.
    let is_declared = |namespace: &&Namespace| !topology.is_fabric(&Place::Namespace(namespace.name.clone()));
    for namespace in topology.namespaces.iter().filter(is_declared) {
        self::namespace(topology, namespace, out)?;
    }
    for pair in &topology.pairs {
        let place = Place::Namespace(pair.namespace.clone());
        interface(topology, &place, &pair.inner, pair.bridge.as_str(), out)?;
        if pair.has_own_port {
            writeln!(out, "port = {}", quoted(pair.port.as_str()))?;
        }
        if topology.bridge(&pair.place, &pair.bridge).is_some_and(|bridge| bridge.datapath != pair.datapath) {
            datapath(out, pair.datapath)?;
        }
    }
    for cable in topology.cables.iter().filter(|cable| !topology.is_uplink(cable)) {
        for (near, far) in [(&cable.a, &cable.b), (&cable.b, &cable.a)] {
            let link = format!("{}:{}", far.place, far.interface.name);
            interface(topology, &near.place, &near.interface, &link, out)?;
        }
    }
    topology.expectations.iter().try_for_each(|expectation| expect::expand(expectation, out))
}

fn bridge(topology: &Topology, bridge: &Bridge, out: &mut dyn Write) -> fmt::Result {
    let name = &bridge.name;
    writeln!(out, "\n[bridge.{}]", key(name.as_str()))?;
    let is_default = match topology.fabric {
        Some(_) => topology.is_fabric(&bridge.place),
        None => bridge.place == Place::Host,
    };
    if !is_default {
        writeln!(out, "namespace = {}", quoted(&bridge.place.to_string()))?;
    }
    if !bridge.host {
        writeln!(out, "host = false")?;
    }
    list(out, "addresses", bridge.addresses.iter().map(ToString::to_string))?;
    if bridge.mac != derived_mac(&topology.lab, &bridge.place.to_string(), name.as_str()) {
        writeln!(out, "mac = {}", quoted(&bridge.mac.to_string()))?;
    }
    if let Some(mtu) = bridge.mtu {
        writeln!(out, "mtu = {mtu}")?;
    }
    sizes(out, bridge.sizes)?;
    for (key, on) in [
        ("nat", bridge.nat),
        ("stp", bridge.stp),
        ("vlan_filtering", bridge.vlan_filtering),
        ("guests", bridge.guests),
    ] {
        if on {
            writeln!(out, "{key} = true")?;
        }
    }
    if let Some(seconds) = bridge.ageing_time {
        writeln!(out, "ageing_time = {seconds}")?;
    }
    ipv6(topology, &bridge.place, bridge.ipv6, &bridge.sysctls, out)?;
    if bridge.datapath != Datapath::Tc {
        datapath(out, bridge.datapath)?;
    }
    let trunks = topology.trunks.iter().filter(|trunk| &trunk.a.bridge == name);
    list(out, "trunks", trunks.map(|trunk| trunk.b.bridge.to_string()))
}

fn adopted(bridge: &AdoptedBridge, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "\n[bridge.{}]\nadopt = true", key(bridge.name.as_str()))?;
    if bridge.place != Place::Host {
        writeln!(out, "namespace = {}", quoted(&bridge.place.to_string()))?;
    }
    if bridge.datapath == Datapath::Tc { Ok(()) } else { datapath(out, bridge.datapath) }
}

fn datapath(out: &mut dyn Write, datapath: Datapath) -> fmt::Result {
    writeln!(out, "datapath = {}", quoted(datapath.name()))
}

fn namespace(topology: &Topology, namespace: &Namespace, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "\n[namespace.{}]", key(namespace.name.as_str()))?;
    match &namespace.adopt {
        Some(Adopt::Path(path)) => writeln!(out, "adopt = {{ path = {} }}", quoted(path))?,
        Some(Adopt::Container(Container { name, runtime })) => {
            let (name, runtime) = (quoted(name.as_str()), quoted(runtime.name()));
            writeln!(out, "adopt = {{ container = {name}, runtime = {runtime} }}")?;
        }
        None => {}
    }
    if !namespace.routes.is_empty() {
        writeln!(out, "routes = [")?;
        for route in namespace.routes.iter() {
            writeln!(out, "    {},", self::route(route))?;
        }
        writeln!(out, "]")?;
    }
    let Resolver { nameservers, search } = &namespace.resolver;
    list(out, "nameservers", nameservers.iter().map(ToString::to_string))?;
    list(out, "search", search.iter().cloned())?;
    // A bridge has no key for its settings, so they are written in its namespace.
    let is_here =
        |bridge: &&Bridge| matches!(&bridge.place, Place::Namespace(name) if *name == namespace.name);
    let of_bridges = topology.bridges.iter().filter(is_here).flat_map(|bridge| &bridge.sysctls);
    sysctls(out, namespace.sysctls.iter().chain(of_bridges))?;
    for rule in &namespace.rules {
        self::rule(namespace, rule, out)?;
    }
    if !namespace.loopback.is_empty() {
        writeln!(out, "\n[namespace.{}.interface.lo]", key(namespace.name.as_str()))?;
    }
    list(out, "addresses", namespace.loopback.iter().map(ToString::to_string))
}

fn rule(namespace: &Namespace, rule: &Rule, out: &mut dyn Write) -> fmt::Result {
    let Rule { priority, from, to, iif, oif, fwmark, fwmask, table } = rule;
    writeln!(
        out,
        "\n[[namespace.{}.rule]]\npriority = {priority}\ntable = {table}",
        key(namespace.name.as_str())
    )?;
    for (key, net) in [("from", from), ("to", to)] {
        net.iter().try_for_each(|net| writeln!(out, "{key} = \"{net}\""))?;
    }
    for (key, name) in [("iif", iif), ("oif", oif)] {
        name.iter().try_for_each(|name| writeln!(out, "{key} = {}", quoted(name)))?;
    }
    for (key, number) in [("fwmark", fwmark), ("fwmask", fwmask)] {
        number.iter().try_for_each(|number| writeln!(out, "{key} = {number:#x}"))?;
    }
    Ok(())
}

fn route(route: &Route) -> String {
    let mut keys = vec![format!("to = \"{}\"", route.to)];
    keys.extend(hop_keys(route.via, route.dev.as_ref(), route.onlink));
    if route.fate != Fate::Unicast {
        keys.push(format!("{} = true", route.fate.name()));
    }
    if !route.nexthops.is_empty() {
        let hop = |hop: &NextHop| {
            let weight = (hop.weight != 1).then(|| format!("weight = {}", hop.weight));
            let keys: Vec<String> =
                hop_keys(hop.via, hop.dev.as_ref(), hop.onlink).into_iter().chain(weight).collect();
            format!("{{ {} }}", keys.join(", "))
        };
        let hops: Vec<String> = route.nexthops.iter().map(hop).collect();
        keys.push(format!("nexthops = [{}]", hops.join(", ")));
    }
    let numbers = [("metric", route.metric), ("table", route.table), ("mtu", route.mtu)];
    keys.extend(numbers.iter().filter_map(|(key, number)| Some(format!("{key} = {}", (*number)?))));
    keys.extend(route.src.map(|src| format!("src = \"{src}\"")));
    format!("{{ {} }}", keys.join(", "))
}

fn hop_keys(via: Option<IpAddr>, dev: Option<&IfName>, onlink: bool) -> Vec<String> {
    let via = via.map(|via| format!("via = \"{via}\""));
    let dev = dev.map(|dev| format!("dev = {}", quoted(dev.as_str())));
    via.into_iter().chain(dev).chain(onlink.then(|| "onlink = true".to_owned())).collect()
}

fn sizes(out: &mut dyn Write, sizes: OffloadSizes) -> fmt::Result {
    let mut given = sizes.each().into_iter().filter_map(|(key, size)| Some((key, size?)));
    given.try_for_each(|(key, size)| writeln!(out, "{key} = {size}"))
}

/// Writes `dad`, `accept_ra` and `autoconf` where they differ from the values that a device has without these keys.
fn ipv6(topology: &Topology, place: &Place, ipv6: Ipv6, own: &[Sysctl], out: &mut dyn Write) -> fmt::Result {
    let namespace = topology
        .namespaces
        .iter()
        .find(|namespace| matches!(place, Place::Namespace(name) if *name == namespace.name));
    let of_namespace = namespace.map_or(&[][..], |namespace| &namespace.sysctls[..]);
    let usual = Ipv6::of((None, None, None), place, own, of_namespace, topology.dad);
    if let Some(dad) = ipv6.accept_dad.filter(|_| ipv6.accept_dad != usual.accept_dad) {
        writeln!(out, "dad = {}", dad != 0)?;
    }
    if let Some(accept_ra) = ipv6.accept_ra.filter(|_| ipv6.accept_ra != usual.accept_ra) {
        writeln!(out, "accept_ra = {accept_ra}")?;
    }
    ipv6.autoconf.map_or(Ok(()), |autoconf| writeln!(out, "autoconf = {autoconf}"))
}

fn interface(
    topology: &Topology,
    place: &Place,
    interface: &Interface,
    link: &str,
    out: &mut dyn Write,
) -> fmt::Result {
    let at = place;
    let (place, name) = (place.to_string(), interface.name.as_str());
    writeln!(out, "\n[namespace.{}.interface.{}]\nlink = {}", key(&place), key(name), quoted(link))?;
    list(out, "addresses", interface.addresses.iter().map(ToString::to_string))?;
    if interface.mac != derived_mac(&topology.lab, &place, name) {
        writeln!(out, "mac = {}", quoted(&interface.mac.to_string()))?;
    }
    if let Some(mtu) = interface.mtu {
        writeln!(out, "mtu = {mtu}")?;
    }
    sizes(out, interface.sizes)?;
    if !interface.up {
        writeln!(out, "up = false")?;
    }
    if !interface.neighbours.is_empty() {
        let entry = |of: &Neighbour| format!("{{ address = \"{}\", mac = \"{}\" }}", of.address, of.mac);
        let all: Vec<String> = interface.neighbours.iter().map(entry).collect();
        writeln!(out, "neighbours = [{}]", all.join(", "))?;
    }
    ipv6(topology, at, interface.ipv6, &interface.sysctls, out)?;
    sysctls(out, &interface.sysctls)
}

fn list(out: &mut dyn Write, key: &str, items: impl Iterator<Item = String>) -> fmt::Result {
    let items: Vec<String> = items.map(|item| quoted(&item)).collect();
    if items.is_empty() { Ok(()) } else { writeln!(out, "{key} = [{}]", items.join(", ")) }
}

/// Settings with `/` between components, so that a dot within a component is kept.
fn sysctls<'a>(out: &mut dyn Write, settings: impl IntoIterator<Item = &'a Sysctl>) -> fmt::Result {
    let entry =
        |setting: &Sysctl| format!("{} = {}", quoted(&setting.key.path().join("/")), quoted(&setting.value));
    let entries: Vec<String> = settings.into_iter().map(entry).collect();
    if entries.is_empty() {
        return Ok(());
    }
    writeln!(out, "sysctls = {{ {} }}", entries.join(", "))
}

/// A key of a table header. A name with a dot is quoted.
fn key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

/// A basic string. Names, addresses and settings have no control character except the tab. TOML escapes the other
/// characters in the same way as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
