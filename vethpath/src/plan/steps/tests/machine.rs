//! The observed state of a lab that matches its file, built without a kernel.

use crate::{
    plan::{Found, Observed, ObservedLink, ObservedRoute, settings},
    topology::{Interface, Mac, Masquerade, Place, Rule, Topology},
};

/// Builds the state of a machine on which a lab matches its file.
pub(super) struct Machine {
    observed: Observed,
    next: u32,
}

impl Machine {
    pub(super) fn with(lab: &Topology) -> Observed {
        let mut machine = Self { observed: Observed { is_settled: true, ..Observed::default() }, next: 1 };
        machine.build(lab);
        let links = machine.observed.links.iter().filter(|(_, link)| link.up);
        let subnets = links.flat_map(|((place, name), link)| {
            link.addresses.iter().map(|address| (place.clone(), name.clone(), address.trunc()))
        });
        machine.observed.subnets = subnets.collect();
        machine.observed
    }

    fn build(&mut self, lab: &Topology) {
        for namespace in &lab.namespaces {
            let lo =
                ObservedLink { up: true, addresses: namespace.loopback.clone(), ..ObservedLink::default() };
            let name = namespace.name.clone();
            let each = |rule: &Rule| rule.families().map(|of| (of, rule.clone())).collect::<Vec<_>>();
            self.observed.rules.insert(name.clone(), namespace.rules.iter().flat_map(each).collect());
            self.observed.namespaces.insert(name.clone(), Found::Ours);
            self.observed.links.insert((Place::Namespace(name.clone()), "lo".to_owned()), lo);
            self.observed
                .routes
                .insert(name.clone(), namespace.routes.iter().map(ObservedRoute::of).collect());
        }
        let places = lab.namespaces.iter().map(|namespace| Place::Namespace(namespace.name.clone()));
        for place in places.chain([Place::Host]) {
            for setting in settings(lab, &place, true) {
                self.observed.sysctls.insert((place.clone(), setting.key), setting.value.to_string());
            }
        }
        for bridge in &lab.bridges {
            let mut link = self.link(bridge.mac, None);
            (link.options, link.addresses) = (bridge.options().to_vec(), bridge.addresses.clone());
            (link.mtu, link.sizes) = (bridge.mtu.unwrap_or(1500), bridge.sizes);
            self.observed.links.insert((bridge.place.clone(), bridge.name.to_string()), link);
        }
        for pair in &lab.pairs {
            let mut port = self.link(pair.port_mac, pair.inner.mtu);
            (port.bridge, port.sizes) = (Some(pair.bridge.to_string()), pair.inner.sizes);
            let inner = self.interface(&pair.inner);
            let inside = (Place::Namespace(pair.namespace.clone()), pair.inner.name.to_string());
            self.join([((pair.place.clone(), pair.port.to_string()), port), (inside, inner)]);
        }
        for cable in &lab.cables {
            let ends = [&cable.a, &cable.b].map(|end| {
                ((end.place.clone(), end.interface.name.to_string()), self.interface(&end.interface))
            });
            self.join(ends);
        }
        for trunk in &lab.trunks {
            let mtu = trunk.mtu(lab);
            let ends = [&trunk.a, &trunk.b].map(|end| {
                let bridge = Some(end.bridge.to_string());
                let link = ObservedLink { bridge, sizes: trunk.sizes(lab), ..self.link(end.mac, mtu) };
                ((end.place.clone(), end.port.to_string()), link)
            });
            self.join(ends);
        }
        for (_, place) in lab.domains() {
            let ports = lab.ports_with_programs(&place).map(|port| (place.clone(), port.to_string()));
            self.observed.programs.extend(ports);
            let ports = lab.xdp_pairs(&place).map(|pair| (place.clone(), pair.port.to_string()));
            self.observed.xdp_programs.extend(ports);
        }
        let routes = lab.uplink_routes.iter();
        let routes = routes.map(|r| (r.place.clone(), r.device.to_string(), r.to, r.via));
        self.observed.uplink_routes.extend(routes);
        self.observed.masquerading.extend(Masquerade::of(lab).into_iter().map(|nat| nat.place));
    }

    fn link(&mut self, mac: Mac, mtu: Option<u32>) -> ObservedLink {
        self.next += 1;
        ObservedLink {
            ours: true,
            marked: true,
            ifindex: self.next,
            mac: Some(mac.bytes()),
            mtu: mtu.unwrap_or(1500),
            up: true,
            ..ObservedLink::default()
        }
    }

    fn interface(&mut self, interface: &Interface) -> ObservedLink {
        let link = self.link(interface.mac, interface.mtu);
        ObservedLink {
            addresses: interface.addresses.clone(),
            neighbours: interface.neighbours.clone(),
            sizes: interface.sizes,
            up: interface.up,
            ..link
        }
    }

    fn join(&mut self, [(a, mut one), (b, mut other)]: [((Place, String), ObservedLink); 2]) {
        (one.peer, other.peer) = (Some(other.ifindex), Some(one.ifindex));
        self.observed.links.extend([(a, one), (b, other)]);
    }
}
