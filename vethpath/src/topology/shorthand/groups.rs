//! `[group.NAME]`: many similar namespaces, each with one interface on a bridge.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    super::{
        IfName, OffloadSizes, Place, addresses,
        declared::{Declared, Index, InterfaceDecl, NamespaceDecl, RouteDecl, Spread},
        fault::{Sink, listed},
        hostnames, keys,
        parse::{self, Link},
        read::{At, List, Table},
        routes, sysctls,
        tables::check_mtu,
    },
    namespace_names, namespaces,
    pool::{self, is_same_family},
    room,
};

/// The parts that one group expands to.
struct Group {
    namespaces: Vec<NamespaceDecl>,
    interfaces: Vec<InterfaceDecl>,
    spread: Option<Spread>,
}

/// Reads every group of the file.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    let tables = file.tables("group", sink);
    let taken = if tables.is_empty() { HashSet::new() } else { taken(declared) };
    for (key, table) in tables {
        if sink.is_cut() && sink.is_crowded() {
            // Further faults would not be shown.
            break;
        }
        match group(&key, &table, declared, &taken, sink) {
            Some(group) => {
                declared.namespaces.extend(group.namespaces);
                declared.interfaces.extend(group.interfaces);
                declared.spreads.extend(group.spread);
            }
            None => sink.cut(),
        }
    }
}

/// Addresses that are written in the file. Those of other groups are not among them: if a growing group runs into
/// another group's addresses, this is a fault, and the other group's addresses do not move.
fn taken(declared: &Declared) -> HashSet<IpAddr> {
    let of_bridges = declared.bridges.iter().flat_map(|bridge| &bridge.addresses.items);
    let of_interfaces = declared.interfaces.iter().flat_map(|interface| &interface.addresses.items);
    let vias = declared
        .namespaces
        .iter()
        .flat_map(|namespace| namespace.routes.iter())
        .flat_map(RouteDecl::gateways);
    of_bridges.chain(of_interfaces).map(|at| at.value.addr()).chain(vias.map(|via| via.value)).collect()
}

fn group(
    key: &At<&str>,
    table: &Table<'_>,
    declared: &Declared,
    taken: &HashSet<IpAddr>,
    sink: &mut Sink,
) -> Option<Group> {
    table.only_declared(sink);
    if table.get("count").is_none() {
        sink.add(&key.span, format!("group `{}` has no count", key.value), "write count = 100");
    }
    let count = table.integer("count", sink);
    let what = format!("group `{}`", key.value);
    let names = count.and_then(|count| namespace_names(&what, key, count.value, declared, sink));
    let bridges = bridges(key, table, declared, sink);
    let interface = interface_name(key, table, sink);
    let mtu = table.integer("mtu", sink);
    let sysctls = sysctls::read(table, sink);
    let resolver = hostnames::read(table, sink);
    let subnets = pool::subnets(table, sink);
    let mut routes = routes::read(table, sink);
    if table.get("gateway").is_none() {
        derive_gateways(&mut routes, &subnets, &bridges, declared);
    }
    let firsts = firsts(table, &subnets, sink);
    let (names, interface) = (names?, interface?);
    if !room(&what, &key.span, names.len(), declared, sink) {
        return None;
    }
    let mut made = namespaces(&what, &names, declared, sink)?;
    let (routes, sysctls): (Arc<[_]>, Arc<[_]>) = (routes.into(), sysctls.into());
    for namespace in &mut made {
        (namespace.routes, namespace.sysctls) = (Arc::clone(&routes), Arc::clone(&sysctls));
        namespace.resolver.clone_from(&resolver);
    }
    let vias = routes.iter().flat_map(RouteDecl::gateways).map(|via| via.value);
    let taken: HashSet<IpAddr> = taken.iter().copied().chain(vias).collect();
    let mut columns: Vec<(&At<IpNet>, Vec<IpNet>)> = Vec::new();
    for subnet in &subnets {
        let first = firsts.iter().copied().find(|&first| is_same_family(first, subnet.value.addr()));
        let hosts = pool::hosts(subnet.value, first, &taken, names.len());
        if hosts.len() < names.len() {
            pool::too_small(subnet, hosts.len(), "hosts of the group", names.len(), sink);
        }
        columns.push((subnet, hosts));
    }
    let host = |(n, namespace): (usize, &NamespaceDecl)| InterfaceDecl {
        place: Place::Namespace(namespace.name.value.clone()),
        name: key.with(interface.clone()),
        // Round robin, so that a namespace's bridge does not depend on `count`.
        link: bridges
            .get(n % bridges.len().max(1))
            .map(|bridge| bridge.with(Link::Bridge(bridge.value.clone()))),
        addresses: List {
            items: columns.iter().filter_map(|(at, hosts)| Some(at.with(*hosts.get(n)?))).collect(),
            is_complete: columns.iter().all(|(_, hosts)| hosts.len() > n)
                && table.get("subnet").is_none() == columns.is_empty(),
        },
        mac: None,
        mtu: mtu.clone(),
        sysctls: Vec::new(),
        datapath: None,
        up: true,
        dad: None,
        accept_ra: None,
        autoconf: None,
        sizes: OffloadSizes::default(),
        neighbours: Vec::new(),
        port: None,
    };
    let interfaces: Vec<InterfaceDecl> = made.iter().enumerate().map(host).collect();
    if let Some(first) = interfaces.first() {
        check_mtu(mtu.as_ref(), &first.addresses.items, sink);
    }
    let spread = bridges.first().filter(|_| bridges.len() > 1).map(|first| Spread {
        span: first.span.clone(),
        group: key.value.to_owned(),
        bridges: bridges.iter().map(|bridge| bridge.value.clone()).collect(),
    });
    Some(Group { namespaces: made, interfaces, spread })
}

fn interface_name(key: &At<&str>, table: &Table<'_>, sink: &mut Sink) -> Option<IfName> {
    match table.string("interface", sink) {
        Some(text) => parse::named(text.value, &text.span, sink),
        None if table.get("interface").is_some() => None,
        None => parse::named("eth0", &key.span, sink),
    }
}

/// The bridges of a group that exist. A missing one is reported here, once.
fn bridges(key: &At<&str>, table: &Table<'_>, declared: &Declared, sink: &mut Sink) -> Vec<At<String>> {
    let given: Vec<&str> =
        keys::GROUP.one_of.iter().copied().filter(|key| table.get(key).is_some()).collect();
    if given.len() != 1 {
        let message = match given[..] {
            [] => format!("group `{}` is on no bridge", key.value),
            _ => format!("group `{}` has {}", key.value, listed(given)),
        };
        let hint = "write one of bridge = \"br0\", bridges = [\"br0\", \"br1\"] and chain = \"c\"";
        sink.add(&key.span, message, hint);
        return Vec::new();
    }
    let mut named: Vec<At<String>> =
        table.string("bridge", sink).iter().map(|at| at.with(at.value.to_owned())).collect();
    let listed = table.strings("bridges", sink);
    if let Some(value) = table.get("bridges").filter(|_| listed.is_complete && listed.items.is_empty()) {
        sink.add(&value.span(), "`bridges` names none", "write bridges = [\"br0\", \"br1\"]");
    }
    for bridge in listed.items {
        if let Some(first) = named.iter().find(|first| first.value == bridge.value) {
            let message = format!("bridge `{}` is named twice", bridge.value);
            sink.add(&bridge.span, message, "name each bridge once").also(&first.span, "first named here");
        } else {
            named.push(bridge.with(bridge.value.to_owned()));
        }
    }
    if let Some(chain) = table.string("chain", sink) {
        named.extend(of_chain(&chain, declared, sink));
        return named;
    }
    let index = Index::new(declared);
    // If the file was cut, a missing bridge may belong to a chain that could not be expanded.
    named.retain(|name| sink.is_cut() || index.bridge(name, sink).is_some());
    named
}

/// The bridges of a chain: their names are the chain's name and a number, and their spans are the chain's.
fn of_chain(chain: &At<&str>, declared: &Declared, sink: &mut Sink) -> Vec<At<String>> {
    let number_of = |name: &str| name.strip_prefix(chain.value)?.parse::<usize>().ok();
    let first = declared.bridges.iter().find(|bridge| number_of(bridge.name.value.as_str()) == Some(0));
    let made = declared.bridges.iter().filter(|bridge| {
        first.is_some_and(|first| first.name.span == bridge.name.span)
            && number_of(bridge.name.value.as_str()).is_some()
    });
    let bridges: Vec<_> = made.map(|bridge| chain.with(bridge.name.value.to_string())).collect();
    if bridges.is_empty() && !sink.is_cut() {
        let hint = format!("declare it: [chain.{}]", chain.value);
        sink.add(&chain.span, format!("there is no chain `{}`", chain.value), hint).label("not declared");
    }
    bridges
}

/// Adds the address of the group's bridge as the gateway of hosts in its subnet, unless they have one.
fn derive_gateways(
    routes: &mut Vec<RouteDecl>,
    subnets: &[At<IpNet>],
    bridges: &[At<String>],
    declared: &Declared,
) {
    let is_theirs = |name: &str| bridges.iter().any(|bridge| bridge.value == name);
    let theirs = declared.bridges.iter().filter(|bridge| is_theirs(bridge.name.value.as_str()));
    let addresses: Vec<IpNet> =
        theirs.flat_map(|bridge| &bridge.addresses.items).map(|at| at.value).collect();
    for subnet in subnets {
        let Some(via) = addresses.iter().map(IpNet::addr).find(|via| subnet.value.contains(via)) else {
            continue;
        };
        let to = routes::default_by_way_of(via);
        let is_link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if !is_link_local && routes.iter().all(|route| route.route.to != to || route.route.table.is_some()) {
            routes.push(RouteDecl::by(to, subnet.with(via)));
        }
    }
}

/// The addresses of `first`, each in a subnet of the group.
fn firsts(table: &Table<'_>, subnets: &[At<IpNet>], sink: &mut Sink) -> Vec<IpAddr> {
    let mut firsts: Vec<IpAddr> = Vec::new();
    for text in table.one_or_two("first", sink) {
        let Some(first) = parse::gateway(&text, table.example("first"), sink) else { continue };
        match subnets.iter().find(|subnet| subnet.value.contains(&first.value)) {
            Some(subnet) if !addresses::is_host(&subnet.value, first.value) => {
                let message =
                    format!("the first address {} is no host in its subnet {}", first.value, subnet.value);
                let hint = "the first and the last address of an IPv4 subnet are the subnet's own";
                sink.add(&first.span, message, hint).also(&subnet.span, "the subnet");
            }
            Some(_) if firsts.iter().any(|&other| is_same_family(other, first.value)) => {
                let hint = "write one for IPv4 and one for IPv6";
                sink.add(&first.span, "a second `first` of one family", hint);
            }
            Some(_) => firsts.push(first.value),
            None if subnets.is_empty() && table.get("subnet").is_some() => {}
            None => {
                let message = format!("the first address {} is in no subnet of the group", first.value);
                let hint = format!("write one that is in it: {}", table.example("subnet"));
                sink.add(&first.span, message, hint);
            }
        }
    }
    firsts
}
