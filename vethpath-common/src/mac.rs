//! A MAC address as programs read and write it.

/// The six bytes of a MAC address in two words, in the order of memory.
///
/// The kernel hashes keys word by word. A key that a program has written byte by byte is not yet
/// one in the CPU's store buffer when it is read so: each word then costs the time of a full store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacWords {
    /// The first four bytes.
    pub head: u32,
    /// The last two, as a number of 16 bits.
    pub tail: u32,
}

impl MacWords {
    /// Whether it is a group address: the lowest bit of the first byte.
    #[inline(always)]
    #[must_use]
    pub fn is_group(self) -> bool {
        self.head.to_ne_bytes()[0] & 1 != 0
    }
}

impl From<[u8; 6]> for MacWords {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self { head: u32::from_ne_bytes([a, b, c, d]), tail: u32::from(u16::from_ne_bytes([e, f])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_known_by_their_first_bit() {
        assert!(MacWords::from([0xff; 6]).is_group());
        assert!(MacWords::from([1, 0, 0, 0, 0, 0]).is_group());
        assert!(!MacWords::from([2, 1, 1, 1, 1, 1]).is_group());
    }
}
