//! The agent's status, and the client side of the socket that has it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    os::unix::net::UnixStream,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncReadExt,
    time::{sleep, timeout},
};

use crate::{
    kernel::files,
    state::{AgentLock, Directory, events::Time},
    topology::{IfName, Place},
};

/// Timeout of a caller that only shows the status: the agent may be stopped, or hang.
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// Timeout of a live agent before it counts as dead: it may wait for the RTNL lock, and so would one in its place.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Interval at which a client polls whether the agent listens, or has completed a scan.
const INTERVAL: Duration = Duration::from_millis(2);

/// More than the status of a lab with 4,096 pairs.
const MOST_BYTES: u64 = 4 << 20;

/// Where the ends of a pair are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Where the bridge is. The numbers below have no meaning elsewhere.
    pub place: Place,
    /// The port's ifindex, in the bridge's namespace.
    pub port: u32,
    /// The ifindex of the inner end, in its own namespace.
    pub inner: u32,
    /// The id of the inner end's namespace in the bridge's; `None` if it is the same namespace.
    pub netns: Option<i32>,
}

/// A port of a bridge with `guests` that another program made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStatus {
    /// Its name in events: see [`guest_name`](super::guest_name).
    pub name: String,
    /// Its device name.
    pub port: IfName,
    /// Its bridge.
    pub bridge: IfName,
    /// Its index in the counter map; 0 if it has none.
    pub number: u32,
    /// Where it and its inner end are.
    pub ends: Ends,
    /// Why it is not armed; `None` if it is.
    pub reason: Option<String>,
}

/// The lab's status, as its agent reports it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its pid.
    pub pid: u32,
    /// Its resident memory in KiB. `None` of an agent of an earlier version.
    #[serde(default)]
    pub memory_kib: Option<u64>,
    /// When it was started; `None` likewise.
    #[serde(default)]
    pub since: Option<Time>,
    /// The lease it renews each second, in milliseconds.
    pub lease_ms: u64,
    /// Its effective capabilities.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// The current generation.
    pub generation: u32,
    /// Number of stations that the fast path knows.
    pub stations: usize,
    /// Whether it has completed a full resync.
    pub settled: bool,
    /// Number of completed polls of what the kernel sends no events for.
    #[serde(default, rename = "looks")]
    pub polls: u64,
    /// The number under which what it knows is announced to programs, and that up to which they use everything.
    #[serde(default)]
    pub announced: u32,
    /// See `announced`.
    #[serde(default)]
    pub confirmed: u32,
    /// Whether no change is expected within moments: no port is coming up, and programs use everything that is
    /// written.
    pub steady: bool,
    /// Whether a port is on its bridge and does not forward yet: it is about to, or is kept from it.
    pub coming_up: bool,
    /// The error after which the agent retries each second, if its last attempt failed. Every frame is slow then.
    #[serde(default)]
    pub failure: Option<String>,
    /// By pair (`ns0:eth0`): why it is not armed; `None` if it is.
    pub ports: BTreeMap<String, Option<String>>,
    /// Pairs that are not armed because of [`NotArmed::XdpMissed`](super::NotArmed::XdpMissed), which `up` repairs. `None` of an agent of an
    /// earlier version.
    #[serde(default)]
    pub xdp_missed: Option<BTreeSet<String>>,
    /// By pair, as far as they exist: where its ends were when the agent last read them.
    #[serde(default)]
    pub ends: BTreeMap<String, Ends>,
    /// Like `ports`, by trunk (`br0 - br1`).
    #[serde(default)]
    pub trunks: BTreeMap<String, Option<String>>,
    /// What rules of netfilter certainly drop of the lab's packets.
    #[serde(default)]
    pub drops: BTreeSet<String>,
    /// The guest ports, by namespace and ifindex.
    #[serde(default)]
    pub guests: Vec<GuestStatus>,
    /// Of pairs, trunks and guest ports that are not armed, by name: the word for the reason
    /// ([`NotArmed::word`](super::NotArmed::word)).
    #[serde(default)]
    pub words: BTreeMap<String, String>,
}

/// Queries the agent that listens on `socket`.
///
/// # Errors
/// No process listens there, or no complete reply arrives before a read times out after two seconds.
pub fn query(socket: &Path) -> io::Result<Status> {
    query_with(socket, || ()).map(|(status, ())| status)
}

/// The same, and the result of `work`, which runs while the agent prepares its reply.
///
/// # Errors
/// As [`query`].
pub fn query_with<T>(socket: &Path, work: impl FnOnce() -> T) -> io::Result<(Status, T)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    let done = work();
    let mut reply = String::new();
    stream.take(MOST_BYTES).read_to_string(&mut reply)?;
    Ok((serde_json::from_str(&reply).map_err(io::Error::other)?, done))
}

/// Queries the lab's agent, for a caller that acts on the status: a live agent has a minute to reply.
///
/// # Errors
/// There is no agent, it is stopped, or no complete reply arrives.
pub async fn wait_for_status(directory: &Directory) -> io::Result<Status> {
    status_until(directory, Instant::now() + TIMEOUT).await
}

/// The same until `deadline`. Each two seconds without a reply, it is checked that the agent is alive. An agent that
/// does not listen has as long to start listening.
///
/// # Errors
/// There is no agent, it is stopped, or no complete reply that can be parsed arrives until then.
pub async fn status_until(directory: &Directory, deadline: Instant) -> io::Result<Status> {
    let began = Instant::now();
    loop {
        let error = match read_status(directory, deadline).await {
            Ok(status) => return Ok(status),
            Err(error) => error,
        };
        let is_deaf = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let is_hopeless =
            error.kind() == io::ErrorKind::InvalidData || is_deaf && began.elapsed() > SILENCE_LIMIT;
        if is_hopeless || Instant::now() >= deadline || !may_reply(directory) {
            return Err(error);
        }
        // It lives and does not listen, or closed the connection early: it has only started, or is about to exit.
        sleep(INTERVAL).await;
    }
}

/// One connection's reply. The connection is kept while the agent is silent: new ones would fill its queue.
async fn read_status(directory: &Directory, deadline: Instant) -> io::Result<Status> {
    let mut reply = Vec::new();
    let stream = tokio::net::UnixStream::connect(directory.socket()).await?;
    let mut stream = stream.take(MOST_BYTES);
    {
        let mut read = pin!(stream.read_to_end(&mut reply));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(SILENCE_LIMIT.min(left), &mut read).await {
                Ok(length) => {
                    let _ = length?;
                    break;
                }
                Err(_) if Instant::now() < deadline && may_reply(directory) => {}
                Err(late) => return Err(late.into()),
            }
        }
    }
    serde_json::from_slice(&reply).map_err(|error| {
        // A reply that is cut short was given up by the agent. Another format is another vethpath's.
        let kind = if error.is_eof() { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
        io::Error::new(kind, error)
    })
}

/// Whether there is an agent that can reply. One that was stopped cannot.
fn may_reply(directory: &Directory) -> bool {
    AgentLock::holder(directory).is_ok_and(|agent| agent.is_some_and(|pid| !is_stopped(pid)))
}

/// Whether a process was stopped, by SIGSTOP or by a debugger.
fn is_stopped(pid: Pid) -> bool {
    let stat = files::read_bounded(Path::new(&format!("/proc/{pid}/stat")), files::VALUE).unwrap_or_default();
    // A process name may contain anything, even a parenthesis.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// Has the lab's agent scan everything now rather than within a second, and returns the status afterwards. For
/// callers that have attached or detached programs: the kernel sends no event.
///
/// # Errors
/// There is no agent, it is stopped, or it completes no scan within a minute.
pub async fn trigger_resync(directory: &Directory) -> io::Result<Status> {
    trigger_resync_until(directory, Instant::now() + TIMEOUT).await
}

/// The same until `deadline`.
///
/// # Errors
/// There is no agent, it is stopped, or it completes no scan until then.
pub async fn trigger_resync_until(directory: &Directory, deadline: Instant) -> io::Result<Status> {
    let before = status_until(directory, deadline).await?.polls;
    // Only the lock shows that the process is the agent.
    let agent = AgentLock::holder(directory).map_err(io::Error::other)?;
    kill(agent.ok_or(io::ErrorKind::NotFound)?, Signal::SIGHUP)?;
    let began = Instant::now();
    let mut announced = None;
    while Instant::now() < deadline {
        let status = status_until(directory, deadline).await?;
        if let Some(failure) = status.failure.as_ref().filter(|_| began.elapsed() > SILENCE_LIMIT) {
            return Err(io::Error::other(failure.clone()));
        }
        // It replies between scans: a scan that is counted now began after the first reply.
        if status.polls != before {
            let announced = *announced.get_or_insert(status.announced);
            // An agent that starts over counts from the beginning.
            if status.confirmed >= announced || status.announced < announced {
                return Ok(status);
            }
        }
        sleep(INTERVAL).await;
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixListener, thread};

    use super::*;

    /// Queries a process that is slower than the timeout of callers that only show the status. `lock` takes the
    /// agent's lock, or does not.
    fn query_slow(lock: impl FnOnce(&Directory) -> Option<AgentLock>) -> io::Result<Status> {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        let lock = lock(&directory);
        let listener = UnixListener::bind(directory.socket()).unwrap();
        let status = Status {
            pid: 1,
            memory_kib: None,
            since: None,
            lease_ms: 3000,
            capabilities: Vec::new(),
            generation: 1,
            stations: 0,
            settled: true,
            polls: 7,
            announced: 1,
            confirmed: 1,
            steady: true,
            coming_up: false,
            failure: None,
            ports: BTreeMap::new(),
            xdp_missed: Some(BTreeSet::new()),
            ends: BTreeMap::new(),
            trunks: BTreeMap::new(),
            drops: BTreeSet::new(),
            guests: Vec::new(),
            words: BTreeMap::new(),
        };
        let text = serde_json::to_string(&status).unwrap();
        let slow = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let (head, tail) = text.split_at(10);
            client.write_all(head.as_bytes()).unwrap();
            thread::sleep(SILENCE_LIMIT * 5 / 4);
            // A client that has given up is gone.
            let _ = client.write_all(tail.as_bytes());
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(wait_for_status(&directory));
        slow.join().unwrap();
        drop(lock);
        reply
    }

    #[test]
    fn the_reply_of_an_earlier_version_is_read() {
        let reply = r#"{"pid": 1, "lease_ms": 3000, "generation": 1, "stations": 0, "settled": true, "steady": true,
            "coming_up": false, "ports": {"ns0:eth0": null}}"#;
        let status: Status = serde_json::from_str(reply).unwrap();
        assert_eq!((status.polls, status.xdp_missed, status.ports.len()), (0, None, 1));
    }

    #[test]
    fn an_agent_that_lives_is_waited_for() {
        assert_eq!(query_slow(|directory| AgentLock::acquire(directory).unwrap()).unwrap().polls, 7);
    }

    #[test]
    fn one_that_does_not_is_given_up() {
        assert_eq!(query_slow(|_| None).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_stopped_process_is_told_from_one_that_waits() {
        let mut sleeper = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap());
        assert!(!is_stopped(pid));
        kill(pid, Signal::SIGSTOP).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while !is_stopped(pid) && Instant::now() < deadline {
            thread::sleep(INTERVAL);
        }
        assert!(is_stopped(pid));
        sleeper.kill().unwrap();
        let _ = sleeper.wait().unwrap();
    }
}
