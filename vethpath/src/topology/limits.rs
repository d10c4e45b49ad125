//! How large a file may be. Generous for a lab, small enough that no file can exhaust the host.

use std::ops::RangeInclusive;

/// The longest file, in bytes.
pub const FILE: usize = 1 << 20;
/// Namespaces in a lab, the host counted where it is declared.
pub(super) const NAMESPACES: usize = 4096;
/// Bridges in a lab: as many as a segment may have.
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
/// The longest path of an adopted namespace, in bytes (PATH_MAX less the final zero).
pub(super) const PATH: usize = 4095;
/// Ports of a bridge: Linux's BR_MAX_PORTS is 1024, and port number 0 is not given out
/// (`find_portno` in `net/bridge/br_if.c`).
pub(super) const PORTS: usize = 1023;
/// MTUs in bytes: from the least that IPv4 allows (RFC 791) to the most that veth takes.
pub(super) const MTU: RangeInclusive<u32> = 68..=65535;
/// The least MTU that IPv6 allows, in bytes (RFC 8200).
pub const MTU_V6: u32 = 1280;
/// FDB ageing times in seconds.
pub(super) const AGEING_TIME: RangeInclusive<u32> = 0..=1_000_000;
/// Process ids (PID_MAX_LIMIT).
pub(super) const PID: RangeInclusive<u32> = 1..=4_194_304;
/// Namespaces of a group, or of a mesh that makes its own.
pub(super) const COUNT: RangeInclusive<u32> = 1..=4096;
/// Members of a mesh: each more has a cable to every other.
pub(super) const MEMBERS: usize = 64;
/// Bridges of a chain.
pub(super) const LINKED: RangeInclusive<u32> = 1..=64;
/// Interfaces that groups and meshes stand for, in the whole file.
pub(super) const EXPANDED: usize = 16_384;
/// Steps from router to router that are looked at to find holes in the routing.
pub(super) const HOPS: usize = 1_000_000;
/// Routers on one way.
pub(super) const WAY: usize = 64;
/// Faults about the same words of the file that are told.
pub(super) const ALIKE: usize = 3;
/// Faults that are rendered; the rest are counted.
pub(super) const SHOWN: usize = 100;
/// The longest message, label or hint, in characters.
pub(super) const MESSAGE: usize = 600;
