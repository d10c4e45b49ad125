//! Whether a namespace forwards packets.

use super::net::{Net, Station, is_link_local};
use crate::topology::{Place, Sysctl};

/// Whether packets that arrive at `ingress` for another host are forwarded, as far as the file determines it.
pub(super) fn forwards(net: &Net<'_>, ingress: &Station<'_>, is_v4: bool) -> bool {
    let place = ingress.place;
    let Some(namespace) = net.known(place) else { return true };
    let of_interfaces = net.own(place).filter_map(|station| station.interface).flat_map(|own| &own.sysctls);
    let mut settings = namespace.sysctls.iter().chain(of_interfaces);
    settings.any(|setting| lets_on(&setting.value, ingress.name.as_str(), is_v4)) || by_nat(net, place, is_v4)
}

/// IPv4 checks the ingress device (`IN_DEV_FORWARD`). IPv6 checks the namespace, and since recently the device too
/// (`force_forwarding`).
fn lets_on(setting: &Sysctl, ingress: &str, is_v4: bool) -> bool {
    let path: Vec<&str> = setting.key.path().iter().map(String::as_str).collect();
    let about_it = |device: &str| [ingress, "all", "default"].contains(&device);
    let is_it = match path[..] {
        ["net", "ipv4", "ip_forward"] => is_v4,
        ["net", "ipv4", "conf", device, "forwarding"] => is_v4 && about_it(device),
        ["net", "ipv6", "conf", "all", "forwarding"] => !is_v4,
        ["net", "ipv6", "conf", device, "force_forwarding"] => !is_v4 && about_it(device),
        _ => false,
    };
    is_it && setting.value.trim() != "0"
}

/// `nat` on a bridge enables forwarding in its namespace, for the address families of its subnets.
fn by_nat(net: &Net<'_>, place: &Place, is_v4: bool) -> bool {
    let bridges = net.declared.bridges.iter().filter(|bridge| bridge.nat && &bridge.place.value == place);
    bridges
        .flat_map(|bridge| &bridge.addresses.items)
        .any(|at| at.value.addr().is_ipv4() == is_v4 && !is_link_local(at.value.addr()))
}
