//! vethpath's eBPF programs. This file has only the entry points: one verdict, one action.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "aya's macros drop the doc comments of entry points")]
#![expect(unsafe_code, reason = "helpers, map pointers and packet memory are raw here")]

mod count;
mod decide;
mod maps;
mod moves;
mod object;
mod packet;
mod stations;
mod tc;
mod validate;
mod xdp;

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    helpers::{bpf_redirect, bpf_redirect_peer},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use decide::Verdict;
#[cfg(feature = "log")]
use packet::Context;

/// Ingress of a port: a frame that was sent by the namespace behind it.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
///
/// A frame that the fast path does not take goes to the next program and then to the bridge (`TC_ACT_UNSPEC` is
/// `TCX_NEXT` on tcx), so that other programs after this one still run.
#[classifier]
pub fn port_ingress(ctx: TcContext) -> i32 {
    let buffer = tc::Buffer::new(&ctx);
    let verdict = decide::decide(buffer);
    #[cfg(feature = "log")]
    log(&ctx, buffer, &verdict);
    match verdict {
        Verdict::ToPeer { ifindex } => {
            buffer.scrub();
            // SAFETY: a helper that takes two integers.
            redirect(unsafe { bpf_redirect_peer(ifindex, 0) })
        }
        // SAFETY: a helper that takes two integers.
        Verdict::ToPort { ifindex } => redirect(unsafe { bpf_redirect(ifindex, 0) }),
        Verdict::Pass { .. } => TC_ACT_UNSPEC,
    }
}

/// Ingress of a port whose datapath is XDP; runs before everything else there. A frame that it passes reaches
/// [`port_ingress`] as a socket buffer.
/// Minimum kernel: Linux 5.18 (XDP frags).
#[xdp(frags)]
pub fn port_xdp(ctx: XdpContext) -> u32 {
    xdp::take(xdp::Raw::new(&ctx))
}

#[cfg(feature = "log")]
#[inline(always)]
fn log<C: Context>(ctx: &TcContext, buffer: C, verdict: &Verdict) {
    let from = buffer.ifindex();
    match verdict {
        Verdict::ToPeer { ifindex } => {
            aya_log_ebpf::debug!(ctx, "port {}: to the peer of {}", from, *ifindex)
        }
        Verdict::ToPort { ifindex } => aya_log_ebpf::debug!(ctx, "port {}: out of {}", from, *ifindex),
        Verdict::Pass { reason } => {
            aya_log_ebpf::debug!(ctx, "port {}: passed, reason {}", from, *reason as u32)
        }
    }
}

/// The helpers return the action. It fits (`TC_ACT_REDIRECT` or `TC_ACT_SHOT`).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "tc actions are small integers")]
fn redirect(action: core::ffi::c_long) -> i32 {
    action as i32
}
