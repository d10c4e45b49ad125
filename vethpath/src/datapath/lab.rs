//! Attaching and detaching all port programs of a lab.

use super::{
    GuestPort, Hook, Pins, attach, attach_guest, attach_xdp, attached, detach, detach_guest, xdp_id,
};
use crate::{
    kernel::{Netns, Result, Rtnl, rcu::Expedited},
    topology::{IfName, Topology},
};

/// The ports of one bridge namespace that have programs.
struct Domain {
    number: u32,
    rtnl: Rtnl,
    ports: Vec<IfName>,
    /// Those of `ports` that also have the XDP program.
    xdp: Vec<IfName>,
    /// Ports of other programs: see [`LabPrograms::and_guests`].
    guests: Vec<GuestPort>,
}

/// All port programs of a lab. They stay loaded, whether they are attached or not.
pub struct LabPrograms {
    pins: Pins,
    hook: Hook,
    domains: Vec<Domain>,
}

impl LabPrograms {
    /// Finds the ports with programs. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// A bridge namespace does not exist.
    pub fn of(topology: &Topology, hook: Hook) -> Result<Self> {
        let mut domains = Vec::new();
        for (number, place) in topology.domains() {
            let netns = Netns::of(&place)?;
            let ports = topology.ports_with_programs(&place).cloned().collect();
            let xdp = topology.xdp_pairs(&place).map(|pair| pair.port.clone()).collect();
            domains.push(Domain {
                number: number.into(),
                rtnl: Rtnl::open(&netns)?,
                ports,
                xdp,
                guests: Vec::new(),
            });
        }
        Ok(Self { pins: Pins::of(&topology.lab), hook, domains })
    }

    /// The same with some guest ports.
    #[must_use]
    pub fn and_guests(mut self, guests: Vec<GuestPort>) -> Self {
        for guest in guests {
            if let Some(domain) =
                self.domains.iter_mut().find(|domain| domain.number == u32::from(guest.domain))
            {
                domain.guests.push(guest);
            }
        }
        self
    }

    /// Attaches the programs that are detached. Returns their ports. A guest port whose link the kernel has yet to
    /// release is left to the agent.
    ///
    /// # Errors
    /// The kernel refuses a port. The ports before it stay attached.
    pub fn attach(&self) -> Result<Vec<IfName>> {
        let mut attached = Vec::new();
        let _soon = self.expedited();
        for Domain { number, rtnl, ports, xdp, guests } in &self.domains {
            let ports: Vec<_> = ports.iter().collect();
            attached.extend(attach(rtnl.netns(), &self.pins, *number, self.hook, &ports)?);
            let off: Vec<_> = xdp.iter().filter(|port| !self.pins.xdp_link(port).exists()).collect();
            attached.extend(attach_xdp(rtnl.netns(), &self.pins, *number, &[], &off)?);
            for guest in guests {
                if attach_guest(rtnl.netns(), &self.pins, self.hook, guest)? {
                    attached.push(guest.name.clone());
                }
            }
        }
        Ok(attached)
    }

    /// Detaches all programs.
    ///
    /// # Errors
    /// The kernel refuses a port. The ports before it are detached.
    pub fn detach(&self) -> Result<()> {
        let _soon = self.expedited();
        for Domain { rtnl, ports, guests, .. } in &self.domains {
            detach(rtnl.netns(), &self.pins, self.hook, &ports.iter().collect::<Vec<_>>())?;
            for guest in guests {
                detach_guest(rtnl.netns(), &self.pins, self.hook, guest.domain, guest.ifindex)?;
            }
        }
        Ok(())
    }

    /// Each attach and detach waits for a grace period.
    fn expedited(&self) -> Option<Expedited> {
        Expedited::for_ports(self.domains.iter().map(|domain| domain.ports.len() + domain.guests.len()).sum())
    }

    /// Whether the kernel still runs one of the programs. clsact filters are removed synchronously and not checked.
    ///
    /// # Errors
    /// The programs are not pinned.
    pub async fn any_is_on(&self) -> Result<bool> {
        for Domain { number, rtnl, ports, xdp, guests } in &self.domains {
            let ports: Vec<_> = ports.iter().chain(guests.iter().map(|guest| &guest.name)).collect();
            let on = attached(rtnl.netns(), &self.pins, *number, &ports)?;
            if !on.is_empty() {
                return Ok(true);
            }
            let ours = if xdp.is_empty() { None } else { xdp_id(&self.pins, *number)? };
            if ours.is_some() && rtnl.socket().links()?.iter().any(|link| link.xdp_program == ours) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
