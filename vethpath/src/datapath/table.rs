//! A table of stations, as senders or as receivers: an array of slots, and a hash map for keys without a slot.

use std::{borrow::BorrowMut, os::fd::AsFd};

use aya::{
    Pod,
    maps::{HashMap, IterableMap, MapData, MapError},
};
use vethpath_common::{Entry, UNCONFIRMED};

use super::{
    Pins, batch,
    maps::{data, hash},
    slots::Slots,
};
use crate::kernel::{Context, Result};

/// A map from the keys of `V` to `V`.
pub struct Table<V: Entry<Key: Pod> + Pod, M = MapData> {
    slots: Slots<V>,
    overflow: HashMap<M, V::Key, V>,
}

impl<V: Entry<Key: Pod> + Pod> Table<V> {
    /// Opens the pinned maps of these names.
    ///
    /// # Errors
    /// A map is missing or has another shape.
    pub fn open(pins: &Pins, slots: &str, others: &str) -> Result<Self> {
        let others = hash(pins, others)?;
        Self::of(&data(&pins.map(slots))?, others).doing("map", slots)
    }
}

impl<V: Entry<Key: Pod> + Pod, M: BorrowMut<MapData>> Table<V, M> {
    /// A table of an array of slots, and a hash map for keys without a slot.
    ///
    /// # Errors
    /// The array cannot be mapped.
    pub fn of(slots: &MapData, others: HashMap<M, V::Key, V>) -> std::io::Result<Self> {
        let count = slots.info().map_err(std::io::Error::other)?.max_entries();
        let bits = count.checked_ilog2().filter(|&bits| bits > 0).ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(Self { slots: Slots::map(slots.fd().as_fd(), bits)?, overflow: others })
    }

    /// The entry of a key.
    #[must_use]
    pub fn get(&self, key: &V::Key) -> Option<V> {
        self.slots.get(key).or_else(|| self.overflow.get(key, 0).ok())
    }

    /// Adds an entry for a key that has none. If it had one, a grace period must have passed since its removal.
    ///
    /// # Errors
    /// The hash map is full (`E2BIG`), or the kernel refuses.
    pub fn insert(&mut self, key: &V::Key, value: &V) -> std::result::Result<(), MapError> {
        if self.slots.put(key, value) { Ok(()) } else { self.insert_overflow(key, value) }
    }

    /// As [`Table::insert`], but programs use the entry only when announcements of this number are
    /// [confirmed](vethpath_common::Config::confirmed).
    ///
    /// # Errors
    /// As [`Table::insert`].
    pub fn announce(&mut self, key: &V::Key, value: &V, number: u32) -> std::result::Result<(), MapError> {
        let mut value = *value;
        *value.away_until() = UNCONFIRMED | u64::from(number);
        self.insert(key, &value)
    }

    /// Clears the mark of an entry whose announcement number is at most `confirmed`, so that programs need not check
    /// whether it is confirmed. An entry in the hash map keeps its mark, since an update by system call could overwrite
    /// a concurrent write by a program.
    pub fn confirm(&self, key: &V::Key, confirmed: u32) {
        self.slots.confirm(key, confirmed);
    }

    /// As [`Table::insert`], but always into the hash map.
    ///
    /// # Errors
    /// As [`Table::insert`].
    pub fn insert_overflow(&mut self, key: &V::Key, value: &V) -> std::result::Result<(), MapError> {
        self.slots.mark_overflow(key);
        self.overflow.insert(key, value, 0)
    }

    /// Removes the entry of a key, if it has one. Programs may use the entry until a grace period is over.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&mut self, key: &V::Key) -> std::result::Result<(), MapError> {
        if self.slots.remove(key) {
            return Ok(());
        }
        Ok(batch::remove(self.overflow.map().fd().as_fd(), key)?)
    }

    /// Removes all entries, as [`Table::remove`] does.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clear(&mut self) -> std::result::Result<(), MapError> {
        self.slots.clear();
        let keys: Vec<V::Key> = self.overflow.keys().collect::<std::result::Result<_, _>>()?;
        keys.iter().try_for_each(|key| self.remove(key))?;
        self.slots.clear_overflow();
        Ok(())
    }

    /// All entries. An entry that is removed during the iteration may end it early.
    pub fn iter(&self) -> impl Iterator<Item = (V::Key, V)> {
        self.slots.iter().chain(self.overflow.iter().filter_map(std::result::Result::ok))
    }
}
