//! The name of a setting under `/proc/sys/net`, and its scope.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// The longest component of a setting's path, in bytes (NAME_MAX).
const LONGEST_COMPONENT: usize = 255;

/// The name of a setting of a network namespace: the components of its path below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct SysctlKey(Arc<[String]>);

/// What a setting applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'k> {
    /// The whole namespace.
    Namespace,
    /// All interfaces of one family in the namespace.
    All,
    /// Interfaces that are created in the namespace later.
    Default,
    /// One interface.
    Interface(&'k str),
}

impl SysctlKey {
    /// A setting below `/proc/sys/net`, from literal components and names of interfaces.
    #[must_use]
    pub fn net(components: &[&str]) -> Self {
        Self(["net"].iter().chain(components).map(|&component| component.to_owned()).collect())
    }

    /// A setting of one interface: `net.FAMILY.conf.INTERFACE.NAME`.
    #[must_use]
    pub fn of_interface(family: &str, interface: &str, name: &str) -> Self {
        Self::net(&[family, "conf", interface, name])
    }

    /// The components below `/proc/sys`. The first is `net`, and none is `.`, `..` or empty.
    #[must_use]
    pub fn path(&self) -> &[String] {
        &self.0
    }

    /// The protocol or subsystem, such as `ipv4` or `core`.
    #[must_use]
    pub fn family(&self) -> &str {
        self.0.get(1).map_or("", String::as_str)
    }

    /// The last component.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// What it applies to. Settings of interfaces are in `conf` and `neigh` of a family (`devinet_sysctl_register`,
    /// `neigh_sysctl_register`, `mpls_dev_sysctl_register`), in one directory for each interface. No other
    /// component can be an interface's name.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        let [_, family, table, interface, _] = &self.0[..] else { return Scope::Namespace };
        let has_interfaces = matches!(
            (family.as_str(), table.as_str()),
            ("ipv4" | "ipv6", "conf" | "neigh") | ("mpls", "conf")
        );
        match interface.as_str() {
            _ if !has_interfaces => Scope::Namespace,
            "all" => Scope::All,
            "default" => Scope::Default,
            interface => Scope::Interface(interface),
        }
    }

    /// Whether the kernel may write a setting itself, so that it must be written last: when an interface comes up
    /// (`addrconf_notify` in net/ipv6/addrconf.c), or when forwarding is switched for the namespace
    /// (`inet_forward_change` in net/ipv4/devinet.c, `addrconf_fixup_forwarding`).
    #[must_use]
    pub fn is_overruled(&self) -> bool {
        matches!(
            (self.family(), self.name(), self.scope()),
            ("ipv6", "mtu", Scope::Interface(_))
                | ("ipv4", "accept_redirects", Scope::All)
                | (_, "forwarding", Scope::Interface(_) | Scope::Default)
        )
    }

    /// Whether writing `self` also sets `other`: `conf/all` and `ip_forward` set the values of interfaces
    /// (`inet_forward_change`, `addrconf_fixup_forwarding`, `addrconf_disable_ipv6`).
    #[must_use]
    pub fn sets(&self, other: &Self) -> bool {
        let spread = |key: &Self| match (key.family(), key.name()) {
            ("ipv4", "ip_forward") => Some("forwarding"),
            (_, "forwarding") => Some("forwarding"),
            ("ipv6", "disable_ipv6") => Some("disable_ipv6"),
            ("ipv6", "disable_policy") => Some("disable_policy"),
            _ => None,
        };
        let is_wide = self.scope() == Scope::All || self.name() == "ip_forward";
        is_wide
            && self.family() == other.family()
            && spread(self).is_some_and(|name| name == other.name())
            && matches!(other.scope(), Scope::Interface(_) | Scope::Default)
    }
}

impl fmt::Display for SysctlKey {
    /// In the format of sysctl(8): `net.ipv4.conf.eth0/100.rp_filter`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, component) in self.0.iter().enumerate() {
            let dot = if n == 0 { "" } else { "." };
            write!(f, "{dot}{}", component.replace('.', "/"))?;
        }
        Ok(())
    }
}

impl FromStr for SysctlKey {
    type Err = &'static str;

    /// Parses as sysctl(8) does. Whichever of `.` and `/` comes first is the separator. The other one stands for a
    /// dot inside a component: `net.ipv4.conf.eth0/100.rp_filter`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let slashes = text.chars().find(|c| matches!(c, '.' | '/')) == Some('/');
        let path: Vec<String> = if slashes {
            text.split('/').map(str::to_owned).collect()
        } else {
            text.split('.').map(|component| component.replace('/', ".")).collect()
        };
        let at = |n: usize| path.get(n).map_or("", String::as_str);
        if matches!((at(1), at(2)), ("ipv4" | "ipv6", "conf" | "neigh") | ("mpls", "conf")) && path.len() != 5
        {
            return Err(
                "names no setting of one interface, as `net.ipv4.conf.eth0.rp_filter` does: a dot in the name of an \
                        interface is written as `/`",
            );
        }
        path.try_into()
    }
}

impl TryFrom<Vec<String>> for SysctlKey {
    type Error = &'static str;

    fn try_from(path: Vec<String>) -> Result<Self, Self::Error> {
        if path.iter().any(|part| part.is_empty() || part == "." || part == "..") {
            return Err("has an empty, `.` or `..` component");
        }
        let is_name = |part: &String| {
            part.len() <= LONGEST_COMPONENT && !part.contains(|c: char| c.is_control() || c == '/')
        };
        if !path.iter().all(is_name) {
            return Err("is not a name that a setting can have");
        }
        match path.first() {
            Some(first) if first == "net" && path.len() > 1 => Ok(Self(path.into())),
            _ => Err("is not a setting of a network namespace: those begin with `net.`"),
        }
    }
}

impl From<SysctlKey> for Vec<String> {
    fn from(key: SysctlKey) -> Self {
        key.0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SysctlKey {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn keys_are_read_as_sysctl_does() {
        assert_eq!(key("net.ipv4.ip_forward").path().join("|"), "net|ipv4|ip_forward");
        for text in ["net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter"] {
            assert_eq!(key(text).path().join("|"), "net|ipv4|conf|eth0.100|rp_filter");
            assert_eq!(key(text).to_string(), "net.ipv4.conf.eth0/100.rp_filter");
        }
        for bad in [
            "kernel.hostname",
            "net",
            "",
            "net..x",
            "net/../kernel",
            "/net/x",
            "net.x.",
            "net.//.x",
            "net.a\0b",
            // A common mistake, and a name that is not a setting.
            "net.ipv4.conf.eth0.100.rp_filter",
            "net.ipv6.neigh.eth0",
        ] {
            assert!(bad.parse::<SysctlKey>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_interface_is_named_in_one_place_alone() {
        for (text, scope) in [
            ("net.ipv4.conf.eth0.rp_filter", Scope::Interface("eth0")),
            ("net.ipv6.neigh.eth0/1.retrans_time_ms", Scope::Interface("eth0.1")),
            ("net.mpls.conf.eth0.input", Scope::Interface("eth0")),
            ("net.ipv4.conf.conf.forwarding", Scope::Interface("conf")),
            ("net.ipv4.conf.all.forwarding", Scope::All),
            ("net.ipv6.neigh.default.gc_thresh3", Scope::Default),
            ("net.ipv4.ip_forward", Scope::Namespace),
            ("net.core.conf.eth0.x", Scope::Namespace),
            ("net.core.somaxconn", Scope::Namespace),
            ("net.ipv4.route.eth0.x", Scope::Namespace),
        ] {
            assert_eq!(key(text).scope(), scope, "{text}");
        }
    }

    #[test]
    fn what_is_set_for_all_is_set_for_each() {
        let sets = |one: &str, other: &str| key(one).sets(&key(other));
        assert!(sets("net.ipv4.ip_forward", "net.ipv4.conf.eth0.forwarding"));
        assert!(sets("net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding"));
        assert!(sets("net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.eth0.disable_ipv6"));
        assert!(!sets("net.ipv4.ip_forward", "net.ipv6.conf.eth0.forwarding"));
        assert!(!sets("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.eth0.rp_filter"));
        assert!(!sets("net.ipv4.conf.eth0.forwarding", "net.ipv4.conf.eth1.forwarding"));
        assert!(!sets("net.ipv4.ip_forward", "net.ipv4.ip_forward"));
    }

    #[test]
    fn what_the_kernel_writes_itself_is_known() {
        for overruled in
            ["net.ipv6.conf.eth0.mtu", "net.ipv4.conf.eth0.forwarding", "net.ipv6.conf.e.forwarding"]
        {
            assert!(key(overruled).is_overruled(), "{overruled}");
        }
        for kept in
            ["net.ipv6.conf.default.mtu", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.eth0.accept_ra"]
        {
            assert!(!key(kept).is_overruled(), "{kept}");
        }
    }

    #[test]
    fn a_record_cannot_bring_a_path_that_leads_elsewhere() {
        let read = |text: &str| serde_json::from_str::<SysctlKey>(text);
        assert!(read(r#"["net","ipv4","ip_forward"]"#).is_ok());
        for bad in [r#"["kernel","x"]"#, r#"["net","..","kernel"]"#, r#"["net","a/../../kernel"]"#, "[]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
