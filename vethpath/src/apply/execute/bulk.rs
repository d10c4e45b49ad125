//! Runs steps of one kind in batches. A lab has a thousand of each kind, which take several times as long one by one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::OnceLock,
};

use super::{Error, Executor, Made, Missing, TOGETHER};
use crate::{
    apply::cleanup,
    datapath::Pins,
    kernel::{
        LinkChange, Netns, NetnsId, NewVeth, Result, RouteSocket, VethEnd, devconf, pool, rcu::Expedited,
        sysctl,
    },
    plan::{Step, default_dad},
    state::test_hooks,
    topology::{Ipv6, LabName, Namespace, NsName, Pair, Place, Scope, Sysctl, altname, lab_mark, pair_mark},
};

/// Kinds of steps that can be run together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Namespaces,
    Pairs,
    /// Changes of existing links.
    LinkChanges,
    /// Removals of links.
    Deletions,
    /// Steps that are run one by one.
    Alone,
}

impl Kind {
    fn of(step: &Step) -> Self {
        match step {
            Step::Namespace(namespace) if namespace.adopt.is_none() => Self::Namespaces,
            Step::Pair(_) => Self::Pairs,
            Step::Address { .. }
            | Step::Subnet { .. }
            | Step::Up { .. }
            | Step::Route { .. }
            | Step::Routes { .. }
            | Step::Neighbour { .. }
            | Step::DeleteNeighbour { .. }
            | Step::Rule { .. }
            | Step::DeleteRule { .. }
            | Step::Sizes { .. }
            | Step::UplinkRoute(_) => Self::LinkChanges,
            Step::DeleteLink { .. } => Self::Deletions,
            Step::Namespace(_)
            | Step::Bridge(_)
            | Step::Cable(_)
            | Step::Trunk { .. }
            | Step::Mark { .. }
            | Step::Enslave { .. }
            | Step::Mac { .. }
            | Step::Mtu { .. }
            | Step::BridgeOption { .. }
            | Step::Sysctls { .. }
            | Step::Sysctl { .. }
            | Step::DeleteAddress { .. }
            | Step::DeleteRoute { .. }
            | Step::RestoreRoutes { .. }
            | Step::DeleteUplinkRoute(_)
            | Step::Down { .. }
            | Step::Masquerade(_)
            | Step::Accept(_)
            | Step::Unmasquerade(_)
            | Step::DeleteNamespace(_) => Self::Alone,
        }
    }
}

impl Executor<'_> {
    /// Runs steps in order, and adjacent steps of one kind together. Each is in the journal before it starts, and in
    /// the list for undo by the time it is done. `progress` is called with the number of steps completed.
    ///
    /// A bridge that this run has created comes up last. Each host sends MLD, DAD and ND multicast when its link comes
    /// up, and a bridge that is up floods it to all ports that came up before. Routes of its namespace may go via the
    /// bridge, so they follow it. So do other interfaces of its namespace: where several are in one subnet, the first
    /// that is up has the connected route.
    ///
    /// # Errors
    /// The first error. Later steps may have been done.
    pub async fn run_all(
        &mut self,
        steps: &[Step],
        mut progress: impl FnMut(usize),
    ) -> std::result::Result<(), Error> {
        let (last, first): (Vec<&Step>, Vec<&Step>) = steps.iter().partition(|step| self.is_held(step));
        for steps in [&first, &last] {
            let mut rest = &steps[..];
            while let Some(first) = rest.first() {
                let kind = Kind::of(first);
                let most = if kind == Kind::Alone { 1 } else { TOGETHER };
                let count = rest.iter().take(most).take_while(|step| Kind::of(step) == kind).count();
                let (now, later) = rest.split_at(count);
                self.journal.append_all(now.iter().map(|step| step.change()))?;
                match kind {
                    Kind::Namespaces => self.make_namespaces(now)?,
                    Kind::Pairs => self.make_pairs(now)?,
                    Kind::LinkChanges => self.change_links(now)?,
                    Kind::Deletions => self.delete_links(now)?,
                    Kind::Alone => self.run_one(first).await?,
                }
                progress(count);
                // The calls above may not await. Yield, so that an interrupt can be handled.
                tokio::task::yield_now().await;
                rest = later;
            }
        }
        if !last.is_empty() {
            self.ask_for_carriers().await?;
        }
        Ok(())
    }

    /// Reads the interfaces of these steps. An interface gets its IPv6 MTU once the kernel has sent its carrier event:
    /// see [`Executor::ask_for_carriers`].
    pub(in crate::apply) async fn ask_for_links(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            let (place, settings) = match step {
                Step::Sysctl { place, setting, .. } => (place, std::slice::from_ref(setting)),
                Step::Sysctls { place, settings } => (place, &settings[..]),
                _ => continue,
            };
            for setting in settings {
                if let Scope::Interface(name) = setting.key.scope() {
                    let _ = self.namespaces.get(place)?.link(name)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the bridges that were brought up. A bridge has no IPv6 until the kernel has sent its carrier event. The
    /// kernel does that within a second, or when the link is read (`linkwatch_sync_dev` in `rtnl_getlink`,
    /// net/core/rtnetlink.c).
    async fn ask_for_carriers(&mut self) -> Result<()> {
        for (place, bridge) in std::mem::take(&mut self.quiet) {
            let _ = self.namespaces.get(&place)?.link(&bridge)?;
        }
        Ok(())
    }

    /// Removes links, those of a place together. One that is gone with its other end is no fault.
    pub(super) fn delete_links(&mut self, steps: &[&Step]) -> std::result::Result<(), Error> {
        let mut by_place: BTreeMap<&Place, BTreeSet<&str>> = BTreeMap::new();
        for step in steps {
            if let Step::DeleteLink { place, device, .. } = step {
                by_place.entry(place).or_default().insert(device);
            }
        }
        for (place, devices) in by_place {
            let _soon = Expedited::for_ports(devices.len());
            let socket = RouteSocket::open(&self.namespaces.netns(place)?)?;
            cleanup::remove(&socket, place, |link| devices.contains(link.name.as_str()))?;
            test_hooks::kill_point();
            for port in devices.iter().filter_map(|device| device.parse().ok()) {
                // The program has gone with the port; its pin, if there is one, stands for nothing.
                let _ = fs::remove_file(Pins::of(self.lab).link(&port));
            }
        }
        Ok(())
    }

    fn is_held(&self, step: &Step) -> bool {
        match step {
            _ if self.quiet.is_empty() => false,
            Step::Up { place, port: false, .. } | Step::Neighbour { place, .. } => {
                self.quiet.iter().any(|(quiet, _)| quiet == place)
            }
            Step::Route { namespace, .. } | Step::Routes { namespace, .. } => {
                let is_here = |place: &Place| matches!(place, Place::Namespace(name) if name == namespace);
                self.quiet.iter().any(|(place, _)| is_here(place))
            }
            // Either end of the uplink may be held.
            Step::UplinkRoute(_) => true,
            _ => false,
        }
    }

    pub(super) fn make_namespaces(&mut self, steps: &[&Step]) -> std::result::Result<(), Error> {
        let namespaces: Vec<&Namespace> = steps
            .iter()
            .filter_map(|step| if let Step::Namespace(namespace) = step { Some(namespace) } else { None })
            .collect();
        let made = pool::cpu_bound(&namespaces, |namespace| make(namespace, self.lab, &self.inherited));
        let ids = namespaces.iter().zip(&made).filter_map(|(namespace, made)| {
            let (_, id) = made.as_ref().ok()?;
            Some((&namespace.name, *id))
        });
        let mut outcome = self.journal.append_created(ids).map_err(Error::from);
        for (namespace, made) in namespaces.iter().zip(made) {
            match made {
                Ok((made, _)) => {
                    self.made.push(Made::Namespace(namespace.name.clone()));
                    self.namespaces.add(&namespace.name, made.clone());
                    let inherited = default_dad(namespace.dad);
                    // The file may set another value.
                    if !namespace.sysctls.iter().any(|setting| setting.key == inherited.key) {
                        self.inherits_dad.insert(namespace.name.clone(), u8::from(namespace.dad));
                    }
                    if outcome.is_ok() {
                        // One thread writes the present values to the journal first.
                        let place = Place::Namespace(namespace.name.clone());
                        outcome = self.write_sysctls(&place, &made, &namespace.sysctls, Missing::Refused);
                    }
                }
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
        outcome
    }

    pub(super) fn make_pairs(&mut self, steps: &[&Step]) -> std::result::Result<(), Error> {
        let mut by_place: BTreeMap<&Place, Vec<&Pair>> = BTreeMap::new();
        for step in steps {
            if let Step::Pair(pair) = step {
                by_place.entry(&pair.place).or_default().push(pair);
            }
        }
        for (place, pairs) in by_place {
            self.make_pairs_at(place, &pairs)?;
        }
        Ok(())
    }

    fn make_pairs_at(&mut self, place: &Place, pairs: &[&Pair]) -> std::result::Result<(), Error> {
        let outside = RouteSocket::open(&self.namespaces.netns(place)?)?;
        let inside = |pair: &&Pair| self.namespaces.netns(&Place::Namespace(pair.namespace.clone()));
        let inside: Vec<Netns> = pairs.iter().map(inside).collect::<Result<_>>()?;
        let names: Vec<_> = pairs.iter().map(|pair| pair.bridge.as_str()).collect();
        let mut bridges = BTreeMap::new();
        for name in &names {
            if !bridges.contains_key(name) {
                bridges.insert(*name, outside.index(name)?);
            }
        }
        // The agent takes what is on a bridge with guests for one of them, unless it is marked.
        let late = self.bridges_with_guests.clone();
        let has_guests = |pair: &Pair| late.contains(&(pair.place.clone(), pair.bridge.clone()));
        let new = |((pair, name), netns)| {
            let (pair, netns): (&&Pair, _) = (pair, netns);
            let bridge = bridges.get(name).copied().filter(|_| !has_guests(pair));
            NewVeth {
                end: VethEnd { name: &pair.port, mac: pair.port_mac, bridge },
                peer: VethEnd { name: &pair.inner.name, mac: pair.inner.mac, bridge: None },
                peer_netns: netns,
                mtu: pair.inner.mtu,
            }
        };
        let new: Vec<_> = pairs.iter().zip(&names).zip(&inside).map(new).collect();
        let (mut made, mut outcome) = (Vec::new(), Ok(()));
        for ((pair, netns), done) in pairs.iter().zip(&inside).zip(outside.create_veths(&new)?) {
            match done {
                Ok(()) => {
                    self.made.push(Made::Link(place.clone(), pair.port.clone()));
                    made.push((*pair, netns, self.marks(pair), self.ipv6_to_set(pair)));
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        let changes = made.iter().flat_map(|(pair, _, (mark, altname), _)| {
            let link = pair.port.as_str();
            let bridge = bridges.get(pair.bridge.as_str()).copied().filter(|_| has_guests(pair));
            let enslave = bridge.map(|bridge| LinkChange::Enslave { link, bridge });
            std::iter::once(LinkChange::Mark { link, mark, altname: Some(altname) }).chain(enslave)
        });
        let changes: Vec<_> = changes.collect();
        test_hooks::kill_point();
        // Settings are written before the mark: a link without a mark gets both from the next run.
        let ports = made.iter().flat_map(|(pair, ..)| Pair::port_settings(place, pair.port.as_str()));
        sysctl::write_existing(outside.netns(), &ports.collect::<Vec<_>>())?;
        outside.change_links(&changes)?;
        pool::cpu_bound(&made, |(pair, netns, (mark, _), ipv6)| {
            test_hooks::kill_point();
            let link = pair.inner.name.as_str();
            let socket = RouteSocket::entering(netns)?;
            sysctl::write_existing_here(netns, &ipv6.settings(link))?;
            socket.change_links(&[LinkChange::Mark { link, mark, altname: None }])
        })
        .into_iter()
        .collect::<Result<()>>()?;
        for (pair, netns, ..) in &made {
            let settings = pair.inner.ipv6.advertisement_settings(pair.inner.name.as_str());
            let place = Place::Namespace(pair.namespace.clone());
            self.write_sysctls(&place, netns, &settings, Missing::Skipped)?;
        }
        Ok(outcome?)
    }

    /// The IPv6 settings that an inner end does not inherit, without those whose former values go to the journal.
    fn ipv6_to_set(&self, pair: &Pair) -> Ipv6 {
        let inherited = self.inherits_dad.get(&pair.namespace).copied();
        let accept_dad = pair.inner.ipv6.accept_dad.filter(|dad| inherited != Some(*dad));
        Ipv6 { accept_dad, accept_ra: None, autoconf: None }
    }

    fn marks(&self, pair: &Pair) -> (String, String) {
        let (namespace, interface) = (pair.namespace.as_str(), pair.inner.name.as_str());
        (pair_mark(self.lab, namespace, interface), altname(self.lab, namespace, interface))
    }

    /// Runs steps in order within each place, and all places in parallel.
    pub(super) fn change_links(&mut self, steps: &[&Step]) -> std::result::Result<(), Error> {
        self.save_routes(steps)?;
        let mut by_place: BTreeMap<Place, Vec<LinkChange<'_>>> = BTreeMap::new();
        for step in steps {
            if let Some((place, changes)) = link_changes(step) {
                by_place.entry(place).or_default().extend(changes);
            }
        }
        let with_netns = |(place, changes)| self.namespaces.netns(&place).map(|netns| (netns, changes));
        let work: Vec<(Netns, Vec<_>)> = by_place.into_iter().map(with_netns).collect::<Result<_>>()?;
        let done = pool::cpu_bound(&work, |(netns, changes)| {
            test_hooks::kill_point();
            RouteSocket::entering(netns)?.change_links(changes)
        });
        Ok(done.into_iter().collect::<Result<()>>()?)
    }
}

/// Creates a namespace by unsharing the calling thread, and returns it with its identity. The loopback is marked and up
/// before the namespace has a name, so that a named namespace always has its mark. It starts with the kernel's own
/// defaults instead of what it has `inherited`, which is read once.
fn make(namespace: &Namespace, lab: &LabName, inherited: &OnceLock<Vec<Sysctl>>) -> Result<(Netns, NetnsId)> {
    let made = Netns::create_around_thread(namespace.name.as_str())?;
    let mark = lab_mark(lab);
    let socket = RouteSocket::here(&made)?;
    let id = socket.netns_id()?;
    socket.change_links(&[
        LinkChange::Mark { link: "lo", mark: &mark, altname: None },
        LinkChange::Up { link: "lo" },
    ])?;
    sysctl::write_existing_here(&made, inherited.get_or_init(devconf::inherited_here))?;
    sysctl::write_existing_here(&made, &[default_dad(namespace.dad)])?;
    test_hooks::kill_point();
    made.bind(&namespace.name)?;
    test_hooks::kill_point();
    Ok((made, id))
}

/// The link changes of a step, and their place.
fn link_changes(step: &Step) -> Option<(Place, Vec<LinkChange<'_>>)> {
    let (place, act) = match step {
        Step::Address { place, device, address, dad } => {
            (place.clone(), LinkChange::Address { link: device, address: *address, dad: *dad })
        }
        Step::Up { place, device, port: true } => (place.clone(), LinkChange::PortUp { link: device }),
        Step::Up { place, device, port: false } => (place.clone(), LinkChange::Up { link: device }),
        Step::Subnet { place, device, address } => {
            (place.clone(), LinkChange::Subnet { link: device, address: *address })
        }
        Step::Route { namespace, route, .. } => {
            (Place::Namespace(NsName::clone(namespace)), LinkChange::Route(route))
        }
        Step::Neighbour { place, device, neighbour, .. } => {
            (place.clone(), LinkChange::Neighbour { link: device, neighbour: *neighbour })
        }
        Step::DeleteNeighbour { place, device, neighbour } => {
            (place.clone(), LinkChange::NoNeighbour { link: device, neighbour: *neighbour })
        }
        Step::Rule { namespace, family, rule } => {
            (Place::Namespace(NsName::clone(namespace)), LinkChange::Rule(rule, *family))
        }
        Step::DeleteRule { namespace, family, rule } => {
            (Place::Namespace(NsName::clone(namespace)), LinkChange::NoRule(rule, *family))
        }
        Step::Sizes { place, device, to, .. } => {
            (place.clone(), LinkChange::Sizes { link: device, sizes: *to })
        }
        Step::UplinkRoute(route) => (route.place.clone(), LinkChange::UplinkRoute(route)),
        Step::Routes { namespace, routes } => {
            let changes = routes.iter().map(LinkChange::Route).collect();
            return Some((Place::Namespace(NsName::clone(namespace)), changes));
        }
        Step::Namespace(_)
        | Step::Bridge(_)
        | Step::Pair(_)
        | Step::Cable(_)
        | Step::Trunk { .. }
        | Step::Mark { .. }
        | Step::Enslave { .. }
        | Step::Mac { .. }
        | Step::Mtu { .. }
        | Step::BridgeOption { .. }
        | Step::Sysctls { .. }
        | Step::Sysctl { .. }
        | Step::DeleteLink { .. }
        | Step::DeleteAddress { .. }
        | Step::DeleteRoute { .. }
        | Step::RestoreRoutes { .. }
        | Step::DeleteUplinkRoute(_)
        | Step::Down { .. }
        | Step::Masquerade(_)
        | Step::Accept(_)
        | Step::Unmasquerade(_)
        | Step::DeleteNamespace(_) => return None,
    };
    Some((place, vec![act]))
}
