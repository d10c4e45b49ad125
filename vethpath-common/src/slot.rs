//! Entries at places that their keys tell: found without the cost of the kernel's hash maps.
//!
//! Each of the two maps of stations has a table of slots in front of it. A key has one slot; if another
//! key lies there, its entry is in the hash map as before, and the slot says so ([`Slot::others`]).
//! Slots are memory that user space has mapped:
//! it publishes an entry by storing [`Slot::value`]'s generation last (a store-release), and takes it back by setting
//! that to [`NOT_THERE`], after which a grace period must pass before the slot is written again.
//!
//! A program loads the generation first. If that is not [`NOT_THERE`], key and value are those that it was published
//! with, and stay so while the program runs. Before that, neither may be trusted: a slot that holds nothing still has
//! the key that it had.

use core::mem::offset_of;

use bytemuck::{Pod, Zeroable};

use crate::{Source, SourceKey, Station, StationKey};

/// The generation of a slot that holds nothing. No valid entry has it.
pub const NOT_THERE: u32 = 0;

/// An entry and the key that it belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot<V> {
    /// The key's words.
    pub key: [u32; 3],
    /// 0 if no other key whose slot this is has its entry in the hash map. Set before there is one, and never
    /// taken back while there may be one: a program that finds 0 here need not look there.
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

/// What lies in slots.
pub trait Entry: Pod {
    /// What it is found by.
    type Key: Pod + Ord;

    /// Where it has the time until which the station is away.
    const AWAY_UNTIL: usize;

    /// That time.
    fn away_until(&mut self) -> &mut u64;

    /// The key as words. Keys are twelve bytes.
    fn words(key: &Self::Key) -> [u32; 3];

    /// The key of these words.
    fn key(words: [u32; 3]) -> Self::Key;

    /// Has the compiler check that a slot has no padding.
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

/// The slot of a key in a table of two to the power of `bits` of them. `bits` is 1 to 32.
///
/// Multiplicative hashing: what tells keys of a lab apart are a few low bits of each word, and the upper
/// bits of the product depend on all of them.
#[inline(always)]
#[must_use]
pub fn slot_of([place, head, tail]: [u32; 3], bits: u32) -> u32 {
    slot_in_table(u64::from(place), u64::from(head) | u64::from(tail) << 32, bits)
}

/// The same of a key's first word, and of the two others in one.
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

    /// MACs as vethpath and as people choose them, on a few bridges.
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
        // By chance it would be 89 %.
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
