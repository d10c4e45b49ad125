//! The traffic matrix: how much each pair sent to each other one by the fast path.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Count;
use crate::{
    agent::counted_pairs,
    datapath::{Counters, Matrix, Pins},
    kernel::Result,
    topology::Topology,
};

/// Traffic from one pair to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The sender: `ns0:eth0`.
    pub from: String,
    /// The receiver.
    pub to: String,
    /// The amount.
    #[serde(flatten)]
    pub count: Count,
}

/// The traffic matrix of a lab, without its empty cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flows {
    /// The lab's name.
    pub lab: String,
    /// Its cells, in the file's order of senders and then receivers.
    pub matrix: Vec<Flow>,
    /// Fast path traffic that was not recorded in the matrix because it was full.
    pub left_out: Count,
}

/// Reads the traffic matrix of a lab. It is empty if there are no maps.
///
/// # Errors
/// The pinned maps are of another version, or the kernel refuses the read.
pub fn matrix(topology: &Topology) -> Result<Flows> {
    let pins = Pins::of(&topology.lab);
    let mut flows = Flows { lab: topology.lab.to_string(), ..Flows::default() };
    if !pins.exist() {
        return Ok(flows);
    }
    let counters = Counters::open(&pins)?;
    let names: BTreeMap<_, _> =
        counted_pairs(topology).map(|(counter, pair)| (counter, pair.name())).collect();
    for (key, count) in counters.matrix()?.cells() {
        if let (Some(from), Some(to)) = (names.get(&key.from), names.get(&key.to)) {
            flows.matrix.push(Flow { from: from.clone(), to: to.clone(), count: count.into() });
        }
    }
    // With an empty matrix, only traffic that was counted outside of the matrix remains.
    for (counter, _) in counted_pairs(topology) {
        flows.left_out = flows.left_out.plus(counters.of(counter, &Matrix::default())?.fast_tx.into());
    }
    Ok(flows)
}
