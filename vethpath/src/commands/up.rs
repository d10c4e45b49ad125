//! `vethpath up`.

use std::{io::Write, path::Path};

use serde::Serialize;

use super::{Exit, Failure, failure::runtime, labs, progress};
use crate::{
    apply::{self, Options, Outcome},
    cli::HookArg,
    kernel::probe,
    output::count,
    plan::Change,
    topology::Topology,
};

#[derive(Serialize)]
pub(super) struct Changes<'a> {
    pub(super) lab: &'a str,
    pub(super) changes: &'a [Change],
}

/// Brings a lab up and says how it stands.
pub fn run(file: &Path, hook: Option<HookArg>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let topology = labs::topology_with_warnings(file)?;
    privileged()?;
    let options = Options { hook: hook.map(Into::into), progress: Some(progress::show) };
    let outcome = runtime()?.block_on(apply::up(&topology, options))?;
    if json {
        let changes = Changes { lab: topology.lab.as_str(), changes: &outcome.changes };
        serde_json::to_writer_pretty(&mut *out, &changes)
            .map_err(std::io::Error::from)
            .map_err(Failure::output)?;
        writeln!(out).map_err(Failure::output)?;
    }
    // A closed stderr takes nothing away from the lab.
    let _ = tell(&topology, &outcome, &mut std::io::stderr().lock());
    Ok(Exit::Done)
}

/// Refuses early, and says what is missing.
pub(super) fn privileged() -> Result<(), Failure> {
    probe::privileges()
        .map_err(|missing| Failure::system(missing.to_string()).hint("run vethpath as root (sudo)"))
}

fn tell(topology: &Topology, outcome: &Outcome, err: &mut dyn Write) -> std::io::Result<()> {
    let Outcome { changes, status } = outcome;
    let lab = &topology.lab;
    if changes.is_empty() {
        writeln!(err, "lab {lab} is up: nothing to change")?;
    } else {
        let parts = [
            count(topology.namespaces.len(), "namespace"),
            count(topology.bridges.len(), "bridge"),
            count(topology.pairs.len(), "pair"),
            count(topology.cables.len(), "cable"),
        ];
        writeln!(err, "lab {lab} is up: {}", parts.join(", "))?;
    }
    let armed = status.ports.values().filter(|state| state.is_none()).count();
    if !status.ports.is_empty() {
        writeln!(err, "fast path: {armed} of {} armed", count(status.ports.len(), "pair"))?;
    }
    for (pair, state) in &status.ports {
        if let Some(reason) = state {
            writeln!(err, "  {pair}: not armed: {reason}")?;
        }
    }
    Ok(())
}
