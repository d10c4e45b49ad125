//! Slots of stations, in memory shared with the programs.
#![expect(unsafe_code, reason = "memory that programs read and write meanwhile")]

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use vethpath_common::{Entry, NOT_THERE, Slot, UNCONFIRMED, slot_of};

use super::mapped::MappedArray;

/// A table of slots, mapped into memory.
pub struct Slots<V> {
    memory: MappedArray<Slot<V>>,
    bits: u32,
}

impl<V: Entry> Slots<V> {
    /// Maps a table of 2^`bits` slots.
    /// Minimum kernel: Linux 5.5 (`BPF_F_MMAPABLE`).
    ///
    /// # Errors
    /// The BPF map cannot be mapped into memory, or is smaller.
    pub fn map(fd: impl AsFd, bits: u32) -> io::Result<Self> {
        let () = V::ALIGNED;
        Ok(Self { memory: MappedArray::map(fd, 1 << bits)?, bits })
    }

    /// The entry of a key, if it has a slot.
    #[must_use]
    pub fn get(&self, key: &V::Key) -> Option<V> {
        let (words, slot) = self.slot(key);
        if self.generation(slot) == NOT_THERE {
            return None;
        }
        // SAFETY: `slot` is in the mapping. Programs write values concurrently, one word at a time: parts of the
        // result may be older than others.
        let found = unsafe { slot.read_volatile() };
        (found.key == words).then_some(found.value)
    }

    /// Puts an entry into the slot of its key. Returns false if the slot is taken, by another key or by this one.
    ///
    /// A removed entry's slot may be written again only after a grace period.
    pub fn put(&self, key: &V::Key, value: &V) -> bool {
        let (words, slot) = self.slot(key);
        if self.generation(slot) != NOT_THERE {
            return false;
        }
        // SAFETY: `slot` is in the mapping, and only user space writes this field.
        let others = unsafe { (&raw const (*slot).overflow).read_volatile() };
        let mut entry = Slot { key: words, overflow: others, value: *value };
        let generation = std::mem::replace(generation_of(&mut entry.value), NOT_THERE);
        // SAFETY: `slot` is in the mapping, and no program accesses it while its generation is `NOT_THERE`.
        unsafe { slot.write_volatile(entry) };
        // A program that loads this generation reads the entry through an address that depends on it.
        self.atomic(slot).store(generation, Ordering::Release);
        true
    }

    /// Makes programs look in the hash map if a key is not in its slot. Must be called before the key is inserted
    /// there.
    pub fn mark_overflow(&self, key: &V::Key) {
        self.others(self.slot(key).1).store(1, Ordering::Release);
    }

    /// Removes an entry. Returns false if the key has no slot. Programs may use the entry until a grace period is over.
    pub fn remove(&self, key: &V::Key) -> bool {
        let is_there = self.get(key).is_some();
        if is_there {
            self.atomic(self.slot(key).1).store(NOT_THERE, Ordering::Release);
        }
        is_there
    }

    /// Clears the mark of an entry that was announced under a number up to `confirmed`, so that programs need not check
    /// whether it is confirmed. An entry that a program has since seen elsewhere is left unchanged.
    pub fn confirm(&self, key: &V::Key, confirmed: u32) {
        let (words, slot) = self.slot(key);
        // SAFETY: `slot` is in the mapping.
        let is_it = unsafe { (&raw const (*slot).key).read_volatile() } == words;
        if is_it {
            // SAFETY: as above. The field is a u64, and aligned (`Entry::ALIGNED`).
            let away =
                unsafe { AtomicU64::from_ptr((&raw mut (*slot).value).byte_add(V::AWAY_UNTIL).cast()) };
            let mark = away.load(Ordering::Acquire);
            if (UNCONFIRMED..=UNCONFIRMED | u64::from(confirmed)).contains(&mark) {
                let _ = away.compare_exchange(mark, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.all().for_each(|slot| self.atomic(slot).store(NOT_THERE, Ordering::Release));
    }

    /// Makes no program look in the hash map any more. Must be called only while the hash map is empty.
    pub fn clear_overflow(&self) {
        self.all().for_each(|slot| self.others(slot).store(0, Ordering::Release));
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (V::Key, V)> {
        self.all().filter(|&slot| self.generation(slot) != NOT_THERE).map(|slot| {
            // SAFETY: as in `get`.
            let Slot { key, value, .. } = unsafe { slot.read_volatile() };
            (bytemuck::cast(key), value)
        })
    }

    /// The index of a key's slot.
    #[must_use]
    pub fn index(&self, key: &V::Key) -> usize {
        slot_of(V::words(key), self.bits) as usize
    }

    fn slot(&self, key: &V::Key) -> ([u32; 3], *mut Slot<V>) {
        let words = V::words(key);
        (words, self.memory.at(self.index(key)))
    }

    fn all(&self) -> impl Iterator<Item = *mut Slot<V>> {
        (0..1_usize << self.bits).map(|index| self.memory.at(index))
    }

    fn generation(&self, slot: *mut Slot<V>) -> u32 {
        self.atomic(slot).load(Ordering::Acquire)
    }

    fn others(&self, slot: *mut Slot<V>) -> &AtomicU32 {
        // SAFETY: `slot` is in the mapping, which lives as long as `self`. The field is an aligned u32.
        unsafe { AtomicU32::from_ptr(&raw mut (*slot).overflow) }
    }

    /// The generation of a slot: the first word of its value.
    fn atomic(&self, slot: *mut Slot<V>) -> &AtomicU32 {
        // SAFETY: `slot` is in the mapping, which lives as long as `self`. The value begins with its generation, which
        // is aligned (`Entry::ALIGNED`).
        unsafe { AtomicU32::from_ptr((&raw mut (*slot).value).cast()) }
    }
}

/// The generation of an entry: its first word.
fn generation_of<V: Entry>(value: &mut V) -> &mut u32 {
    let (_, words, _) = bytemuck::pod_align_to_mut::<u8, u32>(bytemuck::bytes_of_mut(value));
    &mut words[0]
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::OwnedFd};

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use vethpath_common::{MacWords, Station, StationKey};

    use super::*;

    const BITS: u32 = 4;
    const GENERATION: u32 = 7;

    /// A table in memory without a kernel map.
    fn table() -> (Slots<Station>, OwnedFd) {
        let memory = memfd_create("slots", MFdFlags::MFD_CLOEXEC).expect("memory");
        let memory = File::from(memory);
        memory.set_len((size_of::<Slot<Station>>() << BITS) as u64).expect("memory");
        (Slots::map(&memory, BITS).expect("it can be mapped"), memory.into())
    }

    fn station(pair: u32) -> Station {
        Station { generation: GENERATION, pair, ..Station::default() }
    }

    /// Two keys with the same slot.
    fn rivals() -> (StationKey, StationKey) {
        let key = |number| StationKey::new(1, MacWords::from([2, 0, 0, 0, 0, number]));
        let slot = |key: &StationKey| slot_of(Station::words(key), BITS);
        let first = key(0);
        let second = (1..=u8::MAX).map(key).find(|other| slot(other) == slot(&first));
        (first, second.expect("255 keys share 16 slots"))
    }

    #[test]
    fn a_slot_is_one_keys_until_it_is_taken_back() {
        let (slots, _memory) = table();
        let (first, second) = rivals();
        assert!(slots.put(&first, &station(1)));
        assert!(!slots.put(&second, &station(2)) && !slots.put(&first, &station(3)));
        assert_eq!((slots.get(&first), slots.get(&second)), (Some(station(1)), None));
        assert!(!slots.remove(&second) && slots.remove(&first) && !slots.remove(&first));
        assert!(slots.put(&second, &station(2)));
        assert_eq!((slots.get(&first), slots.get(&second)), (None, Some(station(2))));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(second, station(2))]);
        slots.clear();
        assert_eq!((slots.get(&second), slots.iter().count()), (None, 0));
    }

    #[test]
    fn a_confirmed_entry_loses_its_mark_and_no_other_does() {
        let (slots, _memory) = table();
        let (key, other) = rivals();
        let until = |away_until_ns| Station { away_until_ns, ..station(1) };
        for (away, left) in [
            (UNCONFIRMED | 4, 0),
            (UNCONFIRMED | 5, 0),
            (UNCONFIRMED | 6, UNCONFIRMED | 6),
            // Written by a program in place of the mark.
            (4_000_000_000, 4_000_000_000),
            (0, 0),
        ] {
            assert!(slots.put(&key, &until(away)));
            slots.confirm(&other, 5);
            assert_eq!(slots.get(&key), Some(until(away)));
            slots.confirm(&key, 5);
            assert_eq!(slots.get(&key), Some(until(left)));
            assert!(slots.remove(&key));
        }
    }

    /// The key stays and is ignored, since programs and user space check the generation first.
    #[test]
    fn what_was_taken_back_is_not_there_though_its_key_is() {
        let (slots, _memory) = table();
        let (key, _) = rivals();
        assert!(slots.put(&key, &station(1)) && slots.remove(&key));
        let (words, slot) = slots.slot(&key);
        // SAFETY: `slot` is in the mapping.
        let left = unsafe { slot.read_volatile() };
        assert_eq!((left.key, left.value.generation, left.value.pair), (words, NOT_THERE, 1));
        assert_eq!(slots.get(&key), None);
    }
}
