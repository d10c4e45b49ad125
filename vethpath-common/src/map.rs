//! Keys and values of the maps that user space writes and the programs read.
//!
//! No type has padding: map keys are compared as bytes, and `Pod` must not lie.

use bytemuck::{Pod, Zeroable};

use crate::MacWords;

/// Bits of [`Source::flags`], [`Station::flags`] and [`PortRecord::flags`].
pub mod flags {
    /// The port is isolated (`bridge link set isolated on`): no frame from it is forwarded to another isolated port.
    /// In a [`Station`](super::Station), the flag of the port by which frames to it leave the sender's bridge.
    pub const ISOLATED: u32 = 1;
    /// Deliver by `bpf_redirect` to the port instead of `bpf_redirect_peer` to the inner end: the destination MAC is
    /// not the inner end's own, or another consumer on the path to it needs the frame.
    pub const VIA_PORT: u32 = 1 << 1;
    /// The port takes part in the fast path ([`PortRecord`](super::PortRecord) only).
    pub const ARMED: u32 = 1 << 2;
    /// A bridge calls netfilter for IPv4 (`bridge-nf-call-iptables` and similar settings), and so drops or trims
    /// packets with an invalid header. The fast path does not forward packets that it would drop or trim. In a
    /// [`Source`](super::Source) this is the sender's bridge, in a [`Station`](super::Station) a bridge behind it.
    pub const VALIDATE_IPV4: u32 = 1 << 3;
    /// The path MTU to this [`Station`](super::Station) is at least the MTU of every inner end of the bridge namespace:
    /// every segment that a sender's stack makes of a GSO frame fits.
    pub const MTU_ANY: u32 = 1 << 4;
    /// The bridge learns from no frame that it receives on the port ([`PortRecord`](super::PortRecord) only): it drops
    /// them all, or learning is off.
    pub const NO_LEARNING: u32 = 1 << 5;
    /// The sender's inner end offloads no checksum or VLAN tag: both are in the frame, where the XDP program sees them
    /// and a redirect keeps them ([`Source`](super::Source) only).
    pub const NO_OFFLOAD: u32 = 1 << 6;
    /// The same as [`VALIDATE_IPV4`] for IPv6 (`bridge-nf-call-ip6tables`).
    pub const VALIDATE_IPV6: u32 = 1 << 7;
    /// [`VALIDATE_IPV4`] and [`VALIDATE_IPV6`].
    pub const VALIDATE: u32 = VALIDATE_IPV4 | VALIDATE_IPV6;
    /// Connection tracking may reassemble the packets that [`VALIDATE`] applies to (`nf_defrag_ipv4`,
    /// `nf_defrag_ipv6`): the fast path forwards no fragment of these. Never set without one of the two flags.
    pub const DEFRAGMENT: u32 = 1 << 8;
}

/// The configuration that every program checks first. One write to it disarms a whole lab.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of the process that created the map.
    pub abi: u32,
    /// Entries of any other generation are void.
    pub generation: u32,
    /// End of the lease, in nanoseconds of the kernel's `CLOCK_MONOTONIC` (of no time namespace). From then on every
    /// frame goes to the bridge.
    pub lease_until_ns: u64,
    /// The agent increments it at each poll. Programs record under it which bridges frames crossed ([`Seen`]).
    pub epoch: u32,
    /// Announcements up to this number are confirmed: see [`UNCONFIRMED`].
    pub confirmed: u32,
}

/// A port: an ifindex in one of the lab's bridge namespaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct PortKey {
    /// The port's ifindex.
    pub ifindex: u32,
    /// Number of the bridge namespace, as in the program's `DOMAIN` constant.
    pub domain: u32,
}

/// What a program needs to count a frame that it passes to the bridge.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRecord {
    /// Index of the pair in the counter map.
    pub pair: u32,
    /// [`flags::ARMED`], [`flags::NO_LEARNING`].
    pub flags: u32,
    /// The port's bridge, where the source addresses of its frames are stations.
    pub bridge: u32,
}

/// A station as the sender of a frame: this MAC behind this port.
///
/// Made of words, as [`StationKey`] is: see [`MacWords`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceKey(pub(crate) [u32; 3]);

impl SourceKey {
    /// The station `mac` behind the port `ifindex` in the bridge namespace `domain`.
    #[inline(always)]
    #[must_use]
    pub fn new(ifindex: u32, mac: MacWords, domain: u16) -> Self {
        Self([ifindex, mac.head(), mac.tail() | (domain as u32) << 16])
    }
}

/// What the fast path needs to know about the sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Source {
    /// Must equal [`Config::generation`].
    pub generation: u32,
    /// The port's bridge, where destinations of the sender's frames are looked up.
    pub bridge: u32,
    /// Index of the sender's pair in the counter map.
    pub pair: u32,
    /// [`flags::ISOLATED`], [`flags::VALIDATE`], [`flags::DEFRAGMENT`], [`flags::NO_OFFLOAD`].
    pub flags: u32,
    /// The bridges of the segment with an FDB entry for the sender, one bit each. A frame that would cross another goes
    /// to the bridges, which learn from it.
    pub reach: u64,
    /// Until this time the sender is away, seen on another port: see [`Station::away_until_ns`].
    pub away_until_ns: u64,
    /// The bridges that its fast frames crossed in this epoch and the last, indexed by its low bit. Written by the
    /// program, read by the agent to refresh FDB entries.
    pub seen: [Seen; 2],
}

/// The bridges that the fast frames of a station crossed in one epoch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Seen {
    /// The bridges on their path, one bit each.
    pub bridges: u64,
    /// The epoch: [`Config::epoch`].
    pub epoch: u32,
    /// Always zero: avoids padding.
    pub zero: u32,
}

/// A station as the receiver of a frame, for frames that enter by one bridge.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct StationKey(pub(crate) [u32; 3]);

impl StationKey {
    /// The station `mac` for frames that enter by `bridge`.
    #[inline(always)]
    #[must_use]
    pub fn new(bridge: u32, mac: MacWords) -> Self {
        Self([bridge, mac.head(), mac.tail()])
    }
}

/// Where the fast path delivers frames to a station, and the path MTU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Station {
    /// Must equal [`Config::generation`].
    pub generation: u32,
    /// The port's ifindex, in the namespace of the sender's port.
    pub ifindex: u32,
    /// Index of the receiver's pair in the counter map.
    pub pair: u32,
    /// Smallest MTU on the path, in bytes of layer 3.
    pub mtu: u32,
    /// [`flags::ISOLATED`], [`flags::VIA_PORT`], [`flags::VALIDATE`], [`flags::DEFRAGMENT`], [`flags::MTU_ANY`].
    pub flags: u32,
    /// Number of the [`Path`] over trunks; 0 if no trunk is crossed.
    pub path: u32,
    /// The bridges on the path, from the sender's to the receiver's, one bit each.
    pub bridges: u64,
    /// The port by which frames to it leave the sender's bridge: its own, or a trunk's.
    pub exit: u32,
    /// Always zero: avoids padding.
    pub zero: u32,
    /// Until this time (nanoseconds of the kernel's `CLOCK_MONOTONIC`) frames to the station are passed to the bridge.
    /// The program sets it to [`AWAY_NS`] from now when it sees the station on another port of the bridge. The bridge
    /// learns the new port from the same frame, before the agent can update this entry.
    pub away_until_ns: u64,
}

/// How long frames of a station that was seen on another port are passed to the bridge, in nanoseconds. Longer than a
/// lease: an agent that has not written the new port by then has lost its lease.
pub const AWAY_NS: u64 = 4_000_000_000;

/// Marks a new entry as unconfirmed: the agent sets `away_until_ns` to this bit and the number of an announcement. The
/// entry is away until [`Config::confirmed`] reaches that number, which is when the agent knows that no event about the
/// station was pending. A time that a program writes in its place stays. No time has this bit.
pub const UNCONFIRMED: u64 = 1 << 63;

/// Key for the traffic from one pair to another.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct MatrixKey {
    /// Index of the sender's pair in the counter map.
    pub from: u32,
    /// Index of the receiver's pair.
    pub to: u32,
}

impl MatrixKey {
    /// The index of its cell in an array for pairs below `width`; `None` if one of the pairs is not.
    #[inline(always)]
    #[must_use]
    pub fn cell(self, width: u32) -> Option<u32> {
        if self.from < width && self.to < width { Some(self.from * width + self.to) } else { None }
    }

    /// The pairs of a cell.
    #[must_use]
    pub fn of_cell(index: u32, width: u32) -> Self {
        Self { from: index / width, to: index % width }
    }
}

/// Largest number of bridges in a segment: each has a bit in [`Station::bridges`].
pub const MOST_BRIDGES: usize = 64;

/// The trunks on a path from one bridge to another. Never changed once written: the frames counted under it always are
/// those that crossed these trunks.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Path {
    /// Twice the number of each trunk, plus one if it is crossed from its second end. Elements after the last trunk are
    /// [`Path::END`].
    pub crossings: [u16; MOST_BRIDGES],
}

impl Path {
    /// Value of unused elements of [`Path::crossings`].
    pub const END: u16 = u16::MAX;
}

#[cfg(feature = "user")]
mod pod {
    #![expect(unsafe_code, reason = "aya's Pod is an unsafe trait")]
    // SAFETY: all of these are `repr(C)`, `Copy` and `bytemuck::Pod`: no padding, any bytes valid.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PortKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::PortRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::SourceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Source {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::StationKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Station {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::MatrixKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Path {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::PairCounters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::Count {}
    // SAFETY: as above.
    unsafe impl<V: crate::Entry> aya::Pod for crate::Slot<V> {}
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    /// The layout is an interface between two compilers and between versions: a change of it needs a new `ABI_VERSION`.
    #[test]
    fn layout_of_abi_6() {
        assert_eq!(crate::ABI_VERSION, 6);
        assert_eq!((size_of::<Config>(), offset_of!(Config, epoch)), (24, 16));
        assert_eq!(offset_of!(Config, confirmed), 20);
        assert_eq!(size_of::<PortKey>(), 8);
        assert_eq!((size_of::<PortRecord>(), offset_of!(PortRecord, bridge)), (12, 8));
        assert_eq!(size_of::<SourceKey>(), 12);
        assert_eq!((size_of::<Source>(), offset_of!(Source, seen)), (64, 32));
        assert_eq!((size_of::<Seen>(), offset_of!(Seen, epoch)), (16, 8));
        assert_eq!(size_of::<StationKey>(), 12);
        assert_eq!((size_of::<Station>(), offset_of!(Station, away_until_ns)), (48, 40));
        assert_eq!(size_of::<MatrixKey>(), 8);
        assert_eq!(size_of::<Path>(), 128);
    }

    #[test]
    fn pairs_of_low_numbers_have_a_cell() {
        let cell = |from, to| MatrixKey { from, to }.cell(4);
        assert_eq!((cell(0, 0), cell(1, 2), cell(3, 3)), (Some(0), Some(6), Some(15)));
        assert_eq!(MatrixKey::of_cell(6, 4), MatrixKey { from: 1, to: 2 });
        assert_eq!((cell(4, 0), cell(0, 4), MatrixKey { from: 0, to: 0 }.cell(0)), (None, None, None));
    }

    #[test]
    fn keys_hold_what_they_are_made_of() {
        let mac = MacWords::from([1, 2, 3, 4, 5, 6]);
        assert_eq!(bytemuck::bytes_of(&SourceKey::new(0, mac, 0))[4..10], [1, 2, 3, 4, 5, 6]);
        assert_eq!(bytemuck::bytes_of(&StationKey::new(0, mac))[4..], [1, 2, 3, 4, 5, 6, 0, 0]);
        assert_ne!(SourceKey::new(7, mac, 1), SourceKey::new(7, mac, 2));
        assert_ne!(SourceKey::new(7, mac, 1), SourceKey::new(8, mac, 1));
    }
}
