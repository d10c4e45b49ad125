//! Addresses of interfaces.

use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage},
};

use super::{Result, Rtnl, error::Context, rtnl::dump};

impl Rtnl {
    /// Adds an address. IPv6 addresses are usable at once: duplicate address detection is off (`IFA_F_NODAD`), since
    /// the lab knows its addresses. An address that exists already is no error.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn add_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut request = self.handle.address().add(ifindex, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            request.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match request.execute().await.doing("add address", address) {
            Err(error) if error.is_present() => Ok(()),
            other => other,
        }
    }

    /// Removes an address. An address that does not exist is no error. IPv4 addresses of the same subnet that were
    /// added after it may be removed too (`promote_secondaries`).
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_address(&self, ifindex: u32, address: IpNet) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = match address {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        (message.header.prefix_len, message.header.index) = (address.prefix_len(), ifindex);
        message.attributes.push(AddressAttribute::Local(address.addr()));
        match self.handle.address().del(message).execute().await.doing("remove address", address) {
            Err(error) if error.is_missing() || error.is_unassigned() => Ok(()),
            other => other,
        }
    }

    /// All addresses in the namespace, each with the ifindex of its interface.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet)>> {
        let messages: Vec<_> =
            dump(self.handle.address().get().execute()).await.doing("list addresses of", self.netns())?;
        let parse = |message: AddressMessage| {
            let of = |wanted: fn(&AddressAttribute) -> Option<std::net::IpAddr>| {
                message.attributes.iter().find_map(wanted)
            };
            // IFA_LOCAL is the interface's own address. On point-to-point links IFA_ADDRESS is the peer's.
            let local = of(|a| if let AddressAttribute::Local(ip) = a { Some(*ip) } else { None });
            let address = of(|a| if let AddressAttribute::Address(ip) = a { Some(*ip) } else { None });
            let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
            Some((message.header.index, net))
        };
        Ok(messages.into_iter().filter_map(parse).collect())
    }
}
