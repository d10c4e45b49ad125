//! What was found. Its JSON is what `bench --json` prints: see `docs/performance.md`.

use serde::Serialize;

use super::{
    choose::{Chosen, Side},
    modes::Mode,
    schedule::Rounds,
    statistics::{Distribution, Interval, overhead_removed},
    warnings::Warning,
};
use crate::topology::LabName;

/// One figure for each mode.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerMode<T> {
    /// A veth pair and nothing else.
    pub cable: T,
    /// The lab's bridge without programs.
    pub bridge: T,
    /// The lab's bridge with them; `None` where the pairs are not armed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<T>,
}

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The lab.
    pub lab: String,
    /// The namespace that asked.
    pub from: String,
    /// The one that answered.
    pub to: String,
    /// How many rounds the figures are of.
    pub rounds: usize,
    /// What makes the figures less than they seem.
    pub warnings: Vec<Warning>,
    /// Round trips of UDP datagrams with 64 bytes, both ends on one CPU.
    pub udp_rr: PerMode<Distribution>,
    /// The part of the bridge's overhead over a cable that the fast path removes; `None` where it
    /// cannot be told.
    pub overhead_removed: Option<Interval>,
}

impl Report {
    /// Sums up.
    #[must_use]
    pub fn new(lab: LabName, chosen: &Chosen, rounds: &Rounds, mut warnings: Vec<Warning>) -> Self {
        let of = |mode| {
            let slices: Vec<_> = rounds.good.iter().filter_map(|round| round.get(&mode)).collect();
            let histograms: Vec<_> = slices.iter().map(|slice| &slice.histogram).collect();
            Distribution::of(&histograms, slices.iter().map(|slice| slice.lost).sum())
        };
        let fast = chosen.is_armed().then(|| of(Mode::Fast));
        let udp_rr = PerMode { cable: of(Mode::Cable), bridge: of(Mode::Bridge), fast };
        let overhead_removed = udp_rr.fast.as_ref().and_then(|fast| {
            let removed =
                overhead_removed(&udp_rr.cable.round_p50_us, &udp_rr.bridge.round_p50_us, &fast.round_p50_us);
            if removed.is_none() {
                warnings.push(Warning::NoOverhead);
            }
            removed
        });
        let name = |side: &Side| side.pair.namespace.to_string();
        Self {
            lab: lab.to_string(),
            from: name(&chosen.from),
            to: name(&chosen.to),
            rounds: rounds.good.len(),
            warnings,
            udp_rr,
            overhead_removed,
        }
    }
}
