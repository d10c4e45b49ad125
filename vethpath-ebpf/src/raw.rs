//! XDP programs such as users attach to inner ends, for tests and benchmarks. No lab attaches them by itself.
//! Minimum kernel: Linux 5.18 (XDP frags).
#![no_std]
#![no_main]
#![expect(missing_docs, reason = "aya's macros drop the doc comments of entry points")]
#![expect(unsafe_code, reason = "helpers, map pointers and packet memory are raw here")]

mod object;

use aya_ebpf::{
    Global,
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    helpers::{bpf_redirect, generated::bpf_ktime_get_ns},
    macros::{map, xdp},
    maps::{Array, PerCpuArray, XskMap},
    programs::XdpContext,
};

/// Number of frames that a program here took.
#[map]
static TAKEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Time (nanoseconds of `CLOCK_MONOTONIC`) and number of two frames that `sink` took: the first since user space wrote
/// 0 there, and one of the last.
#[map]
static STAMPS: Array<[u64; 2]> = Array::with_max_entries(2, 0);

/// AF_XDP sockets by queue.
#[map]
static SOCKETS: XskMap = XskMap::with_max_entries(16, 0);

/// The interface by which `forward` sends frames, and their new addresses: six bytes, the first in the lowest bits.
#[unsafe(no_mangle)]
static OUT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TO: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static FROM: Global<u64> = Global::new(0);

/// Drops and counts every frame, and records the time of every 64th.
#[xdp(frags)]
pub fn sink(_: XdpContext) -> u32 {
    let number = taken();
    if number.is_multiple_of(64)
        && let (Some(first), Some(last)) = (STAMPS.get_ptr_mut(0), STAMPS.get_ptr_mut(1))
    {
        // SAFETY: array elements live as long as the map; frames of one receiver come one by one.
        unsafe {
            let stamp = [bpf_ktime_get_ns(), number];
            *last = stamp;
            if (*first)[0] == 0 {
                *first = stamp;
            }
        }
    }
    XDP_DROP
}

/// Passes every frame.
#[xdp(frags)]
pub fn pass(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Sends every frame back unchanged. With the live frames of `BPF_PROG_TEST_RUN` it is a generator.
#[xdp(frags)]
pub fn transmit(_: XdpContext) -> u32 {
    XDP_TX
}

/// Answers pings (IPv4, no options), and passes everything else.
#[xdp(frags)]
pub fn answer(mut ctx: XdpContext) -> u32 {
    let Some(frame) = bytes::<42>(&mut ctx) else { return XDP_PASS };
    let is_ping =
        frame[12] == 0x08 && frame[13] == 0 && frame[14] == 0x45 && frame[23] == 1 && frame[34] == 8;
    if !is_ping {
        return XDP_PASS;
    }
    for at in 0..6 {
        frame.swap(at, 6 + at);
    }
    for at in 0..4 {
        frame.swap(26 + at, 30 + at);
    }
    // From request (8) to reply (0): the checksum grows by 0x0800.
    frame[34] = 0;
    let sum = u32::from(u16::from_be_bytes([frame[36], frame[37]])) + 0x0800;
    let sum = (sum & 0xffff) + (sum >> 16);
    (frame[36], frame[37]) = ((sum >> 8 & 0xff) as u8, (sum & 0xff) as u8);
    let _ = taken();
    XDP_TX
}

/// Sends unicast IPv4 frames out of another interface, to another host. Passes group frames, such as a bridge's own
/// membership reports, and other protocols.
#[xdp(frags)]
#[expect(clippy::cast_possible_truncation, reason = "actions are small integers")]
pub fn forward(mut ctx: XdpContext) -> u32 {
    let Some(frame) = bytes::<14>(&mut ctx) else { return XDP_PASS };
    let is_for_a_group = frame[0] & 1 != 0;
    if is_for_a_group || frame[12] != 0x08 || frame[13] != 0 {
        return XDP_PASS;
    }
    let (to, from) = (TO.load().to_le_bytes(), FROM.load().to_le_bytes());
    for at in 0..6 {
        (frame[at], frame[6 + at]) = (to[at], from[at]);
    }
    let _ = taken();
    // SAFETY: a helper that takes two integers.
    unsafe { bpf_redirect(OUT.load(), 0) as u32 }
}

/// Redirects every frame to the AF_XDP socket of its queue.
#[xdp(frags)]
pub fn to_socket(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel hands the program a valid context, which outlives it.
    let queue = unsafe { (*ctx.ctx).rx_queue_index };
    SOCKETS.redirect(queue, XDP_PASS.into()).unwrap_or(XDP_PASS)
}

/// Counts a frame, and returns the number counted on this CPU.
#[inline(always)]
fn taken() -> u64 {
    let Some(count) = TAKEN.get_ptr_mut(0) else { return 0 };
    // SAFETY: array elements live as long as the map, and this CPU runs one program at a time.
    unsafe {
        *count = (*count).wrapping_add(1);
        *count
    }
}

/// The first bytes of a frame.
#[inline(always)]
fn bytes<const N: usize>(ctx: &mut XdpContext) -> Option<&mut [u8; N]> {
    let (data, end) = (ctx.data(), ctx.data_end());
    if data + N > end {
        return None;
    }
    // SAFETY: the verifier checks that the bytes lie between data and data_end, as just compared. Nothing else accesses
    // the frame while the program runs.
    Some(unsafe { &mut *(data as *mut [u8; N]) })
}
