//! Whether the demo's addresses are free on this host.

use std::{fmt, net::Ipv4Addr};

use nix::ifaddrs::getifaddrs;

use crate::error::Error;

/// An IPv4 subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    address: Ipv4Addr,
    mask: u32,
}

impl Subnet {
    /// The subnet of `length` bits around an address.
    pub(super) const fn new([a, b, c, d]: [u8; 4], length: u32) -> Self {
        let mask = if length == 0 { 0 } else { u32::MAX << (32 - length) };
        Self { address: Ipv4Addr::new(a, b, c, d), mask }
    }

    /// The subnet of an address and its netmask.
    const fn masked(address: Ipv4Addr, mask: Ipv4Addr) -> Self {
        Self { address, mask: mask.to_bits() }
    }

    /// Whether any address is in both.
    const fn overlaps(self, other: Self) -> bool {
        let mask = self.mask & other.mask;
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.mask.count_ones())
    }
}

/// Fails if a device of this host, `own` apart, has an address whose subnet overlaps `wanted`.
pub(super) fn check_free(wanted: Subnet, own: &str) -> Result<(), Error> {
    let addresses =
        getifaddrs().map_err(|source| Error::System { operation: "read this host's addresses", source })?;
    for one in addresses.filter(|one| one.interface_name != own) {
        let ip = |address: &Option<nix::sys::socket::SockaddrStorage>| {
            address.as_ref().and_then(|address| address.as_sockaddr_in()).map(|address| address.ip())
        };
        let (Some(address), Some(mask)) = (ip(&one.address), ip(&one.netmask)) else { continue };
        let theirs = Subnet::masked(address, mask);
        if theirs.overlaps(wanted) {
            let (subnet, address) = (wanted.to_string(), theirs.to_string());
            return Err(Error::SubnetInUse { subnet, interface: one.interface_name, address });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: Subnet = Subnet::new([10, 211, 7, 0], 24);

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        assert!(DEMO.overlaps(Subnet::new([10, 211, 7, 200], 32)));
        assert!(DEMO.overlaps(Subnet::new([10, 1, 2, 3], 8)));
        assert!(DEMO.overlaps(Subnet::new([0, 0, 0, 0], 0)));
        assert!(!DEMO.overlaps(Subnet::new([10, 211, 8, 1], 24)));
        assert!(!DEMO.overlaps(Subnet::new([172, 17, 0, 1], 16)));
    }

    #[test]
    fn a_netmask_is_shown_as_a_length() {
        let subnet = Subnet::masked(Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(255, 255, 240, 0));
        assert_eq!(subnet.to_string(), "10.1.2.3/20");
        assert!(subnet.overlaps(Subnet::new([10, 1, 15, 9], 32)));
    }

    #[test]
    fn loopback_is_always_in_use() {
        let taken = check_free(Subnet::new([127, 0, 0, 0], 8), "no-such-device");
        assert!(matches!(taken, Err(Error::SubnetInUse { .. })));
        assert!(check_free(Subnet::new([240, 1, 2, 0], 24), "lo").is_ok());
    }
}
