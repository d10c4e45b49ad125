//! Frames as tc programs have them: socket buffers.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_change_type, programs::TcContext};

use crate::{maps::kernel_scrubs, packet::Context};

/// `PACKET_HOST` of `linux/if_packet.h`: the frame is for this host.
const PACKET_HOST: u32 = 0;

/// A socket buffer.
#[derive(Clone, Copy)]
pub struct Buffer {
    skb: *mut __sk_buff,
}

impl Buffer {
    /// The socket buffer that the program was called for.
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb }
    }

    /// Makes the frame what it would be behind a second veth crossing: for this host, unmarked.
    /// `skb_scrub_packet` does it in `bpf_redirect_peer` since Linux 6.15 (and some stable
    /// releases); before, a frame would arrive as somebody else's.
    #[inline(always)]
    pub fn scrub(&self) {
        // SAFETY: the context outlives this call, and tc programs may write these fields.
        unsafe {
            (*self.skb).priority = 0;
            // Each by itself: the verifier refuses one store to two fields.
            (&raw mut (*self.skb).mark).write_volatile(0);
            // The port has one transmit queue, or the frame would be redirected to it and not past it.
            (&raw mut (*self.skb).queue_mapping).write_volatile(0);
            if !kernel_scrubs() && (*self.skb).pkt_type != PACKET_HOST {
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

impl Context for Buffer {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let ctx = TcContext::new(self.skb);
        (ctx.data(), ctx.data_end())
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.skb().len
    }

    #[inline(always)]
    fn gso_size(&self) -> u32 {
        self.skb().gso_size
    }

    #[inline(always)]
    fn packets(&self) -> u64 {
        match self.skb().gso_segs {
            0 => 1,
            segments => u64::from(segments),
        }
    }

    /// By its protocol, which is 0 where there is none: the kernel gives that with one load, and makes
    /// `vlan_present` a 0 or 1 by a branch. (Before Linux 6.2 it may stay behind when a tag is taken away.)
    #[inline(always)]
    fn tag_beside(&self) -> bool {
        self.skb().vlan_proto != 0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }
}
