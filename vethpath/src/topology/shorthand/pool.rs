//! Assigns addresses of a subnet in order.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::super::{
    addresses,
    fault::Sink,
    read::{At, Table},
};

/// The subnets of the key `subnet`: at most one of each family.
pub(super) fn subnets(table: &Table<'_>, sink: &mut Sink) -> Vec<At<IpNet>> {
    let mut subnets: Vec<At<IpNet>> = Vec::new();
    for text in table.one_or_two("subnet", sink) {
        let Some(subnet) = addresses::destination(&text, sink) else { continue };
        if subnet.value.prefix_len() == 0 {
            let message = format!("`{}` is every address there is", subnet.value);
            sink.add(&subnet.span, message, format!("write a subnet: {}", table.example("subnet")));
        } else if let Some(first) =
            subnets.iter().find(|first| is_same_family(first.value.addr(), subnet.value.addr()))
        {
            sink.add(&subnet.span, "a second subnet of one family", "write one for IPv4 and one for IPv6")
                .also(&first.span, "the first");
        } else {
            subnets.push(subnet);
        }
    }
    subnets
}

pub(super) fn is_same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

/// The first `count` unused host addresses of a subnet, starting at `first`. Fewer if the subnet is exhausted.
pub(super) fn hosts(
    subnet: IpNet,
    first: Option<IpAddr>,
    taken: &HashSet<IpAddr>,
    count: usize,
) -> Vec<IpNet> {
    let (lowest, highest) = (to_integer(subnet.network()), to_integer(subnet.broadcast()));
    let small = subnet.max_prefix_len() - subnet.prefix_len() < 2;
    // IPv6 has no broadcast address. Its lowest address is the subnet-router anycast address.
    let start = if small { lowest } else { lowest + 1 };
    let end = if small || subnet.addr().is_ipv6() { highest } else { highest - 1 };
    let address = |number: u128| match subnet {
        // An IPv4 address has only 32 bits.
        IpNet::V4(_) => u32::try_from(number).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))).ok(),
        IpNet::V6(_) => Some(IpAddr::V6(Ipv6Addr::from_bits(number))),
    };
    (first.map_or(start, to_integer).max(start)..=end)
        .take(count + taken.len())
        .filter_map(address)
        .filter(|address| !taken.contains(address))
        .take_while(|&address| addresses::assignable(address).is_ok())
        .take(count)
        .filter_map(|address| IpNet::new(address, subnet.prefix_len()).ok())
        .collect()
}

/// The two addresses of cable number `n` in a pool that is divided into subnets of two addresses (RFC 3021,
/// RFC 6164).
pub(super) fn cable(pool: IpNet, n: usize) -> Option<[IpNet; 2]> {
    let length = pool.max_prefix_len() - 1;
    let low = to_integer(pool.network()).checked_add(u128::try_from(n).ok()?.checked_mul(2)?)?;
    let high = low.checked_add(1)?;
    if pool.prefix_len() > length || high > to_integer(pool.broadcast()) {
        return None;
    }
    let end = |number: u128| {
        let address = match pool {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).ok()?)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
        };
        addresses::assignable(address).ok()?;
        IpNet::new(address, length).ok()
    };
    Some([end(low)?, end(high)?])
}

fn to_integer(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Reports that a subnet is too small.
pub(super) fn too_small(subnet: &At<IpNet>, room: usize, what: &str, wanted: usize, sink: &mut Sink) {
    let message = format!("{} has room for {room} {what}, and {wanted} are wanted", subnet.value);
    sink.add(&subnet.span, message, "write a larger subnet, that is a shorter prefix").label("too small");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts_of(subnet: &str, taken: &[&str], count: usize) -> Vec<String> {
        let taken = taken.iter().map(|text| text.parse().expect("an address")).collect();
        hosts(subnet.parse().expect("a subnet"), None, &taken, count)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn hosts_come_in_order_without_those_that_are_taken_and_the_subnets_own() {
        assert_eq!(
            hosts_of("10.0.0.0/29", &["10.0.0.1", "10.0.0.3"], 9),
            ["10.0.0.2/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29"]
        );
        assert_eq!(hosts_of("10.0.0.0/31", &[], 9), ["10.0.0.0/31", "10.0.0.1/31"]);
        assert_eq!(hosts_of("fd00::/127", &[], 1), ["fd00::/127"]);
        assert_eq!(hosts_of("fd00::/64", &["fd00::1"], 2), ["fd00::2/64", "fd00::3/64"]);
        assert_eq!(hosts_of("127.0.0.0/8", &[], 2), Vec::<String>::new());
        assert_eq!(hosts_of("223.255.255.0/3", &[], 0), Vec::<String>::new());
    }

    #[test]
    fn the_last_address_there_is_does_not_wrap_around() {
        assert_eq!(hosts_of("ffff:ffff::/127", &[], 9), Vec::<String>::new());
        assert_eq!(hosts_of("fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", &[], 9).len(), 2);
        assert_eq!(cable("255.255.255.254/31".parse().expect("a subnet"), 0), None);
    }

    #[test]
    fn a_pool_is_cut_into_cables() {
        let pool: IpNet = "10.0.0.0/30".parse().expect("a subnet");
        let shown = |n| cable(pool, n).map(|ends| ends.map(|end| end.to_string()));
        assert_eq!(shown(1), Some(["10.0.0.2/31".to_owned(), "10.0.0.3/31".to_owned()]));
        assert_eq!(shown(2), None);
        assert_eq!(cable(pool, usize::MAX), None);
        assert_eq!(cable("10.0.0.1/32".parse().expect("an address"), 0), None);
    }
}
