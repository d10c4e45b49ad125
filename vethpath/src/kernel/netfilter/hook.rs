//! A base chain of nf_tables that frames may pass.

use std::fmt;

use super::{BridgeCalls, Family};

/// The hook of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPoint {
    /// Before the routing or forwarding decision.
    Prerouting,
    /// To the host itself.
    Input,
    /// Through the host.
    Forward,
    /// From the host itself.
    Output,
    /// After the routing or forwarding decision.
    Postrouting,
    /// On receive by a device.
    Ingress,
    /// On transmit by a device.
    Egress,
    /// An unknown hook.
    Other(u32),
}

impl HookPoint {
    /// The hook of a kernel number (`NF_INET_*`, `NF_ARP_*`, `NF_NETDEV_*`, `NF_BR_*`).
    #[must_use]
    pub const fn from_number(family: Family, number: u32) -> Self {
        match (family, number) {
            (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 0) => Self::Prerouting,
            (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 1) | (Family::Arp, 0) => Self::Input,
            (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 2) | (Family::Arp, 2) => Self::Forward,
            (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 3) | (Family::Arp, 1) => Self::Output,
            (Family::Inet | Family::Ip | Family::Ip6 | Family::Bridge, 4) => Self::Postrouting,
            (Family::Inet, 5) | (Family::Netdev, 0) => Self::Ingress,
            (Family::Netdev, 1) => Self::Egress,
            (_, other) => Self::Other(other),
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prerouting => f.pad("prerouting"),
            Self::Input => f.pad("input"),
            Self::Forward => f.pad("forward"),
            Self::Output => f.pad("output"),
            Self::Postrouting => f.pad("postrouting"),
            Self::Ingress => f.pad("ingress"),
            Self::Egress => f.pad("egress"),
            Self::Other(number) => write!(f, "hook-{number}"),
        }
    }
}

/// A base chain of nf_tables that may affect frames.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hook {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// Its hook.
    pub hook: HookPoint,
    /// The devices it is bound to. A name that ends in `*` is a prefix, and `*` alone is every device. Empty for hooks
    /// without devices.
    pub devices: Vec<String>,
}

impl Hook {
    /// Whether a frame that is bridged from or to the port `device`, in the namespace of the chain, passes the chain.
    /// Unknown families and hooks count as yes.
    ///
    /// The fast path never forwards ARP, nor frames to or from the host itself. Chains for these do not count.
    #[must_use]
    pub fn sees(&self, device: &str, calls: BridgeCalls) -> bool {
        if self.hook == HookPoint::Ingress || self.hook == HookPoint::Egress || !self.devices.is_empty() {
            return self.is_on(device);
        }
        // Prerouting, forward and postrouting are called for bridged frames (`br_nf_pre_routing`, `br_nf_forward`,
        // `br_nf_post_routing`).
        let bridged = !matches!(self.hook, HookPoint::Input | HookPoint::Output);
        match self.family {
            Family::Ip => bridged && calls.iptables,
            Family::Ip6 => bridged && calls.ip6tables,
            Family::Inet => bridged && (calls.iptables || calls.ip6tables),
            Family::Arp => false,
            Family::Bridge | Family::Netdev | Family::Unspecified | Family::Other(_) => true,
        }
    }

    /// Whether the chain is bound to `device`, by name or by prefix.
    fn is_on(&self, device: &str) -> bool {
        self.devices.is_empty()
            || self.devices.iter().any(|name| match name.strip_suffix('*') {
                Some(beginning) => device.starts_with(beginning),
                None => device == name,
            })
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "nft table {} {}, chain {}",
            self.family,
            self.table.escape_debug(),
            self.chain.escape_debug()
        )?;
        if !self.devices.is_empty() {
            write!(f, " on {}", self.devices.join(", ").escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: BridgeCalls = BridgeCalls { iptables: false, ip6tables: false, arptables: false };
    const IP: BridgeCalls = BridgeCalls { iptables: true, ip6tables: false, arptables: true };

    fn hook(family: Family, hook: HookPoint, devices: &[&str]) -> Hook {
        let devices = devices.iter().map(ToString::to_string).collect();
        Hook { family, table: "filter".into(), chain: "c".into(), hook, devices }
    }

    #[test]
    fn ip_chains_matter_only_when_the_bridge_calls_them() {
        use HookPoint::{Forward, Input, Postrouting};
        for (family, point, calls, expected) in [
            (Family::Ip, Forward, OFF, false),
            (Family::Ip, Forward, IP, true),
            (Family::Ip, Input, IP, false),
            (Family::Ip6, Forward, IP, false),
            (Family::Inet, Postrouting, IP, true),
            (Family::Inet, Postrouting, OFF, false),
            (Family::Arp, Forward, IP, false),
            (Family::Bridge, Forward, OFF, true),
            (Family::Other(9), Forward, OFF, true),
            (Family::Ip, HookPoint::Other(77), IP, true),
        ] {
            assert_eq!(hook(family, point, &[]).sees("v0", calls), expected, "{family} {point} {calls:?}");
        }
    }

    #[test]
    fn device_chains_matter_to_their_devices() {
        let on = |devices: &[&str]| hook(Family::Netdev, HookPoint::Ingress, devices);
        assert!(on(&["v0", "v1"]).sees("v1", OFF));
        assert!(!on(&["v0"]).sees("v01", OFF));
        assert!(on(&["v*"]).sees("v01", OFF));
        assert!(on(&["*"]).sees("v01", OFF));
        // The devices could not be read.
        assert!(on(&[]).sees("v0", OFF));
        assert!(!hook(Family::Inet, HookPoint::Ingress, &["v0"]).sees("v1", IP));
    }

    #[test]
    fn it_says_where_to_look() {
        assert_eq!(
            hook(Family::Bridge, HookPoint::Forward, &[]).to_string(),
            "nft table bridge filter, chain c"
        );
        let netdev = hook(Family::Netdev, HookPoint::Egress, &["v0", "v1"]);
        assert_eq!(netdev.to_string(), "nft table netdev filter, chain c on v0, v1");
    }
}
