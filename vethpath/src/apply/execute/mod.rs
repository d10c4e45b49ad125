//! Runs steps, and undoes those of a failed run.

mod bulk;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use tokio::process::Child;

use super::{Error, NetnsCache, cleanup, namespaces, nat};
use crate::{
    kernel::{
        FormerRoute, Netns, NewVeth, Result, RouteSocket, Rtnl, VethEnd, netns, rcu::Expedited, sysctl,
    },
    plan::{Accepted, Step},
    state::{AgentLock, Directory, History, Journal, MetricsLock, Saved, test_hooks},
    topology::{
        Bridge, Cable, IfName, LabName, Masquerade, Namespace, NsName, Pair, Place, Route, RouteKey, Sysctl,
        Trunk, lab_mark, pair_mark, trunk_altname, trunk_mark,
    },
};

/// How many steps are run in a batch. Interrupts are handled between batches.
const TOGETHER: usize = 96;

/// An object that a step has created, for undo.
#[derive(Clone, Debug)]
enum Made {
    Namespace(NsName),
    Link(Place, IfName),
    Table(Masquerade),
    /// Rules in Docker's chain, with those that were there before.
    Rules(Accepted),
}

impl Made {
    /// Whether it can be removed together with another.
    fn goes_with(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Link(here, _), Self::Link(there, _)) if here == there)
    }
}

/// What becomes of a setting that the kernel does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// An error: the file has the setting.
    Refused,
    /// It is left out: the setting is of IPv6, which the kernel may lack.
    Skipped,
}

/// Runs steps for one lab.
pub struct Executor<'a> {
    pub(super) lab: &'a LabName,
    pub(super) namespaces: &'a mut NetnsCache,
    pub(super) journal: Journal,
    /// The agent that this run has started.
    pub(super) agent: Option<Child>,
    /// The reader of metrics that this run has started.
    pub(super) metrics: Option<Child>,
    /// What could not be restored of what others had.
    pub(super) warnings: Vec<String>,
    /// The bridges of which ports are marked before they are enslaved.
    pub(super) bridges_with_guests: BTreeSet<(Place, IfName)>,
    made: Vec<Made>,
    /// Bridges that this run has created and not brought up yet.
    quiet: BTreeSet<(Place, String)>,
    /// The `accept_dad` that interfaces inherit in namespaces that this run has created.
    inherits_dad: BTreeMap<NsName, u8>,
    /// What all namespaces that this run creates have inherited of the machine's settings. The first one is read.
    inherited: OnceLock<Vec<Sysctl>>,
}

impl<'a> Executor<'a> {
    /// Creates an executor. Runs nothing yet.
    pub fn new(lab: &'a LabName, places: &'a mut NetnsCache, journal: Journal) -> Self {
        Self {
            lab,
            namespaces: places,
            journal,
            agent: None,
            metrics: None,
            warnings: Vec::new(),
            bridges_with_guests: BTreeSet::new(),
            made: Vec::new(),
            quiet: BTreeSet::new(),
            inherits_dad: BTreeMap::new(),
            inherited: OnceLock::new(),
        }
    }

    /// The connections to the lab's namespaces.
    pub fn namespaces(&mut self) -> &mut NetnsCache {
        self.namespaces
    }

    /// Runs a single step, which is in the journal already. Changes and removals are not undone by [`Executor::undo`]: see
    /// [`up`](super::up).
    async fn run_one(&mut self, step: &Step) -> std::result::Result<(), Error> {
        match step {
            Step::Namespace(namespace) if namespace.adopt.is_some() => self.adopted(namespace)?,
            Step::Namespace(_) => self.make_namespaces(&[step])?,
            Step::Pair(_) => self.make_pairs(&[step])?,
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
            | Step::UplinkRoute(_) => self.change_links(&[step])?,
            Step::DeleteLink { .. } => self.delete_links(&[step])?,
            Step::Bridge(bridge) => self.bridge(bridge).await?,
            Step::Cable(cable) => self.cable(cable).await?,
            Step::Trunk { trunk, mtu } => self.trunk(trunk, *mtu).await?,
            Step::Sysctls { place, settings } => {
                let rtnl = self.namespaces.get(place)?;
                let write = || self.write_sysctls(place, rtnl.netns(), settings, Missing::Refused);
                nat::keep_routers(&rtnl, settings, write).await?;
            }
            Step::Masquerade(nat) => {
                self.made.push(Made::Table(nat.clone()));
                nat::add(&self.namespaces.get(&nat.place)?, nat, self.lab).await?;
            }
            Step::Accept(accepted) => {
                self.made.push(Made::Rules(accepted.clone()));
                nat::accept(&self.namespaces.netns(&accepted.place)?, accepted, self.lab)?;
            }
            Step::Unmasquerade(nat) => {
                let netns = self.namespaces.netns(&nat.place)?;
                nat::remove(&netns, nat, self.lab).await.left.into_iter().next().map_or(Ok(()), Err)?;
            }
            Step::DeleteNamespace(namespace) => {
                if let Some(adopt) = &namespace.adopt {
                    let place = Place::Namespace(namespace.name.clone());
                    // A name on which no namespace is mounted leads to nothing.
                    if let Ok(there) = self.namespaces.netns(&place) {
                        namespaces::restore_sysctls(&place, &there, &Saved::read(&Directory::of(self.lab))?)?;
                        self.restore_routes(&namespace.name, |_| true)?;
                        self.namespaces.adoptions_mut().keep(adopt, there);
                    }
                }
                self.delete_namespace(namespace)?;
            }
            Step::DeleteAddress { place, device, address } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.delete_address(index_of(&rtnl, device)?, *address).await?;
            }
            Step::DeleteRoute { namespace, route } => {
                self.namespaces.get(&Place::Namespace(namespace.clone()))?.delete_route(route).await?;
                test_hooks::kill_point();
            }
            Step::RestoreRoutes { namespace, key } => self.restore_routes(namespace, |one| one == key)?,
            Step::DeleteUplinkRoute(route) => {
                let rtnl = self.namespaces.get(&route.place)?;
                rtnl.delete_uplink_route(index_of(&rtnl, route.device.as_str())?, route).await?;
            }
            Step::Sysctl { place, setting, .. } => {
                let (rtnl, settings) = (self.namespaces.get(place)?, std::slice::from_ref(setting));
                let write = || self.write_sysctls(place, rtnl.netns(), settings, Missing::Refused);
                nat::keep_routers(&rtnl, settings, write).await?;
            }
            Step::Mark { place, device, mark, altname, settings } => {
                let rtnl = self.namespaces.get(place)?;
                sysctl::write_existing(rtnl.netns(), settings)?;
                match rtnl.mark(index_of(&rtnl, device)?, mark, altname.as_deref()).await {
                    // The alternative name exists, and the mark is set.
                    Err(error) if error.is_present() => {}
                    other => other?,
                }
            }
            Step::Enslave { place, device, bridge, .. } => {
                let rtnl = self.namespaces.get(place)?;
                let bridge = rtnl.expect_link(bridge)?.ifindex;
                rtnl.enslave(index_of(&rtnl, device)?, bridge, format_args!("{place}:{device}")).await?;
            }
            Step::Mac { place, device, mac, .. } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_mac(index_of(&rtnl, device)?, *mac, format_args!("{place}:{device}")).await?;
            }
            Step::Mtu { place, device, mtu, .. } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_mtu(index_of(&rtnl, device)?, *mtu, format_args!("{place}:{device}")).await?;
            }
            Step::BridgeOption { place, bridge, to, .. } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_bridge_option(rtnl.expect_link(bridge)?.ifindex, *to, bridge).await?;
            }
            Step::Down { place, device } => {
                let rtnl = self.namespaces.get(place)?;
                rtnl.set_down(index_of(&rtnl, device)?, format_args!("{place}:{device}")).await?;
            }
        }
        Ok(())
    }

    /// Everything of the lab in it has been removed before.
    fn delete_namespace(&mut self, namespace: &Namespace) -> Result<()> {
        self.namespaces.forget(&namespace.name);
        if namespace.has_its_name() { Ok(()) } else { netns::unbind(&namespace.name) }
    }

    /// Writes settings of a place, after their present values are in the journal.
    fn write_sysctls(
        &mut self,
        place: &Place,
        netns: &Netns,
        settings: &[Sysctl],
        missing: Missing,
    ) -> std::result::Result<(), Error> {
        let keys: Vec<_> = settings.iter().map(|setting| setting.key.clone()).collect();
        for (key, present) in keys.iter().zip(sysctl::read_all(netns, &keys)?) {
            if let Some(value) = present.filter(|value| !value.contains('\n')) {
                self.journal.append_former_value(place, &Sysctl { key: key.clone(), value: value.into() })?;
            }
        }
        match missing {
            Missing::Refused => sysctl::write(netns, settings).map_err(Error::of_setting),
            Missing::Skipped => Ok(sysctl::write_existing(netns, settings)?),
        }
    }

    /// Writes the routes that these steps replace in adopted namespaces to the journal, but for the lab's own.
    fn save_routes(&mut self, steps: &[&Step]) -> std::result::Result<(), Error> {
        let wanted = steps.iter().flat_map(|step| match step {
            Step::Route { namespace, route, .. } => vec![(namespace, route)],
            Step::Routes { namespace, routes } => routes.iter().map(|route| (namespace, route)).collect(),
            _ => Vec::new(),
        });
        let wanted: Vec<(&NsName, &Route)> = wanted.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let directory = Directory::of(self.lab);
        let saved = Saved::read(&directory)?;
        if saved.adopted.is_empty() {
            return Ok(());
        }
        let history = History::read(&directory)?;
        let namespaces: Vec<_> =
            history.iter().flat_map(History::topologies).flat_map(|lab| &lab.namespaces).collect();
        for (name, route) in wanted {
            if !saved.adopted.contains_key(name.as_str()) {
                continue;
            }
            let place = Place::Namespace(name.clone());
            let socket = RouteSocket::open(&self.namespaces.netns(&place)?)?;
            let labs = history.iter().flat_map(History::topologies);
            let names: Vec<&str> = labs
                .flat_map(|lab| lab.interfaces_in(&place))
                .map(|interface| interface.name.as_str())
                .collect();
            let devices: Vec<u32> = socket.indexes(&names)?.into_iter().flatten().collect();
            let ours = namespaces.iter().filter(|namespace| &namespace.name == name);
            let ours: Vec<&Route> = ours.flat_map(|namespace| namespace.routes.iter()).collect();
            // One without a gateway is the lab's if it leads by the lab's interfaces alone.
            let is_ours = |found: &FormerRoute| match found.via {
                Some(_) => ours.iter().any(|ours| ours.key() == found.key && ours.via == found.via),
                None => {
                    let leads_by = found.devices();
                    !leads_by.is_empty() && leads_by.iter().all(|device| devices.contains(device))
                }
            };
            let mut replaced = socket.replaced_routes(&route.key())?;
            replaced.retain(|found| !is_ours(found));
            // A route that was added since the last time is the one to restore.
            let known = saved.routes.get(&(name.clone(), route.key()));
            if !replaced.is_empty() && known != Some(&replaced) {
                self.journal.append_former_routes(name, &route.key(), &replaced)?;
            }
        }
        Ok(())
    }

    /// Restores routes of an adopted namespace that the lab's have replaced. One whose device is gone is left out.
    fn restore_routes(
        &mut self,
        name: &NsName,
        is_wanted: impl Fn(&RouteKey) -> bool,
    ) -> std::result::Result<(), Error> {
        let saved = Saved::read(&Directory::of(self.lab))?;
        if saved.routes.keys().any(|(of, key)| of == name && is_wanted(key)) {
            let there = self.namespaces.netns(&Place::Namespace(name.clone()))?;
            self.warnings.extend(namespaces::restore_routes(name, &there, &saved, is_wanted)?);
        }
        Ok(())
    }

    /// Removes what was created, in reverse order. Adjacent links of one place are removed together. Continues after
    /// errors, and returns them all.
    pub async fn undo(&mut self) -> Vec<Error> {
        let mut faults = Vec::new();
        while let Some(made) = self.made.last().cloned() {
            let count =
                self.made.iter().rev().take(TOGETHER).take_while(|other| other.goes_with(&made)).count();
            let rest = self.made.len() - count.max(1);
            let doomed = self.made.split_off(rest);
            faults.extend(self.unmake(&doomed).await);
            // The calls above may not await. Yield, so that an interrupt can be handled.
            test_hooks::wait_point("undo").await;
            tokio::task::yield_now().await;
        }
        faults
    }

    /// Ends the agent and the processes for metrics that this run has started. They may not have their locks yet, so no
    /// other process could find them.
    ///
    /// # Errors
    /// A file operation fails, or one does not exit.
    pub async fn end_daemons(&mut self, directory: &Directory) -> std::result::Result<(), Error> {
        let (mut agent, mut metrics) = (Ok(()), Ok(()));
        if let Some(mut child) = self.metrics.take() {
            metrics = MetricsLock::terminate_holder(directory).await;
            // It may have exited already.
            let _ = child.kill().await;
        }
        if let Some(mut child) = self.agent.take() {
            agent = AgentLock::terminate_holder(directory).await;
            let _ = child.kill().await;
        }
        Ok(agent.and(metrics)?)
    }

    /// The objects that [`Executor::undo`] has not removed yet.
    pub fn left(&self) -> Vec<String> {
        let left = |made: &Made| match made {
            Made::Namespace(name) => format!("namespace {name}"),
            Made::Link(place, name) => format!("interface {place}:{name}"),
            Made::Table(nat) => format!("nft table {}", nat.table),
            Made::Rules(accepted) => format!("rules in {}", accepted.chain()),
        };
        self.made.iter().map(left).collect()
    }

    /// Removes one object, or links of one place.
    async fn unmake(&mut self, made: &[Made]) -> Vec<Error> {
        let done = match made {
            [Made::Namespace(name), ..] => {
                let restored = self.restore_routes(name, |_| true);
                self.namespaces.forget(name);
                self.inherits_dad.remove(name);
                let unbound = netns::unbind(name).map_err(Error::from);
                return [restored, unbound].into_iter().filter_map(std::result::Result::err).collect();
            }
            [Made::Table(nat), ..] => match self.namespaces.netns(&nat.place) {
                Ok(netns) => return nat::remove(&netns, nat, self.lab).await.left,
                Err(error) => Err(error),
            },
            [Made::Rules(accepted), ..] => self
                .namespaces
                .netns(&accepted.place)
                .and_then(|netns| nat::accept_again(&netns, accepted, self.lab)),
            [Made::Link(place, _), ..] => self.unmake_links(place, made),
            [] => Ok(()),
        };
        done.err().into_iter().map(Error::from).collect()
    }

    fn unmake_links(&mut self, place: &Place, made: &[Made]) -> Result<()> {
        let _soon = Expedited::for_ports(made.len());
        let socket = RouteSocket::open(&self.namespaces.netns(place)?)?;
        let is_it = |link: &str, made: &Made| matches!(made, Made::Link(_, name) if name.as_str() == link);
        cleanup::remove(&socket, place, |link| made.iter().any(|made| is_it(&link.name, made)))
    }

    fn adopted(&mut self, namespace: &Namespace) -> std::result::Result<(), Error> {
        let Some(adopt) = &namespace.adopt else { return Ok(()) };
        let name = &namespace.name;
        let adoptions = self.namespaces.adoptions();
        let there = adoptions.open(adopt, name.as_str())?;
        let there = there.ok_or_else(|| Error::adopt(namespace, adopt, namespaces::NOT_FOUND))?;
        if adoptions.has_ended(adopt) {
            return Err(Error::adopt(namespace, adopt, "it has stopped or started anew meanwhile"));
        }
        self.namespaces.add(name, there.clone());
        self.journal.append_adopted(name, there.id()?)?;
        if namespace.has_its_name() {
            return Ok(());
        }
        if !netns::exists(name) {
            self.made.push(Made::Namespace(name.clone()));
        }
        Ok(there.bind(name)?)
    }

    async fn bridge(&mut self, bridge: &Bridge) -> std::result::Result<(), Error> {
        let rtnl = self.namespaces.get(&bridge.place)?;
        self.made.push(Made::Link(bridge.place.clone(), bridge.name.clone()));
        rtnl.create_bridge(bridge).await?;
        let ifindex = rtnl.expect_link(&bridge.name)?.ifindex;
        let settings = bridge.ipv6.settings(bridge.name.as_str());
        self.write_sysctls(&bridge.place, rtnl.netns(), &settings, Missing::Skipped)?;
        rtnl.mark(ifindex, &lab_mark(self.lab), None).await?;
        self.quiet.insert((bridge.place.clone(), bridge.name.to_string()));
        Ok(())
    }

    async fn cable(&mut self, cable: &Cable) -> std::result::Result<(), Error> {
        let (here, there) = (self.namespaces.get(&cable.a.place)?, self.namespaces.get(&cable.b.place)?);
        let end = |end: &crate::topology::CableEnd| (end.interface.name.clone(), end.interface.mac);
        let ((a, a_mac), (b, b_mac)) = (end(&cable.a), end(&cable.b));
        self.made.push(Made::Link(cable.a.place.clone(), a.clone()));
        RouteSocket::open(here.netns())?.create_veth(NewVeth {
            end: VethEnd { name: &a, mac: a_mac, bridge: None },
            peer: VethEnd { name: &b, mac: b_mac, bridge: None },
            peer_netns: there.netns(),
            mtu: cable.a.interface.mtu,
        })?;
        for (rtnl, end) in [(here, &cable.a), (there, &cable.b)] {
            let name = &end.interface.name;
            let mark = pair_mark(self.lab, &end.place.to_string(), name.as_str());
            let ifindex = rtnl.expect_link(name)?.ifindex;
            let settings = end.interface.ipv6.settings(name.as_str());
            self.write_sysctls(&end.place, rtnl.netns(), &settings, Missing::Skipped)?;
            rtnl.mark(ifindex, &mark, None).await?;
        }
        Ok(())
    }

    async fn trunk(&mut self, trunk: &Trunk, mtu: Option<u32>) -> Result<()> {
        let (here, there) = (self.namespaces.get(&trunk.a.place)?, self.namespaces.get(&trunk.b.place)?);
        let (a, b) = (&trunk.a, &trunk.b);
        self.made.push(Made::Link(a.place.clone(), a.port.clone()));
        RouteSocket::open(here.netns())?.create_veth(NewVeth {
            end: VethEnd { name: &a.port, mac: a.mac, bridge: None },
            peer: VethEnd { name: &b.port, mac: b.mac, bridge: None },
            peer_netns: there.netns(),
            mtu,
        })?;
        for (rtnl, end, other) in [(&here, a, b), (&there, b, a)] {
            let ifindex = rtnl.expect_link(&end.port)?.ifindex;
            let (from, to) = (&end.bridge, &other.bridge);
            sysctl::write_existing(rtnl.netns(), &Pair::port_settings(&end.place, end.port.as_str()))?;
            rtnl.mark(ifindex, &trunk_mark(self.lab, from, to), Some(&trunk_altname(self.lab, from, to)))
                .await?;
            let bridge = rtnl.expect_link(from)?.ifindex;
            rtnl.enslave(ifindex, bridge, &end.port).await?;
        }
        Ok(())
    }
}

pub(super) fn index_of(rtnl: &Rtnl, device: &str) -> Result<u32> {
    let missing = || std::io::Error::from_raw_os_error(nix::libc::ENODEV);
    let found =
        rtnl.link(device)?.ok_or_else(|| crate::kernel::Error::new("find link", device, missing()))?;
    Ok(found.ifindex)
}
