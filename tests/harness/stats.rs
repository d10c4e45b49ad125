//! `vethpath stats --json`, and the kernel's own counters to compare it with.

use std::{collections::BTreeMap, fs};

use serde::Deserialize;
use vethpath::kernel::Netns;

use super::{Host, SLACK, wait_until};

/// vethpath's counters of one direction.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Count {
    /// Socket buffers, as the kernel counts them.
    pub(crate) frames: u64,
    /// Packets on a wire.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Directions {
    pub(crate) tx: Count,
    pub(crate) rx: Count,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) port: String,
    pub(crate) bridge: String,
    pub(crate) tx: Count,
    pub(crate) rx: Count,
    pub(crate) fast: Directions,
    pub(crate) slow: BTreeMap<String, u64>,
    pub(crate) slow_frames: BTreeMap<String, u64>,
    pub(crate) slow_bytes: BTreeMap<String, u64>,
    pub(crate) state: String,
    pub(crate) datapath: String,
    /// Only where the datapath is XDP.
    #[serde(default)]
    pub(crate) dropped: Option<Dropped>,
}

/// A pair's losses on XDP.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) tx: u64,
    pub(crate) rx: u64,
}

impl Pair {
    /// Packets that were slow for one reason.
    pub(crate) fn slow(&self, reason: &str) -> u64 {
        self.slow.get(reason).copied().unwrap_or_default()
    }

    /// What is inconsistent in its counters by themselves: every packet is counted exactly once.
    pub(crate) fn imbalance(&self) -> Option<String> {
        let Self { name, tx, rx, fast, slow, slow_frames, slow_bytes, .. } = self;
        let packets = fast.tx.packets + slow.values().sum::<u64>();
        let frames = fast.tx.frames + slow_frames.values().sum::<u64>();
        let bytes = fast.tx.bytes + slow_bytes.values().sum::<u64>();
        let wrong = if tx.packets != packets {
            format!("{} packets sent, {packets} fast and slow", tx.packets)
        } else if tx.frames != frames {
            format!("{} frames sent, {frames} fast and slow", tx.frames)
        } else if tx.bytes != bytes {
            format!("{} bytes sent, {bytes} fast and slow", tx.bytes)
        } else if rx.frames < fast.rx.frames || rx.packets < fast.rx.packets {
            format!("received {rx:?}, of which fast {:?}", fast.rx)
        } else {
            return None;
        };
        Some(format!("{name}: {wrong}"))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Agent {
    pub(crate) alive: bool,
    pub(crate) pid: Option<i32>,
    pub(crate) lease_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stats {
    pub(crate) lab: String,
    pub(crate) agent: Agent,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) trunks: Vec<Trunk>,
}

/// The traffic across a trunk.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Trunk {
    pub(crate) name: String,
    pub(crate) port: String,
    pub(crate) far_port: String,
    pub(crate) tx: Count,
    pub(crate) rx: Count,
    pub(crate) fast: Directions,
    pub(crate) state: String,
}

impl Stats {
    /// The pair of this name: `ns0:eth0`.
    #[track_caller]
    pub(crate) fn pair(&self, name: &str) -> &Pair {
        let pair = self.pairs.iter().find(|p| p.name == name);
        pair.unwrap_or_else(|| panic!("no pair {name} in {self:#?}"))
    }

    /// The trunk of this name: `br0 - br1`.
    #[track_caller]
    pub(crate) fn trunk(&self, name: &str) -> &Trunk {
        let trunk = self.trunks.iter().find(|t| t.name == name);
        trunk.unwrap_or_else(|| panic!("no trunk {name} in {self:#?}"))
    }

    /// All packets that namespaces sent on the fast path.
    pub(crate) fn fast(&self) -> u64 {
        self.pairs.iter().map(|p| p.fast.tx.packets).sum()
    }

    /// Packets that were slow because the agent was late to renew its lease or to resync the bridges' state.
    fn slow_by_the_agent(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.slow("lease") + pair.slow("stale")).sum()
    }

    /// Panics where a counter has decreased.
    #[track_caller]
    pub(crate) fn not_less_than(&self, earlier: &Self) {
        for then in &earlier.pairs {
            let now = self.pair(&then.name);
            let figures =
                |p: &Pair| [p.tx, p.rx, p.fast.tx, p.fast.rx].map(|c| [c.frames, c.packets, c.bytes]);
            let less = figures(now).iter().flatten().zip(figures(then).iter().flatten()).any(|(n, t)| n < t)
                || then.slow.iter().any(|(reason, packets)| now.slow(reason) < *packets);
            assert!(!less, "counters went back: then {then:#?}\nnow {now:#?}");
        }
    }
}

/// Runs a part of a test, from its first frame to its last. Repeats it if packets were slow because the agent was
/// late: on a loaded machine its lease may expire, which other tests are about.
#[track_caller]
pub(crate) fn with_a_lease<T>(mut stats: impl FnMut() -> Stats, mut part: impl FnMut() -> T) -> T {
    wait_until(SLACK, || {
        let before = stats().slow_by_the_agent();
        let result = part();
        match stats().slow_by_the_agent() - before {
            0 => Ok(result),
            slow => Err(format!("{slow} packets were slow as the agent was late")),
        }
    })
}

/// veth counts a socket buffer that an XDP program gets without its Ethernet header (`veth_xdp_rcv`).
const ETH_LEN: u64 = 14;

/// Waits until traffic is quiet, and checks for every pair that vethpath's counters equal the kernel's at the inner
/// end: every frame in both directions, and every byte sent. Of a frame that a socket sends to XDP, the kernel counts
/// the bytes without the Ethernet header. `after_xdp`: any pair may have been on XDP before.
#[track_caller]
pub(crate) fn assert_counters_match(host: &Host, after_xdp: bool, mut stats: impl FnMut() -> Stats) -> Stats {
    wait_until(std::time::Duration::from_secs(20) + SLACK, || {
        let stats = stats();
        for pair in &stats.pairs {
            if let Some(wrong) = pair.imbalance() {
                return Err(wrong);
            }
            let kernel = inner_counters(host, &pair.name);
            let ours = [pair.tx.frames, pair.rx.frames, pair.tx.bytes];
            let headers = if after_xdp || pair.datapath == "xdp" { ETH_LEN * pair.tx.frames } else { 0 };
            let bytes = ours[2].saturating_sub(headers)..=ours[2];
            if kernel[..2] != ours[..2] || !bytes.contains(&kernel[2]) {
                let name = &pair.name;
                return Err(format!(
                    "{name}: frames out, in, bytes out: kernel {kernel:?}, vethpath {ours:?}"
                ));
            }
        }
        Ok(stats)
    })
}

/// Frames sent and received and bytes sent by `namespace:interface`, as counted by the kernel.
#[track_caller]
fn inner_counters(host: &Host, pair: &str) -> [u64; 3] {
    let (namespace, interface) = pair.split_once(':').expect("a pair is named namespace:interface");
    // Without a process for each pair: with many pairs, frames would be sent meanwhile.
    let netns = Netns::open(&host.path(&format!("/run/netns/{namespace}")), namespace);
    let netns = netns.unwrap_or_else(|error| panic!("{error}"));
    let all = netns.run(|| fs::read_to_string("/proc/thread-self/net/dev")).expect("it can be entered");
    let all = all.expect("every kernel has it");
    let figures = all.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
    let figures = figures.unwrap_or_else(|| panic!("no {interface} in {namespace}: {all}"));
    let figures: Vec<u64> = figures.split_whitespace().map(|text| text.parse().expect("a counter")).collect();
    // Received bytes and packets come first. Sent ones come after six more fields of reception.
    [figures[9], figures[1], figures[8]]
}
