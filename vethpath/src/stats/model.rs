//! The account of a lab and its traffic matrix, as `stats --json` prints them.

use std::collections::BTreeMap;

use serde::Serialize;
use vethpath_common::Reason;

use super::{Agent, RoundTrips, State};
use crate::topology::{Datapath, IfName, LabName};

/// An amount of traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Socket buffers, as the kernel's interface counters count them: a GSO frame is one.
    pub frames: u64,
    /// Packets on the wire. A GSO frame counts as its segments if a program saw it.
    pub packets: u64,
    /// Bytes of the socket buffers, with the Ethernet header. The headers that each segment of a GSO frame would
    /// repeat on a wire are not included, as in the kernel's counters.
    pub bytes: u64,
}

impl Count {
    /// The sum of two counts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            frames: self.frames.saturating_add(other.frames),
            packets: self.packets.saturating_add(other.packets),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Count {
    /// This count, with each value limited to that of `other`.
    #[must_use]
    pub(super) fn at_most(self, other: Self) -> Self {
        Self {
            frames: self.frames.min(other.frames),
            packets: self.packets.min(other.packets),
            bytes: self.bytes.min(other.bytes),
        }
    }
}

impl From<vethpath_common::Count> for Count {
    fn from(count: vethpath_common::Count) -> Self {
        let vethpath_common::Count { frames, packets, bytes } = count;
        Self { frames, packets, bytes }
    }
}

/// Both directions, from the namespace's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Directions {
    /// Sent by the namespace.
    pub tx: Count,
    /// Received by the namespace.
    pub rx: Count,
}

/// The traffic of one pair. `tx.packets` always equals `fast.tx.packets` plus the sum of `slow`. The same holds for
/// frames with `slow_frames`, and for bytes with `slow_bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Sent by the namespace.
    pub tx: Count,
    /// Received by the namespace.
    pub rx: Count,
    /// The part that took the fast path.
    pub fast: Directions,
    /// Packets that the namespace sent by the bridge, by reason. Reasons without packets are left out.
    pub slow: BTreeMap<&'static str, u64>,
    /// The same in frames.
    pub slow_frames: BTreeMap<&'static str, u64>,
    /// The same in bytes.
    pub slow_bytes: BTreeMap<&'static str, u64>,
}

/// Fewer slow packets than that say nothing.
const MANY: u64 = 100;

impl Traffic {
    /// The reason of most slow packets, if at least 9 of 10 packets that a fast path might take were slow. Broadcasts,
    /// ARP and the like are always slow.
    #[must_use]
    pub fn mostly_slow(&self) -> Option<Reason> {
        const ALWAYS: [Reason; 4] = [Reason::Group, Reason::Control, Reason::Arp, Reason::Nd];
        let packets = |reason: &Reason| self.slow.get(reason.name()).copied().unwrap_or_default();
        let counted = || Reason::ALL.into_iter().filter(|reason| !ALWAYS.contains(reason));
        let slow: u64 = counted().map(|reason| packets(&reason)).sum();
        let is_most = slow >= MANY && slow / 9 >= self.fast.tx.packets;
        counted().max_by_key(packets).filter(|_| is_most)
    }
}

/// Frames of a pair that XDP dropped, as the driver counts them (`veth_get_stats64` in drivers/net/veth.c).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Sent by the namespace while the port's ring was full, or failed at a redirect because the receiver was gone,
    /// down, or had too small an MTU.
    pub tx: u64,
    /// To the namespace, redirected or not, and dropped because its inner end's ring was full or the inner end was
    /// not ready.
    pub rx: u64,
}

/// One pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The name in messages: `ns0:eth0`.
    pub name: String,
    /// The port's device name.
    pub port: IfName,
    /// The bridge.
    pub bridge: IfName,
    /// The programs that the file requests for the port.
    pub datapath: Datapath,
    /// Whether another program made the port. Its traffic is counted from when the program was attached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
    /// What is behind a guest port: `web:eth0` in a container or a namespace with that name, or
    /// `eth0 in pid 4242 (nginx)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind: Option<String>,
    /// Its traffic.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Its drops, if its datapath is XDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    /// Whether it takes part in the fast path.
    pub state: State,
    /// Of an armed pair: the reason why nearly all of its packets were slow nevertheless, if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mostly_slow: Option<&'static str>,
    /// The round-trip times of its TCP connections to other hosts of the lab, if they were asked for. Empty for a guest
    /// port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt: Option<Vec<RoundTrips>>,
}

/// The traffic of a trunk, from its first end's side: `tx` left by `port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trunk {
    /// The name in messages: `br0 - br1`.
    pub name: String,
    /// The port at its first end.
    pub port: IfName,
    /// The bridge there.
    pub bridge: IfName,
    /// The port at its second end.
    pub far_port: IfName,
    /// The bridge there.
    pub far_bridge: IfName,
    /// Its traffic: the kernel's counters of its first end, plus what the fast path took past it.
    #[serde(flatten)]
    pub total: Directions,
    /// The part that the fast path took past it in one redirect.
    pub fast: Directions,
    /// Whether frames may take the fast path past it.
    pub state: State,
}

/// The account of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Its name.
    pub lab: LabName,
    /// Its agent.
    pub agent: Agent,
    /// Its pairs, in the file's order, and then its guest ports.
    pub pairs: Vec<Pair>,
    /// What the programs counted at guest ports that have left, if a bridge has or had `guests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former: Option<Traffic>,
    /// Its trunks, in the file's order.
    pub trunks: Vec<Trunk>,
}

impl Stats {
    /// Adds the round-trip times of its pairs: see [`round_trips`](super::round_trips).
    pub fn add_round_trips(&mut self, mut times: BTreeMap<String, Vec<RoundTrips>>) {
        for pair in &mut self.pairs {
            pair.rtt = Some(times.remove(&pair.name).unwrap_or_default());
        }
    }
}

/// Traffic from one pair to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// The sender: `ns0:eth0`.
    pub from: String,
    /// What is behind it, if it is a guest port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_behind: Option<String>,
    /// The receiver.
    pub to: String,
    /// What is behind it, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_behind: Option<String>,
    /// The amount.
    #[serde(flatten)]
    pub count: Count,
}

/// The traffic matrix of a lab, without its empty cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flows {
    /// The lab's name.
    pub lab: String,
    /// Its cells, in the file's order of senders and then receivers.
    pub matrix: Vec<Flow>,
    /// Fast path traffic that was not recorded in the matrix because it was full.
    pub left_out: Count,
}
