//! The one bounds-checked reader of packet memory, and the fields of the socket buffer.

use core::mem::size_of;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_change_type, programs::TcContext};
use vethpath_common::Reason;

/// Bytes of an Ethernet header without a tag (`ETH_HLEN`).
pub const ETH_LEN: u32 = 14;

/// `PACKET_HOST` of `linux/if_packet.h`: the frame is for this host.
const PACKET_HOST: u32 = 0;

/// An Ethernet header as it is on the wire.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination.
    pub dst: [u8; 6],
    /// Source.
    pub src: [u8; 6],
    ethertype: [u8; 2],
}

impl Ethernet {
    /// The EtherType, or an 802.2 length below 0x600.
    #[inline(always)]
    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes(self.ethertype)
    }
}

/// A frame at the ingress of a port.
pub struct Frame {
    skb: *mut __sk_buff,
    data: usize,
    end: usize,
}

impl Frame {
    /// The frame that the program was called for.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb, data: ctx.data(), end: ctx.data_end() }
    }

    /// Copies a `T` from `offset` bytes behind the start of the frame.
    ///
    /// `T` is made of bytes: any value is valid and any address aligned. What is not in the linear
    /// part of the socket buffer cannot be read and is [`Reason::Short`].
    #[inline(always)]
    pub fn read<T: Copy>(&self, offset: usize) -> Result<T, Reason> {
        const { assert!(align_of::<T>() == 1) };
        let start = self.data + offset;
        if start + size_of::<T>() > self.end {
            return Err(Reason::Short);
        }
        // SAFETY: the verifier checks that the bytes lie between data and data_end, as just compared;
        // T has alignment 1 and is plain bytes.
        Ok(unsafe { *(start as *const T) })
    }

    /// Length in bytes, Ethernet header included; of a GSO frame, all of it.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        self.skb().len
    }

    /// Payload bytes per segment of a GSO frame, or 0.
    #[inline(always)]
    pub fn gso_size(&self) -> u32 {
        self.skb().gso_size
    }

    /// How many packets it is on a wire.
    #[inline(always)]
    pub fn packets(&self) -> u64 {
        match self.skb().gso_segs {
            0 => 1,
            segments => u64::from(segments),
        }
    }

    /// Whether a VLAN tag is kept beside the packet, not in it.
    #[inline(always)]
    pub fn tag_beside(&self) -> bool {
        self.skb().vlan_present != 0
    }

    /// ifindex of the port it came in by.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }

    /// Makes the frame what it would be behind a second veth crossing: for this host, unmarked.
    /// `skb_scrub_packet` does it in `bpf_redirect_peer` since Linux 6.15 (and some stable
    /// releases); before, a frame would arrive as somebody else's.
    #[inline(always)]
    pub fn scrub(&self) {
        // SAFETY: the context outlives this call, and mark and priority are writable for tc programs.
        unsafe {
            if (*self.skb).mark != 0 {
                (*self.skb).mark = 0;
            }
            if (*self.skb).priority != 0 {
                (*self.skb).priority = 0;
            }
            if (*self.skb).pkt_type != PACKET_HOST {
                bpf_skb_change_type(self.skb, PACKET_HOST);
            }
        }
    }

    #[inline(always)]
    fn skb(&self) -> &__sk_buff {
        // SAFETY: the kernel hands the program a valid context, which outlives it.
        unsafe { &*self.skb }
    }
}
