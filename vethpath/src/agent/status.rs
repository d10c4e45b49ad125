//! What an agent says of itself, and how it is asked.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// How long an agent may take to answer before it counts as dead (it may be stopped, or hang).
const PATIENCE: Duration = Duration::from_secs(2);

/// More than the status of a lab with 4,096 pairs.
const MOST_BYTES: u64 = 4 << 20;

/// The agent's own account of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: u32,
    /// The lease it renews each second, in milliseconds.
    pub lease_ms: u64,
    /// The current generation.
    pub generation: u32,
    /// How many stations the fast path knows.
    pub stations: usize,
    /// Whether it has looked at the whole lab at least once.
    pub settled: bool,
    /// Whether nothing is likely to change by itself within moments: no port is just coming up.
    pub steady: bool,
    /// By pair (`ns0:eth0`): why it is not armed, or nothing if it is.
    pub ports: BTreeMap<String, Option<String>>,
}

/// Asks the agent that listens on `socket`.
///
/// # Errors
/// Nobody listens there, or no whole answer comes in two seconds.
pub fn ask(socket: &Path) -> io::Result<Status> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.take(MOST_BYTES).read_to_string(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}
