//! Counters are read in batches, each element exactly once.

use std::{collections::BTreeMap, fmt::Debug, io::ErrorKind, os::fd::AsFd};

use aya::{
    Ebpf, Pod,
    maps::{MapError, PerCpuArray, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use vethpath::datapath::{OBJECT, Sizes, loader, per_cpu};
use vethpath_common::{Count, MatrixKey, names};

use super::{bench::data, world::DOMAIN};
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
fn a_map_longer_than_a_batch_is_read_whole_and_once() {
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
