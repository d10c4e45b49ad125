//! vethpath's eBPF programs. This file has the entry points only: one verdict, one action.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "aya's macros drop the doc comments of entry points")]
#![expect(unsafe_code, reason = "helpers, map pointers and packet memory are raw here")]

mod count;
mod decide;
mod maps;
mod moves;
mod object;
mod packet;
mod stations;
mod validate;

use aya_ebpf::{
    bindings::TC_ACT_UNSPEC,
    helpers::{bpf_redirect, bpf_redirect_peer},
    macros::classifier,
    programs::TcContext,
};
use decide::Verdict;
use packet::Frame;

/// Ingress of a port: a frame that the namespace behind it has sent.
///
/// What is not taken goes on to the next program and then to the bridge (`TC_ACT_UNSPEC` is
/// `TCX_NEXT` on tcx), so that a program of somebody else after this one still runs.
#[classifier]
pub fn port_ingress(ctx: TcContext) -> i32 {
    let frame = Frame::new(&ctx);
    let verdict = decide::decide(&frame);
    #[cfg(feature = "log")]
    log(&ctx, &frame, &verdict);
    match verdict {
        Verdict::ToPeer { ifindex } => {
            frame.scrub();
            // SAFETY: a helper that takes two integers.
            redirect(unsafe { bpf_redirect_peer(ifindex, 0) })
        }
        // SAFETY: a helper that takes two integers.
        Verdict::ToPort { ifindex } => redirect(unsafe { bpf_redirect(ifindex, 0) }),
        Verdict::Pass { .. } => TC_ACT_UNSPEC,
    }
}

#[cfg(feature = "log")]
#[inline(always)]
fn log(ctx: &TcContext, frame: &Frame, verdict: &Verdict) {
    let from = frame.ifindex();
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

/// The helpers' result is the action; it fits (`TC_ACT_REDIRECT` or `TC_ACT_SHOT`).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "tc actions are small integers")]
fn redirect(action: core::ffi::c_long) -> i32 {
    action as i32
}
