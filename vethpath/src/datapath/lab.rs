//! The port programs of a whole lab, on and off.

use super::{Hook, Pins, Result, attach, attached, detach};
use crate::{
    kernel::{self, Netns},
    topology::{IfName, Place, Topology},
};

/// The ports of one bridge namespace that have programs.
struct Domain {
    number: u32,
    netns: Netns,
    ports: Vec<IfName>,
}

/// All port programs of a lab. They stay loaded, whether they are on or off.
pub struct LabPrograms {
    pins: Pins,
    hook: Hook,
    domains: Vec<Domain>,
}

impl LabPrograms {
    /// Finds where they are.
    ///
    /// # Errors
    /// A bridge namespace is not there.
    pub fn of(topology: &Topology, hook: Hook) -> kernel::Result<Self> {
        let mut domains = Vec::new();
        for (number, place) in topology.domains() {
            let netns = match &place {
                Place::Host => Netns::current()?,
                Place::Namespace(name) => Netns::named(name)?,
            };
            let ports = topology.ports_with_programs(&place).cloned().collect();
            domains.push(Domain { number: number.into(), netns, ports });
        }
        Ok(Self { pins: Pins::of(&topology.lab), hook, domains })
    }

    /// Attaches those that are off. Returns the ports that were news.
    ///
    /// # Errors
    /// The kernel refuses a port; those before it stay attached.
    pub fn attach(&self) -> Result<Vec<IfName>> {
        let mut news = Vec::new();
        for Domain { number, netns, ports } in &self.domains {
            news.extend(attach(netns, &self.pins, *number, self.hook, &ports.iter().collect::<Vec<_>>())?);
        }
        Ok(news)
    }

    /// Takes them off.
    ///
    /// # Errors
    /// The kernel refuses a port; those before it are off.
    pub fn detach(&self) -> Result<()> {
        for Domain { netns, ports, .. } in &self.domains {
            detach(netns, &self.pins, self.hook, &ports.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Whether the kernel still runs one. Filters of clsact go at once.
    ///
    /// # Errors
    /// The programs are not pinned.
    pub fn any_is_on(&self) -> Result<bool> {
        for Domain { number, netns, ports } in &self.domains {
            let on = attached(netns, &self.pins, *number, &ports.iter().collect::<Vec<_>>())?;
            if !on.ours.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
