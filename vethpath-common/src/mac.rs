//! A MAC address as two words.

/// The six bytes of a MAC address as two words in memory order, held in one register.
///
/// The kernel hashes keys word by word. If a program writes a key byte by byte, the CPU cannot forward these stores to
/// the word loads: each load then waits for the stores to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacWords(u64);

impl MacWords {
    /// Makes an address of its first four bytes and its last two.
    #[inline(always)]
    #[must_use]
    pub fn new(head: u32, tail: u16) -> Self {
        Self(head as u64 | (tail as u64) << 32)
    }

    /// Makes an address of the 48 bits that [`MacWords::bits`] returns.
    #[inline(always)]
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// All 48 bits: the first four bytes in the low 32 bits, the last two bytes above them.
    #[inline(always)]
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The first four bytes.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    pub fn head(self) -> u32 {
        self.0 as u32
    }

    /// The last two bytes, as a 16-bit number.
    #[inline(always)]
    #[must_use]
    pub fn tail(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether at least one of the two is a group address.
    #[inline(always)]
    #[must_use]
    pub fn is_one_group(self, other: Self) -> bool {
        Self(self.0 | other.0).is_group()
    }

    /// Whether it is a group address: the lowest bit of the first byte.
    #[inline(always)]
    #[must_use]
    pub fn is_group(self) -> bool {
        self.head().to_ne_bytes()[0] & 1 != 0
    }
}

impl From<[u8; 6]> for MacWords {
    fn from([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self::new(u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([e, f]))
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
        let (host, group) = (MacWords::from([2, 1, 1, 1, 1, 1]), MacWords::from([1, 0, 0, 0, 0, 0]));
        assert!(host.is_one_group(group) && group.is_one_group(host) && !host.is_one_group(host));
    }
}
