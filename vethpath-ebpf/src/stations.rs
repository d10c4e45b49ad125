//! Lookup of stations as senders and as receivers: in the slot of the key first, then in the hash map.

use core::{arch::asm, hint::cold_path, mem::offset_of, ptr::NonNull};

use aya_ebpf::maps::{Array, HashMap};
use vethpath_common::{Entry, MacWords, NOT_THERE, Reason, Slot, Source, Station, slot_in_table};

use crate::maps::{SOURCE_SLOTS, SOURCES, STATION_SLOTS, STATIONS, domain, slot_bits};

/// Reads a field of an entry exactly once (volatile). User space and other CPUs write entries concurrently, so the
/// compiler must not cache a value or repeat a read.
macro_rules! field {
    ($entry:expr, $field:ident) => {
        // SAFETY: entries are only freed after a grace period (see agent/map_sync.rs).
        unsafe { (&raw const (*$entry.as_ptr()).$field).read_volatile() }
    };
}
pub(crate) use field;

/// The entry of a sender behind the port `ifindex`, if it is of this generation.
#[inline(always)]
pub fn source(ifindex: u32, mac: MacWords, generation: u32) -> Result<NonNull<Source>, Reason> {
    let key = Key::of_source(ifindex, mac);
    if let Some(entry) = in_slot(&SOURCE_SLOTS, key, generation) {
        return Ok(entry);
    }
    cold_path();
    let entry = source_anywhere(key.place, key.rest).ok_or(Reason::UnknownSource)?;
    if generation_of(entry) == generation { Ok(entry) } else { Err(Reason::Stale) }
}

/// The entry of a receiver for frames that enter by `bridge`, if it is of this generation.
#[inline(always)]
pub fn station(bridge: u32, mac: MacWords, generation: u32) -> Result<NonNull<Station>, Reason> {
    let key = Key { place: u64::from(bridge), rest: mac.bits() };
    if let Some(entry) = in_slot(&STATION_SLOTS, key, generation) {
        return Ok(entry);
    }
    cold_path();
    let entry = station_anywhere(key.place, key.rest).ok_or(Reason::UnknownDestination)?;
    if generation_of(entry) == generation { Ok(entry) } else { Err(Reason::Stale) }
}

/// The entry of a sender, of any generation.
#[inline(always)]
pub fn any_source(ifindex: u32, mac: MacWords) -> Option<NonNull<Source>> {
    let key = Key::of_source(ifindex, mac);
    source_anywhere(key.place, key.rest)
}

/// The entry of a receiver, of any generation.
#[inline(always)]
pub fn any_station(bridge: u32, mac: MacWords) -> Option<NonNull<Station>> {
    station_anywhere(u64::from(bridge), mac.bits())
}

/// The three words of a key: the first, and the other two joined.
#[derive(Clone, Copy)]
struct Key {
    place: u64,
    rest: u64,
}

impl Key {
    #[inline(always)]
    fn of_source(ifindex: u32, mac: MacWords) -> Self {
        Self { place: u64::from(ifindex), rest: mac.bits() | u64::from(domain()) << 48 }
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "words are parts")]
    fn words(self) -> [u32; 3] {
        [self.place as u32, self.rest as u32, (self.rest >> 32) as u32]
    }
}

/// The entry in the slot of a key, if it is of that key and of this generation.
#[inline(always)]
fn in_slot<V: Entry>(slots: &Array<Slot<V>>, key: Key, generation: u32) -> Option<NonNull<V>> {
    let (found, slot) =
        load_generation(slots.get_ptr_mut(slot_in_table(key.place, key.rest, slot_bits()))?);
    if found == u64::from(generation) { of_key(slot, key) } else { None }
}

/// Loads the generation of a slot, and makes the slot's address depend on it: reads through the returned address come
/// after the read of the generation, on every CPU.
///
/// The generation is read first because an empty slot still has its former key, and may be given to another key at any
/// time. While a generation is set, key and value cannot change until a grace period after it is cleared (see
/// datapath/slots.rs), and so not while this program runs.
///
/// The dependency is `generation & 0`. LLVM does not see through `asm!`, so it keeps it. The verifier knows that the
/// sum is the slot's address. JITs translate instruction by instruction (`build_insn` in
/// arch/arm64/net/bpf_jit_comp.c). CPUs order a load after the load that its address is computed from, whatever the
/// value is (address dependency, tools/memory-model/Documentation/explanation.txt).
#[inline(always)]
fn load_generation<V: Entry>(slot: *mut Slot<V>) -> (u64, *mut Slot<V>) {
    let (generation, dependent): (u64, *mut Slot<V>);
    // SAFETY: one load, aligned and in the slot: array elements live as long as the map. The address does not change.
    unsafe {
        asm!(
            "{generation} = *(u32 *)({slot} + {offset})",
            "{zero} = {generation}",
            "{zero} &= 0",
            "{slot} += {zero}",
            generation = out(reg) generation,
            zero = out(reg) _,
            slot = inout(reg) slot => dependent,
            offset = const offset_of!(Slot<V>, value),
            options(readonly, nostack, preserves_flags),
        );
    }
    (generation, dependent)
}

/// The entry in a slot whose generation was loaded, if it is this key's.
#[inline(always)]
fn of_key<V: Entry>(slot: *mut Slot<V>, key: Key) -> Option<NonNull<V>> {
    // SAFETY: array elements live as long as the map. The key is at the start of a slot and is aligned as u64 (see
    // `Slot`). It is not written while a program may read it (see `load_generation`).
    let (first, last) = unsafe { ((&raw const (*slot).key).cast::<u64>().read(), (*slot).key[2]) };
    let is_it = first == joined(key.place, key.rest & 0xffff_ffff) && u64::from(last) == key.rest >> 32;
    // SAFETY: as above; no slot is at address 0.
    if is_it { Some(unsafe { NonNull::new_unchecked(&raw mut (*slot).value) }) } else { None }
}

/// Two consecutive words as one load returns them.
#[inline(always)]
fn joined(first: u64, second: u64) -> u64 {
    if cfg!(target_endian = "little") { first | second << 32 } else { first << 32 | second }
}

#[inline(always)]
fn generation_of<V: Entry>(entry: NonNull<V>) -> u32 {
    // SAFETY: entries are only freed after a grace period (see agent/map_sync.rs), and begin with their generation.
    unsafe { entry.as_ptr().cast::<u32>().read_volatile() }
}

#[inline(never)]
fn source_anywhere(place: u64, rest: u64) -> Option<NonNull<Source>> {
    anywhere(&SOURCE_SLOTS, &SOURCES, Key { place, rest })
}

#[inline(never)]
fn station_anywhere(place: u64, rest: u64) -> Option<NonNull<Station>> {
    anywhere(&STATION_SLOTS, &STATIONS, Key { place, rest })
}

#[inline(always)]
fn anywhere<V: Entry>(slots: &Array<Slot<V>>, others: &HashMap<V::Key, V>, key: Key) -> Option<NonNull<V>> {
    let (generation, slot) =
        load_generation(slots.get_ptr_mut(slot_in_table(key.place, key.rest, slot_bits()))?);
    if generation != u64::from(NOT_THERE)
        && let Some(entry) = of_key(slot, key)
    {
        return Some(entry);
    }
    // SAFETY: array elements live as long as the map.
    if unsafe { (&raw const (*slot).overflow).read_volatile() } == 0 {
        return None;
    }
    NonNull::new(others.get_ptr_mut(V::key(key.words()))?)
}
