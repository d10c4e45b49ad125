//! The counters of the programs, per pair and CPU.

use bytemuck::{Pod, Zeroable};

use crate::Reason;

/// A number of frames: as socket buffers, as packets and in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Count {
    /// Socket buffers, as the kernel's interface counters count them: a GSO frame is one.
    pub frames: u64,
    /// Packets on a wire: a GSO frame counts as its segments.
    pub packets: u64,
    /// Bytes of the socket buffers, Ethernet header included, as the interface counters count them.
    pub bytes: u64,
}

impl Count {
    /// Adds one frame of `packets` segments and `bytes` bytes.
    #[inline(always)]
    pub fn add(&mut self, packets: u64, bytes: u64) {
        self.frames = self.frames.wrapping_add(1);
        self.packets = self.packets.wrapping_add(packets);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    /// The sum of two counts, as of two CPUs.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            frames: self.frames.wrapping_add(other.frames),
            packets: self.packets.wrapping_add(other.packets),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }
}

/// Counters of one pair on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PairCounters {
    /// Sent by the namespace and forwarded by the fast path while the traffic matrix was full. Frames that the matrix
    /// counts are not included.
    pub fast_tx: Count,
    /// Delivered to the namespace by the fast path while the traffic matrix was full.
    pub fast_rx: Count,
    /// Sent by the namespace and passed to the bridge, by [`Reason`].
    pub slow: [Count; Reason::COUNT],
}

impl Default for PairCounters {
    fn default() -> Self {
        Self::zeroed()
    }
}

impl PairCounters {
    /// The sum of two sets of counters, as of two CPUs.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.fast_tx = self.fast_tx.plus(other.fast_tx);
        self.fast_rx = self.fast_rx.plus(other.fast_rx);
        for (mine, theirs) in self.slow.iter_mut().zip(other.slow) {
            *mine = mine.plus(theirs);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_add_up() {
        let mut a = PairCounters::default();
        let mut b = PairCounters::default();
        a.slow[Reason::Arp as usize].add(1, 42);
        b.slow[Reason::Arp as usize].add(3, 4000);
        b.fast_rx.add(1, 60);
        let sum = a.plus(&b);
        assert_eq!(sum.slow[Reason::Arp as usize], Count { frames: 2, packets: 4, bytes: 4042 });
        assert_eq!(sum.fast_rx, Count { frames: 1, packets: 1, bytes: 60 });
        assert_eq!(sum.fast_tx, Count::default());
    }
}
