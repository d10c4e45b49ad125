//! Devices with several transmit queues (`ethtool -L`).
//!
//! A frame is received in the queue at the other end of a veth that it was sent from, if that end has as many queues
//! (`veth_xmit` in drivers/net/veth.c). With several queues, XPS or a hash selects one for each frame (`netdev_pick_tx`
//! in net/core/dev.c).

use std::collections::BTreeSet;

use netlink_sys::Socket;

use super::{
    exchange::{Attributes, ExchangeError, dump},
    features::device,
    generic::attributes,
};

/// `ETHTOOL_MSG_CHANNELS_GET` (Linux 5.7) and attributes (linux/ethtool_netlink_generated.h).
const GET: u8 = 17;
const HEADER: u16 = 1;
const TX_COUNT: u16 = 7;
const COMBINED_COUNT: u16 = 9;

/// The ifindexes, in the socket's namespace, of devices that have several transmit queues in use. `family` is the
/// number of [`features::FAMILY`](super::features::FAMILY).
///
/// # Errors
/// The kernel refuses, or its reply cannot be parsed.
pub fn multiqueue(socket: &Socket, family: u16) -> Result<BTreeSet<u32>, ExchangeError> {
    let payload = Attributes::default().nested(HEADER, &Attributes::default()).behind(&[GET, 1, 0, 0]);
    let mut found = BTreeSet::new();
    for answer in dump(socket, family, &payload)? {
        let (ifindex, queues) = parse(&answer)?;
        if queues > 1 {
            found.insert(ifindex);
        }
    }
    Ok(found)
}

/// The ifindex in one reply, and the number of transmit queues in use.
pub(crate) fn parse(answer: &[u8]) -> Result<(u32, u32), ExchangeError> {
    let (mut ifindex, mut queues) = (0, 0_u32);
    for attribute in attributes(answer) {
        let attribute = attribute?;
        match attribute.kind() {
            HEADER => ifindex = device(&attribute)?,
            TX_COUNT | COMBINED_COUNT => {
                let count = attribute.value().first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
                queues = queues.saturating_add(count);
            }
            _ => {}
        }
    }
    Ok((ifindex, queues))
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_GENERIC;

    use super::*;
    use crate::kernel::{
        features::FAMILY,
        generic,
        sandbox::{in_new_namespace, run},
    };

    #[test]
    fn transmit_queues_that_ethtool_adds_are_seen() {
        in_new_namespace(|| {
            let add = "link add name va numtxqueues 4 type veth peer name vb";
            let _ = run("ip", &add.split(' ').collect::<Vec<_>>());
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, FAMILY).unwrap();
            let index = nix::net::if_::if_nametoindex("va").unwrap();
            for (count, several) in [("1", false), ("3", true), ("1", false)] {
                let _ = run("ethtool", &["-L", "va", "tx", count]);
                let found = multiqueue(&socket, family).unwrap();
                assert_eq!(found.contains(&index), several, "{count}: {found:?}");
            }
        });
    }
}
