//! Addresses with prefix length, and the checks for use on an interface.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    fault::Sink,
    keys::AN_ADDRESS,
    read::{At, List, Table},
};

/// The array under the key `addresses`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> List<IpNet> {
    let written = table.strings("addresses", sink);
    let mut list = List { items: Vec::new(), is_complete: written.is_complete };
    for text in written.items {
        match host(text.value) {
            Ok(address) => list.items.push(text.with(address)),
            Err((message, hint)) => {
                list.is_complete = false;
                sink.add(&text.span, message, hint);
            }
        }
    }
    list
}

/// Parses a route destination: a subnet without host bits.
pub(super) fn destination(text: &At<&str>, sink: &mut Sink) -> Option<At<IpNet>> {
    let subnet = match subnet(text.value) {
        Ok(subnet) => subnet,
        Err((message, hint)) => {
            sink.add(&text.span, message, hint);
            return None;
        }
    };
    if subnet.addr() != subnet.network() {
        let message = format!("`{subnet}` has host bits: it is an address in a subnet, not the subnet");
        sink.add(&text.span, message, format!("write \"{}\"", subnet.trunc()));
        return None;
    }
    Some(text.with(subnet))
}

/// The message and the hint for an address that cannot be used.
type Refusal = (String, String);

fn subnet(text: &str) -> Result<IpNet, Refusal> {
    if let Ok(subnet) = text.parse() {
        return Ok(subnet);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        let usual = if address.is_ipv4() { 24 } else { 64 };
        let hint = format!("write how long the subnet's prefix is: \"{address}/{usual}\"");
        return Err((format!("`{text}` has no prefix length"), hint));
    }
    if let Some((Ok(address), length)) =
        text.split_once('/').map(|(address, length)| (address.parse::<IpAddr>(), length))
    {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let message = format!("`{text}` has no usable prefix length: `{length}`");
        return Err((message, format!("write an integer from 0 to {most} after the `/`")));
    }
    let hint = format!("write an IPv4 or IPv6 address and a prefix length: {AN_ADDRESS}");
    Err((format!("`{text}` is not an IP address"), hint))
}

/// Parses an address that an interface can have.
fn host(text: &str) -> Result<IpNet, Refusal> {
    let net = subnet(text)?;
    let address = net.addr();
    if let Err((what, hint)) = assignable(address) {
        return Err((format!("`{text}` cannot be an interface's address: it is {what}"), hint));
    }
    if net.prefix_len() == 0 {
        let usual = if address.is_ipv4() { 24 } else { 64 };
        let message = format!("`{text}` puts every address there is on one link");
        return Err((message, format!("write \"{address}/{usual}\"")));
    }
    // A /31 or /32 (IPv6: /127 or /128) has no network or broadcast address (RFC 3021, RFC 6164).
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return Ok(net);
    }
    let hint = || match net.hosts().next() {
        Some(first) if first != net.network() => {
            format!("the first host of the subnet is \"{}/{}\"", first, net.prefix_len())
        }
        _ => format!("give it a host part, such as \"{}1/{}\"", net.network(), net.prefix_len()),
    };
    if address == net.network() {
        return Err((format!("`{text}` is the address of the subnet, not of a host in it"), hint()));
    }
    if address.is_ipv4() && address == net.broadcast() {
        return Err((format!("`{text}` is the broadcast address of its subnet"), hint()));
    }
    Ok(net)
}

/// False for the network and the broadcast address of an IPv4 subnet.
pub(super) fn is_host(subnet: &IpNet, address: IpAddr) -> bool {
    let small = subnet.max_prefix_len() - subnet.prefix_len() < 2;
    address.is_ipv6() || small || (address != subnet.network() && address != subnet.broadcast())
}

/// Checks that an interface can have this address. The error is what the address is, and a hint.
pub(super) fn assignable(address: IpAddr) -> Result<(), Refusal> {
    let what = if address.is_unspecified() {
        "the unspecified address"
    } else if address.is_loopback() {
        "a loopback address"
    } else if address.is_multicast() {
        "a multicast address"
    } else {
        match address {
            IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => {
                    let hint = format!("write the IPv4 address: {v4}");
                    return Err(("an IPv4-mapped address".into(), hint));
                }
                None => return Ok(()),
            },
            IpAddr::V4(_) => return Ok(()),
        }
    };
    let private = if address.is_ipv4() { "10.0.0.1" } else { "fd00::1" };
    Err((what.to_owned(), format!("use the unicast address of a host, such as {private}")))
}
