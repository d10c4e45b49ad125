//! `vethpath graph`: a lab as a picture.

use std::{
    collections::BTreeMap,
    io::{BufWriter, Write},
    time::Duration,
};

use super::{Exit, Failure, labs, up::privileged};
use crate::{
    cli::{GraphArgs, GraphFormat},
    graph::{self, Graph, MOST_NODES},
    kernel::home::Intent,
    output,
    topology::Topology,
};

/// The time between the two readings of `--live`.
const APART: Duration = Duration::from_secs(1);

/// Prints the picture of a lab that is up, or of a file.
pub fn run(arguments: &GraphArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (topology, live) = match arguments.live {
        true => {
            privileged()?;
            let topology = labs::record(arguments.lab.lab.as_deref())?.topology;
            let live = graph::live(&topology, APART)?;
            (topology, live)
        }
        false => (topology(arguments.lab.lab.as_deref())?, BTreeMap::new()),
    };
    let graph = Graph::of(&topology, &live);
    let folded = |graph: Graph| graph.folded(MOST_NODES);
    let mut out = BufWriter::new(out);
    let format = if arguments.json.json { GraphFormat::Json } else { arguments.format };
    let printed = match format {
        GraphFormat::Svg => output::graph::svg(&folded(graph), &mut out),
        GraphFormat::Mermaid => output::graph::mermaid(&folded(graph), &mut out),
        GraphFormat::Dot => output::graph::dot(&folded(graph), &mut out),
        GraphFormat::Json => output::json(&graph, &mut out),
    };
    printed.and_then(|()| out.flush()).map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// The topology of a file, which need not be up, or of a lab.
fn topology(lab: Option<&str>) -> Result<Topology, Failure> {
    let (name, file) = labs::named(lab)?;
    match file {
        Some(topology) => Ok(topology),
        None => {
            let record = labs::record_of(&name)?;
            labs::enter(&name, Intent::Read)?;
            Ok(record.topology)
        }
    }
}
