//! Reads `[bridge.NAME]`.

use super::{
    Datapath, IfName, Place, addresses, datapath,
    declared::{BridgeDecl, Declared},
    fault::Sink,
    interfaces, keys, limits, parse,
    read::{At, Table},
};

/// Reads every bridge of the file.
pub(super) fn read(file: &Table<'_>, declared: &mut Declared, sink: &mut Sink) {
    for (name, table) in file.tables("bridge", "a bridge", limits::BRIDGES, sink) {
        let Some(bridge) = bridge(&name, &table, sink) else {
            declared.unusable.insert(name.value.to_owned());
            continue;
        };
        declared.bridges.push(bridge);
    }
}

fn bridge(key: &At<&str>, table: &Table<'_>, sink: &mut Sink) -> Option<BridgeDecl> {
    table.only(keys::BRIDGE, sink);
    let name = parse::named(key.value, &key.span, sink);
    with_settings(key, name, table, sink)
}

/// The bridge of a `[bridge.NAME]` table, or the first bridge of a `[chain.NAME]` table.
pub(super) fn with_settings(
    key: &At<&str>,
    name: Option<IfName>,
    table: &Table<'_>,
    sink: &mut Sink,
) -> Option<BridgeDecl> {
    let place = match table.text("namespace", sink) {
        Some(text) => parse::place(text.value, &text.span, sink).map(|place| text.with(place)),
        // A value that is not a string was reported by `text`. It is not the host.
        None => table.get("namespace").is_none().then(|| key.with(Place::Host)),
    };
    let addresses = addresses::read(table, sink);
    let mtu = table.number("mtu", limits::MTU, " bytes", sink);
    interfaces::check_mtu(mtu.as_ref(), &addresses.items, sink);
    let nat = table.boolean("nat", sink);
    if let Some(nat) = nat.as_ref().filter(|nat| nat.value && addresses.items.is_empty() && addresses.whole) {
        let message = format!("`nat` is on, and bridge `{}` has no address", key.value);
        let hint = format!("masquerading is for the bridge's subnets: write {}", keys::example("addresses"));
        sink.add(&nat.span, message, hint).label("for which subnet?");
    }
    let trunks = table.texts("trunks", limits::BRIDGES, sink);
    let bridge = BridgeDecl {
        mac: parse::mac(table.text("mac", sink), sink),
        mtu,
        nat: is_on(nat),
        stp: is_on(table.boolean("stp", sink)),
        ageing_time: table.number("ageing_time", limits::AGEING_TIME, " seconds", sink).map(|at| at.value),
        vlan_filtering: is_on(table.boolean("vlan_filtering", sink)),
        datapath: datapath::read(table, sink).map_or(Datapath::Tc, |at| at.value),
        accept_ra: table.boolean("accept_ra", sink),
        trunks: trunks.items.iter().map(|trunk| trunk.with(trunk.value.to_owned())).collect(),
        addresses,
        // A bridge without a valid name is left out. An invalid namespace becomes the host, so that links resolve.
        name: key.with(name?),
        place: place.unwrap_or_else(|| key.with(Place::Host)),
    };
    Some(bridge)
}

fn is_on(written: Option<At<bool>>) -> bool {
    written.is_some_and(|at| at.value)
}
