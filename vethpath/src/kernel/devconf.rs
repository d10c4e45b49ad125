//! Interface settings that a new namespace inherits from the machine.
//!
//! The kernel copies those of IPv4 from the machine's first namespace, unless `net.core.devconf_inherit_init_net` is 2
//! (`devinet_init_net` in net/ipv4/devinet.c). Those of IPv6 are copied where it is 1 or 3 (`addrconf_init_net` in
//! net/ipv6/addrconf.c). With 3, both are copied from the caller's namespace. So a host of a lab would forward packets, or
//! check their source addresses, because the machine does.

use super::sysctl;
use crate::topology::{Sysctl, SysctlKey};

/// The kernel's own defaults of one address family.
struct Defaults {
    /// The address family, as in `net.FAMILY.conf`.
    family: &'static str,
    /// Names and values of those that are not 0.
    values: &'static [(&'static str, &'static str)],
    /// Names of those that are 0.
    zeros: &'static [&'static str],
}

/// `ipv4_devconf` and `ipv4_devconf_dflt` in net/ipv4/devinet.c. `forwarding` comes first, since it changes others.
/// Those that the kernel sets for the loopback itself are left out.
const IPV4: Defaults = Defaults {
    family: "ipv4",
    zeros: &[
        "forwarding",
        "accept_local",
        "arp_accept",
        "arp_announce",
        "arp_filter",
        "arp_ignore",
        "arp_notify",
        "bc_forwarding",
        "bootp_relay",
        "drop_gratuitous_arp",
        "drop_unicast_in_l2_multicast",
        "force_igmp_version",
        "ignore_routes_with_linkdown",
        "log_martians",
        "promote_secondaries",
        "proxy_arp",
        "proxy_arp_pvlan",
        "route_localnet",
        "rp_filter",
        "src_valid_mark",
    ],
    values: &[
        ("accept_redirects", "1"),
        ("arp_evict_nocarrier", "1"),
        ("igmpv2_unsolicited_report_interval", "10000"),
        ("igmpv3_unsolicited_report_interval", "1000"),
        ("secure_redirects", "1"),
        ("send_redirects", "1"),
        ("shared_media", "1"),
    ],
};

/// `ipv6_devconf` and `ipv6_devconf_dflt` in net/ipv6/addrconf.c: what decides which packets and addresses a host
/// accepts, forwards and makes. Those that parameters of the kernel set are left out, and so is `accept_dad`, which `up`
/// writes.
const IPV6: Defaults = Defaults {
    family: "ipv6",
    zeros: &[
        "forwarding",
        "accept_ra_from_local",
        "accept_source_route",
        "addr_gen_mode",
        "force_forwarding",
        "keep_addr_on_down",
        "ndisc_notify",
        "proxy_ndp",
        "use_tempaddr",
    ],
    values: &[
        ("accept_ra", "1"),
        ("accept_ra_defrtr", "1"),
        ("accept_ra_pinfo", "1"),
        ("accept_ra_rtr_pref", "1"),
        ("accept_redirects", "1"),
        ("dad_transmits", "1"),
        ("hop_limit", "64"),
        ("router_solicitations", "-1"),
    ],
};

/// IPv4 accepts source routes at interfaces where `all` accepts them too.
const SOURCE_ROUTE: &str = "accept_source_route";

/// The settings of the calling thread's namespace, which is new, that differ from the kernel's own defaults, with the
/// latter as values. What this kernel does not have is left out.
#[must_use]
pub fn inherited_here() -> Vec<Sysctl> {
    differing(sysctl::values_here)
}

fn differing(values: impl FnOnce(&[SysctlKey]) -> Vec<Option<String>>) -> Vec<Sysctl> {
    let defaults: Vec<Sysctl> = defaults().collect();
    let present = values(&defaults.iter().map(|setting| setting.key.clone()).collect::<Vec<_>>());
    let differs = |(setting, present): (Sysctl, Option<String>)| {
        present.is_some_and(|present| present != *setting.value).then_some(setting)
    };
    defaults.into_iter().zip(present).filter_map(differs).collect()
}

/// All of the defaults, in the order in which they can be written. The kernel sets some of IPv6 for the loopback itself
/// (`ipv6_add_dev`), so those are left out.
fn defaults() -> impl Iterator<Item = Sysctl> {
    let of = |scope: &'static str| {
        let families = [IPV4, IPV6].into_iter().filter(move |of| scope != "lo" || of.family == IPV4.family);
        families.flat_map(move |Defaults { family, values, zeros }| {
            let zeros = zeros.iter().map(|name| (*name, "0"));
            let own = (family == IPV4.family).then(|| (SOURCE_ROUTE, if scope == "all" { "0" } else { "1" }));
            zeros.chain(values.iter().copied()).chain(own).map(move |(name, value)| Sysctl {
                key: SysctlKey::of_interface(family, scope, name),
                value: value.into(),
            })
        })
    };
    ["all", "default", "lo"].into_iter().flat_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_set_back_forwarding_first() {
        let machine = |key: &SysctlKey| {
            let value = match key.to_string().as_str() {
                "net.ipv4.conf.all.rp_filter" | "net.ipv4.conf.default.rp_filter" => "2",
                "net.ipv4.conf.all.forwarding" => "1",
                "net.ipv4.conf.lo.accept_source_route" => "0",
                // This kernel does not have it.
                "net.ipv4.conf.lo.rp_filter" => return None,
                _ => {
                    return defaults()
                        .find(|setting| setting.key == *key)
                        .map(|setting| setting.value.to_string());
                }
            };
            Some(value.to_owned())
        };
        let differing: Vec<_> = differing(|keys| keys.iter().map(machine).collect())
            .iter()
            .map(|Sysctl { key, value }| format!("{key} = {value}"))
            .collect();
        assert_eq!(
            differing,
            [
                "net.ipv4.conf.all.forwarding = 0",
                "net.ipv4.conf.all.rp_filter = 0",
                "net.ipv4.conf.default.rp_filter = 0",
                "net.ipv4.conf.lo.accept_source_route = 1",
            ]
        );
    }

    #[test]
    fn each_setting_is_written_once() {
        let keys: std::collections::BTreeSet<_> = defaults().map(|setting| setting.key).collect();
        assert_eq!(keys.len(), defaults().count());
    }
}
