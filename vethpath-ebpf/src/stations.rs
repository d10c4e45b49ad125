//! Stations as senders and as receivers: in the slots of their keys, or else in the hash maps.

use core::{hint::cold_path, ptr::NonNull};

use aya_ebpf::maps::Array;
use vethpath_common::{Entry, MacWords, NOT_THERE, Slot, Source, SourceKey, Station, StationKey, slot_of};

use crate::maps::{SOURCE_SLOTS, SOURCES, STATION_SLOTS, STATIONS, domain, slot_bits};

/// A MAC address as a sender behind the port `ifindex`, of whatever generation.
#[inline(always)]
pub fn source(ifindex: u32, mac: MacWords) -> Option<NonNull<Source>> {
    #[expect(clippy::cast_possible_truncation, reason = "a lab has far fewer than 65,536 bridge namespaces")]
    let key = SourceKey::new(ifindex, mac, domain() as u16);
    in_slot(&SOURCE_SLOTS, &key, |source| source.generation).or_else(|| {
        cold_path();
        source_without_slot(&key)
    })
}

/// A MAC address as a receiver of what enters by `bridge`, of whatever generation.
#[inline(always)]
pub fn station(bridge: u32, mac: MacWords) -> Option<NonNull<Station>> {
    let key = StationKey::new(bridge, mac);
    in_slot(&STATION_SLOTS, &key, |station| station.generation).or_else(|| {
        cold_path();
        station_without_slot(&key)
    })
}

#[inline(always)]
fn in_slot<V: Entry>(
    slots: &Array<Slot<V>>,
    key: &V::Key,
    generation: impl Fn(&V) -> u32,
) -> Option<NonNull<V>> {
    let [a, b, c] = V::words(key);
    let slot = slots.get_ptr_mut(slot_of([a, b, c], slot_bits()))?;
    // SAFETY: array elements live as long as the map. What is there is not written while a program may
    // look at it, short of the generation (see datapath/slots.rs).
    let slot = unsafe { &mut *slot };
    let is_it = slot.key[0] == a && slot.key[1] == b && slot.key[2] == c;
    if is_it && generation(&slot.value) != NOT_THERE { Some(NonNull::from(&mut slot.value)) } else { None }
}

#[inline(never)]
fn source_without_slot(key: &SourceKey) -> Option<NonNull<Source>> {
    NonNull::new(SOURCES.get_ptr_mut(key)?)
}

#[inline(never)]
fn station_without_slot(key: &StationKey) -> Option<NonNull<Station>> {
    NonNull::new(STATIONS.get_ptr_mut(key)?)
}
