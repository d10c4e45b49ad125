//! IPv6 autoconfiguration of a device: duplicate address detection and router advertisements.

use serde::{Deserialize, Serialize};

use super::{Pair, Place, Scope, Sysctl, SysctlKey, Topology};

/// IPv6 autoconfiguration of an interface or a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// `accept_dad`: 0 disables duplicate address detection (RFC 4862, 5.4). `None` leaves it to the settings of
    /// the file.
    pub accept_dad: Option<u8>,
    /// Whether it accepts router advertisements, and solicits them. `None` is the kernel's default: accepted unless
    /// the namespace forwards.
    pub accept_ra: Option<bool>,
    /// Whether it makes addresses of advertised prefixes. `None` is the kernel's default: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoconf: Option<bool>,
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self { accept_dad: Some(0), accept_ra: None, autoconf: None }
    }
}

impl Ipv6 {
    /// The result of the device's keys, its settings, its namespace's settings and the lab's `dad`. The first of
    /// them that has a value applies.
    pub(super) fn of(
        (dad, accept_ra, autoconf): (Option<bool>, Option<bool>, Option<bool>),
        place: &Place,
        own: &[Sysctl],
        namespace: &[Sysctl],
        lab: bool,
    ) -> Self {
        let is_said = |name: &str| own.iter().any(|setting| is_of_ipv6(&setting.key, name));
        let here = |scope: Scope<'_>| {
            let of =
                |setting: &&Sysctl| is_of_ipv6(&setting.key, "accept_dad") && setting.key.scope() == scope;
            namespace.iter().find(of).map(|setting| setting.value.trim().parse::<u8>().ok())
        };
        let accept_dad = match dad {
            _ if is_said("accept_dad") => None,
            Some(dad) => Some(u8::from(dad)),
            // If `conf/all` is not 0, the kernel does DAD whatever the interface's own value is.
            None if here(Scope::All).is_some_and(|value| value != Some(0)) => None,
            None => here(Scope::Default).unwrap_or(Some(u8::from(lab))),
        };
        let accept_ra = match accept_ra {
            _ if is_said("accept_ra") => None,
            // No router in a lab may give the host an address or a route.
            None if *place == Place::Host => Some(false),
            other => other,
        };
        let autoconf = autoconf.filter(|_| !is_said("autoconf"));
        Self { accept_dad, accept_ra, autoconf }
    }

    /// Whether addresses are usable immediately (no tentative state).
    #[must_use]
    pub fn skips_dad(self) -> bool {
        self.accept_dad == Some(0)
    }

    /// The settings of a device for these values.
    #[must_use]
    pub fn settings(self, device: &str) -> Vec<Sysctl> {
        let setting = |name: &str, value: u8| Sysctl {
            key: SysctlKey::of_interface("ipv6", device, name),
            value: value.to_string().into(),
        };
        let dad = self.accept_dad.map(|value| setting("accept_dad", value));
        dad.into_iter().chain(self.advertisement_settings(device)).collect()
    }

    /// The settings of a device about router advertisements. The value 2 of `accept_ra` accepts them even if the namespace
    /// forwards (`ipv6_accept_ra` of net/ipv6.h).
    #[must_use]
    pub fn advertisement_settings(self, device: &str) -> Vec<Sysctl> {
        let setting = |name: &str, value: &str| Sysctl {
            key: SysctlKey::of_interface("ipv6", device, name),
            value: value.into(),
        };
        let accept = self.accept_ra.map(|accept| setting("accept_ra", if accept { "2" } else { "0" }));
        let autoconf = self.autoconf.map(|on| setting("autoconf", if on { "1" } else { "0" }));
        accept.into_iter().chain(autoconf).collect()
    }
}

impl Pair {
    /// The settings of a port or of a trunk's end. Only one on the host has any, since it could be removed from its
    /// bridge there.
    #[must_use]
    pub fn port_settings(place: &Place, port: &str) -> Vec<Sysctl> {
        let accept_ra = (*place == Place::Host).then_some(false);
        let on_host = Ipv6 { accept_dad: None, accept_ra, autoconf: None };
        on_host.settings(port)
    }
}

impl Topology {
    /// Whether any part of it does duplicate address detection.
    #[must_use]
    pub fn detects_duplicates(&self) -> bool {
        let interfaces = self.pairs.iter().map(|pair| pair.inner.ipv6);
        let ends = self.cables.iter().flat_map(|cable| [cable.a.interface.ipv6, cable.b.interface.ipv6]);
        let mut all = interfaces.chain(ends).chain(self.bridges.iter().map(|bridge| bridge.ipv6));
        self.dad || all.any(|ipv6| ipv6.accept_dad.is_some_and(|value| value != 0))
    }
}

/// Whether a setting has this name under `net/ipv6/conf`, for any interface, `all` or `default`.
pub(super) fn is_of_ipv6(key: &SysctlKey, name: &str) -> bool {
    key.family() == "ipv6" && key.path().get(2).is_some_and(|table| table == "conf") && key.name() == name
}
