//! One end of a measured path: a thread that stays in one namespace and on one CPU.

use std::{sync::mpsc, thread};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use tokio::sync::oneshot;

use super::Error;
use crate::kernel::Netns;

/// A pid of 0 means the calling thread.
const THIS_THREAD: Pid = Pid::from_raw(0);

type Job = Box<dyn FnOnce() + Send>;

/// A thread that runs jobs in order. It ends when this is dropped and the last job is done.
pub struct End {
    jobs: mpsc::Sender<Job>,
    namespace: String,
}

impl End {
    /// Starts a thread in `netns`, pinned to `cpu`.
    ///
    /// # Errors
    /// The thread cannot be started, enter the namespace or be pinned.
    pub fn start(netns: &Netns, cpu: usize) -> Result<Self, Error> {
        let namespace = netns.to_string();
        let failed = |cause: String| Error::Thread { namespace: namespace.clone(), cause };
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, answer) = mpsc::channel();
        let netns = netns.clone();
        let work = move || {
            let entered = netns.enter_for_good().map_err(|e| e.to_string());
            let entered = entered.and_then(|()| pin(cpu).map_err(|e| format!("CPU {cpu}: {e}")));
            let fine = entered.is_ok();
            // `start` waits for this.
            let _ = ready.send(entered);
            if fine {
                inbox.into_iter().for_each(|job| job());
            }
        };
        thread::Builder::new().name("bench".to_owned()).spawn(work).map_err(|e| failed(e.to_string()))?;
        answer.recv().unwrap_or_else(|gone| Err(gone.to_string())).map_err(failed)?;
        Ok(Self { jobs, namespace })
    }

    /// Queues a job for the thread. The future resolves to its result.
    pub fn run<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        job: F,
    ) -> impl Future<Output = Result<T, Error>> + use<T, F> {
        let (done, result) = oneshot::channel();
        let namespace = self.namespace.clone();
        // If the thread has died, the job is dropped and the future returns an error.
        let _ = self.jobs.send(Box::new(move || {
            // The receiver may have been dropped.
            let _ = done.send(job());
        }));
        async move { result.await.map_err(|gone| Error::Thread { namespace, cause: gone.to_string() }) }
    }
}

fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(THIS_THREAD, &set)
}

/// The CPUs in this process's affinity mask.
#[must_use]
pub fn cpus() -> Vec<usize> {
    let set = sched_getaffinity(THIS_THREAD).unwrap_or_default();
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_is_on_its_cpu_and_outlives_no_panic() {
        let Some(&cpu) = cpus().last() else { panic!("no CPU") };
        let here = Netns::current().unwrap();
        let Ok(end) = End::start(&here, cpu) else { return eprintln!("SKIPPED: setns needs root") };
        assert_eq!(end.run(cpus).await.unwrap(), [cpu]);
        let _ = end.run(|| panic!("as it was told to")).await.unwrap_err();
        assert!(matches!(end.run(cpus).await, Err(Error::Thread { .. })));
    }
}
