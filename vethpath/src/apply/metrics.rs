//! Starts and ends the processes that serve the metrics of a lab.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::{Error, agent::log_tail, execute::Executor};
use crate::{
    kernel::{files, home::Home, process},
    plan::Change,
    state::{self, Directory, MetricsLock, Record},
    topology::{LabName, Topology},
};

/// How long the processes may take to start, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long a process that was killed may keep its address: it ends when it finds that its other half is gone.
const MOMENT: Duration = Duration::from_secs(1);

/// The polling interval.
const INTERVAL: Duration = Duration::from_millis(5);

/// Where the metrics of a lab are to be served.
pub(super) struct Metrics {
    /// What changes; `None` if they are served there already, or not at all.
    pub(super) change: Option<Change>,
    /// The listening socket for it. It is bound before anything is changed.
    listener: Option<TcpListener>,
}

impl Metrics {
    /// Compares what a lab wants with the processes that it has, and binds an address that is new.
    ///
    /// # Errors
    /// The address is another lab's, or in use ([`Error::Metrics`]).
    pub(super) async fn of(topology: &Topology) -> Result<Self, Error> {
        let Topology { lab, metrics: wanted, .. } = topology;
        let served = MetricsLock::serving(&Directory::of(lab))?.map(|serving| serving.listen);
        let change = Change::of_metrics(lab, served, *wanted);
        let listener = match wanted {
            Some(address) if change.is_some() => {
                if let Some(other) = lab_with(*address, lab)? {
                    return Err(Error::Metrics { address: *address, cause: format!("lab `{other}` has it") });
                }
                let bound = bind(*address).await;
                Some(bound.map_err(|error| Error::Metrics { address: *address, cause: error.to_string() })?)
            }
            _ => None,
        };
        Ok(Self { change, listener })
    }

    /// Ends the processes that are not wanted, and starts those that are.
    ///
    /// # Errors
    /// They do not end, or do not start ([`Error::NoMetrics`]).
    pub(super) async fn ensure(
        &self,
        directory: &Directory,
        executor: &mut Executor<'_>,
    ) -> Result<(), Error> {
        let Some(change) = &self.change else { return Ok(()) };
        executor.journal.append(&change.to_string())?;
        MetricsLock::terminate_holder(directory).await?;
        let Some(listener) = &self.listener else { return Ok(()) };
        let failed = |cause: String| Error::NoMetrics { lab: directory.lab().clone(), cause };
        let started = start(directory, listener).map_err(|error| failed(error.to_string()))?;
        let child = executor.metrics.insert(started);
        let deadline = Instant::now() + TIMEOUT;
        while MetricsLock::serving(directory)?.is_none() {
            if let Ok(Some(exit)) = child.try_wait() {
                return Err(failed(format!("it ended with {exit}{}", log_tail(&directory.metrics_log()))));
            }
            if Instant::now() > deadline {
                return Err(failed(format!("it did not start within {} s", TIMEOUT.as_secs())));
            }
            sleep(INTERVAL).await;
        }
        Ok(())
    }
}

/// The other lab in this network namespace whose record has an address.
fn lab_with(address: SocketAddr, lab: &LabName) -> Result<Option<LabName>, Error> {
    let here = Home::current()?.netns;
    for other in state::labs()?.into_iter().filter(|other| other != lab) {
        // A record that cannot be read is reported by the commands for that lab.
        let Ok(Some(record)) = Record::read(&Directory::of(&other)) else { continue };
        let is_here = record.home.is_none_or(|home| home.netns.is(&here));
        if is_here && record.topology.metrics == Some(address) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let deadline = Instant::now() + MOMENT;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                sleep(INTERVAL).await;
            }
            bound => return bound,
        }
    }
}

/// Starts the processes, which outlive this one.
fn start(directory: &Directory, listener: &TcpListener) -> io::Result<Child> {
    let mut options = OpenOptions::new();
    let log = files::open_private(options.create(true).append(true), &directory.metrics_log())?;
    process::close_inherited_on_exec();
    Command::new("/proc/self/exe")
        .arg0("vethpath")
        .args(["metrics-of", directory.lab().as_str()])
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone()?)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
}
