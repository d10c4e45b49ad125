//! Stopped hosts: the lab without what a host has only while it is up.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{IfName, Interface, Neighbour, NsName, Place, Route, Topology};

/// A stopped host, and what it gets back when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Its namespace.
    pub namespace: NsName,
    routes: Vec<Route>,
    interfaces: Vec<Former>,
}

/// An interface of a host before it was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Former {
    name: IfName,
    up: bool,
    /// Its addresses. The kernel removes those of IPv6 from an interface that goes down (`addrconf_ifdown`).
    addresses: Vec<IpNet>,
    /// The kernel removes them from an interface that goes down (`neigh_ifdown`).
    #[serde(default)]
    neighbours: Vec<Neighbour>,
}

impl Topology {
    /// Whether a host is stopped.
    #[must_use]
    pub fn is_stopped(&self, name: &NsName) -> bool {
        self.stopped.iter().any(|stopped| &stopped.namespace == name)
    }

    /// The stopped hosts.
    #[must_use]
    pub fn stopped_hosts(&self) -> BTreeSet<NsName> {
        self.stopped.iter().map(|stopped| stopped.namespace.clone()).collect()
    }

    /// The lab with exactly these hosts stopped: their interfaces are down, without IPv6 addresses, and they have no routes.
    /// Names that the lab does not have are left out.
    #[must_use]
    pub fn with_stopped(self, hosts: &BTreeSet<NsName>) -> Self {
        let mut lab = self.with_all_started();
        for name in hosts {
            let Some(namespace) = lab.namespaces.iter_mut().find(|namespace| &namespace.name == name) else {
                continue;
            };
            let routes = std::mem::take(&mut namespace.routes).to_vec();
            let mut interfaces = Vec::new();
            for interface in lab.interfaces_of(name) {
                let neighbours = std::mem::take(&mut interface.neighbours);
                let Interface { name, up, addresses, .. } = &*interface;
                let (name, addresses) = (name.clone(), addresses.clone());
                interfaces.push(Former { name, up: *up, addresses, neighbours });
                interface.up = false;
                interface.addresses.retain(|net| net.addr().is_ipv4());
            }
            lab.stopped.push(Stopped { namespace: name.clone(), routes, interfaces });
        }
        lab
    }

    /// The lab with no host stopped.
    #[must_use]
    pub fn with_all_started(mut self) -> Self {
        for stopped in std::mem::take(&mut self.stopped) {
            let Stopped { namespace: name, routes, mut interfaces } = stopped;
            if let Some(namespace) = self.namespaces.iter_mut().find(|namespace| namespace.name == name) {
                namespace.routes = routes.into();
            }
            for interface in self.interfaces_of(&name) {
                let Some(former) = interfaces.iter().position(|former| former.name == interface.name) else {
                    continue;
                };
                let former = interfaces.swap_remove(former);
                (interface.up, interface.addresses) = (former.up, former.addresses);
                interface.neighbours = former.neighbours;
            }
        }
        self
    }

    /// The interfaces of a namespace.
    fn interfaces_of<'a>(&'a mut self, name: &'a NsName) -> impl Iterator<Item = &'a mut Interface> {
        let inner = self.pairs.iter_mut().filter(move |pair| &pair.namespace == name);
        let ends = self.cables.iter_mut().flat_map(|cable| [&mut cable.a, &mut cable.b]);
        let ends = ends.filter(move |end| matches!(&end.place, Place::Namespace(of) if of == name));
        inner.map(|pair| &mut pair.inner).chain(ends.map(|end| &mut end.interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    const LAB: &str = "\
[bridge.br0]
[namespace.r]
gateway = '10.0.0.1'
[namespace.r.interface.eth0]
link = 'br0'
addresses = ['10.0.0.9/24', 'fd00::9/64']
[namespace.r.interface.off]
link = 'br0'
up = false
[namespace.r.interface.c]
link = 'web:c'
addresses = ['10.1.0.1/30']
[namespace.web.interface.eth0]
link = 'br0'
";

    #[test]
    fn a_host_that_starts_is_as_it_was_before_it_was_stopped() {
        let lab = read(Source { path: "lab.toml", text: LAB }, Some("lab")).unwrap();
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let stopped = lab.clone().with_stopped(&names(&["r", "nobody"]));
        assert_eq!(stopped.stopped_hosts(), names(&["r"]));
        let all = |lab: &Topology| {
            let inner = lab.pairs.iter().map(|pair| &pair.inner);
            let ends = lab.cables.iter().flat_map(|cable| [&cable.a, &cable.b]).map(|end| &end.interface);
            inner
                .chain(ends)
                .map(|one| (one.name.to_string(), one.up, one.addresses.len()))
                .collect::<Vec<_>>()
        };
        let of = |name: &str, up, addresses| (name.to_owned(), up, addresses);
        let expected = [
            of("eth0", false, 1),
            of("off", false, 0),
            of("eth0", true, 0),
            of("c", false, 1),
            of("c", true, 0),
        ];
        assert_eq!(all(&stopped), expected);
        assert!(stopped.namespaces[0].routes.is_empty());
        // In a record, and with another host.
        let record = serde_json::to_string(&stopped).unwrap();
        let read: Topology = serde_json::from_str(&record).unwrap();
        assert_eq!(read, stopped);
        let other = read.with_stopped(&names(&["web"]));
        assert!(other.is_stopped(&"web".parse().unwrap()) && !other.is_stopped(&"r".parse().unwrap()));
        assert_eq!(other.with_all_started(), lab);
    }
}
