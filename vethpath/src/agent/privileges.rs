//! The agent's privileges while it runs: little more than those of root without capabilities.

use caps::{CapSet, Capability};
use log::warn;

use crate::kernel::{self, privileges, process};

/// Capabilities that the agent keeps. Each was found by leaving it out: without it the lab is not armed, or the agent
/// exits.
const KEPT: [Capability; 3] = [
    // `setns` once a second: into the namespaces of bridges, for /proc files that show the reader's namespace and for
    // program queries; into those of inner ends whose ports want XDP, for their offloads. `BPF_PROG_GET_FD_BY_ID`, to
    // distinguish our program on a port from others. It includes what CAP_BPF would permit: writing maps.
    Capability::CAP_SYS_ADMIN,
    // FDB entries, packet sockets and nftables rules, those in Docker's chain to write them again; links of another
    // namespace by its id (`IFLA_TARGET_NETNSID`); a receive buffer past `net.core.rmem_max`; `BPF_PROG_QUERY`.
    Capability::CAP_NET_ADMIN,
    // `NETLINK_LISTEN_ALL_NSID`: events of links behind the ports.
    Capability::CAP_NET_BROADCAST,
];

/// Raises the CPU priority, and drops all capabilities that are not in `KEPT`, as [`privileges::keep_only`] does.
///
/// # Errors
/// The kernel refuses.
pub fn reduce() -> kernel::Result<()> {
    // Before CAP_SYS_NICE is dropped.
    if let Err(error) = process::raise_priority() {
        warn!("{error}");
    }
    privileges::keep_only(&KEPT)
}

/// The names of the capabilities in effect, sorted.
#[must_use]
pub fn in_effect() -> Vec<String> {
    let effective = caps::read(None, CapSet::Effective).unwrap_or_default();
    let mut names: Vec<_> = effective.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
