//! A thread that stays on its CPU, so that its frames stay in order.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

/// Pins the calling thread to its present CPU until this is dropped. Each CPU has its own backlog: frames that are
/// sent from two CPUs may overtake each other.
pub(crate) struct OneCpu(CpuSet);

impl OneCpu {
    pub(crate) fn stay() -> Self {
        let all = sched_getaffinity(Pid::from_raw(0)).expect("of this thread");
        let mut here = CpuSet::new();
        here.set(sched_getcpu().expect("a CPU")).expect("in range");
        sched_setaffinity(Pid::from_raw(0), &here).expect("one that it was on");
        Self(all)
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        sched_setaffinity(Pid::from_raw(0), &self.0).expect("as it was");
    }
}
