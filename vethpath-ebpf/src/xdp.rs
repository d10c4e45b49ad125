//! The context of XDP programs: packet memory without a socket buffer.
//!
//! At a port, a frame comes from the inner end of its pair. It was sent by a socket there, as a socket buffer of which
//! only the bytes are visible here, or by an XDP program or AF_XDP socket there.

use aya_ebpf::{
    bindings::{xdp_action::XDP_PASS, xdp_action::XDP_REDIRECT, xdp_md},
    helpers::bpf_xdp_get_buff_len,
    programs::XdpContext,
};
use vethpath_common::flags;

use crate::{count, decide, maps::XDP_PORTS, packet::Context, stations::field};

/// A frame without a socket buffer.
#[derive(Clone, Copy)]
pub struct Raw {
    md: *mut xdp_md,
}

impl Raw {
    /// The frame that the program was called for.
    #[inline(always)]
    pub fn new(ctx: &XdpContext) -> Self {
        Self { md: ctx.ctx }
    }
}

impl Context for Raw {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let ctx = XdpContext::new(self.md);
        (ctx.data(), ctx.data_end())
    }

    /// Includes the fragments behind the linear part.
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context, which outlives it. The length of a frame
        // fits: veth takes none beyond 64 KiB.
        #[expect(clippy::cast_possible_truncation, reason = "lengths of frames fit")]
        unsafe {
            bpf_xdp_get_buff_len(self.md) as u32
        }
    }

    /// Always 0: a port with an XDP program disables TSO on its inner end (`veth_fix_features` in drivers/net/veth.c),
    /// so that the sender's stack makes the segments.
    #[inline(always)]
    fn gso_size(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn packets(&self) -> u64 {
        1
    }

    /// A tag in the metadata is not visible here; senders with [`flags::NO_OFFLOAD`] leave none there.
    #[inline(always)]
    fn tag_beside(&self) -> bool {
        false
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel hands the program a valid context, which outlives it.
        unsafe { (*self.md).ingress_ifindex }
    }
}

/// Redirects a frame if it may take the fast path, its sender has [`flags::NO_OFFLOAD`], and its receiver is in
/// [`XDP_PORTS`]. Returns the XDP action. Every other frame goes on to the tc program of the same port, which decides
/// again and counts it. So each frame is counted once.
/// Minimum kernel: Linux 5.18 (`bpf_xdp_get_buff_len`).
#[inline(always)]
pub fn take(frame: Raw) -> u32 {
    let Ok(delivery) = decide::fast_path(frame, &mut None) else { return XDP_PASS };
    if field!(delivery.source, flags) & flags::NO_OFFLOAD == 0 {
        return XDP_PASS;
    }
    match XDP_PORTS.redirect(field!(delivery.station, ifindex), XDP_PASS.into()) {
        Ok(XDP_REDIRECT) => {
            count::fast(frame, &delivery);
            XDP_REDIRECT
        }
        Ok(action) | Err(action) => action,
    }
}
