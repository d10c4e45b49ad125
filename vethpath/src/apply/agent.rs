//! Starting a lab's agent and waiting until it has armed the lab.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::Command;

use super::Error;
use crate::{
    agent::status::{self, Status},
    state::Directory,
};

/// How long a lab may take to settle: ports coming up, the agent reading them.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the agent is asked meanwhile.
const INTERVAL: Duration = Duration::from_millis(10);

/// How much of the agent's log is shown when it fails, in lines.
const LAST_WORDS: usize = 5;

/// Starts the agent as a process of its own, which outlives us.
pub fn start(directory: &Directory) -> Result<tokio::process::Child, Error> {
    let failed =
        |cause: std::io::Error| Error::Agent { lab: directory.lab().clone(), cause: cause.to_string() };
    let log =
        OpenOptions::new().create(true).append(true).mode(0o600).open(directory.log()).map_err(failed)?;
    Command::new("/proc/self/exe")
        .args(["agent", directory.lab().as_str()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(failed)?)
        .stderr(log)
        .spawn()
        .map_err(failed)
}

/// Waits until the agent has looked at the whole lab and no port is just coming up.
///
/// # Errors
/// It ends, or says nothing for ten seconds.
pub async fn settled(
    directory: &Directory,
    mut child: Option<tokio::process::Child>,
) -> Result<Status, Error> {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < deadline {
        if let Some(child) = &mut child
            && let Ok(Some(exit)) = child.try_wait()
        {
            let cause = format!("it ended with {exit}{}", last_words(directory));
            return Err(Error::Agent { lab: directory.lab().clone(), cause });
        }
        if let Ok(status) = status::ask(&directory.socket()) {
            if status.settled && status.steady {
                return Ok(status);
            }
            last = Some(status);
        }
        tokio::time::sleep(INTERVAL).await;
    }
    // Ports that stay down, or that spanning tree holds back, are a state like another.
    last.filter(|status| status.settled).ok_or_else(|| Error::Agent {
        lab: directory.lab().clone(),
        cause: format!("no word of it for {} s{}", PATIENCE.as_secs(), last_words(directory)),
    })
}

fn last_words(directory: &Directory) -> String {
    let log = std::fs::read_to_string(directory.log()).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n  ");
    if last.is_empty() { last } else { format!("; its last words:\n  {last}") }
}
