//! The one bounds-checked reader of packet memory, and the fields of the socket buffer.

use core::mem::size_of;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_change_type, programs::TcContext};
use vethpath_common::{MacWords, Reason};

/// Bytes of an Ethernet header without a tag (`ETH_HLEN`).
pub const ETH_LEN: u32 = 14;

/// `PACKET_HOST` of `linux/if_packet.h`: the frame is for this host.
const PACKET_HOST: u32 = 0;

/// An Ethernet header, in words that keys are made of without another load.
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacWords,
    /// Source.
    pub src: MacWords,
    /// The EtherType, or an 802.2 length below 0x600.
    pub ethertype: u16,
}

/// A frame at the ingress of a port.
#[derive(Clone)]
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

    /// The Ethernet header.
    ///
    /// The stack lets headers begin two bytes behind a multiple of four (`NET_IP_ALIGN`), and the
    /// verifier holds programs to that where the CPU cares: every load here is aligned then.
    #[inline(always)]
    pub fn ethernet(&self) -> Result<Ethernet, Reason> {
        let start = self.data;
        if start + ETH_LEN as usize > self.end {
            return Err(Reason::Short);
        }
        // SAFETY: the verifier checks that the 14 bytes lie between data and data_end, as just
        // compared, and that the loads are aligned as the CPU wants them.
        let (to_head, to_tail, from_head, from_tail, ethertype) = unsafe {
            (
                *(start as *const u16),
                *((start + 2) as *const u32),
                *((start + 6) as *const u32),
                *((start + 10) as *const u16),
                *((start + 12) as *const u16),
            )
        };
        Ok(Ethernet {
            dst: joined(to_head, to_tail),
            src: MacWords { head: from_head, tail: u32::from(from_tail) },
            ethertype: u16::from_be(ethertype),
        })
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

/// Six bytes that were loaded as two and four.
#[inline(always)]
fn joined(first: u16, rest: u32) -> MacWords {
    #[cfg(target_endian = "little")]
    let (head, tail) = (u32::from(first) | rest << 16, rest >> 16);
    #[cfg(target_endian = "big")]
    let (head, tail) = (u32::from(first) << 16 | rest >> 16, rest & 0xffff);
    MacWords { head, tail }
}
