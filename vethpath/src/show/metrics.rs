//! Where the metrics of a lab are served, and by which processes.

use std::{fmt, net::SocketAddr};

use serde::Serialize;

use crate::{
    state::{Directory, MetricsLock},
    topology::Topology,
};

/// The metrics of a lab whose file has `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// The address and port of the file.
    pub listen: SocketAddr,
    /// The process that listens, and has no capability; `None` if there is none.
    pub pid: Option<i32>,
    /// The process that reads the counts for it.
    pub reader: Option<i32>,
}

impl Metrics {
    /// Those of a lab; `None` if its file has no `metrics`.
    #[must_use]
    pub fn of(topology: &Topology) -> Option<Self> {
        let listen = topology.metrics?;
        let serving = MetricsLock::serving(&Directory::of(&topology.lab)).ok().flatten();
        let serving = serving.filter(|serving| serving.listen == listen);
        Some(Self { listen, pid: serving.map(|it| it.pid), reader: serving.map(|it| it.reader) })
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, pid, reader } = self;
        match pid.zip(*reader) {
            Some((pid, reader)) => write!(f, "metrics at {listen} (pid {pid}, reader pid {reader})"),
            None => write!(f, "metrics dead: nothing at {listen}; `vethpath up` brings them back"),
        }
    }
}
