//! What XDP needs of devices: ports that accept redirected frames, and inner ends that receive them and send
//! complete frames.
//!
//! Mirrors drivers/net/veth.c. A frame that is redirected to a port is put into a ring of its inner end. The ring
//! exists while the inner end has GRO on or an XDP program (`veth_xdp_xmit`). The driver reports it in the XDP
//! features of the port (`veth_set_xdp_features`, since Linux 6.3). That feature flag becomes stale if GRO is
//! switched while the inner end is down ("veth: fix peer NETDEV_XDP_ACT_NDO_XMIT after GRO is toggled while down").
//! Both must therefore hold: GRO on the inner end, and the flag on the port.

use std::collections::{BTreeMap, BTreeSet};

use netlink_sys::{Socket, protocols::NETLINK_GENERIC};

use super::{
    Context, Netns, Result, blocking,
    ethtool::{self, Features},
    netlink::{Attributes, NetlinkError, dump, generic},
};

/// Name of the generic netlink family.
/// Minimum kernel: Linux 6.3 (XDP features in the `netdev` family).
pub const FAMILY: &str = "netdev";

/// `NETDEV_CMD_DEV_GET` and two of its attributes (linux/netdev.h).
const DEVICE_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;

/// `NETDEV_XDP_ACT_NDO_XMIT` and `NETDEV_XDP_ACT_NDO_XMIT_SG`: the device accepts redirected frames, also those in
/// several buffers.
const TAKES_FRAMES: u64 = 1 << 2 | 1 << 6;

/// The feature with which the driver accepts redirected frames.
pub const GRO: &str = "rx-gro";

/// Features that an inner end must have on or off. With checksum offload, a sender leaves the checksum to be
/// computed later. With VLAN offload, the tag is in metadata beside the frame. An XDP program sees neither, and a
/// redirect keeps neither.
const NEEDED: [(&str, bool); 5] = [
    (GRO, true),
    ("tx-checksum-ip-generic", false),
    ("tx-checksum-sctp", false),
    ("tx-vlan-hw-insert", false),
    ("tx-vlan-stag-hw-insert", false),
];

/// Checks that the kernel reports the XDP features of devices. Without them it is unknown which ports accept
/// redirected frames. Kernels that report them also lack two bugs of earlier veth drivers: a redirect used freed
/// memory ("veth: Fix use after free in XDP_REDIRECT"), and AF_XDP sockets got stale descriptors.
/// Minimum kernel: Linux 6.3 (XDP features in the `netdev` family); an error before.
///
/// # Errors
/// The kernel does not report them, or the request fails.
pub fn is_known() -> std::result::Result<(), NetlinkError> {
    let socket = Socket::new(NETLINK_GENERIC).map_err(NetlinkError::Send)?;
    generic::family(&socket, FAMILY).map(drop)
}

/// The ifindexes of devices in the socket's namespace that accept redirected frames. `family` is the number of
/// [`FAMILY`].
/// Minimum kernel: Linux 6.3 (XDP features in the `netdev` family).
///
/// # Errors
/// The kernel refuses the dump, or its reply is malformed.
pub fn takers(socket: &Socket, family: u16) -> std::result::Result<BTreeSet<u32>, NetlinkError> {
    let payload = Attributes::default().behind(&[DEVICE_GET, 1, 0, 0]);
    let mut takers = BTreeSet::new();
    for reply in dump(socket, family, &payload)? {
        takers.extend(taker(&reply)?);
    }
    Ok(takers)
}

/// The device of one reply, if it accepts redirected frames.
pub(crate) fn taker(reply: &[u8]) -> std::result::Result<Option<u32>, NetlinkError> {
    let (mut ifindex, mut features) = (None, 0);
    for attribute in generic::attributes(reply) {
        let attribute = attribute?;
        match attribute.kind() {
            IFINDEX => ifindex = attribute.value().first_chunk::<4>().map(|index| u32::from_ne_bytes(*index)),
            XDP_FEATURES => {
                features = attribute.value().first_chunk::<8>().map_or(0, |bits| u64::from_ne_bytes(*bits));
            }
            _ => {}
        }
    }
    Ok(ifindex.filter(|_| features & TAKES_FRAMES == TAKES_FRAMES))
}

/// As [`takers`], for devices in `netns`.
/// Minimum kernel: Linux 6.3 (XDP features in the `netdev` family).
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn takers_in(netns: &Netns) -> Result<BTreeSet<u32>> {
    let socket = blocking(netns, NETLINK_GENERIC)?;
    let found = generic::family(&socket, FAMILY).and_then(|family| takers(&socket, family));
    found.doing("read XDP features in", netns)
}

/// What an inner end is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// It has GRO on, so that the driver accepts frames redirected to it while it is up.
    pub gro: bool,
    /// Checksum and VLAN offload are off, so that its frames are complete.
    pub complete: bool,
}

/// What each device in a namespace is ready for, by ifindex.
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_GET`).
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn ready(netns: &Netns) -> Result<BTreeMap<u32, Ready>> {
    let (_, _, devices) = devices(netns)?;
    let ready = |device: &Features| Ready {
        gro: device.active.contains(GRO),
        complete: NEEDED.iter().all(|(name, on)| *on || !device.active.contains(*name)),
    };
    Ok(devices.iter().map(|device| (device.ifindex, ready(device))).collect())
}

/// Switches GRO of the inner end `ifindex` off and on again, so that the driver updates the feature flag of its port.
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_SET`).
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn renew(netns: &Netns, ifindex: u32) -> Result<()> {
    [false, true].iter().try_for_each(|on| switch(netns, ifindex, &[(GRO.to_owned(), *on)]))
}

/// By ifindex, the features of inner ends in a namespace that must be switched for XDP, each with its current value.
/// Devices that are ready are left out.
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_GET`).
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn unready(netns: &Netns) -> Result<BTreeMap<u32, Vec<(String, bool)>>> {
    let (_, _, devices) = devices(netns)?;
    let of_device = |device: Features| {
        let differs = |(name, on): &&(&str, bool)| {
            device.changeable.contains(*name) && device.wanted.contains(*name) != *on
        };
        let unready: Vec<_> =
            NEEDED.iter().filter(differs).map(|(name, on)| ((*name).to_owned(), !on)).collect();
        (!unready.is_empty()).then_some((device.ifindex, unready))
    };
    Ok(devices.into_iter().filter_map(of_device).collect())
}

/// Switches features of the inner end `ifindex`.
/// Minimum kernel: Linux 5.7 (`ETHTOOL_MSG_FEATURES_SET`).
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn switch(netns: &Netns, ifindex: u32, features: &[(String, bool)]) -> Result<()> {
    let (socket, family) = open_ethtool(netns)?;
    ethtool::switch(&socket, family, ifindex, features).doing("switch features in", netns)
}

fn devices(netns: &Netns) -> Result<(Socket, u16, Vec<Features>)> {
    let (socket, family) = open_ethtool(netns)?;
    let devices = ethtool::features(&socket, family).doing("read features in", netns)?;
    Ok((socket, family, devices))
}

fn open_ethtool(netns: &Netns) -> Result<(Socket, u16)> {
    let socket = blocking(netns, NETLINK_GENERIC)?;
    let family =
        generic::family(&socket, ethtool::FAMILY).doing("find ethtool's netlink family in", netns)?;
    Ok((socket, family))
}

#[cfg(test)]
mod tests {
    use nix::net::if_::if_nametoindex;

    use super::*;
    use crate::kernel::sandbox::{in_new_namespace, run};

    #[test]
    fn a_port_takes_frames_while_its_inner_end_is_ready() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "port", "type", "veth", "peer", "name", "inner"]);
            for end in ["port", "inner"] {
                let _ = run("ip", &["link", "set", end, "up"]);
            }
            let here = Netns::current().unwrap();
            let [port, inner] = ["port", "inner"].map(|name| if_nametoindex(name).unwrap());
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, FAMILY).unwrap();
            assert!(!takers(&socket, family).unwrap().contains(&port));
            let is_ready = || ready(&here).unwrap()[&inner];
            assert_eq!(is_ready(), Ready::default());
            let unready = || unready(&here).unwrap().remove(&inner);
            let before = unready().unwrap();
            assert_eq!(before.len(), NEEDED.len());
            let wanted: Vec<_> = before.iter().map(|(name, on)| (name.clone(), !on)).collect();
            switch(&here, inner, &wanted).unwrap();
            assert!(takers(&socket, family).unwrap().contains(&port));
            assert_eq!(is_ready(), Ready { gro: true, complete: true });
            assert_eq!(unready(), None);
            switch(&here, inner, &before).unwrap();
            assert_eq!(unready(), Some(before));
            assert!(!takers(&socket, family).unwrap().contains(&port));
            // The driver may not notice a switch while the device is down.
            for on in ["off", "on"] {
                let _ = run("ip", &["link", "set", "inner", "down"]);
                let _ = run("ethtool", &["-K", "inner", "gro", on]);
                let _ = run("ip", &["link", "set", "inner", "up"]);
                assert_eq!(is_ready().gro, on == "on");
            }
            renew(&here, inner).unwrap();
            assert!(is_ready().gro && takers_in(&here).unwrap().contains(&port));
        });
    }
}
