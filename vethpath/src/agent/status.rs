//! What an agent says of itself, and how it is asked.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use serde::{Deserialize, Serialize};

use crate::{
    state::{AgentLock, Directory},
    topology::Place,
};

/// How long an agent may take to answer before it counts as dead (it may be stopped, or hang).
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is asked whether it has looked.
const INTERVAL: Duration = Duration::from_millis(2);

/// More than the status of a lab with 4,096 pairs.
const MOST_BYTES: u64 = 4 << 20;

/// Where the ends of a pair are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Where the bridge is: the numbers below mean nothing elsewhere.
    pub place: Place,
    /// The port's ifindex, in the bridge's namespace.
    pub port: u32,
    /// The inner end's, in its own.
    pub inner: u32,
    /// The number that the inner end's namespace has in the bridge's; none if it is the same.
    pub netns: Option<i32>,
}

/// The agent's own account of the lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: u32,
    /// The lease it renews each second, in milliseconds.
    pub lease_ms: u64,
    /// The capabilities that it has.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The current generation.
    pub generation: u32,
    /// How many stations the fast path knows.
    pub stations: usize,
    /// Whether it has looked at the whole lab at least once.
    pub settled: bool,
    /// How many times it has looked at everything that tells nothing by itself.
    #[serde(default)]
    pub looks: u64,
    /// Whether nothing is likely to change by itself within moments: no port is just coming up, and programs use
    /// everything that is written.
    pub steady: bool,
    /// By pair (`ns0:eth0`): why it is not armed, or nothing if it is.
    pub ports: BTreeMap<String, Option<String>>,
    /// By pair, as far as they are there: where they were when the agent heard of them last.
    #[serde(default)]
    pub ends: BTreeMap<String, Ends>,
    /// The same by trunk (`br0 - br1`).
    #[serde(default)]
    pub trunks: BTreeMap<String, Option<String>>,
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

/// Has the lab's agent look at everything at once, rather than within its second, and returns what
/// it says after. For whoever has attached or detached programs: the kernel tells nobody.
///
/// # Errors
/// There is no agent, or it does not look within two seconds.
pub async fn look(directory: &Directory) -> io::Result<Status> {
    let before = ask(&directory.socket())?.looks;
    // The lock is what tells that the process is the agent.
    let agent = AgentLock::holder(directory).map_err(io::Error::other)?;
    kill(agent.ok_or(io::ErrorKind::NotFound)?, Signal::SIGHUP)?;
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let status = ask(&directory.socket())?;
        // It answers between looks: one that is new has begun after the first answer.
        if status.looks != before {
            return Ok(status);
        }
        tokio::time::sleep(INTERVAL).await;
    }
    Err(io::ErrorKind::TimedOut.into())
}
