//! Devices whose transmit offloads are switched off (`ethtool -K PORT tx off`).
//!
//! A frame that the bridge sends out of such a port is checksummed or segmented by `validate_xmit_skb`
//! (net/core/dev.c). A frame that is redirected past the port is not.

use std::collections::BTreeSet;

use netlink_sys::Socket;

use super::{
    exchange::ExchangeError,
    features::{self, Features},
};

/// The one transmit feature that is off by default. It changes no frame.
const OFF_BY_DEFAULT: &str = "tx-nocache-copy";

/// The ifindexes of devices in the socket's namespace on which a changeable transmit offload is off. `family` is
/// the number of [`features::FAMILY`].
///
/// # Errors
/// The kernel refuses the request, or its reply is malformed.
pub fn reduced(socket: &Socket, family: u16) -> Result<BTreeSet<u32>, ExchangeError> {
    let devices = features::all(socket, family)?;
    Ok(devices.iter().filter(|device| are_reduced(device)).map(|device| device.ifindex).collect())
}

fn are_reduced(device: &Features) -> bool {
    let is_off =
        |name: &String| name.starts_with("tx-") && name != OFF_BY_DEFAULT && !device.active.contains(name);
    device.changeable.iter().any(is_off)
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::NETLINK_GENERIC;

    use super::*;
    use crate::kernel::{
        generic,
        sandbox::{in_new_namespace, run},
    };

    fn ethtool(arguments: &[&str]) {
        let _ = run("ethtool", &[&["-K", "va"], arguments].concat());
    }

    #[test]
    fn what_ethtool_switches_off_is_seen() {
        in_new_namespace(|| {
            let _ = run("ip", &["link", "add", "name", "va", "type", "veth", "peer", "name", "vb"]);
            let socket = Socket::new(NETLINK_GENERIC).unwrap();
            let family = generic::family(&socket, features::FAMILY).unwrap();
            let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
            assert!(!reduced(&socket, family).unwrap().contains(&index("va")));
            ethtool(&["tx", "off"]);
            let now = reduced(&socket, family).unwrap();
            assert!(now.contains(&index("va")) && !now.contains(&index("vb")), "{now:?}");
            ethtool(&["tx", "on"]);
            assert!(!reduced(&socket, family).unwrap().contains(&index("va")));
            ethtool(&["tso", "off"]);
            assert!(reduced(&socket, family).unwrap().contains(&index("va")));
        });
    }
}
