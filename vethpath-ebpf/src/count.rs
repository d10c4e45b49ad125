//! Counting: per-CPU, so without atomics (both programs run in softirqs, and one of these is not preempted by
//! another on its CPU).

use aya_ebpf::bindings::BPF_NOEXIST;
use vethpath_common::{
    Count, MatrixKey, NO_PAIR, PairCounters, PortKey, PortRecord, Reason, Source, Station, flags,
};

use crate::{
    maps::{COUNTERS, CROSSINGS, MATRIX, PORTS, domain},
    moves,
    packet::{Context, Frame},
};

/// Counts a frame that the fast path takes from a station to another.
#[inline(always)]
pub fn fast<C: Context>(frame: &Frame<C>, source: &Source, station: &Station) {
    let (packets, bytes) = (frame.context.packets(), u64::from(frame.context.len()));
    match cell(MatrixKey { from: source.pair, to: station.pair }) {
        Some(count) => count.add(packets, bytes),
        None => apart(source.pair, station.pair, packets, bytes),
    }
    if station.path != 0
        && let Some(count) = CROSSINGS.get_ptr_mut(station.path)
    {
        // SAFETY: array elements live as long as the map, and this CPU runs one tc program at a time.
        unsafe { (*count).add(packets, bytes) };
    }
}

/// This CPU's cell of the traffic matrix, which is made if there is room.
#[inline(always)]
fn cell(key: MatrixKey) -> Option<&'static mut Count> {
    let mut count = MATRIX.get_ptr_mut(key);
    if count.is_none() {
        // Another CPU may be doing the same: whoever comes second finds it there.
        let _ = MATRIX.insert(key, Count { frames: 0, packets: 0, bytes: 0 }, u64::from(BPF_NOEXIST));
        count = MATRIX.get_ptr_mut(key);
    }
    // SAFETY: nobody deletes cells, and this CPU runs one tc program at a time.
    count.map(|count| unsafe { &mut *count })
}

/// Counts where there is always room, when the matrix has none.
#[inline(always)]
fn apart(from: u32, to: u32, packets: u64, bytes: u64) {
    if let Some(counters) = of(from) {
        counters.fast_tx.add(packets, bytes);
    }
    if let Some(counters) = of(to) {
        counters.fast_rx.add(packets, bytes);
    }
}

/// Counts a frame that is left to the bridge, and gives the reason it was counted under: on a port
/// that is not armed no source is known, and the port is why.
#[inline(always)]
pub fn slow<C: Context>(frame: &Frame<C>, reason: Reason) -> Reason {
    let key = PortKey { ifindex: frame.context.ifindex(), domain: domain() };
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    let port =
        unsafe { PORTS.get(key) }.copied().unwrap_or(PortRecord { pair: NO_PAIR, flags: 0, bridge: 0 });
    let reason = match reason {
        Reason::UnknownSource if port.flags & flags::ARMED == 0 => Reason::Port,
        other => other,
    };
    if let Some(counters) = of(port.pair)
        && let Some(count) = counters.slow.get_mut(reason as usize)
    {
        count.add(frame.context.packets(), u64::from(frame.context.len()));
    }
    if port.flags & flags::DEAF == 0 {
        moves::note(frame, port.bridge);
    }
    reason
}

/// This CPU's counters of a pair.
#[inline(always)]
fn of(pair: u32) -> Option<&'static mut PairCounters> {
    let counters = COUNTERS.get_ptr_mut(pair)?;
    // SAFETY: array elements live as long as the map, and this CPU runs one tc program at a time.
    Some(unsafe { &mut *counters })
}
