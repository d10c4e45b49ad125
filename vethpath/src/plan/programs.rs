//! Which ports that are there run the program.

use super::{Step, steps::Planner};

impl Planner<'_> {
    /// Compares each port that stays with what its bridge's datapath wants.
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
                    (true, false) => self.plan.programs.push(Step::Attach { place, port }),
                    (false, true) => self.plan.programs.push(Step::Detach { place, port }),
                    _ => {}
                }
            }
        }
    }
}
