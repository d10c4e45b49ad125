//! Offload sizes.

use super::{Step, steps::Planner};
use crate::topology::{Bridge, IfName, OffloadSizes, Place, Topology, Trunk, USUAL_SIZE};

impl Planner<'_> {
    /// Compares the offload sizes of a bridge. Without ports it cannot have GSO frames of more than the default, nor with
    /// ports that cannot, such as taps (`tso_max_size`, which `br_set_gso_limits` in net/bridge/br_if.c takes from the
    /// ports). Ports of other programs are taken to be such.
    pub(super) fn bridge_sizes(&mut self, bridge: &Bridge) {
        let ours: Vec<&str> = self.topology.ports_of(bridge).map(IfName::as_str).collect();
        let mut links = self.observed.links.range((bridge.place.clone(), String::new())..);
        let mut links = links.by_ref().take_while(|((place, _), _)| *place == bridge.place);
        let has_others = links.any(|((_, name), link)| {
            link.bridge.as_deref() == Some(bridge.name.as_str()) && !ours.contains(&name.as_str())
        });
        let may_be_large = !ours.is_empty() && !has_others;
        let most =
            |size: Option<u32>| size.map(|size| if may_be_large { size } else { size.min(USUAL_SIZE) });
        let OffloadSizes { gso, gso_ipv4, gro } = bridge.sizes;
        let sizes = OffloadSizes { gso: most(gso), gso_ipv4: most(gso_ipv4), gro };
        self.sizes(&bridge.place, bridge.name.as_str(), sizes);
    }

    /// Compares the offload sizes of a device. A size that an earlier topology gave it, and that the file no longer has,
    /// becomes the kernel's default. One that the file never had is left alone.
    pub(super) fn sizes(&mut self, place: &Place, device: &str, wanted: OffloadSizes) {
        let there = self.standing.link(place, device).map(|link| link.sizes);
        let is_other = |size: Option<u32>| size.is_some_and(|size| size != USUAL_SIZE);
        let has_others = there.is_some_and(|there| there.each().into_iter().any(|(_, size)| is_other(size)));
        let former = self.former.iter().filter(|_| has_others);
        let former = former.map(|former| sizes_of(former, place, device));
        let former = former.fold(OffloadSizes::default(), OffloadSizes::or);
        let usual = |size: Option<u32>| size.map(|_| USUAL_SIZE);
        let usual =
            OffloadSizes { gso: usual(former.gso), gso_ipv4: usual(former.gso_ipv4), gro: usual(former.gro) };
        let wanted = if there.is_some() { wanted.or(usual) } else { wanted };
        let from = there.unwrap_or_default();
        let differs = |there: Option<u32>, wanted: Option<u32>| wanted.filter(|_| wanted != there);
        let to = OffloadSizes {
            gso: differs(from.gso, wanted.gso),
            // Setting the first may change the second.
            gso_ipv4: wanted
                .gso_ipv4
                .filter(|_| differs(from.gso, wanted.gso).is_some() || wanted.gso_ipv4 != from.gso_ipv4),
            gro: differs(from.gro, wanted.gro),
        };
        if !to.is_empty() {
            let (place, device) = (place.clone(), device.to_owned());
            self.plan.raise.push(Step::Sizes { place, device, from, to });
        }
    }
}

impl Topology {
    /// The lab's ports on a bridge.
    fn ports_of<'a>(&'a self, bridge: &'a Bridge) -> impl Iterator<Item = &'a IfName> {
        let pairs =
            self.pairs.iter().filter(|pair| (&pair.place, &pair.bridge) == (&bridge.place, &bridge.name));
        let ends = self.trunks.iter().flat_map(|trunk| [&trunk.a, &trunk.b]);
        let ends = ends.filter(|end| (&end.place, &end.bridge) == (&bridge.place, &bridge.name));
        pairs.map(|pair| &pair.port).chain(ends.map(|end| &end.port))
    }
}

impl Trunk {
    /// The lesser offload sizes of its bridges.
    #[must_use]
    pub fn sizes(&self, topology: &Topology) -> OffloadSizes {
        let of = |end: &crate::topology::TrunkEnd| {
            topology.bridge(&end.place, &end.bridge).map(|bridge| bridge.sizes).unwrap_or_default()
        };
        of(&self.a).least(of(&self.b))
    }
}

/// The offload sizes that a topology gives a device.
fn sizes_of(topology: &Topology, place: &Place, device: &str) -> OffloadSizes {
    let is_in = |name: &crate::topology::NsName| matches!(place, Place::Namespace(here) if here == name);
    let pairs = topology.pairs.iter().filter(|pair| {
        &pair.place == place && pair.port.as_str() == device
            || is_in(&pair.namespace) && pair.inner.name.as_str() == device
    });
    let ends = topology.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let ends = ends.filter(|end| &end.place == place && end.interface.name.as_str() == device);
    let is_it = |bridge: &&Bridge| &bridge.place == place && bridge.name.as_str() == device;
    let trunks = topology.trunks.iter().filter(|trunk| {
        [&trunk.a, &trunk.b].iter().any(|end| &end.place == place && end.port.as_str() == device)
    });
    let mut found = pairs
        .map(|pair| pair.inner.sizes)
        .chain(ends.map(|end| end.interface.sizes))
        .chain(topology.bridges.iter().filter(is_it).map(|bridge| bridge.sizes))
        .chain(trunks.map(|trunk| trunk.sizes(topology)));
    found.next().unwrap_or_default()
}
