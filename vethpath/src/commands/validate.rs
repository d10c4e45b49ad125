//! `vethpath validate` and `vethpath schema`: what a topology file may have, and whether one is valid.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use serde::Serialize;

use super::{
    Exit, Failure,
    failure::runtime,
    firewall::{self, Certain},
    labs, subnets, up,
};
use crate::{
    apply,
    cli::ValidateArgs,
    output::{self, count},
    topology::{self, Fault, Faults, Level, Overrides, Source, check_with, expand, key_path},
};

/// A fault as JSON.
#[derive(Serialize)]
struct Message<'a> {
    level: Level,
    message: &'a str,
    /// Line and column, counted from 1. Columns are in characters.
    line: usize,
    column: usize,
    key: Option<String>,
    hint: &'a str,
}

/// Checks a file and prints a summary of what it declares.
pub fn run(arguments: &ValidateArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let file = &arguments.file;
    if arguments.json.json {
        return json(file, arguments.overrides.into(), out);
    }
    let topology = labs::topology_with_warnings(file, arguments.overrides.into())?;
    if arguments.expand {
        let mut out = BufWriter::new(out);
        write!(out, "{}", expand(&topology)).and_then(|()| out.flush()).map_err(Failure::output)?;
    }
    if arguments.host {
        up::privileged()?;
        let adoptions = runtime()?.block_on(up::adoptions(&topology))?;
        let _ = subnets::warn(&topology, &mut io::stderr().lock());
        apply::check_routes(&topology)?;
        firewall::check(&topology, &adoptions, Certain::Refused, &mut io::stderr().lock())?;
    }
    // A closed stderr is ignored: the exit code reports the result.
    let _ = writeln!(
        io::stderr(),
        "{}: lab {} is valid: {}, {}, {}, {}, {}",
        file.display(),
        topology.lab,
        count(topology.namespaces.len(), "namespace"),
        count(topology.bridges.len() + topology.adopted.len(), "bridge"),
        count(topology.pairs.len(), "pair"),
        count(topology.cables.len(), "cable"),
        count(topology.trunks.len(), "trunk"),
    );
    Ok(Exit::Done)
}

/// Prints all faults and warnings of a file as a list, which may be empty.
fn json(file: &Path, overrides: Overrides, out: &mut dyn Write) -> Result<Exit, Failure> {
    let path = file.display().to_string();
    let text = labs::read_text(file)?;
    let source = Source { path: &path, text: &text };
    let (faults, exit): (Faults, Exit) = match check_with(source, labs::stem(file).as_deref(), overrides) {
        Ok(checked) => (checked.warnings, Exit::Done),
        Err(faults) => (faults, Exit::Request),
    };
    let messages: Vec<Message<'_>> = faults.faults.iter().map(|fault| message_of(fault, &text)).collect();
    output::json(&messages, out).map_err(Failure::output)?;
    Ok(exit)
}

fn message_of<'a>(fault: &'a Fault, text: &str) -> Message<'a> {
    let (line, column) = fault.position(text);
    let key = key_path(text, fault.span.start);
    Message { level: fault.level, message: &fault.message, line, column, key, hint: &fault.hint }
}

/// Prints the JSON Schema of topology files.
pub fn schema(out: &mut dyn Write) -> Result<Exit, Failure> {
    output::json(&topology::schema(), out).map_err(Failure::output)?;
    Ok(Exit::Done)
}
