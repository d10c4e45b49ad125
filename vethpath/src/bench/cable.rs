//! The baseline: one veth pair between two private namespaces, both removed at the end of the run.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Error, site::Site};
use crate::{
    kernel::{self, Netns, Rtnl, VethEnd},
    topology::{IfName, Mac},
};

/// Locally administered. They cannot collide: the namespaces contain no other device.
const MACS: [[u8; 6]; 2] = [[0x02, 0x76, 0x70, 0, 0, 1], [0x02, 0x76, 0x70, 0, 0, 2]];

/// Documentation addresses (RFC 5737, RFC 3849). They cannot conflict with another address here.
const IPV4: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const IPV6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)];

/// Creates the veth pair with addresses of the family of `like` and the given MTU in bytes. Its namespaces have no
/// names; the kernel removes them when their threads end.
///
/// # Errors
/// The kernel refuses.
pub async fn create(like: IpAddr, mtu: Option<u32>) -> Result<Site, Error> {
    let names = ["one end of a cable", "the other end of a cable"];
    let [a, b] = names.map(Netns::create);
    let (a, b) = (a?, b?);
    let interface = interface()?;
    let end = |mac| Ok::<_, Error>(VethEnd { name: &interface, mac: unicast(mac)?, bridge: None });
    let here = Rtnl::open(&a)?;
    here.create_veth(end(MACS[0])?, end(MACS[1])?, &b, mtu).await?;
    let addresses = addresses(like);
    for (rtnl, address) in [here, Rtnl::open(&b)?].into_iter().zip(addresses) {
        let link = rtnl.expect_link(&interface).await?;
        rtnl.add_address(link.ifindex, address).await?;
        rtnl.set_up(link.ifindex, &interface).await?;
    }
    Ok(Site::new([(a, addresses[0].addr()), (b, addresses[1].addr())]))
}

fn addresses(like: IpAddr) -> [IpNet; 2] {
    let net = |address: IpAddr, length| {
        // Both prefix lengths are valid for their families.
        IpNet::new(address, length).unwrap_or_else(|_| address.into())
    };
    match like {
        IpAddr::V4(_) => IPV4.map(|ip| net(ip.into(), 24)),
        IpAddr::V6(_) => IPV6.map(|ip| net(ip.into(), 64)),
    }
}

fn interface() -> Result<IfName, Error> {
    "eth0".parse().map_err(|error: crate::topology::NameError| invalid("eth0", &error))
}

fn unicast(mac: [u8; 6]) -> Result<Mac, Error> {
    Mac::unicast(mac).map_err(|error| invalid("a cable's MAC", &error))
}

fn invalid(what: &str, error: &crate::topology::NameError) -> Error {
    kernel::Error::new("use", what, std::io::Error::other(error.to_string())).into()
}
