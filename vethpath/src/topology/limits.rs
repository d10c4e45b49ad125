//! Limits of a file: large enough for a lab, and small enough not to exhaust the host's resources.

use std::ops::RangeInclusive;

/// The longest file, in bytes.
pub const FILE: usize = 1 << 20;
/// Namespaces in a lab. The host counts if it is declared.
pub(super) const NAMESPACES: usize = 4096;
/// Bridges in a lab: the most that one segment may have.
pub(super) const BRIDGES: usize = vethpath_common::MOST_BRIDGES;
/// Interfaces in a namespace.
pub(super) const INTERFACES: usize = 1024;
/// Addresses of an interface or bridge.
pub(super) const ADDRESSES: usize = 64;
/// Routes of a namespace.
pub(super) const ROUTES: usize = 1024;
/// Settings of a namespace or interface.
pub(super) const SYSCTLS: usize = 256;
/// The longest value of a setting, in bytes.
pub(super) const SYSCTL_VALUE: usize = 1024;
/// The longest component of a setting's path, in bytes (NAME_MAX).
pub(super) const SYSCTL_COMPONENT: usize = 255;
/// The longest path of an adopted namespace, in bytes (PATH_MAX less the terminating NUL).
pub(super) const PATH: usize = 4095;
/// Ports of a bridge. BR_MAX_PORTS is 1024, and port number 0 is never assigned (`find_portno` in
/// `net/bridge/br_if.c`).
pub(super) const PORTS: usize = 1023;
/// MTUs in bytes: from the IPv4 minimum (RFC 791) to the veth maximum.
pub(super) const MTU: RangeInclusive<u32> = 68..=65535;
/// The IPv6 minimum MTU, in bytes (RFC 8200).
pub const MTU_V6: u32 = 1280;
/// FDB ageing times in seconds.
pub(super) const AGEING_TIME: RangeInclusive<u32> = 0..=1_000_000;
/// Process ids (PID_MAX_LIMIT).
pub(super) const PID: RangeInclusive<u32> = 1..=4_194_304;
/// Namespaces of a group, or of a mesh that makes its own.
pub(super) const COUNT: RangeInclusive<u32> = 1..=4096;
/// Members of a mesh. Each member has a cable to every other one.
pub(super) const MEMBERS: usize = 64;
/// Bridges of a chain.
pub(super) const LINKED: RangeInclusive<u32> = 1..=64;
/// Interfaces in the whole file, once groups and meshes are expanded.
pub(super) const EXPANDED: usize = 16_384;
/// Hops from router to router that the check for routing holes follows.
pub(super) const HOPS: usize = 1_000_000;
/// Routers on one path.
pub(super) const WAY: usize = 64;
/// Faults with the same span that are reported.
pub(super) const ALIKE: usize = 3;
/// Faults that are rendered; the rest are counted.
pub(super) const SHOWN: usize = 100;
/// The longest message, label or hint, in characters.
pub(super) const MESSAGE: usize = 600;
