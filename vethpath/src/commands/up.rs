//! `vethpath up`.

use std::{
    io::{BufWriter, Write},
    path::Path,
    sync::OnceLock,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    Exit, Failure,
    failure::runtime,
    firewall::{self, Certain},
    labs, neighbours, subnets,
};
use crate::{
    apply::{self, Options, Outcome},
    cli::HookArg,
    kernel::{
        Adoptions,
        engine::{self, Found},
        home::Intent,
        probe::{self, Check},
    },
    output::{self, count, printable},
    plan::{ACCEPT_RULE, Action, Change, Changes},
    state,
    topology::{Datapath, Overrides, Topology},
};

/// The number of pairs that are listed if they are not armed.
const NAMED: usize = 100;

/// A lab with fewer steps is up before a progress bar would be of use.
const LEAST_STEPS: usize = 200;

/// The progress bar while a large lab comes up.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// The changes that were or would be made, for JSON output.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) lab: &'a str,
    pub(super) changes: &'a Changes,
}

/// The options of `up`.
pub struct Request {
    /// How programs are attached.
    pub hook: Option<HookArg>,
    /// Whether a lab whose packets are dropped is brought up.
    pub allow_drops: bool,
    /// What replaces keys of the file.
    pub overrides: Overrides,
}

/// Brings a lab up and reports its state.
pub fn run(file: &Path, request: &Request, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let runtime = runtime()?;
    let topology = labs::topology_with_warnings(file, request.overrides)?;
    let is_moved = enter(&topology)?;
    let adoptions = runtime.block_on(adoptions(&topology))?;
    check(&topology, &adoptions, request.allow_drops)?;
    let done = runtime.block_on(apply::up(&topology, adoptions, options(request, is_moved)));
    clear_progress();
    let outcome = done.map_err(|error| failure(file, error))?;
    report(topology, &outcome, json, out)?;
    Ok(Exit::Done)
}

/// Fails early if privileges are missing. Moves this thread to the namespaces of a lab that is up elsewhere, and returns
/// whether it did.
pub(super) fn enter(topology: &Topology) -> Result<bool, Failure> {
    privileged()?;
    labs::enter(&topology.lab, Intent::Change)
}

/// The namespaces of the containers that a lab adopts. All of them must run.
pub(super) async fn adoptions(topology: &Topology) -> Result<Adoptions, Failure> {
    let Found { adoptions, missing } = engine::find(topology.containers()).await;
    if missing.is_empty() { Ok(adoptions) } else { Err(missing[..].into()) }
}

/// Prints what may go wrong on this machine.
///
/// # Errors
/// It is certain that packets of a new lab are dropped, which is not `allowed`.
pub(super) fn check(topology: &Topology, adoptions: &Adoptions, allowed: bool) -> Result<(), Failure> {
    let err = &mut std::io::stderr().lock();
    // A closed stderr does not affect the lab.
    if topology.pairs.iter().any(|pair| pair.datapath == Datapath::Xdp) {
        let _ = warn(&probe::xdp(), err);
    }
    let _ = neighbours::warn(topology, err);
    let _ = subnets::warn(topology, err);
    // A lab that is up is changed whatever the rules are by now.
    let is_up = state::known_labs().is_ok_and(|labs| labs.contains(&topology.lab));
    let certain = if allowed || is_up { Certain::Warned } else { Certain::Refused };
    firewall::check(topology, adoptions, certain, err)
}

pub(super) fn options(request: &Request, is_known: bool) -> Options {
    Options {
        hook: request.hook.map(Into::into),
        progress: Some(show_progress),
        waiting: Some(report_busy),
        is_known,
        switch: None,
    }
}

/// Prints the result of `up`, with `json` as one document.
pub(super) fn report(
    topology: Topology,
    outcome: &Outcome,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if json {
        let report = Report { lab: topology.lab.as_str(), changes: &outcome.changes };
        let mut out = BufWriter::new(out);
        output::json(&report, &mut out).and_then(|()| out.flush()).map_err(Failure::output)?;
    }
    let topology = topology.without(&outcome.left_out);
    let _ = print_outcome(&topology, outcome, &mut std::io::stderr().lock());
    Ok(())
}

/// Adds the command that would work as a hint, if it depends on the file.
pub(super) fn failure(file: &Path, error: apply::Error) -> Failure {
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
        let text = format!("warning: {}: {}\nhint: {advice}", check.name, check.found);
        writeln!(err, "{}", printable(&text))?;
    }
    Ok(())
}

/// Fails early if privileges are missing, and reports which.
pub(super) fn privileged() -> Result<(), Failure> {
    Ok(probe::privileges()?)
}

fn print_outcome(topology: &Topology, outcome: &Outcome, err: &mut dyn Write) -> std::io::Result<()> {
    let Outcome { changes, reattached, warnings, status, left_out, stopped, .. } = outcome;
    let lab = &topology.lab;
    if changes.is_empty() {
        writeln!(err, "lab {lab} is up: nothing to change")?;
    } else {
        let parts = [
            count(topology.namespaces.len(), "namespace"),
            count(topology.bridges.len() + topology.adopted.len(), "bridge"),
            count(topology.pairs.len(), "pair"),
            count(topology.cables.len(), "cable"),
        ];
        writeln!(err, "lab {lab} is up: {}", parts.join(", "))?;
    }
    let armed = status.ports.values().filter(|state| state.is_none()).count();
    if !status.ports.is_empty() {
        writeln!(err, "fast path: {armed} of {} armed", count(status.ports.len(), "pair"))?;
    }
    if !status.guests.is_empty() {
        let armed = status.guests.iter().filter(|guest| guest.reason.is_none()).count();
        writeln!(err, "fast path: {armed} of {} armed", count(status.guests.len(), "guest port"))?;
    }
    let pairs = status.ports.iter().map(|(pair, state)| (pair, state.as_ref()));
    let guests = status.guests.iter().map(|guest| (&guest.name, guest.reason.as_ref()));
    let unarmed = || pairs.clone().chain(guests.clone()).filter_map(|(pair, state)| Some((pair, state?)));
    for (pair, reason) in unarmed().take(NAMED) {
        writeln!(err, "  {pair}: not armed: {}", printable(&reason.to_string()))?;
    }
    if let more @ 1.. = unarmed().count().saturating_sub(NAMED) {
        writeln!(err, "  ... and {more} more; `vethpath show {lab}` has all")?;
    }
    let is_new_rule = |change: &Change| (change.action, change.kind) == (Action::Create, ACCEPT_RULE);
    if let rules @ 1.. = changes.iter().filter(is_new_rule).count() {
        let (rules, verb) = (count(rules, "rule"), if rules == 1 { "accepts" } else { "accept" });
        writeln!(
            err,
            "note: {rules} in Docker's chain DOCKER-USER {verb} what the lab sends to other networks, and the replies; \
             `down` removes them"
        )?;
    }
    if let Some(address) = topology.metrics.filter(|_| !changes.is_empty()) {
        writeln!(err, "metrics: http://{address}/metrics")?;
    }
    for port in reattached {
        writeln!(err, "note: another program took {port} off its bridge meanwhile; reattached")?;
    }
    for warning in warnings {
        writeln!(err, "warning: {}", printable(warning))?;
    }
    for namespace in left_out {
        writeln!(err, "note: namespace {namespace} is left out until its container runs")?;
    }
    for host in stopped {
        writeln!(err, "note: host {host} is stopped; `vethpath start {host}` starts it")?;
    }
    Ok(())
}

/// Shows how many steps are done, and removes the bar after the last one. Nothing is shown if standard error is not a
/// terminal.
fn show_progress(done: usize, all: usize) {
    if all < LEAST_STEPS {
        return;
    }
    let bar = BAR.get_or_init(|| {
        let bar = ProgressBar::new(all as u64);
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {elapsed}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    });
    bar.set_position(done as u64);
    if done >= all {
        bar.finish_and_clear();
    }
}

/// Reports which process is working on a lab, while this command waits for it.
pub(super) fn report_busy(busy: &state::Error) {
    // A closed stderr does not affect the wait.
    let _ = writeln!(std::io::stderr(), "waiting: {}", printable(&busy.to_string()));
}

/// Removes the bar if the work ended before its last step.
pub(super) fn clear_progress() {
    if let Some(bar) = BAR.get() {
        bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::probe::Status;

    #[test]
    fn a_kernel_that_is_fine_is_passed_over_and_another_is_warned_of() {
        let printed = |status, advice: Option<&str>| {
            let mut out = Vec::new();
            let advice = advice.map(Into::into);
            warn(&Check { name: "XDP".into(), status, found: "a fault".into(), advice }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(Status::Ok, None), "");
        assert_eq!(printed(Status::Warning, Some("update it")), "warning: XDP: a fault\nhint: update it\n");
    }
}
