//! What the agent knows of one bridge namespace. Plain data: no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::links::Links;
use crate::{
    kernel::{FdbEntry, LinkFacts, watch::Event, xdp::Ready},
    topology::IfName,
};

/// Everything known of one bridge namespace.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its links, by ifindex.
    pub links: Links,
    /// The inner ends, by the ifindex of their ports.
    pub inner: BTreeMap<u32, LinkFacts>,
    /// FDB entries, by bridge, address and VLAN.
    pub fdb: HashMap<(u32, [u8; 6], u16), FdbEntry>,
    /// Names of ports that run our program.
    pub attached: BTreeSet<String>,
    /// Names of ports on which somebody else's programs or filters are.
    pub foreign: BTreeSet<String>,
    /// Qdiscs other than the default on links, by ifindex.
    pub qdiscs: BTreeMap<u32, String>,
    /// Links with transmit offloads switched off, by ifindex; `None` if they could not be asked.
    pub reduced_offloads: Option<BTreeSet<u32>>,
    /// Packet sockets that see all traffic of these links; 0 is every link.
    pub taps: BTreeSet<u32>,
    /// By port name: a netfilter rule that its frames would pass.
    pub rules: BTreeMap<String, String>,
    /// By port name: for which packets its bridge calls netfilter, rules or not, as flags of
    /// [`VALIDATE`](vethpath_common::flags::VALIDATE).
    pub validated: BTreeMap<String, u32>,
    /// Names of ports that run our XDP program, in the driver.
    pub xdp_attached: BTreeSet<String>,
    /// Links that take frames which are redirected to them by XDP, by ifindex.
    pub xdp_takers: BTreeSet<u32>,
    /// By the ifindex of a port that wants XDP: what its inner end is ready for.
    pub ready: BTreeMap<u32, Ready>,
    /// Counters of pairs whose redirected frames do not arrive.
    pub losing: BTreeSet<u32>,
}

impl Facts {
    /// The link of this name.
    #[must_use]
    pub fn link(&self, name: &IfName) -> Option<&LinkFacts> {
        self.links.named(name.as_str())
    }

    /// Whether a port's inner end is in the port's own namespace.
    #[must_use]
    pub fn shares_namespace(port: &LinkFacts) -> bool {
        port.peer_netns.is_none()
    }

    /// Whether frames that leave by this port may need their checksum or their segments made there.
    #[must_use]
    pub fn works_on_frames(&self, port: &LinkFacts) -> bool {
        let reduced = self.reduced_offloads.as_ref().is_none_or(|links| links.contains(&port.ifindex));
        reduced || port.gso_limited
    }

    /// Takes in an event. Returns whether links must be looked at again.
    pub fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::Learned(entry) => {
                self.fdb.insert((entry.bridge, entry.mac, entry.vlan), *entry);
                false
            }
            Event::Forgot(entry) => {
                self.fdb.remove(&(entry.bridge, entry.mac, entry.vlan));
                false
            }
            Event::Gone { ifindex } => {
                self.links.remove(*ifindex);
                self.inner.remove(ifindex);
                self.fdb.retain(|_, entry| entry.port != *ifindex && entry.bridge != *ifindex);
                true
            }
            Event::Changed | Event::Lost => true,
        }
    }
}
