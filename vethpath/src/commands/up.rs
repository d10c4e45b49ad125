//! `vethpath up`.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use serde::Serialize;

use super::{Exit, Failure, failure::runtime, labs, neighbours, progress};
use crate::{
    apply::{self, Options, Outcome},
    cli::HookArg,
    kernel::probe::{self, Check},
    output::count,
    plan::Changes,
    topology::{Datapath, Topology},
};

/// The number of pairs that are listed if they are not armed.
const NAMED: usize = 100;

/// The changes that were or would be made, for JSON output.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) lab: &'a str,
    pub(super) changes: &'a Changes,
}

impl Report<'_> {
    pub(super) fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}

/// Brings a lab up and reports its state.
pub fn run(file: &Path, hook: Option<HookArg>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let topology = labs::topology_with_warnings(file)?;
    privileged()?;
    let is_moved = labs::go_to(&topology.lab, true)?;
    // A closed stderr does not affect the lab.
    if topology.pairs.iter().any(|pair| pair.datapath == Datapath::Xdp) {
        let _ = warn(&probe::xdp(), &mut std::io::stderr().lock());
    }
    let _ = neighbours::warn(&topology, &mut std::io::stderr().lock());
    let options = Options {
        hook: hook.map(Into::into),
        progress: Some(progress::show),
        waiting: Some(progress::waiting),
        is_moved,
    };
    let done = runtime()?.block_on(apply::up(&topology, options));
    progress::clear();
    let outcome = done.map_err(|error| failure(file, error))?;
    if json {
        let report = Report { lab: topology.lab.as_str(), changes: &outcome.changes };
        let mut out = BufWriter::new(out);
        report.print(&mut out).and_then(|()| out.flush()).map_err(Failure::output)?;
    }
    let _ = print_outcome(&topology, &outcome, &mut std::io::stderr().lock());
    Ok(Exit::Done)
}

/// Adds the command that would work as a hint, if it depends on the file.
fn failure(file: &Path, error: apply::Error) -> Failure {
    let is_transient = matches!(error, apply::Error::Transient(_));
    let failure = Failure::from(error);
    match file.canonicalize() {
        // Absolute, since a change of the mount namespace changes the working directory.
        Ok(file) if is_transient => failure.hint(format!(
            "`nsenter -t 1 -m vethpath up {}` brings it up in this network namespace, with mounts that stay",
            file.display()
        )),
        _ => failure,
    }
}

/// Prints a check's warning about this host's kernel, if there is one, before anything is changed.
fn warn(check: &Check, err: &mut dyn Write) -> std::io::Result<()> {
    if let Some(advice) = &check.advice {
        writeln!(err, "warning: {}: {}\nhint: {advice}", check.name, check.found)?;
    }
    Ok(())
}

/// Fails early if privileges are missing, and reports which.
pub(super) fn privileged() -> Result<(), Failure> {
    Ok(probe::privileges()?)
}

fn print_outcome(topology: &Topology, outcome: &Outcome, err: &mut dyn Write) -> std::io::Result<()> {
    let Outcome { changes, put_back, status } = outcome;
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
    let unarmed = || status.ports.iter().filter_map(|(pair, state)| Some((pair, state.as_ref()?)));
    for (pair, reason) in unarmed().take(NAMED) {
        writeln!(err, "  {pair}: not armed: {reason}")?;
    }
    if let more @ 1.. = unarmed().count().saturating_sub(NAMED) {
        writeln!(err, "  ... and {more} more; `vethpath show {lab}` has all")?;
    }
    for port in put_back {
        writeln!(err, "note: another program took {port} off its bridge meanwhile; reattached")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::Status;

    #[test]
    fn a_kernel_that_is_fine_is_passed_over_and_another_is_warned_of() {
        let said = |status, advice: Option<&str>| {
            let mut out = Vec::new();
            let advice = advice.map(Into::into);
            warn(&Check { name: "XDP".into(), status, found: "a fault".into(), advice }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(Status::Ok, None), "");
        assert_eq!(said(Status::Warning, Some("update it")), "warning: XDP: a fault\nhint: update it\n");
    }
}
