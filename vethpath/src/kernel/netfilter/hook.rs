//! Netfilter's families and hooks, and which base chains of nf_tables a bridged frame passes, also because br_netfilter
//! calls them.
//!
//! Mirrors `brnf_table` and `br_nf_pre_routing` (net/bridge/br_netfilter_hooks.c).

use std::{fmt, io, path::Path};

use netlink_packet_route::link::InfoBridge;

use crate::{
    kernel::{Context, LinkFacts, Result, files},
    topology,
};

/// A netfilter family (`NFPROTO_*`, include/uapi/linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// All families, in requests.
    Unspecified,
    /// IPv4 and IPv6 together.
    Inet,
    /// IPv4.
    Ip,
    /// ARP.
    Arp,
    /// Ingress and egress of a device.
    Netdev,
    /// Frames that cross a bridge.
    Bridge,
    /// IPv6.
    Ip6,
    /// An unknown family.
    Other(u8),
}

impl Family {
    /// The kernel's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
            Self::Other(number) => number,
        }
    }

    /// The family of a kernel number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Unspecified,
            1 => Self::Inet,
            2 => Self::Ip,
            3 => Self::Arp,
            5 => Self::Netdev,
            7 => Self::Bridge,
            10 => Self::Ip6,
            other => Self::Other(other),
        }
    }
}

impl From<topology::Family> for Family {
    fn from(family: topology::Family) -> Self {
        match family {
            topology::Family::Ipv4 => Self::Ip,
            topology::Family::Ipv6 => Self::Ip6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspecified => f.pad("any"),
            Self::Inet => f.pad("inet"),
            Self::Ip => f.pad("ip"),
            Self::Arp => f.pad("arp"),
            Self::Netdev => f.pad("netdev"),
            Self::Bridge => f.pad("bridge"),
            Self::Ip6 => f.pad("ip6"),
            Self::Other(number) => write!(f, "family-{number}"),
        }
    }
}

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
    /// Whether it translates addresses (type `nat`).
    pub is_nat: bool,
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

/// The settings of the calling *thread's* network namespace. They exist only while br_netfilter is loaded.
pub const BRIDGE_SYSCTLS: &str = "/proc/sys/net/bridge";

/// Which hooks a bridged frame passes besides those of the bridge family.
///
/// The settings are per namespace (per machine before Linux 5.3). A bridge can also enable the calls by its own
/// attributes (IFLA_BR_NF_CALL_IPTABLES and so on): see [`BridgeCalls::with_options_of`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeCalls {
    /// IPv4 packets pass the IPv4 hooks.
    pub iptables: bool,
    /// IPv6 packets pass the IPv6 hooks.
    pub ip6tables: bool,
    /// ARP packets pass the ARP hooks.
    pub arptables: bool,
}

impl BridgeCalls {
    /// Adds the bridge's own options (`nf_call_iptables`). They apply whatever the namespace's sysctls are
    /// (`brnf_call_iptables` and the checks beside it in net/bridge/br_netfilter_hooks.c).
    #[must_use]
    pub fn with_options_of(mut self, bridge: Option<&LinkFacts>) -> Self {
        for attribute in bridge.and_then(|bridge| bridge.bridge.as_ref()).into_iter().flatten() {
            match attribute {
                InfoBridge::NfCallIpTables(on) => self.iptables |= on,
                InfoBridge::NfCallIp6Tables(on) => self.ip6tables |= on,
                InfoBridge::NfCallArpTables(on) => self.arptables |= on,
                _ => {}
            }
        }
        self
    }

    /// Whether IP packets of either version pass the hooks.
    #[must_use]
    pub fn any_ip(self) -> bool {
        self.iptables || self.ip6tables
    }
}

/// Reads the three `bridge-nf-call-*` settings in `folder`, which is [`BRIDGE_SYSCTLS`] except in tests. Must be
/// called on a thread that is in the bridge's namespace.
///
/// # Errors
/// A file exists and cannot be read or is not a number, or neither the folder nor its parent exists. Otherwise a
/// missing file means that the module is not loaded, so the setting is off.
pub fn bridge_nf_call(folder: &Path) -> Result<BridgeCalls> {
    let around = if folder.is_dir() { folder } else { folder.parent().unwrap_or(folder) };
    let is_on = |name: &str| -> Result<bool> {
        let path = folder.join(name);
        let content = files::read_optional(&path, around, files::VALUE).doing("read", path.display())?;
        let value = content.map_or(Ok(0), |content| content.trim().parse::<i32>());
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        Ok(value.map_err(invalid).doing("read", path.display())? != 0)
    };
    Ok(BridgeCalls {
        iptables: is_on("bridge-nf-call-iptables")?,
        ip6tables: is_on("bridge-nf-call-ip6tables")?,
        arptables: is_on("bridge-nf-call-arptables")?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::sandbox::in_new_namespace;

    const OFF: BridgeCalls = BridgeCalls { iptables: false, ip6tables: false, arptables: false };
    const IP: BridgeCalls = BridgeCalls { iptables: true, ip6tables: false, arptables: true };

    fn hook(family: Family, hook: HookPoint, devices: &[&str]) -> Hook {
        let devices = devices.iter().map(ToString::to_string).collect();
        Hook { family, table: "filter".into(), chain: "c".into(), is_nat: false, hook, devices }
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

    #[test]
    fn absent_is_off_and_nonsense_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(bridge_nf_call(&folder.path().join("bridge")).unwrap(), BridgeCalls::default());
        assert!(bridge_nf_call(&folder.path().join("net/bridge")).is_err(), "net is always there");
        fs::write(folder.path().join("bridge-nf-call-iptables"), "1\n").unwrap();
        let calls = bridge_nf_call(folder.path()).unwrap();
        assert_eq!(calls, BridgeCalls { iptables: true, ..BridgeCalls::default() });
        fs::write(folder.path().join("bridge-nf-call-ip6tables"), "x").unwrap();
        let error = bridge_nf_call(folder.path()).unwrap_err().to_string();
        assert!(error.contains("bridge-nf-call-ip6tables"), "{error}");
    }

    #[test]
    fn the_settings_are_those_of_the_threads_namespace() {
        in_new_namespace(|| {
            let folder = Path::new(BRIDGE_SYSCTLS);
            if !folder.exists() {
                eprintln!("SKIPPED: br_netfilter is not loaded");
                return;
            }
            for value in [true, false] {
                fs::write(folder.join("bridge-nf-call-iptables"), if value { "1" } else { "0" }).unwrap();
                assert_eq!(bridge_nf_call(folder).unwrap().iptables, value);
            }
        });
    }
}
