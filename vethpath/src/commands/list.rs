//! `vethpath list` and `vethpath show`: the labs that are up, and the state of one.

use std::io::Write;

use serde::Serialize;

use super::{Exit, Failure, failure::runtime, labs};
use crate::{
    agent::status,
    output::{self, count, printable},
    show,
    state::{self, Directory, Record},
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
    /// Why nothing else is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// A hint for that case.
    #[serde(skip)]
    hint: Option<String>,
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
            bridges: topology.bridges.len(),
            pairs: topology.pairs.len(),
            armed,
            agent: status.is_some(),
            error: None,
            hint: None,
        }
    }

    /// The line of a lab whose record cannot be read.
    fn unknown(lab: &LabName, error: &state::Error) -> Self {
        let agent = status::query(&Directory::of(lab).socket()).is_ok();
        let (error, hint) = (Some(error.to_string()), error.hint());
        Self { lab: lab.to_string(), namespaces: 0, bridges: 0, pairs: 0, armed: 0, agent, error, hint }
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
        let agent = if line.agent { "agent alive" } else { "agent dead: plain bridge" };
        let Line { lab, armed, .. } = line;
        if let Some(error) = &line.error {
            let hint = line.hint.as_deref().map_or(String::new(), |hint| format!("; {hint}"));
            writeln!(out, "{lab}: {}{hint}", printable(error))?;
            continue;
        }
        let [namespaces, bridges, pairs] =
            [(line.namespaces, "namespace"), (line.bridges, "bridge"), (line.pairs, "pair")]
                .map(|(number, noun)| count(number, noun));
        writeln!(out, "{lab}: {namespaces}, {bridges}, {armed} of {pairs} armed, {agent}")?;
    }
    Ok(())
}

/// Prints the current state of a lab.
pub fn show(lab: Option<&str>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let record = labs::record(lab)?;
    let shown = runtime()?.block_on(show::observe(&record.topology))?;
    let printed = if json { output::json(&shown, out) } else { output::show(&shown, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}
