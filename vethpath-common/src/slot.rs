//! Tables of slots, indexed by a hash of the key: cheaper to read than the kernel's hash maps.
//!
//! Each of the two station maps has a table of slots in front of it. A key has one slot. If another key occupies it,
//! the entry is in the hash map, which the slot records ([`Slot::overflow`]).
//! User space maps the slots into its memory. It publishes an entry by storing the generation of [`Slot::value`] last
//! (a store-release). It removes an entry by setting the generation to [`NOT_THERE`]. A grace period must pass before
//! it writes the slot again.
//!
//! A program loads the generation first. If it is not [`NOT_THERE`], key and value are those that were published with
//! it, and do not change while the program runs. Until then neither may be trusted: an empty slot still has its former
//! key.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::{Source, SourceKey, Station, StationKey};

/// The generation of an empty slot. No valid entry has it.
pub const NOT_THERE: u32 = 0;

/// An entry and the key that it belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot<V> {
    /// The key's words.
    pub key: [u32; 3],
    /// 0 if no entry of another key with this slot is in the hash map. Set before such an entry is inserted, and not
    /// cleared while there may be one: a program that reads 0 need not search the hash map.
    pub overflow: u32,
    /// The entry. It begins with its generation.
    pub value: V,
}

// SAFETY: made of integers and of a type for which any bytes are valid.
#[expect(unsafe_code, reason = "bytemuck cannot derive this for a generic type")]
unsafe impl<V: Entry> Zeroable for Slot<V> {}
// SAFETY: as above; 16 bytes in front and `Entry::ALIGNED` leave no padding.
#[expect(unsafe_code, reason = "bytemuck cannot derive this for a generic type")]
unsafe impl<V: Entry> Pod for Slot<V> {}

/// The value of a slot.
pub trait Entry: Pod {
    /// The type of its key.
    type Key: Pod + Ord;

    /// Byte offset of `away_until_ns`.
    const AWAY_UNTIL: usize;

    /// The field `away_until_ns`.
    fn away_until(&mut self) -> &mut u64;

    /// The key as words. Keys are twelve bytes.
    fn words(key: &Self::Key) -> [u32; 3];

    /// The key of these words.
    fn key(words: [u32; 3]) -> Self::Key;

    /// Checks at compile time that a slot has no padding.
    const ALIGNED: () = assert!(size_of::<Self>().is_multiple_of(8) && align_of::<Self>() == 8);
}

impl Entry for Source {
    type Key = SourceKey;

    const AWAY_UNTIL: usize = offset_of!(Source, away_until_ns);

    fn away_until(&mut self) -> &mut u64 {
        &mut self.away_until_ns
    }

    #[inline(always)]
    fn words(key: &SourceKey) -> [u32; 3] {
        key.0
    }

    #[inline(always)]
    fn key(words: [u32; 3]) -> SourceKey {
        SourceKey(words)
    }
}

impl Entry for Station {
    type Key = StationKey;

    const AWAY_UNTIL: usize = offset_of!(Station, away_until_ns);

    fn away_until(&mut self) -> &mut u64 {
        &mut self.away_until_ns
    }

    #[inline(always)]
    fn words(key: &StationKey) -> [u32; 3] {
        key.0
    }

    #[inline(always)]
    fn key(words: [u32; 3]) -> StationKey {
        StationKey(words)
    }
}

/// The slot of a key in a table of two to the power of `bits` slots. `bits` is 1 to 32.
///
/// Multiplicative hashing: the keys of a lab differ in a few low bits of each word, and the upper bits of the product
/// depend on all of these.
#[inline(always)]
#[must_use]
pub fn slot_of([place, head, tail]: [u32; 3], bits: u32) -> u32 {
    slot_in_table(u64::from(place), u64::from(head) | u64::from(tail) << 32, bits)
}

/// The same for a key's first word, and its other two words joined in `rest`.
#[inline(always)]
#[must_use]
pub fn slot_in_table(place: u64, rest: u64, bits: u32) -> u32 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mixed = (rest ^ place.wrapping_mul(SPREAD)).wrapping_mul(SPREAD);
    #[expect(clippy::cast_possible_truncation, reason = "at most 32 bits are left")]
    let slot = (mixed >> (64 - bits)) as u32;
    slot
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::*;

    /// MACs as vethpath and as users choose them, on a few bridges.
    fn keys() -> impl Iterator<Item = StationKey> {
        let counted = (0..300_u16).map(|number| {
            let [high, low] = number.to_be_bytes();
            [2, 0, 0, 0, high, low]
        });
        let by_host = (0..100).map(|host| [0x02, host, 0, 0, 0, 1]);
        let macs: std::vec::Vec<_> = counted.chain(by_host).collect();
        (0..5).flat_map(move |bridge| {
            macs.clone().into_iter().map(move |mac| StationKey::new(bridge, mac.into()))
        })
    }

    #[test]
    fn most_keys_of_a_quarter_full_table_have_a_slot_of_their_own() {
        let all = keys().collect::<BTreeSet<_>>().len();
        let slots: BTreeSet<_> = keys().map(|key| slot_of(Station::words(&key), 13)).collect();
        assert_eq!(all, 1995);
        // A random choice of slots would give 89 %.
        assert!(slots.len() * 100 > all * 85, "{} of {all}", slots.len());
        assert!(slots.iter().all(|&slot| slot < 1 << 13));
    }

    #[test]
    fn large_ifindexes_count_too() {
        let slot = |ifindex| slot_of([ifindex, 2, 3], 16);
        let slots: BTreeSet<_> = (0..100).map(|number| slot(number << 16)).collect();
        assert!(slots.len() > 90, "{}", slots.len());
    }

    #[test]
    fn slots_have_no_padding() {
        let () = (Source::ALIGNED, Station::ALIGNED).0;
        assert_eq!((size_of::<Slot<Source>>(), size_of::<Slot<Station>>()), (80, 64));
        assert_eq!(core::mem::offset_of!(Slot<Station>, value), 16);
    }
}
