//! A MAC address as programs read and write it.

/// The six bytes of a MAC address as two words, in the order of memory, in one register.
///
/// The kernel hashes keys word by word. A key that a program has written byte by byte is not yet
/// one in the CPU's store buffer when it is read so: each word then costs the time of a full store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacWords(u64);

impl MacWords {
    /// Of the first four bytes and the last two.
    #[inline(always)]
    #[must_use]
    pub fn new(head: u32, tail: u16) -> Self {
        Self(head as u64 | (tail as u64) << 32)
    }

    /// Of what [`MacWords::bits`] gives: 48 bits.
    #[inline(always)]
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The first four bytes in the low half, and the last two above them.
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

    /// The last two, as a number of 16 bits.
    #[inline(always)]
    #[must_use]
    pub fn tail(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether one of the two is a group address.
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
