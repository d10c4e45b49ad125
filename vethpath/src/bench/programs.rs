//! Detaches the lab's programs and attaches them again. Dropping this always attaches them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    error::Error,
    selection::{NO_AGENT, Selection},
};
use crate::{
    agent::status::{self, Status},
    datapath::LabPrograms,
    kernel,
    state::{Directory, Record},
};

/// Timeout for programs to be detached, and for pairs to be armed and the agent to be steady.
const ARM_TIMEOUT: Duration = Duration::from_secs(5);

/// The poll interval.
const INTERVAL: Duration = Duration::from_millis(2);

/// The programs of a lab whose lock is held: of all its own pairs, and of the guest ports that are measured.
pub struct Programs {
    directory: Directory,
    programs: LabPrograms,
    /// Pairs that were armed at the start, and must be again at the end.
    armed: Vec<String>,
    are_on: bool,
}

impl Programs {
    /// Opens the lab's programs and assumes them attached, as they are in a lab that is up.
    ///
    /// # Errors
    /// A bridge namespace does not exist.
    pub fn of(record: &Record, selection: &Selection, directory: Directory) -> Result<Self, Error> {
        let guests = selection.sides().into_iter().filter_map(|side| side.guest.clone()).collect();
        let programs = LabPrograms::of(&record.topology, record.hook)?.and_guests(guests);
        let mut programs = Self { directory, programs, armed: Vec::new(), are_on: true };
        let armed = pair_states(&programs.directory).into_iter().filter(|(_, state)| state.is_none());
        programs.armed = armed.map(|(pair, _)| pair).collect();
        Ok(programs)
    }

    /// Detaches them, and returns when the kernel has removed them and the agent has resynced.
    ///
    /// # Errors
    /// A kernel operation fails, or a program stays attached.
    pub async fn detach(&mut self) -> Result<(), Error> {
        if !self.are_on {
            return Ok(());
        }
        self.are_on = false;
        self.programs.detach()?;
        // The kernel releases an unpinned link asynchronously.
        let deadline = Instant::now() + ARM_TIMEOUT;
        while self.programs.any_is_on().await? {
            if Instant::now() > deadline {
                return Err(Error::StillAttached(self.directory.lab().clone()));
            }
            tokio::time::sleep(INTERVAL).await;
        }
        let _ = resync_agent(&self.directory).await;
        Ok(())
    }

    /// Attaches them, and returns when the agent has armed both measured pairs.
    ///
    /// # Errors
    /// A kernel operation fails, or a pair stays unarmed.
    pub async fn attach(&mut self, selection: &Selection) -> Result<(), Error> {
        if self.are_on {
            return Ok(());
        }
        let names = selection.sides().map(|side| side.name.clone());
        match self.attach_and_arm(&names).await?.pop_first() {
            None => Ok(()),
            Some((pair, state)) => Err(Error::NotArmed { pair, state }),
        }
    }

    /// Attaches them for good. Returns the pairs that were armed before and no longer are, with the reasons.
    ///
    /// # Errors
    /// A kernel operation fails.
    pub async fn restore(&mut self) -> Result<BTreeMap<String, String>, Error> {
        if self.are_on {
            return Ok(BTreeMap::new());
        }
        let names = self.armed.clone();
        self.attach_and_arm(&names).await
    }

    /// Returns those of `pairs` that are not armed within the timeout, with the agent's reasons.
    async fn attach_and_arm(&mut self, pairs: &[String]) -> Result<BTreeMap<String, String>, Error> {
        self.reattach()?;
        let deadline = Instant::now() + ARM_TIMEOUT;
        loop {
            let status = resync_agent(&self.directory).await;
            let is_steady = status.as_ref().is_none_or(|status| status.steady);
            let unarmed = unarmed(pairs, status.map(states).as_ref());
            if (unarmed.is_empty() && is_steady) || Instant::now() > deadline {
                return Ok(unarmed);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn reattach(&mut self) -> kernel::Result<()> {
        self.programs.attach()?;
        self.are_on = true;
        Ok(())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        if !self.are_on {
            // Reached only after a panic or a failed `restore`: the error cannot be returned any more.
            let _ = self.reattach();
        }
    }
}

/// The agent's state of each pair: why it is not armed. Empty if the agent does not reply.
pub(super) fn pair_states(directory: &Directory) -> BTreeMap<String, Option<String>> {
    status::query(&directory.socket()).map(states).unwrap_or_default()
}

/// The states of pairs and guest ports.
fn states(status: Status) -> BTreeMap<String, Option<String>> {
    let guests = status.guests.into_iter().map(|guest| (guest.name, guest.reason));
    status.ports.into_iter().chain(guests).collect()
}

/// The agent's status after a resync that includes the changes made so far; `None` if it does not reply. Each resync
/// has its own timeout, or the last one would have no time left.
pub(super) async fn resync_agent(directory: &Directory) -> Option<Status> {
    status::trigger_resync_until(directory, Instant::now() + ARM_TIMEOUT).await.ok()
}

fn unarmed(pairs: &[String], states: Option<&BTreeMap<String, Option<String>>>) -> BTreeMap<String, String> {
    let state = |pair: &String| match states {
        None => Some(NO_AGENT.to_owned()),
        Some(states) => states.get(pair).cloned().flatten(),
    };
    pairs.iter().filter_map(|pair| Some((pair.clone(), state(pair)?))).collect()
}
