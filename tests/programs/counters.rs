//! Counters: each element is read exactly once, and what a full matrix has no room for is counted by pair.

use std::{collections::BTreeMap, fmt::Debug, io::ErrorKind, os::fd::AsFd};

use aya::{
    Ebpf, Pod,
    maps::{MapError, PerCpuArray, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use vethpath::datapath::{OBJECT, Sizes, loader, per_cpu};
use vethpath_common::{Count, MatrixKey, names};

use super::{
    bench::{Bench, RunResult, data},
    frames::Frame,
    world::{DOMAIN, Port},
};
use crate::harness::{SLACK, wait_for};

/// With this many pairs, the matrix is several times as long as a batch.
const PAIRS: u32 = 128;

/// A count that is unique to a cell and a CPU.
fn counted(index: u32, cpu: usize) -> Count {
    Count { frames: index.into(), packets: cpu as u64, bytes: 1 }
}

fn on_each_cpu(index: u32) -> PerCpuValues<Count> {
    let cpus = 0..nr_cpus().expect("some");
    PerCpuValues::try_from(cpus.map(|cpu| counted(index, cpu)).collect::<Vec<_>>()).expect("one for each")
}

fn assert_all_are_read<K: Pod + Ord + Debug>(object: &Ebpf, map: &str, expected: BTreeMap<K, u32>) {
    let cpus = nr_cpus().expect("some");
    let map = data(object.map(map).expect("it has this map"));
    let read = per_cpu::<K, Count>(map.fd().as_fd(), cpus).expect("readable");
    assert_eq!(read.len(), expected.len());
    for (key, values) in read.iter() {
        let index = expected[key];
        assert!(values.iter().enumerate().all(|(cpu, value)| *value == counted(index, cpu)), "{key:?}");
    }
    let keys: BTreeMap<_, _> = read.into_iter().map(|(key, values)| (key, values.len())).collect();
    assert!(keys.keys().eq(expected.keys()) && keys.values().all(|values| *values == cpus));
}

#[test]
fn a_map_longer_than_a_batch_is_read_completely_and_once() {
    let sizes = Sizes { width: PAIRS, ..Sizes::of(PAIRS as usize, 0) };
    let mut object = loader(&DOMAIN, &sizes).load(OBJECT).expect("the object loads");
    let cells = || 0..PAIRS * PAIRS;

    let map = object.map_mut(names::CELLS).expect("it has this map");
    let mut array: PerCpuArray<_, Count> = map.try_into().expect("per CPU");
    assert_eq!(array.len(), PAIRS * PAIRS);
    cells().for_each(|index| array.set(index, on_each_cpu(index), 0).expect("it has this cell"));
    assert_all_are_read(&object, names::CELLS, cells().map(|index| (index, index)).collect());

    let key = |index| MatrixKey::of_cell(index, PAIRS);
    assert_all_are_read::<MatrixKey>(&object, names::MATRIX, BTreeMap::new());
    let map = object.map_mut(names::MATRIX).expect("it has this map");
    let mut hash: PerCpuHashMap<_, MatrixKey, Count> = map.try_into().expect("per CPU");
    for index in cells() {
        // Elements are allocated when they are inserted, from a cache that a work item refills.
        wait_for(SLACK, "the kernel allocates an element", || {
            match hash.insert(key(index), on_each_cpu(index), 0) {
                Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::OutOfMemory => {
                    false
                }
                inserted => inserted.is_ok() || panic!("{inserted:?}"),
            }
        });
    }
    assert_all_are_read(&object, names::MATRIX, cells().map(|index| (key(index), index)).collect());
}

#[test]
fn frames_beyond_a_full_matrix_are_counted_by_pair() {
    let mut bench = Bench::crowded();
    let there = || Frame::udp4(100);
    let back = || Frame::udp4(100).at(Port::B).to(Port::A.mac(1));
    let fast = |ran: &RunResult| {
        let sum = |count: fn(&vethpath_common::PairCounters) -> Count| {
            ran.counted.iter().map(count).fold(Count::default(), Count::plus)
        };
        (sum(|pair| pair.fast_tx), sum(|pair| pair.fast_rx))
    };
    let single = |frame: &Frame| Count { frames: 1, packets: 1, bytes: frame.bytes.len() as u64 };
    for frame in [there(), back(), there(), back()] {
        let ran = bench.run(&frame);
        assert_eq!(fast(&ran), (single(&frame), single(&frame)), "once as sent and once as received");
    }
    let cells = bench.elements::<MatrixKey>(names::MATRIX);
    assert_eq!(cells.len(), 1, "the first has it");
    let apart = bench.pair_counters();
    let frames: u64 = apart.iter().map(|pair| pair.fast_rx.frames).sum();
    assert_eq!(frames, 2, "the way back");
}
