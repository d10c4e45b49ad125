//! The lab's programs, taken off and put back. Whatever happens, dropping this puts them back.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Error, choose::Chosen};
use crate::{
    agent::status::{self, Status},
    datapath::{self, LabPrograms},
    state::{Directory, Record},
};

/// How long programs may take to be off, or pairs to be armed and nothing to change any more.
const ARM_TIMEOUT: Duration = Duration::from_secs(5);

/// How often it is looked whether they are.
const INTERVAL: Duration = Duration::from_millis(2);

/// What becomes of a pair that nothing is known of.
const NO_AGENT: &str = "the agent does not answer";

/// All programs of a lab whose lock is held.
pub struct Programs {
    directory: Directory,
    programs: LabPrograms,
    /// Pairs that were armed at first, and are to be so in the end.
    armed: Vec<String>,
    are_on: bool,
}

impl Programs {
    /// Finds them. They are taken to be attached, as they are in a lab that is up.
    ///
    /// # Errors
    /// A bridge namespace is not there.
    pub fn of(record: &Record, directory: Directory) -> Result<Self, Error> {
        let programs = LabPrograms::of(&record.topology, record.hook)?;
        let mut programs = Self { directory, programs, armed: Vec::new(), are_on: true };
        let armed = programs.states().into_iter().filter(|(_, state)| state.is_none());
        programs.armed = armed.map(|(pair, _)| pair).collect();
        Ok(programs)
    }

    /// What the agent says of each pair now; nothing where it does not answer.
    #[must_use]
    pub fn states(&self) -> BTreeMap<String, Option<String>> {
        status::query(&self.directory.socket()).map(|status| status.ports).unwrap_or_default()
    }

    /// Takes them off, and returns when the kernel and the agent have done with them.
    ///
    /// # Errors
    /// The kernel refuses, or a program stays on.
    pub async fn detach(&mut self) -> Result<(), Error> {
        if !self.are_on {
            return Ok(());
        }
        self.are_on = false;
        self.programs.detach()?;
        // The kernel lets go of an unpinned link in its own time.
        let deadline = Instant::now() + ARM_TIMEOUT;
        while self.programs.any_is_on().await? {
            if Instant::now() > deadline {
                return Err(Error::StillAttached(self.directory.lab().clone()));
            }
            tokio::time::sleep(INTERVAL).await;
        }
        let _ = look(&self.directory).await;
        Ok(())
    }

    /// Puts them back, and returns when the agent has armed both pairs that are measured.
    ///
    /// # Errors
    /// The kernel refuses, or a pair stays unarmed.
    pub async fn attach(&mut self, chosen: &Chosen) -> Result<(), Error> {
        if self.are_on {
            return Ok(());
        }
        let names = chosen.sides().map(|side| side.pair.name());
        match self.attach_and_arm(&names).await?.pop_first() {
            None => Ok(()),
            Some((pair, state)) => Err(Error::NotArmed { pair, state }),
        }
    }

    /// Puts them back for good, and returns what was armed before and now is not, and why.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn restore(&mut self) -> Result<BTreeMap<String, String>, Error> {
        if self.are_on {
            return Ok(BTreeMap::new());
        }
        let names = self.armed.clone();
        self.attach_and_arm(&names).await
    }

    /// Returns those of `pairs` that are not armed in time, with what the agent says of them.
    async fn attach_and_arm(&mut self, pairs: &[String]) -> Result<BTreeMap<String, String>, Error> {
        self.put_back()?;
        let deadline = Instant::now() + ARM_TIMEOUT;
        loop {
            let status = look(&self.directory).await;
            let unarmed = unarmed(pairs, status.as_ref());
            let is_steady = status.is_none_or(|status| status.steady);
            if (unarmed.is_empty() && is_steady) || Instant::now() > deadline {
                return Ok(unarmed);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn put_back(&mut self) -> datapath::Result<()> {
        self.programs.attach()?;
        self.are_on = true;
        Ok(())
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        if !self.are_on {
            // Only after a panic or a failed `restore`: there is nobody left to tell.
            let _ = self.put_back();
        }
    }
}

/// What the agent says when it has taken in what was done just now; nothing where it does not answer. Each look has
/// its own time, or the last would have none.
pub(super) async fn look(directory: &Directory) -> Option<Status> {
    status::trigger_resync_until(directory, Instant::now() + ARM_TIMEOUT).await.ok()
}

fn unarmed(pairs: &[String], status: Option<&Status>) -> BTreeMap<String, String> {
    let state = |pair: &String| match status {
        None => Some(NO_AGENT.to_owned()),
        Some(status) => status.ports.get(pair).cloned().flatten(),
    };
    pairs.iter().filter_map(|pair| Some((pair.clone(), state(pair)?))).collect()
}
