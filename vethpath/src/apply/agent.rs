//! Starts a lab's agent and waits until it has armed the lab.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::Command;

use super::Error;
use crate::{
    agent::status::{self, Status},
    kernel::{files, process},
    state::{AgentLock, Directory},
    topology::{Pair, Topology, Trunk},
};

/// How long a lab may take to settle: ports come up, and the agent reads them. It takes long only under great load,
/// while all wait for the RTNL lock.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long to wait until trunks and ports without a fast path forward. Another program may keep them from it.
const FORWARDING: Duration = Duration::from_secs(10);

/// The polling interval for the agent's status.
const INTERVAL: Duration = Duration::from_millis(10);

/// How many lines of the agent's log are shown when it fails.
const LAST_WORDS: usize = 5;

/// The same in bytes: the log of a lab that has been up for months is long.
const LAST_BYTES: u64 = 4096;

/// Starts the agent as a process that outlives this one.
pub fn start(directory: &Directory) -> Result<tokio::process::Child, Error> {
    let failed = |cause: io::Error| Error::Agent { lab: directory.lab().clone(), cause: cause.to_string() };
    let mut options = OpenOptions::new();
    let log = files::open_private(options.create(true).append(true), &directory.log()).map_err(failed)?;
    process::close_inherited_on_exec();
    Command::new("/proc/self/exe")
        .arg0("vethpath")
        .args(["agent", directory.lab().as_str()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)
}

/// Makes a live agent reload the lab's record.
///
/// # Errors
/// It does not reply, or does not reload the record before the timeout for settling.
pub async fn reload(directory: &Directory, topology: &Topology) -> io::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let status = status::trigger_resync_until(directory, deadline).await?;
        let pairs = topology.pairs.iter().map(Pair::name);
        let trunks = topology.trunks.iter().map(Trunk::name);
        if pairs.collect::<BTreeSet<_>>().iter().eq(status.ports.keys())
            && trunks.collect::<BTreeSet<_>>().iter().eq(status.trunks.keys())
        {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Starts an agent for a lab that had one, unless one replies.
///
/// # Errors
/// See [`Error`].
pub async fn ensure(directory: &Directory) -> Result<(), Error> {
    // An agent that received SIGTERM exits before it resyncs.
    if status::trigger_resync(directory).await.is_ok() {
        return Ok(());
    }
    AgentLock::terminate_holder(directory).await?;
    let mut child = start(directory)?;
    wait_until_settled(directory, Some(&mut child)).await.map(|_| ())
}

/// Waits until the agent has read the whole lab and no port is coming up. `child` is the agent that was started, if
/// any.
///
/// # Errors
/// It exits and there is no other, or it is not settled before the timeout.
pub async fn wait_until_settled(
    directory: &Directory,
    mut child: Option<&mut tokio::process::Child>,
) -> Result<Status, Error> {
    let began = Instant::now();
    let deadline = began + TIMEOUT;
    let mut last = None;
    while Instant::now() < deadline {
        let asked = Instant::now();
        if let Some(started) = &mut child
            && let Ok(Some(exit)) = started.try_wait()
        {
            // An agent that a killed `up` started late may have the lock. It reads the record only after it took the
            // lock, which was free when ours was started. So it is as good.
            if AgentLock::holder(directory)?.is_none() {
                let cause = format!("it ended with {exit}{}", log_tail(&directory.log()));
                return Err(Error::Agent { lab: directory.lab().clone(), cause });
            }
            child = None;
        }
        if let Ok(status) = status::status_until(directory, deadline).await {
            let is_up = !status.coming_up || began.elapsed() > FORWARDING;
            if status.settled && status.steady && is_up {
                return Ok(status);
            }
            last = Some(status);
        }
        // The agent works half of the time at least: the status of a large lab is long.
        tokio::time::sleep(INTERVAL.max(asked.elapsed())).await;
    }
    // Ports that stay down, or that spanning tree blocks, are a valid state.
    last.filter(|status| status.settled).ok_or_else(|| Error::Agent {
        lab: directory.lab().clone(),
        cause: format!("not settled within {} s{}", TIMEOUT.as_secs(), log_tail(&directory.log())),
    })
}

/// The last lines of a log, for an error.
pub(super) fn log_tail(log: &Path) -> String {
    let log = end_of(log).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n  ");
    if last.is_empty() { last } else { format!("; the end of its log:\n  {last}") }
}

/// The complete last lines of a file, up to `LAST_BYTES`.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(LAST_BYTES);
    let _ = file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    let _ = file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(match text.split_once('\n') {
        Some((_, complete)) if start > 0 => complete.to_owned(),
        _ => text.into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(end_of(&path).unwrap(), "one\ntwo\n");
        std::fs::write(&path, "a line of the log, and \u{20ac}\n".repeat(10_000)).unwrap();
        let end = end_of(&path).unwrap();
        assert!(end.len() as u64 <= LAST_BYTES && end.len() > 4000, "{}", end.len());
        assert!(end.lines().all(|line| line.starts_with("a line") && line.ends_with('\u{20ac}')));
        std::fs::write(&path, [b"bytes \xff\x00".as_slice(), &[b'x'; 9000]].concat()).unwrap();
        assert_eq!(end_of(&path).unwrap().len() as u64, LAST_BYTES);
    }
}
