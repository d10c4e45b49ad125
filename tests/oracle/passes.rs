//! Knowing that nothing is under way any more.
//!
//! A frame that is sent waits in the backlog of the sending CPU, once for each veth pair it crosses,
//! and each backlog is first in, first out (`enqueue_to_backlog` in net/core/dev.c). So a frame of
//! our own, sent by the same CPU on a pair of its own, comes out behind everything that was there.

use std::thread;

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};
use vethpath::kernel::Netns;

use crate::harness::Wire;

/// A veth pair apart from both worlds.
pub(crate) struct Passes {
    out: Wire,
    back: Wire,
}

/// The calling thread stays on the CPU where it is, as long as this lives.
pub(crate) struct OneCpu(CpuSet);

impl Passes {
    pub(crate) fn new() -> Self {
        let netns = Netns::create("passes").expect("a namespace");
        let wires = netns.run(|| {
            for words in [
                "link add there type veth peer name back",
                "link set there addrgenmode none up",
                "link set back addrgenmode none up",
            ] {
                let done = std::process::Command::new("ip").args(words.split(' ')).status();
                assert!(done.expect("ip is installed").success(), "ip {words}");
            }
            ["there", "back"].map(|name| Wire::on(name).expect("a packet socket"))
        });
        let [out, back] = wires.expect("it is there");
        Self { out, back }
    }

    /// Waits until all that the calling thread has sent, on one CPU, has crossed this many pairs.
    pub(crate) fn wait(&self, pairs: usize) {
        let frame = [&[0xff; 12], &[0x88, 0xb5][..], &[0; 46]].concat();
        for _ in 0..pairs {
            self.out.send(&frame);
            // It is there already, unless the kernel has left its softirqs to a thread.
            while self.back.next().is_none() {
                thread::yield_now();
            }
        }
    }
}

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
