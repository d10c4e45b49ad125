//! Reads `[bridge.NAME]`, `[namespace.NAME]` and `[namespace.NAME.interface.NAME]`.

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{
    Adopt, Container, Datapath, IfName, MTU_V6, Neighbour, NsName, OffloadSizes, Place, Runtime, Scope,
    Sysctl, addresses,
    declared::{AdoptedDecl, BridgeDecl, Declared, InterfaceDecl, NamespaceDecl},
    fault::Sink,
    hostnames, keys, parse,
    read::{At, List, Table, bounded},
    routes, rules, sysctls,
};

/// The longest path of an adopted namespace, in bytes (PATH_MAX less the terminating NUL).
const LONGEST_PATH: usize = 4095;

/// Reads every bridge of the file.
pub(super) fn bridges(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (name, table) in file.tables("bridge", sink) {
        if is_on(table.boolean("adopt", sink)) {
            match adopted(&name, &table, sink) {
                Some(bridge) => declared.adopted.push(bridge),
                None => drop(declared.unusable.insert(name.value.to_owned())),
            }
            continue;
        }
        let Some(bridge) = bridge(&name, &table, sink) else {
            declared.unusable.insert(name.value.to_owned());
            continue;
        };
        declared.bridges.push(bridge);
    }
}

/// A bridge that another program made. It has no settings of the lab's.
fn adopted(key: &At<&str>, table: &Table<'_>, sink: &mut Sink) -> Option<AdoptedDecl> {
    table.only_declared(sink);
    let name = parse::named(key.value, &key.span, sink);
    for other in table.declared_keys().iter().filter(|other| !keys::OF_ADOPTED.contains(&other.value)) {
        let message = format!("`{}` of bridge `{}`, which is adopted", other.value, key.value);
        sink.add(&other.span, message, "leave it out: nothing of a bridge that others made is changed");
    }
    if let Some(guests) = table.boolean("guests", sink).filter(|guests| !guests.value) {
        let message = format!("`guests` is off, and all ports of bridge `{}` are others'", key.value);
        let hint = "leave it out, or write `datapath = \"bridge\"` for none to be accelerated";
        sink.add(&guests.span, message, hint);
    }
    let datapath = parse::datapath(table.string("datapath", sink), sink);
    if let Some(xdp) = datapath.as_ref().filter(|datapath| datapath.value == Datapath::Xdp) {
        let message =
            format!("`datapath` of bridge `{}` is \"xdp\", which changes the hosts' ends", key.value);
        sink.add(&xdp.span, message, "write \"tc\", or leave it out");
    }
    let place = match table.string("namespace", sink) {
        Some(text) => text.with(parse::place(text.value, &text.span, sink)?),
        None => key.with(Place::Host),
    };
    Some(AdoptedDecl {
        name: key.with(name?),
        place,
        datapath: datapath.map_or(Datapath::Tc, |datapath| datapath.value),
    })
}

fn bridge(key: &At<&str>, table: &Table<'_>, sink: &mut Sink) -> Option<BridgeDecl> {
    table.only_declared(sink);
    let name = parse::named(key.value, &key.span, sink);
    let mac = parse::mac(table.string("mac", sink), sink);
    let trunks = table.strings("trunks", sink).items;
    let trunks = trunks.iter().map(|trunk| trunk.with(trunk.value.to_owned())).collect();
    let sizes = OffloadSizes::read(table, sink);
    Some(BridgeDecl { mac, sizes, trunks, ..bridge_settings(key, name, table, sink)? })
}

/// A bridge with the settings that `[bridge.NAME]` and `[chain.NAME]` have in common.
pub(super) fn bridge_settings(
    key: &At<&str>,
    name: Option<IfName>,
    table: &Table<'_>,
    sink: &mut Sink,
) -> Option<BridgeDecl> {
    let place = match table.string("namespace", sink) {
        Some(text) => parse::place(text.value, &text.span, sink).map(|place| text.with(place)),
        // A value that is not a string was reported by `text`. It is not the host.
        None => table.get("namespace").is_none().then(|| key.with(Place::Host)),
    };
    let addresses = addresses::read(table, sink);
    let mtu = table.integer("mtu", sink);
    check_mtu(mtu.as_ref(), &addresses.items, sink);
    let nat = table.boolean("nat", sink);
    if let Some(nat) =
        nat.as_ref().filter(|nat| nat.value && addresses.items.is_empty() && addresses.is_complete)
    {
        let message = format!("`nat` is on, and bridge `{}` has no address", key.value);
        let hint = format!("masquerading is for the bridge's subnets: write {}", table.example("addresses"));
        sink.add(&nat.span, message, hint).label("for which subnet?");
    }
    Some(BridgeDecl {
        mac: None,
        sizes: OffloadSizes::default(),
        mtu,
        nat: is_on(nat),
        host: table.boolean("host", sink),
        is_placed: table.get("namespace").is_some(),
        stp: is_on(table.boolean("stp", sink)),
        ageing_time: table.integer("ageing_time", sink).map(|at| at.value),
        vlan_filtering: is_on(table.boolean("vlan_filtering", sink)),
        datapath: parse::datapath(table.string("datapath", sink), sink).map_or(Datapath::Tc, |at| at.value),
        guests: is_on(table.boolean("guests", sink)),
        accept_ra: table.boolean("accept_ra", sink),
        trunks: Vec::new(),
        addresses,
        // A bridge without a valid name is left out. An invalid namespace becomes the host, so that links resolve.
        name: key.with(name?),
        place: place.unwrap_or_else(|| key.with(Place::Host)),
    })
}

fn is_on(written: Option<At<bool>>) -> bool {
    written.is_some_and(|at| at.value)
}

/// Reads every namespace of the file, and its interfaces.
pub(super) fn namespaces(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (key, table) in file.tables("namespace", sink) {
        let place = if key.value == "host" {
            host(&table, sink);
            Some(Place::Host)
        } else {
            namespace(&key, &table, declared, sink)
        };
        let adopted = place != Some(Place::Host) && table.get("adopt").is_some();
        for (name, interface) in table.tables("interface", sink) {
            if name.value == "lo" {
                let adopt = if adopted { table.get("adopt") } else { None };
                let loopback = loopback(&name, place.as_ref(), adopt, &interface, sink);
                if let (Some(Place::Namespace(_)), Some(own)) = (&place, declared.namespaces.last_mut()) {
                    own.loopback = loopback;
                }
                continue;
            }
            match (self::interface(&name, place.as_ref(), adopted, &interface, sink), &place) {
                (Some(interface), _) => declared.interfaces.push(interface),
                (None, Some(place)) => {
                    declared.partial.insert(place.clone());
                }
                (None, None) => {}
            }
        }
    }
    // The tables of a namespace may be spread over the file.
    declared.interfaces.sort_by_key(|interface| interface.name.span.start);
}

fn namespace(key: &At<&str>, table: &Table<'_>, declared: &mut Declared, sink: &mut Sink) -> Option<Place> {
    table.only_declared(sink);
    let name = parse::named::<NsName>(key.value, &key.span, sink);
    let routes = routes::read(table, sink);
    let rules = rules::read(table, sink);
    let adopt = adopt(table, sink);
    let sysctls = sysctls::read(table, sink);
    if let (Some(adopt), Some(first)) = (table.get("adopt"), sysctls.first()) {
        let hint = "leave `sysctls` out, and set them where the namespace is made";
        sink.add(&first.span, "settings of an adopted namespace would stay changed after `down`", hint)
            .also(&adopt.span(), "adopted here");
    }
    let resolver = hostnames::read(table, sink);
    if let (Some(adopt), Some(nameservers)) = (table.get("adopt"), table.get("nameservers")) {
        let hint = "leave it out: processes in the namespace have a resolv.conf of their own";
        sink.add(&nameservers.span(), "`nameservers` of an adopted namespace", hint)
            .also(&adopt.span(), "adopted here");
    }
    let name = key.with(name?);
    let place = Place::Namespace(name.value.clone());
    let (routes, sysctls) = (routes.into(), sysctls.into());
    let loopback = List::default();
    declared.namespaces.push(NamespaceDecl { name, adopt, routes, sysctls, resolver, rules, loopback });
    Some(place)
}

/// The host is not part of the lab: it may only have cable ends.
fn host(table: &Table<'_>, sink: &mut Sink) {
    for key in table.unknown() {
        let message = match keys::NAMESPACE.key(key.value) {
            Some(_) => format!("`{}` cannot be set for the host", key.value),
            None => format!("`{}` is not a key of the host", key.value),
        };
        let hint = "the host is left as it is: declare cables to it, [namespace.host.interface.v0]";
        sink.add(&key.span, message, hint).label("not for the host");
    }
}

/// Reads `{ pid = N }`, `{ path = "/..." }` or `{ container = "..." }`.
fn adopt(table: &Table<'_>, sink: &mut Sink) -> Option<At<Adopt>> {
    let span = table.get("adopt")?.span();
    let adopt = table.table("adopt", sink)?;
    adopt.only_declared(sink);
    let pid = adopt.integer("pid", sink);
    let path = adopt.string("path", sink);
    let container = adopt.string("container", sink);
    let runtime = match adopt.string("runtime", sink) {
        None => Some(Runtime::default()),
        Some(written) => parse::runtime(&written, sink),
    };
    if let (Some(runtime), None) = (adopt.get("runtime"), adopt.get("container")) {
        sink.add(&runtime.span(), "`runtime` is about a `container`", "leave it out, or name a container");
    }
    match ["pid", "path", "container"].map(|key| adopt.get(key).is_some()) {
        [true, false, false] => pid.map(|pid| pid.with(Adopt::Path(format!("/proc/{}/ns/net", pid.value)))),
        [false, true, false] => path.and_then(|path| adopted_path(&path, sink)),
        [false, false, true] => {
            let container = container?;
            let name = parse::named(container.value, &container.span, sink);
            Some(container.with(Adopt::Container(Container { name: name?, runtime: runtime? })))
        }
        _ => {
            let hint =
                "write either { pid = 4242 }, { path = \"/proc/4242/ns/net\" } or { container = \"web\" }";
            sink.add(&span, "`adopt` takes one of `pid`, `path` and `container`", hint);
            None
        }
    }
}

fn adopted_path(path: &At<&str>, sink: &mut Sink) -> Option<At<Adopt>> {
    let text = path.value;
    let why = if !text.starts_with('/') {
        "is not an absolute path"
    } else if text.split('/').any(|component| component == "..") {
        "has `..` in it"
    } else if text.contains(char::is_control) {
        "has a control character in it"
    } else if text.len() > LONGEST_PATH {
        "is longer than a path can be"
    } else {
        return Some(path.with(Adopt::Path(text.to_owned())));
    };
    sink.add(&path.span, format!("`{text}` {why}"), "write all of it, such as \"/proc/4242/ns/net\"");
    None
}

/// Reads the addresses of a loopback. That of the host, or of an adopted namespace, is its owner's.
fn loopback(
    key: &At<&str>,
    place: Option<&Place>,
    adopt: Option<&Spanned<DeValue<'_>>>,
    table: &Table<'_>,
    sink: &mut Sink,
) -> List<IpNet> {
    table.only_declared(sink);
    let hint = "leave `lo` out, and give the address to an interface of the lab";
    if place == Some(&Place::Host) {
        sink.add(&key.span, "the loopback of the host is left as it is", hint);
    } else if let Some(adopt) = adopt {
        sink.add(&key.span, "the loopback of an adopted namespace is left as it is", hint)
            .also(&adopt.span(), "adopted here");
    }
    addresses::read(table, sink)
}

/// Reads one interface; `None` if its name cannot be used.
fn interface(
    key: &At<&str>,
    place: Option<&Place>,
    adopted: bool,
    table: &Table<'_>,
    sink: &mut Sink,
) -> Option<InterfaceDecl> {
    table.only_declared(sink);
    let name = parse::named(key.value, &key.span, sink);
    let written = table.string("link", sink);
    if table.get("link").is_none() {
        let hint = "link it to a bridge, link = \"br0\", or by a cable, link = \"ns1:eth0\"";
        sink.add(&key.span, format!("interface `{}` has no link", key.value), hint).label("leads nowhere");
    }
    let link = written.as_ref().and_then(|text| parse::link(text, sink));
    let addresses = addresses::read(table, sink);
    let mtu = table.integer("mtu", sink);
    check_mtu(mtu.as_ref(), &addresses.items, sink);
    let mac = parse::mac(table.string("mac", sink), sink);
    let datapath = parse::datapath(table.string("datapath", sink), sink);
    if let (Some(datapath), Some(At { value: parse::Link::Interface(..), .. })) = (&datapath, &link) {
        let message = format!("interface `{}` is the end of a cable, and has a datapath", key.value);
        let hint = "a cable has no bridge on it, and so no fast path past one: leave `datapath` out";
        sink.add(&datapath.span, message, hint);
    }
    let port = table.string("port", sink);
    if let (Some(port), Some(At { value: parse::Link::Interface(..), .. })) = (&port, &link) {
        let message = format!("interface `{}` is the end of a cable, and has a port", key.value);
        let hint = "a cable leads to no bridge, and its other end is named in `link`: leave `port` out";
        sink.add(&port.span, message, hint);
    }
    let port = port.and_then(|at| Some(at.with(parse::named(at.value, &at.span, sink)?)));
    let up = table.boolean("up", sink).is_none_or(|up| up.value);
    let sysctls = sysctls::read(table, sink);
    if place == Some(&Place::Host) || adopted {
        let whose = if adopted { "an adopted namespace" } else { "the host" };
        let is_its = |sysctl: &&At<Sysctl>| sysctl.value.key.scope() == Scope::Interface(key.value);
        for sysctl in sysctls.iter().filter(|sysctl| !is_its(sysctl)) {
            let path = &sysctl.value.key;
            let hint =
                format!("only settings of {0} itself, such as \"net.ipv4.conf.{0}.rp_filter\"", key.value);
            sink.add(&sysctl.span, format!("`{path}` would change {whose}"), hint);
        }
    }
    Some(InterfaceDecl {
        place: place?.clone(),
        name: key.with(name?),
        link,
        addresses,
        mac,
        mtu,
        sysctls,
        up,
        dad: table.boolean("dad", sink),
        accept_ra: table.boolean("accept_ra", sink),
        autoconf: table.boolean("autoconf", sink),
        sizes: OffloadSizes::read(table, sink),
        neighbours: neighbours(table, sink),
        datapath: datapath.map(|at| at.value),
        port,
    })
}

/// The key `neighbours`.
fn neighbours(table: &Table<'_>, sink: &mut Sink) -> Vec<Neighbour> {
    let example = table.example("neighbours");
    let mut neighbours: Vec<At<Neighbour>> = Vec::new();
    for At { value: each, span } in table.array("neighbours", sink) {
        each.only_declared(sink);
        for key in keys::NEIGHBOUR.keys.iter().filter(|key| each.get(key.name).is_none()) {
            sink.add(&span, format!("a neighbour without `{}`", key.name), format!("it has both: {example}"));
        }
        let address = each.string("address", sink);
        let address = address.and_then(|text| parse::next_hop(&text, each.example("address"), sink));
        let mac = parse::mac(each.string("mac", sink), sink);
        let (Some(address), Some(mac)) = (address, mac) else { continue };
        if let Some(first) = neighbours.iter().find(|first| first.value.address == address.value) {
            let message = format!("{} is a neighbour twice", address.value);
            sink.add(&address.span, message, "keep one of them").also(&first.span, "the first");
            continue;
        }
        neighbours.push(address.with(Neighbour { address: address.value, mac: mac.value }));
    }
    let span = |at: &At<Neighbour>| at.span.clone();
    bounded(&mut neighbours, "neighbours", "an interface", keys::MOST_NEIGHBOURS, span, sink);
    neighbours.into_iter().map(|at| at.value).collect()
}

/// Reports IPv6 settings of an interface with too small an MTU, and `disable_ipv6` of one with IPv6 addresses.
pub(super) fn check_ipv6(interface: &InterfaceDecl, sysctl: &At<Sysctl>, sink: &mut Sink) {
    let (key, name) = (&sysctl.value.key, interface.name.value.as_str());
    let is_its = key.scope() == Scope::Interface(name);
    if key.family() != "ipv6" || !is_its && key.scope() != Scope::All {
        return;
    }
    let address = interface.addresses.items.iter().find(|address| address.value.addr().is_ipv6());
    if let (Some(address), "disable_ipv6", "1") = (address, key.name(), &*sysctl.value.value) {
        let message = format!("`{key}` switches off IPv6, of which `{name}` has addresses");
        let hint = "leave the setting out, or leave the IPv6 addresses out";
        sink.add(&sysctl.span, message, hint).also(&address.span, "an IPv6 address");
    }
    if let Some(mtu) = interface.mtu.as_ref().filter(|mtu| is_its && mtu.value < MTU_V6) {
        let message = format!("there is no `{key}` where the MTU is too small for IPv6");
        let hint = format!("write an mtu of at least {MTU_V6}, or leave the setting out");
        sink.add(&sysctl.span, message, hint).also(&mtu.span, "the MTU");
    }
}

/// The kernel removes IPv6 and its addresses from an interface whose MTU is below the IPv6 minimum.
pub(super) fn check_mtu(mtu: Option<&At<u32>>, addresses: &[At<IpNet>], sink: &mut Sink) {
    let Some(mtu) = mtu.filter(|mtu| mtu.value < MTU_V6) else { return };
    if let Some(address) = addresses.iter().find(|address| address.value.addr().is_ipv6()) {
        let message = format!("an MTU of {} bytes is too small for IPv6", mtu.value);
        let hint = format!("write at least {MTU_V6}, or leave the IPv6 addresses out");
        sink.add(&mtu.span, message, hint).also(&address.span, "an IPv6 address");
    }
}
