//! What programs in a host find in `/etc`: `hosts` with the names of the lab, and `resolv.conf`.

use std::{collections::HashSet, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Namespace, NsName, Place, Topology,
    fault::Sink,
    read::{At, Table},
};

/// The name servers of a host, and the domains in which it looks names up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Addresses of name servers. Without any, the machine's `resolv.conf` is used.
    pub nameservers: Vec<IpAddr>,
    /// Domains that are appended to names without a dot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

impl Resolver {
    /// Whether the file says nothing about it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.nameservers.is_empty()
    }
}

/// Reads `nameservers` and `search`.
pub(super) fn read(table: &Table<'_>, sink: &mut Sink) -> Resolver {
    let nameservers = table.strings("nameservers", sink);
    let search = table.strings("search", sink);
    if let (Some(search), None) = (table.get("search"), table.get("nameservers")) {
        let hint = format!("write {}, or leave `search` out", table.example("nameservers"));
        sink.add(&search.span(), "`search` without `nameservers`", hint);
    }
    let nameservers = nameservers
        .items
        .iter()
        .filter_map(|text| server(text, table.example("nameservers"), sink))
        .collect();
    let domains = search.items.iter().filter_map(|text| domain(text, sink)).collect();
    Resolver { nameservers, search: domains }
}

/// The address of a name server.
fn server(text: &At<&str>, example: &str, sink: &mut Sink) -> Option<IpAddr> {
    let address = text.value.parse::<IpAddr>().ok();
    let is_host = |address: &IpAddr| !address.is_unspecified() && !address.is_multicast();
    if let Some(address) = address.filter(is_host) {
        return Some(address);
    }
    let message = format!("`{}` is not the IP address of a host", text.value);
    sink.add(&text.span, message, format!("write an IPv4 or IPv6 address: {example}"));
    None
}

/// A domain: labels of letters, digits, `-` and `_`, with dots between them (RFC 1035).
fn domain(text: &At<&str>, sink: &mut Sink) -> Option<String> {
    /// The longest domain name, in characters.
    const LONGEST: usize = 253;
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if text.value.len() <= LONGEST && text.value.split('.').all(is_label) {
        return Some(text.value.to_owned());
    }
    sink.add(&text.span, format!("`{}` is no domain", text.value), "write a domain such as \"lab.test\"");
    None
}

impl Topology {
    /// The namespace of this name.
    fn namespace(&self, name: &NsName) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| &namespace.name == name)
    }

    /// The addresses in the file of each host and bridge, with its name. Those of a host come before a bridge's of the same
    /// name, which is left out. Link-local addresses need an interface, and are left out too.
    fn named(&self) -> Vec<(&str, Vec<IpNet>)> {
        let mut named: Vec<(&str, Vec<IpNet>)> = self
            .namespaces
            .iter()
            .filter(|it| !self.is_fabric(&Place::Namespace(it.name.clone())))
            .map(|namespace| (namespace.name.as_str(), Vec::new()))
            .collect();
        let positions: std::collections::HashMap<&str, usize> =
            named.iter().enumerate().map(|(n, (name, _))| (*name, n)).collect();
        let mut add = |name: &NsName, addresses: &[IpNet]| {
            if let Some(&n) = positions.get(name.as_str()) {
                named[n].1.extend(addresses.iter().filter(|net| is_global(net.addr())));
            }
        };
        for pair in &self.pairs {
            add(&pair.namespace, &pair.inner.addresses);
        }
        for end in self.cables.iter().flat_map(|cable| [&cable.a, &cable.b]) {
            if let Place::Namespace(name) = &end.place {
                add(name, &end.interface.addresses);
            }
        }
        for bridge in self.bridges.iter().filter(|bridge| !positions.contains_key(bridge.name.as_str())) {
            let addresses = bridge.addresses.iter().copied().filter(|net| is_global(net.addr()));
            named.push((bridge.name.as_str(), addresses.collect()));
        }
        named
    }

    /// The text of `/etc/hosts` in a host: its own name, and those of the lab's other hosts and bridges with the addresses
    /// that the file has. Addresses in a subnet of the host come first, as programs try them in this order. `machine` is the
    /// machine's own file, of which lines with a name of the lab are left out.
    #[must_use]
    pub fn hosts_file(&self, host: &NsName, machine: &str) -> String {
        let named = self.named();
        let own: Vec<IpNet> = named
            .iter()
            .filter(|(name, _)| *name == host.as_str())
            .flat_map(|(_, nets)| nets.clone())
            .collect();
        let is_near = |address: IpAddr| own.iter().any(|net| net.contains(&address));
        let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
        if own.is_empty() {
            // So that programs can look up the host name.
            let _ = writeln!(text, "127.0.1.1 {host}");
        }
        for (name, nets) in &named {
            let addresses = || nets.iter().map(IpNet::addr);
            let far = addresses().filter(|address| !is_near(*address));
            for address in addresses().filter(|address| is_near(*address)).chain(far) {
                let _ = writeln!(text, "{address} {name}");
            }
        }
        let names: HashSet<&str> = named.iter().map(|(name, _)| *name).chain(["localhost"]).collect();
        let is_other = |line: &&str| {
            let entry = line.split('#').next().unwrap_or_default();
            let mut words = entry.split_whitespace().skip(1).peekable();
            words.peek().is_some() && words.all(|word| !names.contains(word))
        };
        for line in machine.lines().filter(is_other) {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// The text of `/etc/resolv.conf` in a host, if the file has name servers for it.
    #[must_use]
    pub fn resolv_conf(&self, host: &NsName) -> Option<String> {
        let resolver = &self.namespace(host)?.resolver;
        let mut text = String::new();
        for address in &resolver.nameservers {
            let _ = writeln!(text, "nameserver {address}");
        }
        if !resolver.search.is_empty() {
            let _ = writeln!(text, "search {}", resolver.search.join(" "));
        }
        (!resolver.is_none()).then_some(text)
    }
}

/// Whether an address is usable without an interface.
fn is_global(address: IpAddr) -> bool {
    !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::super::{Source, Topology, read};

    fn lab(text: &str) -> Topology {
        read(Source { path: "lab.toml", text }, Some("lab")).unwrap_or_else(|faults| panic!("{faults}"))
    }

    const LAB: &str = "\
[bridge.br0]
addresses = ['10.0.0.1/24', 'fd00::1/64']
[bridge.web]
addresses = ['10.9.0.1/24']
[namespace.r]
nameservers = ['10.0.0.53', 'fd00::53']
search = ['lab.test', 'test']
[namespace.r.interface.eth0]
link = 'br0'
addresses = ['10.0.0.9/24', 'fe80::9/64']
[namespace.r.interface.eth1]
link = 'web:eth0'
addresses = ['10.1.0.1/30', 'fd01::1/64']
[namespace.web.interface.eth0]
link = 'r:eth1'
addresses = ['10.1.0.2/30', 'fd01::2/64']
[namespace.idle]
";

    #[test]
    fn the_hosts_file_has_hosts_and_bridges_and_near_addresses_first() {
        let localhost = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
        let of = |host: &str, machine: &str| {
            let text = lab(LAB).hosts_file(&host.parse().unwrap(), machine);
            text.strip_prefix(localhost).unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        let bridge = "10.0.0.1 br0\nfd00::1 br0\n";
        let web = "10.1.0.2 web\nfd01::2 web\n";
        assert_eq!(of("r", ""), format!("10.0.0.9 r\n10.1.0.1 r\nfd01::1 r\n{web}{bridge}"));
        assert_eq!(of("web", ""), format!("10.1.0.1 r\nfd01::1 r\n10.0.0.9 r\n{web}{bridge}"));
        let idle =
            of("idle", "# machine\n127.0.0.1 localhost\n192.0.2.1 build build.test\n192.0.2.2 x web # y\n\n");
        assert_eq!(
            idle,
            format!(
                "127.0.1.1 idle\n10.0.0.9 r\n10.1.0.1 r\nfd01::1 r\n{web}{bridge}192.0.2.1 build build.test\n"
            )
        );
    }

    #[test]
    fn name_servers_are_in_resolv_conf_and_without_them_there_is_none() {
        let lab = lab(LAB);
        let expected = "nameserver 10.0.0.53\nnameserver fd00::53\nsearch lab.test test\n";
        assert_eq!(lab.resolv_conf(&"r".parse().unwrap()).as_deref(), Some(expected));
        assert_eq!(lab.resolv_conf(&"web".parse().unwrap()), None);
        assert_eq!(lab.resolv_conf(&"nobody".parse().unwrap()), None);
    }
}
