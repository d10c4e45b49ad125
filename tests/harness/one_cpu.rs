//! A thread that stays where it is, so that what it sends stays in order.

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

/// The calling thread stays on the CPU where it is, as long as this lives. Each CPU has a backlog of frames
/// of its own: those that are sent from two of them may overtake each other.
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
