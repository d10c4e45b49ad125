//! Reads `[namespace.NAME.interface.NAME]`.

use ipnet::IpNet;

use super::{
    Place, Scope, Sysctl, addresses, datapath,
    declared::InterfaceDecl,
    fault::Sink,
    keys, limits, parse,
    read::{At, Table},
    sysctls,
};

/// Reads one interface; `None` if its name cannot be used.
pub(super) fn read(
    key: &At<&str>,
    place: Option<&Place>,
    adopted: bool,
    table: &Table<'_>,
    sink: &mut Sink,
) -> Option<InterfaceDecl> {
    table.only(keys::INTERFACE, sink);
    let name = parse::named(key.value, &key.span, sink);
    let written = table.text("link", sink);
    if table.get("link").is_none() {
        let hint = "link it to a bridge, link = \"br0\", or by a cable, link = \"ns1:eth0\"";
        sink.add(&key.span, format!("interface `{}` has no link", key.value), hint).label("leads nowhere");
    }
    let link = written.as_ref().and_then(|text| parse::link(text, sink));
    let addresses = addresses::read(table, sink);
    let mtu = table.number("mtu", limits::MTU, " bytes", sink);
    check_mtu(mtu.as_ref(), &addresses.items, sink);
    let mac = parse::mac(table.text("mac", sink), sink);
    let datapath = datapath::read(table, sink);
    if let (Some(datapath), Some(At { value: parse::Link::Interface(..), .. })) = (&datapath, &link) {
        let message = format!("interface `{}` is the end of a cable, and has a datapath", key.value);
        let hint = "a cable has no bridge on it, and so no fast path past one: leave `datapath` out";
        sink.add(&datapath.span, message, hint);
    }
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
        datapath: datapath.map(|at| at.value),
    })
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
    if let Some(mtu) = interface.mtu.as_ref().filter(|mtu| is_its && mtu.value < limits::MTU_V6) {
        let message = format!("there is no `{key}` where the MTU is too small for IPv6");
        let hint = format!("write an mtu of at least {}, or leave the setting out", limits::MTU_V6);
        sink.add(&sysctl.span, message, hint).also(&mtu.span, "the MTU");
    }
}

/// The kernel removes IPv6 and its addresses from an interface whose MTU is below the IPv6 minimum.
pub(super) fn check_mtu(mtu: Option<&At<u32>>, addresses: &[At<IpNet>], sink: &mut Sink) {
    let Some(mtu) = mtu.filter(|mtu| mtu.value < limits::MTU_V6) else { return };
    if let Some(address) = addresses.iter().find(|address| address.value.addr().is_ipv6()) {
        let message = format!("an MTU of {} bytes is too small for IPv6", mtu.value);
        let hint = format!("write at least {}, or leave the IPv6 addresses out", limits::MTU_V6);
        sink.add(&mtu.span, message, hint).also(&address.span, "an IPv6 address");
    }
}
