//! `[mesh.NAME]`: a cable between every two of its members.

use std::collections::HashSet;

use ipnet::IpNet;

use super::{
    super::{
        IfName, OffloadSizes, Place,
        declared::{Declared, Index, InterfaceDecl, NamespaceDecl},
        fault::Sink,
        parse::{self, Link},
        read::{At, List, Table},
        tables::check_mtu,
    },
    cut, names, namespace_names, namespaces, pool, room,
};

/// Reads every mesh of the file.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (key, table) in file.tables("mesh", sink) {
        if sink.is_cut() && sink.is_crowded() {
            // Further faults would not be shown.
            break;
        }
        match mesh(&key, &table, declared, sink) {
            Some((namespaces, interfaces)) => {
                declared.namespaces.extend(namespaces);
                declared.interfaces.extend(interfaces);
            }
            None => sink.cut(),
        }
    }
}

fn mesh(
    key: &At<&str>,
    table: &Table<'_>,
    declared: &Declared,
    sink: &mut Sink,
) -> Option<(Vec<NamespaceDecl>, Vec<InterfaceDecl>)> {
    table.only_declared(sink);
    let mtu = table.integer("mtu", sink);
    let subnets = pool::subnets(table, sink);
    let (made, members) = members(key, table, declared, sink)?;
    let what = format!("mesh `{}`", key.value);
    let cables = members.len() * members.len().saturating_sub(1) / 2;
    if !room(&what, &key.span, 2 * cables, declared, sink) {
        return None;
    }
    // An interface's name is the mesh's name and the number of the member at the other end.
    let names: Vec<At<IfName>> = names(key, u32::try_from(members.len()).ok()?, sink)?;
    let written: HashSet<(&Place, &IfName)> =
        declared.interfaces.iter().map(|interface| (&interface.place, &interface.name.value)).collect();
    for (n, member) in members.iter().enumerate() {
        let mut others = names.iter().enumerate().filter(|&(m, _)| m != n);
        if let Some((_, name)) = others.find(|(_, name)| written.contains(&(member, &name.value))) {
            let message =
                format!("{what} makes an interface `{member}:{}`, and there is one already", name.value);
            return cut(&key.span, message, "rename one of the two", None, sink);
        }
    }
    for subnet in &subnets {
        let fits = (0..cables).take_while(|&n| pool::cable(subnet.value, n).is_some()).count();
        if fits < cables {
            pool::too_small(subnet, fits, "cables of two addresses", cables, sink);
        }
    }
    let mut made_interfaces = Vec::with_capacity(2 * cables);
    // The cables of an additional member come last, so that all others keep their addresses.
    let pairs = (1..members.len()).flat_map(|high| (0..high).map(move |low| [low, high]));
    for (n, ends) in pairs.enumerate() {
        for (side, [near, far]) in [ends, [ends[1], ends[0]]].into_iter().enumerate() {
            let address = |subnet: &At<IpNet>| Some(subnet.with(pool::cable(subnet.value, n)?[side]));
            made_interfaces.push(InterfaceDecl {
                place: members[near].clone(),
                name: names[far].clone(),
                link: Some(key.with(Link::Interface(members[far].clone(), names[near].value.clone()))),
                addresses: List { items: subnets.iter().filter_map(address).collect(), is_complete: true },
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
            });
        }
    }
    if let Some(first) = made_interfaces.first() {
        check_mtu(mtu.as_ref(), &first.addresses.items, sink);
    }
    Some((made, made_interfaces))
}

/// The members: those listed, or `count` namespaces that are created.
fn members(
    key: &At<&str>,
    table: &Table<'_>,
    declared: &Declared,
    sink: &mut Sink,
) -> Option<(Vec<NamespaceDecl>, Vec<Place>)> {
    if table.get("members").is_some() == table.get("count").is_some() {
        let message = format!("mesh `{}` takes one of `members` and `count`", key.value);
        let hint = "name its namespaces, members = [\"a\", \"b\", \"c\"], or let them be made, count = 3";
        return cut(&key.span, message, hint, None, sink);
    }
    let few = |span: &_, sink: &mut Sink| {
        cut(span, "a mesh has at least two members", "write two or more", None, sink)
    };
    if let Some(value) = table.get("count") {
        let count = table.integer("count", sink)?;
        let what = format!("mesh `{}`", key.value);
        let names = namespace_names(&what, key, count.value, declared, sink)?;
        let made = namespaces(&what, &names, declared, sink)?;
        let places = made.iter().map(|namespace| Place::Namespace(namespace.name.value.clone())).collect();
        return if made.len() < 2 { few(&value.span(), sink) } else { Some((made, places)) };
    }
    let listed = table.strings("members", sink);
    if !listed.is_complete {
        return None;
    }
    let index = Index::new(declared);
    let mut seen: Vec<At<Place>> = Vec::new();
    for text in &listed.items {
        let place = parse::place(text.value, &text.span, sink)?;
        // If the file was cut, a missing member may belong to a group that could not be expanded.
        if sink.is_cut() || !index.check_place(&place, &text.span, sink) {
            return None;
        }
        if let Some(first) = seen.iter().find(|first| first.value == place) {
            let message = format!("`{place}` is a member twice");
            let also = Some((&first.span, "first named here"));
            return cut(&text.span, message, "name each member once", also, sink);
        }
        seen.push(text.with(place));
    }
    match table.get("members") {
        Some(value) if seen.len() < 2 => few(&value.span(), sink),
        _ => Some((Vec::new(), seen.into_iter().map(|at| at.value).collect())),
    }
}
