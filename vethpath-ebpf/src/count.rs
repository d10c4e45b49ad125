//! Counting: per-CPU, so without atomics (a tc program is not preempted by another on its CPU).

use vethpath_common::{NO_PAIR, PairCounters, PortKey, PortRecord, Reason, flags};

use crate::{
    maps::{COUNTERS, PORTS, domain},
    packet::Frame,
};

/// Counts a frame that the fast path takes from one pair to another.
#[inline(always)]
pub fn fast(frame: &Frame, from: u32, to: u32) {
    let (packets, bytes) = (frame.packets(), u64::from(frame.len()));
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
pub fn slow(frame: &Frame, reason: Reason) -> Reason {
    let key = PortKey { ifindex: frame.ifindex(), domain: domain() };
    // SAFETY: entries are only freed after a grace period (see agent/sync.rs).
    let port = unsafe { PORTS.get(key) }.copied().unwrap_or(PortRecord { pair: NO_PAIR, flags: 0 });
    let reason = match reason {
        Reason::UnknownSource if port.flags & flags::ARMED == 0 => Reason::Port,
        other => other,
    };
    if let Some(counters) = of(port.pair)
        && let Some(count) = counters.slow.get_mut(reason as usize)
    {
        count.add(frame.packets(), u64::from(frame.len()));
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
