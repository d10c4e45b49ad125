//! The account of a lab, as `stats --json` prints it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Agent, State};
use crate::topology::{IfName, LabName};

/// An amount of traffic in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Socket buffers, as the kernel's interface counters count them: a GSO frame is one.
    pub frames: u64,
    /// Packets on a wire: a GSO frame counts as its segments where a program of ours saw it.
    pub packets: u64,
    /// Bytes of the socket buffers, Ethernet header included. The headers that each segment of a
    /// GSO frame would repeat on a wire are not in it, as they are not in the kernel's counters.
    pub bytes: u64,
}

impl From<vethpath_common::Count> for Count {
    fn from(count: vethpath_common::Count) -> Self {
        let vethpath_common::Count { frames, packets, bytes } = count;
        Self { frames, packets, bytes }
    }
}

/// Both directions, as the namespace sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ways {
    /// Sent by the namespace.
    pub tx: Count,
    /// Received by the namespace.
    pub rx: Count,
}

/// What one pair carried. `tx.packets` is `fast.tx.packets` and the sum of `slow`, always; the same
/// holds for frames with `slow_frames`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Sent by the namespace.
    pub tx: Count,
    /// Received by the namespace.
    pub rx: Count,
    /// Of these, what took the fast path.
    pub fast: Ways,
    /// Packets that the namespace sent and the bridge got, by reason; reasons without any are left out.
    pub slow: BTreeMap<&'static str, u64>,
    /// The same in frames.
    pub slow_frames: BTreeMap<&'static str, u64>,
}

/// One pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// What people call it: `ns0:eth0`.
    pub name: String,
    /// The port's device name.
    pub port: IfName,
    /// The bridge.
    pub bridge: IfName,
    /// What it carried.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Whether it takes part in the fast path.
    pub state: State,
}

/// A port of a trunk. It has no program, and nothing is counted there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrunkPort {
    /// The port's device name.
    pub port: IfName,
    /// The bridge.
    pub bridge: IfName,
    /// The bridge at the other end.
    pub to: IfName,
    /// Why it takes no part in the fast path.
    pub state: State,
}

/// The account of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Its name.
    pub lab: LabName,
    /// Its agent.
    pub agent: Agent,
    /// Its pairs, in the file's order.
    pub pairs: Vec<Pair>,
    /// The ports of its trunks, in the file's order.
    pub trunk_ports: Vec<TrunkPort>,
}
