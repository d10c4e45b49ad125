//! Looking at a bridge namespace: everything the kernel does not tell by itself, or at once.

use std::collections::{BTreeMap, BTreeSet};

use log::warn;

use super::{facts::Facts, layout::Layout};
use crate::{
    datapath::{self, Attached, Hook, Pins},
    kernel::{LinkFacts, Result, Rtnl, XdpMode},
    topology::IfName,
};

/// The default of virtual devices: no queueing.
const NO_QUEUE: &str = "noqueue";

/// What is needed to look.
pub struct Looker {
    /// What the lab has in the bridge namespace.
    pub layout: Layout,
    /// Requests to the kernel about it.
    pub rtnl: Rtnl,
    /// The lab's pins.
    pub pins: Pins,
    /// How programs are attached.
    pub hook: Hook,
}

impl Looker {
    /// Reads links, the inner ends behind the lab's ports, and what is attached to the ports.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn links(&self, facts: &mut Facts) -> Result<()> {
        facts.links = self.rtnl.links().await?.into_iter().map(|link| (link.ifindex, link)).collect();
        let mut inner = BTreeMap::new();
        for lab_port in &self.layout.ports {
            let Some(port) = facts.link(&lab_port.port) else { continue };
            if let Some(link) = self.rtnl.peer_of(port).await? {
                inner.insert(port.ifindex, link);
            }
        }
        facts.inner = inner;
        self.look_for_xdp(facts);
        self.attachments(facts).await
    }

    /// Reads the FDB.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn fdb(&self, facts: &mut Facts) -> Result<()> {
        let entries = self.rtnl.fdb().await?;
        facts.fdb = entries.into_iter().map(|entry| ((entry.bridge, entry.mac, entry.vlan), entry)).collect();
        Ok(())
    }

    /// Notes which ports run our XDP program in the driver.
    fn look_for_xdp(&self, facts: &mut Facts) {
        facts.xdp_attached.clear();
        if self.layout.ports.iter().all(|port| port.xdp.is_none()) {
            return;
        }
        let ours = datapath::xdp_id(&self.pins, self.layout.domain.into()).unwrap_or_else(|error| {
            warn!("{error}");
            None
        });
        let runs_ours =
            |link: &&LinkFacts| link.xdp == XdpMode::Native && ours.is_some() && link.xdp_program == ours;
        facts.xdp_attached = facts.links.values().filter(runs_ours).map(|link| link.name.clone()).collect();
    }

    async fn attachments(&self, facts: &mut Facts) -> Result<()> {
        let clsact = self.qdiscs(facts).await?;
        let ports = self.layout.all_ports().map(|(port, _)| port);
        let names: Vec<&IfName> = ports.filter(|port| facts.link(port).is_some()).collect();
        let domain = u32::from(self.layout.domain);
        let found = datapath::attached(self.rtnl.netns(), &self.pins, domain, &names);
        // What cannot be asked is not known to be ours alone.
        let everything_foreign =
            |_| Attached { ours: Vec::new(), foreign: names.iter().map(|&name| name.clone()).collect() };
        let Attached { ours, foreign } = found.unwrap_or_else(everything_foreign);
        let mut foreign: BTreeSet<_> = foreign.iter().map(ToString::to_string).collect();
        let mut attached = BTreeSet::new();
        match self.hook {
            Hook::Tcx => {
                attached.extend(ours.iter().map(ToString::to_string));
                foreign.extend(names.iter().filter(|name| on(facts, &clsact, name)).map(ToString::to_string));
            }
            Hook::Clsact => {
                for name in names.iter().filter(|name| on(facts, &clsact, name)) {
                    let Some(link) = facts.link(name) else { continue };
                    let (ingress, egress) = self.rtnl.clsact_filters(link.ifindex).await?;
                    match (&ingress[..], &egress[..]) {
                        ([one], []) if datapath::is_our_filter(one.priority, one.handle) => {
                            attached.insert(name.to_string())
                        }
                        ([], []) => false,
                        _ => foreign.insert(name.to_string()),
                    };
                }
            }
        }
        (facts.attached, facts.foreign) = (attached, foreign);
        Ok(())
    }

    /// Notes qdiscs that queue, and returns the links with a `clsact` or `ingress` one.
    async fn qdiscs(&self, facts: &mut Facts) -> Result<BTreeSet<u32>> {
        let mut hooks = BTreeSet::new();
        facts.qdiscs.clear();
        for qdisc in self.rtnl.qdiscs().await? {
            match qdisc.kind.as_str() {
                NO_QUEUE => {}
                "clsact" | "ingress" => {
                    hooks.insert(qdisc.ifindex);
                }
                _ => {
                    facts.qdiscs.insert(qdisc.ifindex, qdisc.kind);
                }
            }
        }
        Ok(hooks)
    }
}

fn on(facts: &Facts, ifindexes: &BTreeSet<u32>, name: &IfName) -> bool {
    facts.link(name).is_some_and(|link| ifindexes.contains(&link.ifindex))
}
