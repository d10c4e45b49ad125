//! Programs on existing ports.

use std::collections::BTreeSet;

use super::{ProgramStep, steps::Planner};
use crate::topology::{Bridge, Datapath, IfName, Pair, Place, Topology};

impl Planner<'_> {
    /// Plans to attach or detach the programs of each port that is kept.
    pub(super) fn programs(&mut self) {
        for (_, place) in self.topology.domains() {
            let wanted: Vec<_> = self.topology.ports_with_programs(&place).collect();
            for port in self.topology.ports(&place) {
                if self.standing.link(&place, port.as_str()).is_none() {
                    continue;
                }
                let is_on = self.observed.programs.contains(&(place.clone(), port.to_string()));
                let (place, port, wanted) = (place.clone(), port.clone(), wanted.contains(&port));
                match (wanted, is_on) {
                    (true, false) => self.plan.programs.push(ProgramStep::Attach { place, port }),
                    (false, true) => self.plan.programs.push(ProgramStep::Detach { place, port }),
                    _ => {}
                }
            }
        }
        for pair in &self.topology.pairs {
            self.xdp(pair);
        }
        self.guests();
    }

    /// Bridges whose guest ports are accelerated from now on, or no longer. Those of a bridge that is made are part of
    /// making it.
    fn guests(&mut self) {
        for Bridge { place, name, guests, .. } in &self.topology.bridges {
            let former = self.former.iter().rev().find_map(|lab| lab.bridge(place, name));
            let is_there = self.standing.link(place, name.as_str()).is_some();
            if is_there && former.is_some_and(|former| former.guests != *guests) {
                let (place, bridge, on) = (place.clone(), name.clone(), *guests);
                self.plan.programs.push(ProgramStep::Guests { place, bridge, on, adopted: false });
            }
        }
        let names = |lab: &'_ Topology| {
            let bridges = lab.adopted.iter().filter(|bridge| bridge.datapath != Datapath::Bridge);
            bridges.map(|bridge| (bridge.place.clone(), bridge.name.clone())).collect::<BTreeSet<_>>()
        };
        let (former, now) = (self.former.last().map(names).unwrap_or_default(), names(self.topology));
        let step = |on| {
            move |(place, bridge): &(Place, IfName)| {
                let (place, bridge) = (place.clone(), bridge.clone());
                ProgramStep::Guests { place, bridge, on, adopted: true }
            }
        };
        self.plan.programs.extend(now.difference(&former).map(step(true)));
        self.plan.programs.extend(former.difference(&now).map(step(false)));
    }

    /// Prepares an inner end before the XDP program is attached, and restores its offloads after it is detached.
    fn xdp(&mut self, pair: &Pair) {
        let inside = Place::Namespace(pair.namespace.clone());
        let Some(inner) = self.standing.link(&inside, pair.inner.name.as_str()) else { return };
        let key = (pair.namespace.clone(), pair.inner.name.clone());
        let (place, port) = (pair.place.clone(), pair.port.clone());
        let wanted = pair.datapath == Datapath::Xdp;
        let is_on = self.observed.xdp_programs.contains(&(place.clone(), port.to_string()));
        let steps = &mut self.plan.programs;
        if wanted {
            steps.extend(self.observed.unready.get(&key).cloned().map(ProgramStep::SetUpXdp));
        }
        match (wanted, is_on) {
            (true, false) => steps.push(ProgramStep::AttachXdp { place, port }),
            (false, true) => steps.push(ProgramStep::DetachXdp { place, port }),
            _ => {}
        }
        if !wanted {
            // Another device may have that name by now.
            let found = self.observed.switched.get(&key).filter(|found| found.ifindex == inner.ifindex);
            steps.extend(found.cloned().map(ProgramStep::RestoreOffloads));
        }
    }
}
