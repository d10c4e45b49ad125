//! The paths that are compared: how each is set up, and how it is verified that frames took it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    Error, Subject, cable,
    choose::Chosen,
    load::Worker,
    programs::Programs,
    schedule::{Executor, Slice, Timing},
    site::Site,
    warnings::Warning,
    watched::Watched,
    work::Spec,
    xdp::{Beside, OnXdp},
};

/// A path between two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A veth pair and nothing else: the baseline.
    Cable,
    /// The lab's own bridge with the programs detached.
    Bridge,
    /// The same with the programs attached and both pairs armed.
    Fast,
    /// The same path on XDP, in a generated lab.
    Xdp,
}

impl Mode {
    /// The text for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cable => "cable",
            Self::Bridge => "plain bridge",
            Self::Fast => "fast path",
            Self::Xdp => "XDP",
        }
    }
}

/// All that is needed to measure slices.
pub struct Bench<'a> {
    /// The lab's programs.
    pub programs: Programs,
    chosen: &'a Chosen,
    watched: Watched,
    xdp: Option<OnXdp>,
    cases: &'a [Spec],
    /// For each measured site, a worker for each case.
    workers: BTreeMap<Place, Vec<Worker>>,
    /// Whether a round has already used the workers.
    are_used: bool,
    began: Instant,
}

/// A site of measurement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Cable,
    Lab,
    OnXdp,
}

impl Place {
    const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Cable => Self::Cable,
            Mode::Bridge | Mode::Fast => Self::Lab,
            Mode::Xdp => Self::OnXdp,
        }
    }
}

impl<'a> Bench<'a> {
    /// Opens sockets in the lab, on a new cable and, if there is one, in the lab on XDP.
    ///
    /// # Errors
    /// A namespace is gone, a kernel operation fails, or no answer arrives.
    pub async fn prepare(subject: &'a Subject, beside: Option<Beside<'_>>) -> Result<Self, Error> {
        let Subject { record, directory, chosen, cases, .. } = subject;
        let mut bench = Self {
            programs: Programs::of(record, directory.clone())?,
            watched: Watched::open(chosen.clone(), directory.clone())?,
            xdp: beside.map(OnXdp::open).transpose()?,
            chosen,
            cases,
            workers: BTreeMap::new(),
            are_used: false,
            began: Instant::now(),
        };
        bench.open().await?;
        bench.began = Instant::now();
        Ok(bench)
    }

    /// The paths that can be measured. Without armed pairs there is no fast path.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = vec![Mode::Cable, Mode::Bridge];
        modes.extend(self.chosen.is_armed().then_some(Mode::Fast));
        modes.extend(self.xdp.is_some().then_some(Mode::Xdp));
        modes
    }

    /// Closes all sockets.
    pub fn close(&mut self) {
        self.workers.clear();
    }

    /// Opens all workers and replaces the previous ones.
    async fn open(&mut self) -> Result<(), Error> {
        self.workers.clear();
        let from = &self.chosen.from;
        let cable = cable::create(from.address, from.pair.inner.mtu).await?;
        let xdp = self.xdp.as_ref().map(|xdp| Ok::<_, Error>((Mode::Xdp, xdp.site()?)));
        // In the lab, frames may take the bridge or the fast path. Errors name the bridge.
        let sites = [(Mode::Cable, cable), (Mode::Bridge, Site::of(self.chosen)?)];
        for (mode, mut site) in sites.into_iter().chain(xdp.transpose()?) {
            let mut workers = Vec::new();
            for &case in self.cases {
                workers.push(Worker::open(case, &mut site, mode.name()).await?);
            }
            self.workers.insert(Place::of(mode), workers);
        }
        Ok(())
    }

    async fn lab(&self, mode: Mode, worker: &Worker, timing: Timing) -> Result<Slice, Error> {
        let before = self.watched.counted()?;
        let measured = worker.slice(timing, mode.name()).await?;
        let sent = self.watched.since(&before)?;
        let fault = match mode {
            Mode::Fast if !sent.is_fast(worker.fewest_frames(&measured)) => {
                Some(Warning::NotFast { fast: sent.fast, slow: sent.slow, pairs: self.watched.states() })
            }
            Mode::Bridge if sent.fast > 0 => Some(Warning::NotPlain { fast: sent.fast }),
            _ => None,
        };
        Ok(Slice { measured, fault })
    }
}

impl Executor for Bench<'_> {
    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    async fn begin_round(&mut self) -> Result<(), Error> {
        if self.are_used {
            self.open().await?;
        }
        self.are_used = true;
        Ok(())
    }

    async fn enter(&mut self, mode: Mode) -> Result<(), Error> {
        match mode {
            Mode::Cable | Mode::Xdp => Ok(()),
            Mode::Bridge => self.programs.detach().await,
            Mode::Fast => self.programs.attach(self.chosen).await,
        }
    }

    async fn slice(&mut self, mode: Mode, case: usize, timing: Timing) -> Result<Slice, Error> {
        let worker = &self.workers[&Place::of(mode)][case];
        match (mode, &self.xdp) {
            (Mode::Bridge | Mode::Fast, _) => self.lab(mode, worker, timing).await,
            (Mode::Xdp, Some(xdp)) => xdp.slice(worker, timing).await,
            (Mode::Cable | Mode::Xdp, _) => {
                Ok(Slice { measured: worker.slice(timing, mode.name()).await?, fault: None })
            }
        }
    }
}
