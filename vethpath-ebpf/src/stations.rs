//! Stations as senders and as receivers: in the slots of their keys, or else in the hash maps.

use aya_ebpf::maps::{Array, HashMap};
use vethpath_common::{Entry, MacWords, NOT_THERE, Slot, Source, SourceKey, Station, StationKey, slot_of};

use crate::maps::{SOURCE_SLOTS, SOURCES, STATION_SLOTS, STATIONS, domain, slot_bits};

/// A MAC address as a sender behind the port `ifindex`, of whatever generation.
#[inline(always)]
pub fn source(ifindex: u32, mac: MacWords) -> Option<*mut Source> {
    #[expect(clippy::cast_possible_truncation, reason = "a lab has far fewer than 65,536 bridge namespaces")]
    let key = SourceKey::new(ifindex, mac, domain() as u16);
    find(&SOURCE_SLOTS, &SOURCES, key, |source| source.generation)
}

/// A MAC address as a receiver of what enters by `bridge`, of whatever generation.
#[inline(always)]
pub fn station(bridge: u32, mac: MacWords) -> Option<*mut Station> {
    find(&STATION_SLOTS, &STATIONS, StationKey::new(bridge, mac), |station| station.generation)
}

#[inline(always)]
fn find<V: Entry>(
    slots: &Array<Slot<V>>,
    others: &HashMap<V::Key, V>,
    key: V::Key,
    generation: impl Fn(&V) -> u32,
) -> Option<*mut V> {
    let [a, b, c] = V::words(&key);
    if let Some(slot) = slots.get_ptr_mut(slot_of([a, b, c], slot_bits())) {
        // SAFETY: array elements live as long as the map. What is there is not written while a program
        // may look at it, short of the generation (see datapath/slots.rs).
        let slot = unsafe { &mut *slot };
        if slot.key[0] == a && slot.key[1] == b && slot.key[2] == c && generation(&slot.value) != NOT_THERE {
            return Some(&raw mut slot.value);
        }
    }
    others.get_ptr_mut(key)
}
