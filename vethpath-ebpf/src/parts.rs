//! Prefixes of the port program, for benchmarks: each runs it up to the step in its name, and then redirects to one
//! constant port. No lab runs them.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(missing_docs, reason = "aya's macros drop the doc comments of entry points")]
#![expect(unsafe_code, reason = "helpers, map pointers and packet memory are raw here")]

mod count;
#[expect(dead_code, reason = "these have no verdict")]
mod decide;
mod maps;
mod moves;
mod object;
mod packet;
mod stations;
#[expect(dead_code, reason = "these leave the frame as it is")]
mod tc;
mod validate;

use aya_ebpf::{
    Global, bindings::TC_ACT_UNSPEC, helpers::bpf_redirect_peer, macros::classifier, programs::TcContext,
};
use packet::Context;
use stations::field;
use vethpath_common::Reason;

/// The port whose inner end gets every frame.
#[unsafe(no_mangle)]
static TARGET: Global<u32> = Global::new(0);

/// Up to the lease and the header.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[classifier]
pub fn part_header(ctx: TcContext) -> i32 {
    redirect(decide::plain(tc::Buffer::new(&ctx)).map(drop))
}

/// Up to the sender's entry.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[classifier]
pub fn part_sender(ctx: TcContext) -> i32 {
    let buffer = tc::Buffer::new(&ctx);
    redirect(decide::plain(buffer).and_then(|(config, ethernet)| {
        stations::source(buffer.ifindex(), ethernet.src, config.generation).map(drop)
    }))
}

/// Up to the receiver's entry.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[classifier]
pub fn part_receiver(ctx: TcContext) -> i32 {
    let buffer = tc::Buffer::new(&ctx);
    redirect(decide::plain(buffer).and_then(|(config, ethernet)| {
        let source = stations::source(buffer.ifindex(), ethernet.src, config.generation)?;
        stations::station(field!(source, bridge), ethernet.dst, config.generation).map(drop)
    }))
}

/// Up to the decision to forward.
/// Minimum kernel: Linux 5.11 (`bpf_ktime_get_coarse_ns`).
#[classifier]
pub fn part_decision(ctx: TcContext) -> i32 {
    redirect(decide::fast_path(tc::Buffer::new(&ctx), &mut None).map(drop))
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "tc actions are small integers")]
fn redirect(result: Result<(), Reason>) -> i32 {
    match result {
        // SAFETY: a helper that takes two integers.
        Ok(()) => unsafe { bpf_redirect_peer(TARGET.load(), 0) as i32 },
        Err(_) => TC_ACT_UNSPEC,
    }
}
