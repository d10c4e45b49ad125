//! Baselines for benchmarks: a program that redirects every frame to one constant port, and one that passes every frame
//! on. No lab runs them.
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "aya's macros drop the doc comments of entry points")]
#![expect(unsafe_code, reason = "helpers are raw here")]

mod object;

use aya_ebpf::{
    Global, bindings::TC_ACT_UNSPEC, helpers::bpf_redirect_peer, macros::classifier, programs::TcContext,
};

/// The port whose inner end gets every frame.
#[unsafe(no_mangle)]
static TARGET: Global<u32> = Global::new(0);

/// Ingress of a port.
/// Minimum kernel: Linux 5.10 (`bpf_redirect_peer`).
#[classifier]
#[expect(clippy::cast_possible_truncation, reason = "tc actions are small integers")]
pub fn redirect_constant(_: TcContext) -> i32 {
    // SAFETY: a helper that takes two integers.
    unsafe { bpf_redirect_peer(TARGET.load(), 0) as i32 }
}

/// Ingress of a port.
#[classifier]
pub fn pass_constant(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}
