//! `vethpath list` and `vethpath show`: the labs that are up, and the state of one.

use std::{fmt, io::Write};

use serde::Serialize;

use super::{Exit, Failure, failure::runtime, labs};
use crate::{
    agent::status::{self, Status},
    apply,
    output::{self, count, printable},
    show::{self, Metrics},
    state::{self, Directory, Record, events::Time},
    topology::LabName,
};

#[derive(Serialize)]
struct Line {
    lab: String,
    namespaces: usize,
    bridges: usize,
    pairs: usize,
    armed: usize,
    agent: bool,
    /// Its process; `None` if it does not reply.
    #[serde(flatten)]
    process: Option<Process>,
    /// Where its metrics are served, if its file has `metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Metrics>,
    /// Why nothing else is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// A hint for that case.
    #[serde(skip)]
    hint: Option<String>,
}

/// The process of an agent.
#[derive(Serialize)]
struct Process {
    pid: u32,
    /// Resident memory, in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_kib: Option<u64>,
    /// When it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Time>,
}

impl Process {
    fn of(status: &Status) -> Self {
        let &Status { pid, memory_kib, since, .. } = status;
        Self { pid, memory_kib, since }
    }
}

/// `pid 4242, 9.1 MiB, since 2026-01-02T03:04:05Z`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        if let Some(kib) = self.memory_kib {
            write!(f, ", {}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)?;
        }
        self.since.map_or(Ok(()), |since| write!(f, ", since {}", since.to_the_second()))
    }
}

impl Line {
    fn of(record: &Record) -> Self {
        let topology = &record.topology;
        let status = status::query(&Directory::of(&topology.lab).socket()).ok();
        let armed =
            status.as_ref().map_or(0, |status| status.ports.values().filter(|state| state.is_none()).count());
        Self {
            lab: topology.lab.to_string(),
            namespaces: topology.namespaces.len(),
            bridges: topology.bridges.len() + topology.adopted.len(),
            pairs: topology.pairs.len(),
            armed,
            agent: status.is_some(),
            process: status.as_ref().map(Process::of),
            metrics: Metrics::of(topology),
            error: None,
            hint: None,
        }
    }

    /// The line of a lab whose record cannot be read.
    fn unknown(lab: &LabName, error: &state::Error) -> Self {
        let status = status::query(&Directory::of(lab).socket()).ok();
        Self {
            lab: lab.to_string(),
            namespaces: 0,
            bridges: 0,
            pairs: 0,
            armed: 0,
            agent: status.is_some(),
            process: status.as_ref().map(Process::of),
            metrics: None,
            error: Some(error.to_string()),
            hint: error.hint(),
        }
    }
}

/// Lists the labs that are up.
pub fn run(json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let labs = labs::all()?;
    let line = |(lab, record): &labs::Found| match record {
        Ok(record) => Line::of(record),
        Err(error) => Line::unknown(lab, error),
    };
    let lines: Vec<_> = labs.iter().map(line).collect();
    print(&lines, json, out).map_err(Failure::output)?;
    Ok(Exit::Done)
}

fn print(lines: &[Line], json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if json {
        return output::json(&lines, out);
    }
    for line in lines {
        let agent = match &line.process {
            Some(process) => format!("agent alive ({process})"),
            None => "agent dead: plain bridge".to_owned(),
        };
        let Line { lab, armed, .. } = line;
        if let Some(error) = &line.error {
            let hint = line.hint.as_deref().map_or(String::new(), |hint| format!("; {hint}"));
            writeln!(out, "{lab}: {}{hint}", printable(error))?;
            continue;
        }
        let [namespaces, bridges, pairs] =
            [(line.namespaces, "namespace"), (line.bridges, "bridge"), (line.pairs, "pair")]
                .map(|(number, noun)| count(number, noun));
        let metrics = line.metrics.map_or(String::new(), |metrics| format!(", {metrics}"));
        writeln!(out, "{lab}: {namespaces}, {bridges}, {armed} of {pairs} armed, {agent}{metrics}")?;
    }
    Ok(())
}

/// Prints the current state of a lab.
pub fn show(lab: Option<&str>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let record = labs::record(lab)?;
    let runtime = runtime()?;
    let mut shown = runtime.block_on(show::observe(&record.topology))?;
    shown.drift = match runtime.block_on(apply::drift(&record)) {
        Ok(drift) => drift,
        // What could be read is shown all the same.
        Err(error) => vec![format!("cannot compare the lab with its file: {error}")],
    };
    let printed = if json { output::json(&shown, out) } else { output::show(&shown, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}
