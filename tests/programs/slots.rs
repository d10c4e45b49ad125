//! Slots as programs read them: first the generation, then the key and the entry.

use std::os::fd::AsFd;

use aya::Pod;
use vethpath::datapath::{OBJECT, Sizes, Slots, Table};
use vethpath_common::{Entry, Reason, Source, SourceKey, Station, StationKey, names, slot_of};

use super::{
    bench::{Bench, data},
    case::TC_ACT_REDIRECT,
    frames::Frame,
    world::{DOMAIN, Mac, Port},
};

fn bits() -> u32 {
    Sizes::of(Port::ALL.len(), 2).slot_bits
}

/// A MAC address whose key has the same slot as the key of `mac`.
fn rival<V: Entry>(key: impl Fn(Mac) -> V::Key, mac: Mac) -> Mac {
    let slot = |mac| slot_of(V::words(&key(mac)), bits());
    let mut macs = (0..=u16::MAX).map(|number| {
        let [high, low] = number.to_be_bytes();
        [0x02, 0xaa, 0, 0, high, low]
    });
    macs.find(|&other| slot(other) == slot(mac)).expect("there are few slots")
}

/// The keys in the slots of a map.
fn in_slots<V: Entry>(bench: &Bench, slots: &str) -> Vec<V::Key> {
    let map = data(bench.object.map(slots).expect("it has this map"));
    let slots = Slots::<V>::map(map.fd().as_fd(), bits()).expect("it can be mapped");
    slots.iter().map(|(key, _)| key).collect()
}

/// The reason for which a frame is passed to the bridge; `None` if it is not.
fn refusal(bench: &mut Bench, frame: &Frame) -> Option<Reason> {
    let ran = bench.run(frame);
    let slow = &ran.counted[frame.port.pair() as usize].slow;
    let reason = Reason::ALL.into_iter().find(|&reason| slow[reason as usize].frames == 1);
    assert_eq!(reason.is_none(), ran.action == TC_ACT_REDIRECT, "{ran:?}");
    reason
}

/// Two keys of one slot, of which the first is known. Each key must match its own entry only, and never the entry of
/// the other. `frames` are one for each key.
#[track_caller]
fn share_a_slot<V: Entry<Key: Pod> + Pod>(
    bench: &mut Bench,
    (mut table, slots): (Table<V>, &str),
    [key, other]: [V::Key; 2],
    frames: [Frame; 2],
    unknown: Reason,
    of_the_next_generation: impl Fn(V) -> V,
) {
    let holds = |bench: &Bench, key| in_slots::<V>(bench, slots).contains(key);
    let refusals = |bench: &mut Bench| frames.each_ref().map(|frame| refusal(bench, frame));
    let entry = table.get(&key).expect("it is known");
    assert!(holds(bench, &key));
    assert_eq!(refusals(bench), [None, Some(unknown)]);

    // No program runs meanwhile: no grace period is needed.
    table.remove(&key).expect("it may be removed");
    assert_eq!(refusals(bench), [Some(unknown); 2], "the slot still has its key");
    table.insert(&other, &entry).expect("there is room");
    assert!(holds(bench, &other));
    assert_eq!(refusals(bench), [Some(unknown), None]);
    table.insert(&key, &entry).expect("there is room");
    assert!(!holds(bench, &key) && holds(bench, &other));
    assert_eq!(refusals(bench), [None, None], "one is in the slot, and one in the hash map");
    table.remove(&other).expect("it may be removed");
    table.insert(&other, &of_the_next_generation(entry)).expect("there is room");
    assert!(holds(bench, &other));
    assert_eq!(refusals(bench), [None, Some(Reason::Stale)]);
}

#[test]
fn a_sender_is_not_known_by_what_another_has_put_into_its_slot() {
    let mut bench = Bench::new();
    let domain = DOMAIN.try_into().expect("a small number");
    let key = |mac: Mac| SourceKey::new(bench.ifindex(Port::A), mac.into(), domain);
    let a = Port::A.mac(1);
    let other = rival::<Source>(key, a);
    let (keys, frames) = ([key(a), key(other)], [Frame::udp4(0), Frame::udp4(0).from(other)]);
    let table = (bench.sources(), names::SOURCE_SLOTS);
    share_a_slot(&mut bench, table, keys, frames, Reason::UnknownSource, |entry| Source {
        generation: entry.generation + 1,
        ..entry
    });
}

#[test]
fn a_receiver_is_not_known_by_what_another_has_put_into_its_slot() {
    let mut bench = Bench::new();
    let key = |mac: Mac| StationKey::new(Port::A.bridge(), mac.into());
    let b = Port::B.mac(1);
    let other = rival::<Station>(key, b);
    let (keys, frames) = ([key(b), key(other)], [Frame::udp4(0), Frame::udp4(0).to(other)]);
    let table = (bench.stations(), names::STATION_SLOTS);
    share_a_slot(&mut bench, table, keys, frames, Reason::UnknownDestination, |entry| Station {
        generation: entry.generation + 1,
        ..entry
    });
}

/// An instruction: `struct bpf_insn` of `linux/bpf.h`, on a little-endian CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    rest: [u8; 6],
}

impl Instruction {
    fn new(code: u8, to: u8, from: u8) -> Self {
        Self { code, to, from, rest: [0; 6] }
    }

    fn of(bytes: &[u8; 8]) -> Self {
        let [code, registers, rest @ ..] = *bytes;
        Self { code, to: registers & 15, from: registers >> 4, rest }
    }
}

/// CPUs that reorder loads keep the order of two loads if the address of one depends on the result of the other. A CPU
/// that reorders no loads cannot test that, so this test shows that the compiler has kept the dependency.
#[test]
fn the_address_of_an_entry_depends_on_its_generation() {
    let instructions: Vec<_> = OBJECT.as_chunks().0.iter().map(Instruction::of).collect();
    let depends = |&&[load, copy, cut, add]: &&[Instruction; 4]| {
        let (generation, slot, zero) = (load.to, load.from, cut.to);
        // generation = *(u32 *)(slot + 16); zero = generation; zero &= 0; slot += zero
        let expected_load =
            Instruction { rest: [16, 0, 0, 0, 0, 0], ..Instruction::new(0x61, generation, slot) };
        load == expected_load
            && copy == Instruction::new(0xbf, zero, generation)
            && cut == Instruction::new(0x57, zero, 0)
            && add == Instruction::new(0x0f, slot, zero)
    };
    let found = instructions.array_windows().filter(depends).count();
    // For senders and receivers, with this generation and with any.
    assert!(found >= 4, "{found}");
}
