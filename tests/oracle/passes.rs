//! Knowing that nothing is under way any more.
//!
//! A frame that is sent waits in the backlog of the sending CPU, once for each veth pair it crosses,
//! and each backlog is first in, first out (`enqueue_to_backlog` in net/core/dev.c). So a frame of
//! our own, sent by the same CPU on a pair of its own, comes out behind everything that was there.

use std::{process::Command, thread, time::Instant};

use vethpath::kernel::Netns;

use crate::harness::{SLACK, TIMEOUT, Wire, wait_for};

/// A veth pair apart from both worlds.
pub(crate) struct Passes {
    out: Wire,
    back: Wire,
}

impl Passes {
    pub(crate) fn new() -> Self {
        let netns = Netns::create("passes").expect("a namespace");
        let wires = netns.run(|| {
            for words in [
                "link add there type veth peer name back",
                "link set there addrgenmode none up",
                "link set back addrgenmode none up",
            ] {
                let done = Command::new("ip").args(words.split(' ')).output();
                let done = done.expect("ip is installed");
                assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
            }
            // Before the kernel has taken in that there is a carrier, frames are dropped.
            let is_up = |name| {
                let shown = Command::new("ip").args(["-o", "link", "show", "dev", name]).output();
                String::from_utf8_lossy(&shown.expect("ip is installed").stdout).contains("state UP")
            };
            wait_for(SLACK, "the pair is not up", || ["there", "back"].into_iter().all(is_up));
            ["there", "back"].map(|name| Wire::on(name).expect("a packet socket"))
        });
        let [out, back] = wires.expect("it is there");
        Self { out, back }
    }

    /// Waits until all that the calling thread has sent, on one CPU, has crossed this many pairs.
    pub(crate) fn wait(&self, pairs: usize) {
        let frame = [&[0xff; 12], &[0x88, 0xb5][..], &[0; 46]].concat();
        let start = Instant::now();
        for _ in 0..pairs {
            self.out.send(&frame);
            // It is there already, unless the kernel has left its softirqs to a thread.
            while self.back.next().is_none() {
                assert!(start.elapsed() < TIMEOUT, "a frame of our own does not come out");
                thread::yield_now();
            }
        }
    }
}
