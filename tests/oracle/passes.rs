//! Waits until no frame is in flight.
//!
//! A frame is queued in the backlog of the sending CPU once for each veth pair that it crosses. Each backlog is a FIFO
//! (`enqueue_to_backlog` in net/core/dev.c). A probe that the same CPU sends on a separate pair therefore arrives after
//! all frames that were queued before.

use std::{process::Command, thread, time::Instant};

use vethpath::kernel::Netns;

use crate::harness::{SLACK, TIMEOUT, Wire, wait_for};

/// A veth pair outside both worlds.
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
            // The kernel drops frames until it has processed the carrier.
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

    /// Waits until all frames that the calling thread has sent, on one CPU, have crossed this many pairs.
    pub(crate) fn wait(&self, pairs: usize) {
        let frame = [&[0xff; 12], &[0x88, 0xb5][..], &[0; 46]].concat();
        let start = Instant::now();
        for _ in 0..pairs {
            self.out.send(&frame);
            // It has arrived already, unless the kernel has deferred softirqs to a thread.
            while self.back.next().is_none() {
                assert!(start.elapsed() < TIMEOUT, "a frame of our own does not come out");
                thread::yield_now();
            }
        }
    }
}
