//! A lab as the file that says everything: no shorthand, no default of this version's left to guess.

use std::fmt::{self, Write};

use super::{Bridge, Datapath, Interface, Namespace, Place, Sysctl, Topology, derived_mac};

/// The plain TOML of a lab, which reads as the same lab: one table for each bridge, namespace and
/// interface. MAC addresses that are derived from names are left to be derived.
#[must_use]
pub fn expand(topology: &Topology) -> String {
    let mut text = format!("name = {}\n", quoted(topology.lab.as_str()));
    // Writing to a string cannot fail.
    let _ = write(topology, &mut text);
    text
}

fn write(topology: &Topology, out: &mut String) -> fmt::Result {
    for bridge in &topology.bridges {
        self::bridge(topology, bridge, out)?;
    }
    for namespace in &topology.namespaces {
        self::namespace(namespace, out)?;
    }
    for pair in &topology.pairs {
        let place = Place::Namespace(pair.namespace.clone());
        interface(topology, &place, &pair.inner, pair.bridge.as_str(), out)?;
    }
    for cable in &topology.cables {
        for (near, far) in [(&cable.a, &cable.b), (&cable.b, &cable.a)] {
            let link = format!("{}:{}", far.place, far.interface.name);
            interface(topology, &near.place, &near.interface, &link, out)?;
        }
    }
    Ok(())
}

fn bridge(topology: &Topology, bridge: &Bridge, out: &mut String) -> fmt::Result {
    let name = &bridge.name;
    writeln!(out, "\n[bridge.{}]", key(name.as_str()))?;
    if bridge.place != Place::Host {
        writeln!(out, "namespace = {}", quoted(&bridge.place.to_string()))?;
    }
    list(out, "addresses", bridge.addresses.iter().map(ToString::to_string))?;
    if bridge.mac != derived_mac(&topology.lab, &bridge.place.to_string(), name.as_str()) {
        writeln!(out, "mac = {}", quoted(&bridge.mac.to_string()))?;
    }
    if let Some(mtu) = bridge.mtu {
        writeln!(out, "mtu = {mtu}")?;
    }
    for (key, on) in [("nat", bridge.nat), ("stp", bridge.stp), ("vlan_filtering", bridge.vlan_filtering)] {
        if on {
            writeln!(out, "{key} = true")?;
        }
    }
    if let Some(seconds) = bridge.ageing_time {
        writeln!(out, "ageing_time = {seconds}")?;
    }
    if bridge.datapath == Datapath::Bridge {
        writeln!(out, "datapath = \"bridge\"")?;
    }
    let trunks = topology.trunks.iter().filter(|trunk| &trunk.a.bridge == name);
    list(out, "trunks", trunks.map(|trunk| trunk.b.bridge.to_string()))
}

fn namespace(namespace: &Namespace, out: &mut String) -> fmt::Result {
    writeln!(out, "\n[namespace.{}]", key(namespace.name.as_str()))?;
    if let Some(path) = &namespace.adopt {
        writeln!(out, "adopt = {{ path = {} }}", quoted(path))?;
    }
    if !namespace.routes.is_empty() {
        writeln!(out, "routes = [")?;
        for route in &namespace.routes {
            writeln!(out, "    {{ to = \"{}\", via = \"{}\" }},", route.to, route.via)?;
        }
        writeln!(out, "]")?;
    }
    sysctls(out, &namespace.sysctls)
}

fn interface(
    topology: &Topology,
    place: &Place,
    interface: &Interface,
    link: &str,
    out: &mut String,
) -> fmt::Result {
    let (place, name) = (place.to_string(), interface.name.as_str());
    writeln!(out, "\n[namespace.{}.interface.{}]\nlink = {}", key(&place), key(name), quoted(link))?;
    list(out, "addresses", interface.addresses.iter().map(ToString::to_string))?;
    if interface.mac != derived_mac(&topology.lab, &place, name) {
        writeln!(out, "mac = {}", quoted(&interface.mac.to_string()))?;
    }
    if let Some(mtu) = interface.mtu {
        writeln!(out, "mtu = {mtu}")?;
    }
    if !interface.up {
        writeln!(out, "up = false")?;
    }
    sysctls(out, &interface.sysctls)
}

fn list(out: &mut String, key: &str, items: impl Iterator<Item = String>) -> fmt::Result {
    let items: Vec<String> = items.map(|item| quoted(&item)).collect();
    if items.is_empty() { Ok(()) } else { writeln!(out, "{key} = [{}]", items.join(", ")) }
}

/// Settings with `/` between components, so that a dot in one stays a dot.
fn sysctls(out: &mut String, settings: &[Sysctl]) -> fmt::Result {
    if settings.is_empty() {
        return Ok(());
    }
    let entry =
        |setting: &Sysctl| format!("{} = {}", quoted(&setting.path.join("/")), quoted(&setting.value));
    let entries: Vec<String> = settings.iter().map(entry).collect();
    writeln!(out, "sysctls = {{ {} }}", entries.join(", "))
}

/// A key of a header: names with a dot are quoted.
fn key(name: &str) -> String {
    if name.contains('.') { quoted(name) } else { name.to_owned() }
}

/// A basic string. Names, addresses and settings have no control character but the tab, and of the
/// rest TOML escapes what JSON escapes.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
