//! What IPv6 does by itself on a device: duplicate address detection and router advertisements.

use serde::{Deserialize, Serialize};

use super::{Pair, Place, Scope, Sysctl, SysctlKey, Topology};

/// What IPv6 does by itself on an interface or a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// `accept_dad`: 0 is no duplicate address detection (RFC 4862, 5.4). `None` leaves it to what the settings of
    /// the file say.
    pub accept_dad: Option<u8>,
    /// Whether it takes router advertisements, and solicits them. `None` leaves it to the kernel, which takes them
    /// where the namespace does not forward.
    pub accept_ra: Option<bool>,
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self { accept_dad: Some(0), accept_ra: None }
    }
}

impl Ipv6 {
    /// What comes of the keys of a device, of its settings, of those of its namespace, and of the lab's `dad`. The
    /// first that says something has it.
    pub(super) fn of(
        (dad, accept_ra): (Option<bool>, Option<bool>),
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
            // With it, the kernel detects whatever the interface's own says.
            None if here(Scope::All).is_some_and(|value| value != Some(0)) => None,
            None => here(Scope::Default).unwrap_or(Some(u8::from(lab))),
        };
        let accept_ra = match accept_ra {
            _ if is_said("accept_ra") => None,
            // Nobody in a lab is to give the machine an address or a route.
            None if *place == Place::Host => Some(false),
            said => said,
        };
        Self { accept_dad, accept_ra }
    }

    /// Whether addresses are usable as soon as they are there.
    #[must_use]
    pub fn skips_dad(self) -> bool {
        self.accept_dad == Some(0)
    }

    /// The settings of a device that say so.
    #[must_use]
    pub fn settings(self, device: &str) -> Vec<Sysctl> {
        let setting = |name: &str, value: u8| Sysctl {
            key: SysctlKey::of_interface("ipv6", device, name),
            value: value.to_string().into(),
        };
        let dad = self.accept_dad.map(|value| setting("accept_dad", value));
        dad.into_iter().chain(self.accept_ra_setting(device)).collect()
    }

    /// The setting of a device that says whether it takes router advertisements: 2 is also where the namespace
    /// forwards (`ipv6_accept_ra` of net/ipv6.h).
    #[must_use]
    pub fn accept_ra_setting(self, device: &str) -> Option<Sysctl> {
        let key = SysctlKey::of_interface("ipv6", device, "accept_ra");
        self.accept_ra.map(|accept| Sysctl { key, value: if accept { "2" } else { "0" }.into() })
    }
}

impl Pair {
    /// The settings of a port, or of a trunk's end: it has none but on the machine, where somebody may take it off its
    /// bridge.
    #[must_use]
    pub fn port_settings(place: &Place, port: &str) -> Vec<Sysctl> {
        let on_host = Ipv6 { accept_dad: None, accept_ra: (*place == Place::Host).then_some(false) };
        on_host.settings(port)
    }
}

impl Topology {
    /// Whether anything of it has duplicate address detection.
    #[must_use]
    pub fn detects_duplicates(&self) -> bool {
        let interfaces = self.pairs.iter().map(|pair| pair.inner.ipv6);
        let ends = self.cables.iter().flat_map(|cable| [cable.a.interface.ipv6, cable.b.interface.ipv6]);
        let mut all = interfaces.chain(ends).chain(self.bridges.iter().map(|bridge| bridge.ipv6));
        self.dad || all.any(|ipv6| ipv6.accept_dad.is_some_and(|value| value != 0))
    }
}

/// Whether a setting is this one, of any interface or of all.
pub(super) fn is_of_ipv6(key: &SysctlKey, name: &str) -> bool {
    key.family() == "ipv6" && key.path().get(2).is_some_and(|table| table == "conf") && key.name() == name
}
