//! Per-CPU counters, without atomics: both programs run in softirqs, and a softirq is not preempted by another on the
//! same CPU.

use core::ptr::NonNull;

use aya_ebpf::bindings::BPF_NOEXIST;
use vethpath_common::{
    Count, MatrixKey, NO_PAIR, PairCounters, PortKey, PortRecord, Reason, Source, Station, flags,
};

use crate::{
    maps::{CELLS, COUNTERS, CROSSINGS, MATRIX, PORTS, domain, width},
    moves,
    packet::{Context, Frame},
    stations::field,
};

/// The entries of both ends of a frame's path.
pub struct Delivery {
    /// The sender.
    pub source: NonNull<Source>,
    /// The receiver.
    pub station: NonNull<Station>,
    /// Number of packets that the frame is on a wire.
    pub packets: u64,
}

/// Counts a frame that the fast path forwards from one station to another.
#[inline(always)]
pub fn fast<C: Context>(context: C, delivery: &Delivery) {
    let (packets, bytes) = (delivery.packets, u64::from(context.len()));
    let key = MatrixKey { from: field!(delivery.source, pair), to: field!(delivery.station, pair) };
    match key.cell(width()) {
        Some(index) => {
            if let Some(count) = CELLS.get_ptr_mut(index) {
                // SAFETY: array elements live as long as the map, and this CPU runs one program of ours at a time.
                unsafe { (*count).add(packets, bytes) };
            }
        }
        None => in_matrix(key, packets, bytes),
    }
    let path = field!(delivery.station, path);
    if path != 0
        && let Some(count) = CROSSINGS.get_ptr_mut(path)
    {
        // SAFETY: array elements live as long as the map, and this CPU runs one program of ours at a time.
        unsafe { (*count).add(packets, bytes) };
    }
}

/// Counts a frame between pairs without a cell, in the hash map. Inserts an element if there is room.
#[inline(never)]
fn in_matrix(key: MatrixKey, packets: u64, bytes: u64) {
    let mut count = MATRIX.get_ptr_mut(key);
    if count.is_none() {
        // If another CPU is first, this fails and the element is there.
        let _ = MATRIX.insert(key, Count { frames: 0, packets: 0, bytes: 0 }, u64::from(BPF_NOEXIST));
        count = MATRIX.get_ptr_mut(key);
    }
    match count {
        // SAFETY: elements are deleted only of pairs that are gone, and this CPU runs one program of ours at a time.
        Some(count) => unsafe { (*count).add(packets, bytes) },
        None => by_pair(key.from, key.to, packets, bytes),
    }
}

/// Counts by pair, where there is always room: used when the matrix is full.
#[inline(always)]
fn by_pair(from: u32, to: u32, packets: u64, bytes: u64) {
    if let Some(counters) = of(from) {
        counters.fast_tx.add(packets, bytes);
    }
    if let Some(counters) = of(to) {
        counters.fast_rx.add(packets, bytes);
    }
}

/// Counts a frame that is passed to the bridge, and returns the reason that it was counted under: on a port that is not
/// armed no source is known, and the reason is [`Reason::Port`].
///
/// A known `sender` is a station on this port: its pair is counted, and it has not moved, so the port is not looked up.
#[inline(never)]
pub fn slow<C: Context>(context: C, reason: Reason, sender: Option<NonNull<Source>>) -> Reason {
    if let Some(source) = sender {
        add_slow(context, field!(source, pair), reason);
        return reason;
    }
    let key = PortKey { ifindex: context.ifindex(), domain: domain() };
    // SAFETY: entries are only freed after a grace period (see agent/map_sync.rs).
    let port =
        unsafe { PORTS.get(key) }.copied().unwrap_or(PortRecord { pair: NO_PAIR, flags: 0, bridge: 0 });
    let reason = match reason {
        Reason::UnknownSource if port.flags & flags::ARMED == 0 => Reason::Port,
        other => other,
    };
    add_slow(context, port.pair, reason);
    if port.flags & flags::NO_LEARNING == 0 {
        moves::mark_moved(&Frame::new(context), port.bridge);
    }
    reason
}

#[inline(always)]
fn add_slow<C: Context>(context: C, pair: u32, reason: Reason) {
    if let Some(counters) = of(pair)
        && let Some(count) = counters.slow.get_mut(reason as usize)
    {
        count.add(context.packets(), u64::from(context.len()));
    }
}

/// This CPU's counters of a pair.
#[inline(always)]
fn of(pair: u32) -> Option<&'static mut PairCounters> {
    let counters = COUNTERS.get_ptr_mut(pair)?;
    // SAFETY: array elements live as long as the map, and this CPU runs one program of ours at a time.
    Some(unsafe { &mut *counters })
}
