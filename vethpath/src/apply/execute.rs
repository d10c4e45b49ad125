//! Running steps, and undoing those of a run that failed.

mod bulk;

use std::{collections::BTreeSet, path::Path};

use tokio::process::Child;

use super::{Error, Places, clear, nat, prepare};
use crate::{
    kernel::{Direct, Netns, Result, Rtnl, VethEnd, grace::Expedited, netns, sysctl, xdp},
    plan::{Change, Step},
    state::{AgentLock, Directory, Journal, Offloads, stop},
    topology::{
        Bridge, Cable, IfName, LabName, Masquerade, Namespace, NsName, Place, Sysctl, Trunk, lab_mark,
        pair_mark, trunk_altname, trunk_mark,
    },
};

/// How many steps are run together, between which an interrupt is heard.
const TOGETHER: usize = 96;

/// What a step has made, and how it is unmade.
#[derive(Clone, Debug)]
enum Made {
    Namespace(NsName),
    Link(Place, IfName),
    Table(Masquerade),
}

impl Made {
    /// Whether it can be unmade together with another.
    fn goes_with(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Link(here, _), Self::Link(there, _)) if here == there)
    }
}

/// Runs steps for one lab.
pub struct Executor<'a> {
    pub(super) lab: &'a LabName,
    pub(super) places: &'a mut Places,
    pub(super) journal: Journal,
    /// The agent that this run has started.
    pub(super) agent: Option<Child>,
    made: Vec<Made>,
    /// Bridges that this run has made, and not brought up yet.
    quiet: BTreeSet<(Place, String)>,
    /// Namespaces that this run has made, where interfaces are made without duplicate address detection.
    without_dad: BTreeSet<NsName>,
}

impl<'a> Executor<'a> {
    /// Nothing is done yet.
    pub fn new(lab: &'a LabName, places: &'a mut Places, journal: Journal) -> Self {
        Self {
            lab,
            places,
            journal,
            agent: None,
            made: Vec::new(),
            quiet: BTreeSet::new(),
            without_dad: BTreeSet::new(),
        }
    }

    /// The connections.
    pub fn places(&mut self) -> &mut Places {
        self.places
    }

    /// Runs one step by itself. It is in the journal.
    async fn alone(&mut self, step: &Step) -> std::result::Result<(), Error> {
        match step {
            Step::Namespace(namespace) => self.adopted(namespace)?,
            Step::Bridge(bridge) => self.bridge(bridge).await?,
            Step::Cable(cable) => self.cable(cable).await?,
            Step::Trunk { trunk, mtu } => self.trunk(trunk, *mtu).await?,
            Step::Sysctls { namespace, settings } => {
                let netns = self.places.get(&Place::Namespace(namespace.clone()))?.netns().clone();
                self.set(namespace, &netns, settings)?;
            }
            Step::Masquerade(nat) => {
                self.made.push(Made::Table(nat.clone()));
                nat::add(self.places.get(&nat.place)?.netns(), nat, self.lab)?;
            }
            // Of what is there already.
            _ => self.change(step).await?,
        }
        Ok(())
    }

    /// Makes an inner end ready for XDP. What it had is in the journal before that is done, and tells what
    /// to put back: when its port does not want XDP any more, or the lab is taken down.
    pub(super) fn prepare(&mut self, found: &Offloads, inside: &Netns) -> std::result::Result<(), Error> {
        self.journal.note(&found.to_string())?;
        Ok(prepare::switch(found, inside)?)
    }

    /// Switches GRO of an inner end off and on again. A run that ends between the two has said in the journal
    /// that it was on.
    pub(super) fn renew(&mut self, found: &Offloads, inside: &Netns) -> std::result::Result<Change, Error> {
        self.journal.note(&found.to_string())?;
        xdp::renew(inside, found.ifindex)?;
        let name = format_args!("{}:{}", found.namespace, found.interface);
        Ok(Change::of("offloads", name).values(None::<&str>, found.told(false)))
    }

    /// Puts back what an inner end had.
    pub(super) async fn restore(&mut self, found: &Offloads) -> std::result::Result<(), Error> {
        prepare::restore(found, self.lab).await?;
        Ok(self.journal.note(&found.restored())?)
    }

    /// Writes settings of a namespace, and down before that what they were.
    pub(super) fn set(
        &mut self,
        namespace: &NsName,
        netns: &Netns,
        settings: &[Sysctl],
    ) -> std::result::Result<(), Error> {
        let before = sysctl::read_all(netns, &settings.iter().collect::<Vec<_>>())?;
        for (setting, before) in settings.iter().zip(before) {
            if let Some(value) = before.filter(|value| !value.contains('\n')) {
                self.journal.note_was(namespace, &Sysctl { path: setting.path.clone(), value })?;
            }
        }
        sysctl::write(netns, settings).map_err(Error::of_setting)
    }

    /// Unmakes what was made, last first; links of a place that follow each other together. Goes on after
    /// a fault; returns all of them.
    pub async fn undo(&mut self) -> Vec<crate::kernel::Error> {
        let mut faults = Vec::new();
        while let Some(made) = self.made.last().cloned() {
            let count =
                self.made.iter().rev().take(TOGETHER).take_while(|other| other.goes_with(&made)).count();
            let rest = self.made.len() - count.max(1);
            let doomed = self.made.split_off(rest);
            faults.extend(self.unmake(&doomed).err());
            // Nothing above waits: whoever wants to interrupt gets a turn here.
            stop::here_if_told_to_wait("undo").await;
            tokio::task::yield_now().await;
        }
        faults
    }

    /// Ends the agent that this run has started, which may not have its lock yet: then nobody else would find it.
    ///
    /// # Errors
    /// The file system refuses, or the agent survives.
    pub async fn end_agent(&mut self, directory: &Directory) -> std::result::Result<(), Error> {
        let Some(mut child) = self.agent.take() else { return Ok(()) };
        let ended = AgentLock::end_holder(directory).await;
        // It may be gone by then.
        let _ = child.kill().await;
        Ok(ended?)
    }

    /// What [`Executor::undo`] has not come to.
    pub fn left(&self) -> Vec<String> {
        let left = |made: &Made| match made {
            Made::Namespace(name) => format!("namespace {name}"),
            Made::Link(place, name) => format!("interface {place}:{name}"),
            Made::Table(nat) => format!("nft table {}", nat.table),
        };
        self.made.iter().map(left).collect()
    }

    /// Unmakes one thing, or links of one place.
    fn unmake(&mut self, made: &[Made]) -> Result<()> {
        match made {
            [Made::Namespace(name), ..] => {
                self.places.forget(name);
                self.without_dad.remove(name);
                netns::unbind(name)
            }
            [Made::Table(nat), ..] => nat::remove(&self.places.netns(&nat.place)?, nat),
            [Made::Link(place, _), ..] => {
                let _soon = Expedited::for_ports(made.len());
                let direct = Direct::open(&self.places.netns(place)?)?;
                let is_it =
                    |link: &str, made: &Made| matches!(made, Made::Link(_, name) if name.as_str() == link);
                clear::remove(&direct, place, |link| made.iter().any(|made| is_it(&link.name, made)))
            }
            [] => Ok(()),
        }
    }

    fn adopted(&mut self, namespace: &Namespace) -> std::result::Result<(), Error> {
        let Some(path) = &namespace.adopt else { return Ok(()) };
        let name = &namespace.name;
        let there = Netns::open(Path::new(path), name.as_str())?;
        self.places.add(name, there.clone());
        self.set(name, &there, &namespace.sysctls)?;
        self.journal.note_adopted(name, there.inode()?)?;
        if !netns::exists(name) {
            self.made.push(Made::Namespace(name.clone()));
        }
        Ok(there.bind(name)?)
    }

    async fn bridge(&mut self, bridge: &Bridge) -> Result<()> {
        let rtnl = self.places.get(&bridge.place)?;
        self.made.push(Made::Link(bridge.place.clone(), bridge.name.clone()));
        rtnl.create_bridge(bridge).await?;
        let ifindex = rtnl.expect_link(&bridge.name).await?.ifindex;
        rtnl.mark(ifindex, &lab_mark(self.lab), None).await?;
        self.quiet.insert((bridge.place.clone(), bridge.name.to_string()));
        without_dad(rtnl.netns(), bridge.name.as_str())
    }

    async fn cable(&mut self, cable: &Cable) -> Result<()> {
        let (here, there) = (self.places.get(&cable.a.place)?, self.places.get(&cable.b.place)?);
        let end = |end: &crate::topology::CableEnd| (end.interface.name.clone(), end.interface.mac);
        let ((a, a_mac), (b, b_mac)) = (end(&cable.a), end(&cable.b));
        self.made.push(Made::Link(cable.a.place.clone(), a.clone()));
        let (a_end, b_end) =
            (VethEnd { name: &a, mac: a_mac, bridge: None }, VethEnd { name: &b, mac: b_mac, bridge: None });
        here.create_veth(a_end, b_end, there.netns(), cable.a.interface.mtu).await?;
        for (rtnl, end) in [(here, &cable.a), (there, &cable.b)] {
            let name = &end.interface.name;
            let mark = pair_mark(self.lab, &end.place.to_string(), name.as_str());
            rtnl.mark(rtnl.expect_link(name).await?.ifindex, &mark, None).await?;
            without_dad(rtnl.netns(), name.as_str())?;
        }
        Ok(())
    }

    async fn trunk(&mut self, trunk: &Trunk, mtu: Option<u32>) -> Result<()> {
        let (here, there) = (self.places.get(&trunk.a.place)?, self.places.get(&trunk.b.place)?);
        let (a, b) = (&trunk.a, &trunk.b);
        self.made.push(Made::Link(a.place.clone(), a.port.clone()));
        let bridge = here.expect_link(&a.bridge).await?.ifindex;
        let a_end = VethEnd { name: &a.port, mac: a.mac, bridge: Some(bridge) };
        let b_end = VethEnd { name: &b.port, mac: b.mac, bridge: None };
        here.create_veth(a_end, b_end, there.netns(), mtu).await?;
        for (rtnl, end, other) in [(&here, a, b), (&there, b, a)] {
            let ifindex = rtnl.expect_link(&end.port).await?.ifindex;
            let (from, to) = (&end.bridge, &other.bridge);
            rtnl.mark(ifindex, &trunk_mark(self.lab, from, to), Some(&trunk_altname(self.lab, from, to)))
                .await?;
        }
        let bridge = there.expect_link(&b.bridge).await?.ifindex;
        there.enslave(there.expect_link(&b.port).await?.ifindex, bridge, &b.port).await
    }
}

pub(super) async fn index_of(rtnl: &Rtnl, device: &str) -> Result<u32> {
    let missing = || std::io::Error::from_raw_os_error(nix::libc::ENODEV);
    let found =
        rtnl.link(device).await?.ok_or_else(|| crate::kernel::Error::new("find link", device, missing()))?;
    Ok(found.ifindex)
}

/// No duplicate address detection on an interface (or, as `default`, on all that will be made in
/// the namespace): addresses are usable as soon as it is up. A kernel without IPv6 has none to do.
pub(super) fn without_dad(netns: &Netns, interface: &str) -> Result<()> {
    netns.run(|| without_dad_here(netns, interface))?
}

/// The same on a thread that is in the namespace.
fn without_dad_here(netns: &Netns, interface: &str) -> Result<()> {
    let off = sysctl::setting(&["net", "ipv6", "conf", interface, "accept_dad"], "0");
    match sysctl::write_here(netns, &[off]) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
