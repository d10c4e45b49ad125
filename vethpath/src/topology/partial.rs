//! A lab without some of its namespaces, while the containers that they are of do not run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{Fate, NsName, Place, Route, Topology};

impl Topology {
    /// The lab without these namespaces: without what is in them, the other ends of their links, and the routes of others
    /// whose gateways are reached by these links alone.
    #[must_use]
    pub fn without(mut self, names: &BTreeSet<NsName>) -> Self {
        if names.is_empty() {
            return self;
        }
        let stays = |place: &Place| !matches!(place, Place::Namespace(name) if names.contains(name));
        self.namespaces.retain(|namespace| !names.contains(&namespace.name));
        self.bridges.retain(|bridge| stays(&bridge.place));
        self.pairs.retain(|pair| !names.contains(&pair.namespace) && stays(&pair.place));
        self.cables.retain(|cable| stays(&cable.a.place) && stays(&cable.b.place));
        self.trunks.retain(|trunk| stays(&trunk.a.place) && stays(&trunk.b.place));
        let subnets = self.subnets();
        for namespace in &mut self.namespaces {
            let own = subnets.get(&Place::Namespace(namespace.name.clone()));
            let is_direct = |route: &Route| route.fate != Fate::Unicast || route.dev.is_some();
            let is_reached = |route: &&Route| {
                let has = |via: IpAddr| own.is_some_and(|own| own.iter().any(|net| net.contains(&via)));
                is_direct(route) || route.gateways().any(has)
            };
            if !namespace.routes.iter().all(|route| is_reached(&route)) {
                namespace.routes = namespace.routes.iter().filter(is_reached).cloned().collect();
            }
        }
        self
    }

    /// The addresses of the lab's devices in each place.
    fn subnets(&self) -> BTreeMap<Place, Vec<IpNet>> {
        let bridges = self.bridges.iter().map(|bridge| (bridge.place.clone(), &bridge.addresses));
        let inner = self.pairs.iter();
        let inner = inner.map(|pair| (Place::Namespace(pair.namespace.clone()), &pair.inner.addresses));
        let ends = self.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
        let ends = ends.map(|end| (end.place.clone(), &end.interface.addresses));
        let mut subnets: BTreeMap<Place, Vec<IpNet>> = BTreeMap::new();
        for (place, addresses) in bridges.chain(inner).chain(ends) {
            subnets.entry(place).or_default().extend(addresses);
        }
        subnets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Source, read};

    const LAB: &str = "\
        [bridge.br0]\naddresses = ['10.0.0.1/24']\ntrunks = ['br1']\n[bridge.br1]\n\
        [bridge.inner]\nnamespace = 'web'\n\
        [namespace.web]\nadopt = { container = 'web' }\ngateway = '10.0.0.1'\n\
        [namespace.web.interface]\neth0 = { link = 'br0', addresses = ['10.0.0.2/24'] }\n\
        up = { link = 'host:v0' }\nc = { link = 'r:c', addresses = ['10.1.0.2/24'] }\n\
        [namespace.r]\ngateway = '10.0.0.2'\nroutes = [{ to = '10.9.0.0/16', via = '10.1.0.2' }]\n\
        [namespace.r.interface]\neth0 = { link = 'br1', addresses = ['10.0.0.3/24'] }\n\
        c = { link = 'web:c', addresses = ['10.1.0.3/24'] }\nin = { link = 'inner' }\n";

    #[test]
    fn what_depends_on_a_namespace_is_left_out_with_it() {
        let lab = read(Source { path: "lab.toml", text: LAB }, Some("lab")).unwrap_or_else(|faults| {
            panic!("{}", faults.render(Source { path: "lab.toml", text: LAB }, false))
        });
        assert_eq!(lab.clone().without(&BTreeSet::new()), lab);
        let rest = lab.without(&["web".parse().unwrap()].into());
        let names: Vec<_> = rest.namespaces.iter().map(|namespace| namespace.name.as_str()).collect();
        let bridges: Vec<_> = rest.bridges.iter().map(|bridge| bridge.name.as_str()).collect();
        let pairs: Vec<_> = rest.pairs.iter().map(|pair| pair.name()).collect();
        assert_eq!((names, bridges), (vec!["r"], vec!["br0", "br1"]));
        assert_eq!((pairs, rest.cables.len(), rest.trunks.len()), (vec!["r:eth0".to_owned()], 0, 1));
        // The gateway is on a bridge that stays, and is unreachable as a host that is off.
        let vias: Vec<_> = rest.namespaces[0]
            .routes
            .iter()
            .filter_map(|route| route.via)
            .map(|via| via.to_string())
            .collect();
        assert_eq!(vias, ["10.0.0.2"]);
    }
}
