//! What XDP needs of devices: ports that take redirected frames, and inner ends that receive them and send
//! frames that are whole.
//!
//! Mirrors drivers/net/veth.c. A frame that is redirected to a port is put into a ring of its inner end,
//! which there is while the inner end has GRO on or an XDP program (`veth_xdp_xmit`); the driver says so
//! in the port's XDP features (`veth_set_xdp_features`, since Linux 6.3). It does not say so anew where GRO was
//! switched while the inner end was down: what it says must be true, and what is true it must say
//! ("veth: fix peer NETDEV_XDP_ACT_NDO_XMIT after GRO is toggled while down").

use std::collections::{BTreeMap, BTreeSet};

use netlink_sys::{Socket, protocols::NETLINK_GENERIC};

use super::{
    Error, Netns, Result, blocking,
    exchange::{Attributes, ExchangeError, dump},
    features::{self, Features},
    generic::{self, attributes},
};

/// Name of the generic netlink family.
pub const FAMILY: &str = "netdev";

/// `NETDEV_CMD_DEV_GET` and two of its attributes (linux/netdev.h).
const DEVICE_GET: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;

/// `NETDEV_XDP_ACT_NDO_XMIT` and `NETDEV_XDP_ACT_NDO_XMIT_SG`: takes redirected frames, in several buffers
/// too.
const TAKES_FRAMES: u64 = 1 << 2 | 1 << 6;

/// For which the driver takes redirected frames in.
pub const GRO: &str = "rx-gro";

/// What an inner end must have on and off. With its checksum offload a sender leaves the checksum to be
/// made later, and with its VLAN offload the tag beside the frame: an XDP program sees neither, and a
/// redirect keeps neither.
const NEEDED: [(&str, bool); 5] = [
    (GRO, true),
    ("tx-checksum-ip-generic", false),
    ("tx-checksum-sctp", false),
    ("tx-vlan-hw-insert", false),
    ("tx-vlan-stag-hw-insert", false),
];

/// Whether the kernel tells the XDP features of devices, without which nobody knows which ports take frames.
/// Kernels that do have a veth driver without the faults of those before: a redirect used memory that was
/// freed already ("veth: Fix use after free in XDP_REDIRECT"), AF_XDP sockets got descriptors that were stale.
///
/// # Errors
/// It does not, or it cannot be asked.
pub fn is_known() -> std::result::Result<(), ExchangeError> {
    let socket = Socket::new(NETLINK_GENERIC).map_err(ExchangeError::Send)?;
    generic::family(&socket, FAMILY).map(drop)
}

/// The ifindexes, in the socket's namespace, of devices that take redirected frames. `family` is the
/// number of [`FAMILY`].
///
/// # Errors
/// The kernel refuses, or its answer cannot be read.
pub fn takers(socket: &Socket, family: u16) -> std::result::Result<BTreeSet<u32>, ExchangeError> {
    let payload = Attributes::default().behind(&[DEVICE_GET, 1, 0, 0]);
    let mut takers = BTreeSet::new();
    for answer in dump(socket, family, &payload)? {
        takers.extend(taker(&answer)?);
    }
    Ok(takers)
}

/// The device of one answer, if it takes redirected frames.
pub(crate) fn taker(answer: &[u8]) -> std::result::Result<Option<u32>, ExchangeError> {
    let (mut ifindex, mut features) = (None, 0);
    for attribute in attributes(answer) {
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

/// The same of devices in `netns`.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn takers_in(netns: &Netns) -> Result<BTreeSet<u32>> {
    let socket = blocking(netns, NETLINK_GENERIC)?;
    let asked = generic::family(&socket, FAMILY).and_then(|family| takers(&socket, family));
    asked.map_err(|error| refused("read XDP features in", netns, error))
}

/// What an inner end is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// It has GRO on: while it is up, the driver takes in what is redirected to it.
    pub gro: bool,
    /// What it sends is whole.
    pub whole: bool,
}

/// What each device in a namespace is ready for, by ifindex.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn ready(netns: &Netns) -> Result<BTreeMap<u32, Ready>> {
    let (_, _, devices) = devices(netns)?;
    let ready = |device: &Features| Ready {
        gro: device.active.contains(GRO),
        whole: NEEDED.iter().all(|(name, on)| *on || !device.active.contains(*name)),
    };
    Ok(devices.iter().map(|device| (device.ifindex, ready(device))).collect())
}

/// Switches GRO of the inner end `ifindex` off and on again, so that the driver says what its port takes.
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn renew(netns: &Netns, ifindex: u32) -> Result<()> {
    [false, true].iter().try_for_each(|on| switch(netns, ifindex, &[(GRO.to_owned(), *on)]))
}

/// By ifindex, what is to be switched at inner ends in a namespace so that XDP reaches them, each as it is
/// now. Devices that are ready are left out.
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
///
/// # Errors
/// The namespace cannot be entered, or the kernel refuses.
pub fn switch(netns: &Netns, ifindex: u32, features: &[(String, bool)]) -> Result<()> {
    let (socket, family) = ethtool(netns)?;
    features::switch(&socket, family, ifindex, features)
        .map_err(|error| refused("switch features in", netns, error))
}

fn devices(netns: &Netns) -> Result<(Socket, u16, Vec<Features>)> {
    let (socket, family) = ethtool(netns)?;
    let devices =
        features::all(&socket, family).map_err(|error| refused("read features in", netns, error))?;
    Ok((socket, family, devices))
}

fn ethtool(netns: &Netns) -> Result<(Socket, u16)> {
    let socket = blocking(netns, NETLINK_GENERIC)?;
    let family = generic::family(&socket, features::FAMILY)
        .map_err(|error| refused("find ethtool's netlink family in", netns, error))?;
    Ok((socket, family))
}

fn refused(operation: &'static str, netns: &Netns, error: ExchangeError) -> Error {
    let source = error
        .errno()
        .map_or_else(|| std::io::Error::other(error.to_string()), std::io::Error::from_raw_os_error);
    Error::new(operation, netns.to_string(), source)
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
            assert_eq!(is_ready(), Ready { gro: true, whole: true });
            assert_eq!(unready(), None);
            switch(&here, inner, &before).unwrap();
            assert_eq!(unready(), Some(before));
            assert!(!takers(&socket, family).unwrap().contains(&port));
            // What is switched while it is down, the driver may not notice.
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
