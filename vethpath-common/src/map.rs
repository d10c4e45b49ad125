//! Keys and values of the maps that user space writes and the programs read.
//!
//! No type has padding: map keys are compared as bytes, and `Pod` must not lie.

use bytemuck::{Pod, Zeroable};

/// Bits of [`Source::flags`], [`Station::flags`] and [`PortRecord::flags`].
pub mod flags {
    /// The port is isolated (`bridge link set isolated on`): no frame passes to another isolated one.
    pub const ISOLATED: u32 = 1;
    /// Deliver by `bpf_redirect` to the port instead of `bpf_redirect_peer` to the inner end: the
    /// destination MAC is not the inner end's own, or something on the way there wants the frame.
    pub const VIA_PORT: u32 = 1 << 1;
    /// The port takes part in the fast path ([`PortRecord`](super::PortRecord) only).
    pub const ARMED: u32 = 1 << 2;
    /// The port's bridge calls netfilter for IP (`bridge-nf-call-iptables` and its kin), and so drops
    /// or trims packets whose header is not right ([`Source`](super::Source) only): the fast path
    /// takes none that it would drop or trim.
    pub const VALIDATE: u32 = 1 << 3;
}

/// What every program checks before anything else. One write of it disarms a whole lab.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    /// [`ABI_VERSION`](crate::ABI_VERSION) of whoever made the map.
    pub abi: u32,
    /// Entries of any other generation are void.
    pub generation: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds; later than this, every frame goes to the bridge.
    pub lease_until_ns: u64,
}

/// A port: an ifindex in one of the lab's bridge namespaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct PortKey {
    /// The port's ifindex.
    pub ifindex: u32,
    /// The bridge namespace, as the program's `DOMAIN` constant has it.
    pub domain: u32,
}

/// What a program must know of a port to count a frame that it does not take.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct PortRecord {
    /// Index of the pair in the counter map.
    pub pair: u32,
    /// [`flags::ARMED`] or nothing.
    pub flags: u32,
}

/// A station as the sender of a frame: this MAC behind this port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct SourceKey {
    /// The port's ifindex.
    pub ifindex: u32,
    /// The station's address.
    pub mac: [u8; 6],
    /// The bridge namespace, as the program's `DOMAIN` constant has it.
    pub domain: u16,
}

/// What the fast path needs of the sender.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Source {
    /// Must equal [`Config::generation`].
    pub generation: u32,
    /// The segment that the frame may cross.
    pub segment: u32,
    /// Index of the sender's pair in the counter map.
    pub pair: u32,
    /// [`flags::ISOLATED`], [`flags::VALIDATE`].
    pub flags: u32,
    /// Coarse `CLOCK_MONOTONIC` in nanoseconds of the last frame of this station that was looked up:
    /// taken, or passed because of its destination. Written by the program, read by the agent to
    /// keep the bridge's FDB entry young.
    pub seen_ns: u64,
}

/// A station as the receiver of a frame, in one segment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct StationKey {
    /// The segment.
    pub segment: u32,
    /// The station's address.
    pub mac: [u8; 6],
    /// Always zero: there so that the key has no padding.
    pub zero: u16,
}

/// Where the fast path delivers, and what fits there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Station {
    /// Must equal [`Config::generation`].
    pub generation: u32,
    /// The port's ifindex, in the namespace of the sender's port.
    pub ifindex: u32,
    /// Index of the receiver's pair in the counter map.
    pub pair: u32,
    /// Least MTU on the way, in bytes of layer 3.
    pub mtu: u32,
    /// [`flags::ISOLATED`], [`flags::VIA_PORT`].
    pub flags: u32,
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
    unsafe impl aya::Pod for crate::PairCounters {}
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    /// The layout is an interface between two compilers and between versions: a change of it is a
    /// change of `ABI_VERSION`.
    #[test]
    fn layout_of_abi_1() {
        assert_eq!(crate::ABI_VERSION, 1);
        assert_eq!((size_of::<Config>(), offset_of!(Config, lease_until_ns)), (16, 8));
        assert_eq!(size_of::<PortKey>(), 8);
        assert_eq!(size_of::<PortRecord>(), 8);
        assert_eq!((size_of::<SourceKey>(), offset_of!(SourceKey, domain)), (12, 10));
        assert_eq!((size_of::<Source>(), offset_of!(Source, seen_ns)), (24, 16));
        assert_eq!((size_of::<StationKey>(), offset_of!(StationKey, mac)), (12, 4));
        assert_eq!((size_of::<Station>(), offset_of!(Station, flags)), (20, 16));
    }
}
