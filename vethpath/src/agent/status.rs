//! What an agent says of itself, and how it is asked.

use std::{
    collections::BTreeMap,
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
    state::{AgentLock, Directory},
    topology::Place,
};

/// How long an agent may take to answer who only wants to tell what it says (it may be stopped, or hang).
const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// How long one that lives may take to answer before it counts as dead: it may wait for the lock that all of
/// networking shares, and so would one that takes its place.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is asked whether it has looked, or listens.
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
    /// Whether a port is on its bridge and does not forward yet: about to, or kept from it by somebody.
    pub coming_up: bool,
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
pub fn query(socket: &Path) -> io::Result<Status> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE_LIMIT))?;
    let mut answer = String::new();
    stream.take(MOST_BYTES).read_to_string(&mut answer)?;
    serde_json::from_str(&answer).map_err(io::Error::other)
}

/// Asks the lab's agent for whoever acts on what it says: one that lives has a minute to answer.
///
/// # Errors
/// There is no agent, it is stopped, or no whole answer comes.
pub async fn wait_for_status(directory: &Directory) -> io::Result<Status> {
    status_until(directory, Instant::now() + TIMEOUT).await
}

/// The same until `deadline`. Whether it lives is looked at each time that it was silent for two seconds; one that does
/// not listen has as long to begin.
///
/// # Errors
/// There is no agent, it is stopped, or no whole answer that can be read comes until then.
pub async fn status_until(directory: &Directory, deadline: Instant) -> io::Result<Status> {
    let began = Instant::now();
    loop {
        let error = match read_status(directory, deadline).await {
            Ok(status) => return Ok(status),
            Err(error) => error,
        };
        let has_no_ears = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        let is_hopeless =
            error.kind() == io::ErrorKind::InvalidData || has_no_ears && began.elapsed() > SILENCE_LIMIT;
        if is_hopeless || Instant::now() >= deadline || !may_answer(directory) {
            return Err(error);
        }
        // It lives and does not listen, or went on without an answer: it has only begun, or is about to end.
        sleep(INTERVAL).await;
    }
}

/// One connection's answer. It is kept while the agent is silent: a new one each time would fill its queue.
async fn read_status(directory: &Directory, deadline: Instant) -> io::Result<Status> {
    let mut answer = Vec::new();
    let stream = tokio::net::UnixStream::connect(directory.socket()).await?;
    let mut stream = stream.take(MOST_BYTES);
    {
        let mut whole = pin!(stream.read_to_end(&mut answer));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(SILENCE_LIMIT.min(left), &mut whole).await {
                Ok(read) => {
                    let _ = read?;
                    break;
                }
                Err(_) if Instant::now() < deadline && may_answer(directory) => {}
                Err(late) => return Err(late.into()),
            }
        }
    }
    serde_json::from_slice(&answer).map_err(|error| {
        // One that is cut short was given up by the agent; another vethpath's agent says something else.
        let kind = if error.is_eof() { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
        io::Error::new(kind, error)
    })
}

/// Whether there is an agent that will answer, as far as can be told: one that was stopped will not.
fn may_answer(directory: &Directory) -> bool {
    AgentLock::holder(directory).is_ok_and(|agent| agent.is_some_and(|pid| !is_stopped(pid)))
}

/// Whether a process was stopped, by SIGSTOP or by a debugger.
fn is_stopped(pid: Pid) -> bool {
    let stat = files::read_bounded(Path::new(&format!("/proc/{pid}/stat")), files::VALUE).unwrap_or_default();
    // A name may have anything in it, a parenthesis too.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// Has the lab's agent look at everything at once, rather than within its second, and returns what
/// it says after. For whoever has attached or detached programs: the kernel tells nobody.
///
/// # Errors
/// There is no agent, it is stopped, or it does not look within a minute.
pub async fn trigger_resync(directory: &Directory) -> io::Result<Status> {
    trigger_resync_until(directory, Instant::now() + TIMEOUT).await
}

/// The same until `deadline`.
///
/// # Errors
/// There is no agent, it is stopped, or it does not look until then.
pub async fn trigger_resync_until(directory: &Directory, deadline: Instant) -> io::Result<Status> {
    let before = status_until(directory, deadline).await?.looks;
    // The lock is what tells that the process is the agent.
    let agent = AgentLock::holder(directory).map_err(io::Error::other)?;
    kill(agent.ok_or(io::ErrorKind::NotFound)?, Signal::SIGHUP)?;
    while Instant::now() < deadline {
        let status = status_until(directory, deadline).await?;
        // It answers between looks: one that is new has begun after the first answer.
        if status.looks != before {
            return Ok(status);
        }
        sleep(INTERVAL).await;
    }
    Err(io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixListener, thread};

    use super::*;

    /// Asks one that takes longer than the patience of those who only want to tell what it says. `lives`: whether it
    /// has the lock.
    fn ask_a_slow_one(lives: bool) -> io::Result<Status> {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        let lock = lives.then(|| AgentLock::take(&directory).unwrap());
        let listener = UnixListener::bind(directory.socket()).unwrap();
        let status = Status {
            pid: 1,
            lease_ms: 3000,
            capabilities: Vec::new(),
            generation: 1,
            stations: 0,
            settled: true,
            looks: 7,
            steady: true,
            coming_up: false,
            ports: BTreeMap::new(),
            ends: BTreeMap::new(),
            trunks: BTreeMap::new(),
        };
        let text = serde_json::to_string(&status).unwrap();
        let slow = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let (head, tail) = text.split_at(10);
            client.write_all(head.as_bytes()).unwrap();
            thread::sleep(SILENCE_LIMIT * 5 / 4);
            // Who has given up is not there.
            let _ = client.write_all(tail.as_bytes());
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(wait_for_status(&directory));
        slow.join().unwrap();
        drop(lock);
        answer
    }

    #[test]
    fn an_agent_that_lives_is_waited_for() {
        assert_eq!(ask_a_slow_one(true).unwrap().looks, 7);
    }

    #[test]
    fn one_that_does_not_is_given_up() {
        assert_eq!(ask_a_slow_one(false).unwrap_err().kind(), io::ErrorKind::TimedOut);
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
