//! The port programs of a whole lab, on and off.

use super::{Hook, Pins, Result, attach, attach_xdp, attached, detach, xdp_id};
use crate::{
    kernel::{self, Netns, Rtnl, rcu::Expedited},
    topology::{IfName, Topology},
};

/// The ports of one bridge namespace that have programs.
struct Domain {
    number: u32,
    rtnl: Rtnl,
    ports: Vec<IfName>,
    /// Of these, those that have the XDP program too.
    xdp: Vec<IfName>,
}

/// All port programs of a lab. They stay loaded, whether they are on or off.
pub struct LabPrograms {
    pins: Pins,
    hook: Hook,
    domains: Vec<Domain>,
}

impl LabPrograms {
    /// Finds where they are. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// A bridge namespace is not there.
    pub fn of(topology: &Topology, hook: Hook) -> kernel::Result<Self> {
        let mut domains = Vec::new();
        for (number, place) in topology.domains() {
            let netns = Netns::of(&place)?;
            let ports = topology.ports_with_programs(&place).cloned().collect();
            let xdp = topology.xdp_pairs(&place).map(|pair| pair.port.clone()).collect();
            domains.push(Domain { number: number.into(), rtnl: Rtnl::open(&netns)?, ports, xdp });
        }
        Ok(Self { pins: Pins::of(&topology.lab), hook, domains })
    }

    /// Attaches those that are off. Returns the port of each that was.
    ///
    /// # Errors
    /// The kernel refuses a port; those before it stay attached.
    pub fn attach(&self) -> Result<Vec<IfName>> {
        let mut news = Vec::new();
        let _soon = self.expedited();
        for Domain { number, rtnl, ports, xdp } in &self.domains {
            let ports: Vec<_> = ports.iter().collect();
            news.extend(attach(rtnl.netns(), &self.pins, *number, self.hook, &ports)?);
            let off: Vec<_> = xdp.iter().filter(|port| !self.pins.xdp_link(port).exists()).collect();
            news.extend(attach_xdp(rtnl.netns(), &self.pins, *number, &[], &off)?);
        }
        Ok(news)
    }

    /// Takes them off.
    ///
    /// # Errors
    /// The kernel refuses a port; those before it are off.
    pub fn detach(&self) -> Result<()> {
        let _soon = self.expedited();
        for Domain { rtnl, ports, .. } in &self.domains {
            detach(rtnl.netns(), &self.pins, self.hook, &ports.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Each of them waits for a grace period.
    fn expedited(&self) -> Option<Expedited> {
        Expedited::for_ports(self.domains.iter().map(|domain| domain.ports.len()).sum())
    }

    /// Whether the kernel still runs one. Filters of clsact go at once.
    ///
    /// # Errors
    /// The programs are not pinned.
    pub async fn any_is_on(&self) -> Result<bool> {
        for Domain { number, rtnl, ports, xdp } in &self.domains {
            let on = attached(rtnl.netns(), &self.pins, *number, &ports.iter().collect::<Vec<_>>())?;
            if !on.ours.is_empty() {
                return Ok(true);
            }
            let ours = if xdp.is_empty() { None } else { xdp_id(&self.pins, *number)? };
            if ours.is_some() && rtnl.links().await?.iter().any(|link| link.xdp_program == ours) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
