//! Sets up each path, and verifies that frames took it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    endpoints::Endpoints,
    error::Error,
    load::Worker,
    measurement::Timing,
    mode::Mode,
    monitor::PathMonitor,
    programs::Programs,
    schedule::{Executor, Slice},
    selection::Selection,
    warning::Warning,
    workload::Spec,
    xdp::{Beside, OnXdp},
};
use crate::state::{Directory, Record};

/// All that is needed to measure slices.
pub struct Bench<'a> {
    /// The lab's programs.
    pub programs: Programs,
    selection: &'a Selection,
    monitor: PathMonitor,
    xdp: Option<OnXdp>,
    cases: &'a [Spec],
    /// For each place, a worker for each case.
    workers: BTreeMap<Testbed, Vec<Worker>>,
    /// Whether a round has already used the workers.
    are_used: bool,
    began: Instant,
}

/// Where slices are measured. The bridge and the fast path share the lab.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Testbed {
    Cable,
    Lab,
    OnXdp,
}

impl Testbed {
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
    /// A namespace is gone, a kernel operation fails, or no reply arrives.
    pub async fn open(
        record: &Record,
        directory: &Directory,
        selection: &'a Selection,
        cases: &'a [Spec],
        beside: Option<Beside<'_>>,
    ) -> Result<Self, Error> {
        let mut bench = Self {
            programs: Programs::of(record, selection, directory.clone())?,
            monitor: PathMonitor::open(selection.clone(), directory.clone())?,
            xdp: beside.map(OnXdp::open).transpose()?,
            selection,
            cases,
            workers: BTreeMap::new(),
            are_used: false,
            began: Instant::now(),
        };
        bench.open_workers().await?;
        bench.began = Instant::now();
        Ok(bench)
    }

    /// The paths that can be measured. Without armed pairs there is no fast path.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = vec![Mode::Cable, Mode::Bridge];
        modes.extend(self.selection.is_armed().then_some(Mode::Fast));
        modes.extend(self.xdp.is_some().then_some(Mode::Xdp));
        modes
    }

    /// Closes all sockets.
    pub fn close(&mut self) {
        self.workers.clear();
    }

    /// Opens all workers and replaces the previous ones.
    async fn open_workers(&mut self) -> Result<(), Error> {
        self.workers.clear();
        let from = &self.selection.from;
        let cable = Endpoints::cable(from.address, from.mtu).await?;
        let xdp = self.xdp.as_ref().map(|xdp| Ok::<_, Error>((Mode::Xdp, xdp.endpoints()?)));
        // In the lab, frames may take the bridge or the fast path. Errors name the bridge.
        let places = [(Mode::Cable, cable), (Mode::Bridge, Endpoints::of(self.selection)?)];
        for (mode, mut endpoints) in places.into_iter().chain(xdp.transpose()?) {
            let mut workers = Vec::new();
            for &case in self.cases {
                workers.push(Worker::open(case, &mut endpoints, mode.name()).await?);
            }
            self.workers.insert(Testbed::of(mode), workers);
        }
        Ok(())
    }

    async fn lab(&self, mode: Mode, worker: &Worker, timing: Timing) -> Result<Slice, Error> {
        let before = self.monitor.counted()?;
        let measured = worker.slice(timing, mode.name()).await?;
        let sent = self.monitor.since(&before)?;
        let fault = match mode {
            Mode::Fast if !sent.is_fast(worker.fewest_frames(&measured)) => {
                Some(Warning::NotFast { fast: sent.fast, slow: sent.slow, pairs: self.monitor.states() })
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
            self.open_workers().await?;
        }
        self.are_used = true;
        Ok(())
    }

    async fn enter(&mut self, mode: Mode) -> Result<(), Error> {
        match mode {
            Mode::Cable | Mode::Xdp => Ok(()),
            Mode::Bridge => self.programs.detach().await,
            Mode::Fast => self.programs.attach(self.selection).await,
        }
    }

    async fn slice(&mut self, mode: Mode, case: usize, timing: Timing) -> Result<Slice, Error> {
        let worker = &self.workers[&Testbed::of(mode)][case];
        match (mode, &self.xdp) {
            (Mode::Bridge | Mode::Fast, _) => self.lab(mode, worker, timing).await,
            (Mode::Xdp, Some(xdp)) => xdp.slice(worker, timing).await,
            (Mode::Cable | Mode::Xdp, _) => {
                Ok(Slice { measured: worker.slice(timing, mode.name()).await?, fault: None })
            }
        }
    }
}
