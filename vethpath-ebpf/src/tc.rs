//! The context of tc programs: socket buffers.

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

    /// Sets the metadata that a second veth crossing would leave: for this host, without a mark. `bpf_redirect_peer`
    /// calls `skb_scrub_packet` for that since Linux 6.15 (and some stable releases). Before, a frame would arrive with
    /// a packet type for another host.
    #[inline(always)]
    pub fn scrub(&self) {
        // SAFETY: the context outlives this call, and tc programs may write these fields.
        unsafe {
            (*self.skb).priority = 0;
            // One store each: the verifier refuses one store to two fields.
            (&raw mut (*self.skb).mark).write_volatile(0);
            // The port has one transmit queue; with several, frames are redirected to the port and not to its peer.
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

    /// Reads the tag's protocol, which is 0 without a tag: the kernel returns it with one load, but computes
    /// `vlan_present` with a branch. (Before Linux 6.2 the protocol may remain after the tag was removed.)
    #[inline(always)]
    fn tag_beside(&self) -> bool {
        self.skb().vlan_proto != 0
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }
}
