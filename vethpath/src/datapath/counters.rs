//! Counters of the programs: by pair, from pair to pair, and by trunk.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
};

use aya::{
    Pod,
    maps::{HashMap, IterableMap, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues},
    util::nr_cpus,
};
use vethpath_common::{Count, MatrixKey, PairCounters, Path, names};

use super::{
    Pins, bpf,
    maps::{data, hash, opened},
};
use crate::{
    kernel::{Context, Error, Result},
    state::test_hooks,
};

/// The counters of a lab: the current set of maps, and each set that the lab has outgrown.
pub struct Counters {
    /// The current set is first.
    pub(super) sets: Vec<Set>,
    pub(super) cpus: usize,
}

/// The counters of one set of maps.
pub(super) struct Set {
    pub(super) pairs: PerCpuArray<MapData, PairCounters>,
    pub(super) matrix: PerCpuHashMap<MapData, MatrixKey, Count>,
    pub(super) cells: PerCpuArray<MapData, Count>,
    paths: HashMap<MapData, u32, Path>,
    crossings: PerCpuArray<MapData, Count>,
}

/// What the fast path forwarded from each pair to each other, with sums by pair.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    cells: BTreeMap<MatrixKey, Count>,
    sent: BTreeMap<u32, Count>,
    received: BTreeMap<u32, Count>,
    /// Whether the map is full. Traffic without an entry is counted by pair only.
    is_full: bool,
    /// Whether the map has little room left.
    is_nearly_full: bool,
}

impl Set {
    fn open(pins: &Pins) -> Result<Self> {
        let array = |name| Ok::<_, Error>(Map::PerCpuArray(data(&pins.map(name))?));
        Ok(Self {
            pairs: opened(PerCpuArray::try_from(array(names::COUNTERS)?), names::COUNTERS)?,
            matrix: opened(
                PerCpuHashMap::try_from(Map::PerCpuHashMap(data(&pins.map(names::MATRIX))?)),
                names::MATRIX,
            )?,
            cells: opened(PerCpuArray::try_from(array(names::CELLS)?), names::CELLS)?,
            paths: hash(pins, names::PATHS)?,
            crossings: opened(PerCpuArray::try_from(array(names::CROSSINGS)?), names::CROSSINGS)?,
        })
    }

    /// The counters of a pair, summed over CPUs. Zero for a number beyond the map.
    pub(super) fn counters_of(&self, pair: u32) -> Result<PairCounters> {
        if pair >= self.pairs.len() {
            return Ok(PairCounters::default());
        }
        let per_cpu = self.pairs.get(&pair, 0).doing("read map", names::COUNTERS)?;
        Ok(per_cpu.iter().fold(PairCounters::default(), |sum, one| sum.plus(one)))
    }

    /// Writes the counters of a pair, all on one CPU. No program may count for it.
    pub(super) fn set_pair(&mut self, pair: u32, counters: PairCounters, cpus: usize) -> Result<()> {
        let values = on_one_cpu(counters, cpus).doing("write map", names::COUNTERS)?;
        self.pairs.set(pair, values, 0).doing("write map", names::COUNTERS)
    }

    /// Identity of the set. A map may be pinned more than once.
    pub(super) fn id(&self) -> Result<u32> {
        Ok(self.pairs.map().info().doing("look up map", names::COUNTERS)?.id())
    }
}

impl Counters {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// A map of the current set is missing or has another shape.
    pub fn open(pins: &Pins) -> Result<Self> {
        let unknown = |(what, error): (&str, io::Error)| {
            Error::new("count", "the CPUs", io::Error::other(format!("{what}: {error}")))
        };
        let mut sets = vec![Set::open(pins)?];
        let mut ids = vec![sets[0].id()?];
        for other in pins.all().iter().skip(1) {
            // A set that is being moved or is incomplete is left out now, and found at a later call.
            let Ok(set) = Set::open(other) else { continue };
            let id = set.id()?;
            if !ids.contains(&id) {
                ids.push(id);
                sets.push(set);
            }
        }
        Ok(Self { sets, cpus: nr_cpus().map_err(unknown)? })
    }

    /// The traffic matrix, summed over CPUs.
    /// Minimum kernel: Linux 5.13 (`BPF_MAP_LOOKUP_BATCH` of a per-CPU array).
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn matrix(&self) -> Result<Matrix> {
        self.matrix_of(&self.sets)
    }

    pub(super) fn matrix_of(&self, sets: &[Set]) -> Result<Matrix> {
        let mut sums = BTreeMap::<MatrixKey, Count>::new();
        let mut add = |key, cpus: &[Count]| {
            let count = sum(cpus);
            if count != Count::default() {
                let sum = sums.entry(key).or_default();
                *sum = sum.plus(count);
            }
        };
        let (mut is_full, mut is_nearly_full) = (false, false);
        for set in sets {
            let most = set.matrix.map().info().doing("look up map", names::MATRIX)?.max_entries();
            let mut room = most;
            let add_one = |key, cpus: &[Count]| {
                room = room.saturating_sub(1);
                add(key, cpus);
            };
            bpf::lookup_batch(set.matrix.map().fd().as_fd(), self.cpus, add_one)
                .doing("read map", names::MATRIX)?;
            is_full |= room == 0;
            is_nearly_full |= room <= most / 8;
            let width = set.cells.len().isqrt();
            let add_cell = |index: u32, cpus: &[Count]| add(MatrixKey::of_cell(index, width), cpus);
            bpf::lookup_batch(set.cells.map().fd().as_fd(), self.cpus, add_cell)
                .doing("read map", names::CELLS)?;
        }
        Ok(Matrix { is_full, is_nearly_full, ..sums.into_iter().collect() })
    }

    /// Frames that the fast path forwarded to each of these pairs, in their order: those in `matrix`, and those that
    /// had no room there.
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn frames_to(&self, pairs: impl Iterator<Item = u32>, matrix: &Matrix) -> Result<Vec<u64>> {
        if !matrix.is_full {
            return Ok(pairs.map(|pair| matrix.received(pair).frames).collect());
        }
        let counters = self.of_all(pairs, matrix)?;
        Ok(counters.iter().map(|counters| counters.fast_rx.frames).collect())
    }

    /// The counters of a pair, summed over CPUs, including its counts in `matrix`. Zero for a number beyond the maps.
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn of(&self, pair: u32, matrix: &Matrix) -> Result<PairCounters> {
        let mut counters = PairCounters::default();
        for set in &self.sets {
            counters = counters.plus(&set.counters_of(pair)?);
        }
        Ok(with_matrix(counters, pair, matrix))
    }

    /// Frames of a pair that were passed to the bridge, for any reason.
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn slow_frames(&self, pair: u32) -> Result<u64> {
        let slow = self.of(pair, &Matrix::default())?.slow;
        Ok(slow.iter().fold(0, |frames, count| frames.wrapping_add(count.frames)))
    }

    /// As [`Counters::of`], for many pairs, in their order. None may be twice among them.
    ///
    /// # Errors
    /// As [`Counters::of`].
    pub fn of_all(&self, pairs: impl Iterator<Item = u32>, matrix: &Matrix) -> Result<Vec<PairCounters>> {
        let pairs: Vec<u32> = pairs.collect();
        let room = pairs.iter().max().map_or(0, |most| *most as usize + 1);
        // Each pair's position in the result.
        let mut positions = vec![None; room];
        for (position, pair) in pairs.iter().enumerate() {
            positions[*pair as usize] = Some(position);
        }
        let mut sums: Vec<_> =
            pairs.iter().map(|pair| with_matrix(PairCounters::default(), *pair, matrix)).collect();
        for set in &self.sets {
            let add = |pair: u32, per_cpu: &[PairCounters]| {
                let position = positions.get(pair as usize).copied().flatten();
                if let Some(sum) = position.and_then(|position: usize| sums.get_mut(position)) {
                    *sum = per_cpu.iter().fold(*sum, |sum, one| sum.plus(one));
                }
            };
            if bpf::lookup_first(set.pairs.map().fd().as_fd(), self.cpus, room, add).is_err() {
                // Before Linux 5.13, per-CPU arrays have no batch lookup.
                return pairs.into_iter().map(|pair| self.of(pair, matrix)).collect();
            }
        }
        Ok(sums)
    }

    /// Resets the counters of unused pair numbers, since new pairs will get them.
    /// Minimum kernel: Linux 5.13 (`BPF_MAP_LOOKUP_BATCH` of a per-CPU array).
    ///
    /// # Errors
    /// The kernel refuses a write.
    pub(super) fn forget(&mut self, pairs: &BTreeSet<u32>) -> Result<()> {
        if pairs.is_empty() {
            return Ok(());
        }
        let cells: Vec<MatrixKey> = self.matrix()?.cells().map(|(key, _)| key).collect();
        for set in &mut self.sets {
            let room = set.pairs.len();
            for &pair in pairs.iter().filter(|&&pair| pair < room) {
                set.set_pair(pair, PairCounters::default(), self.cpus)?;
                test_hooks::kill_point();
            }
            let width = set.cells.len().isqrt();
            for key in cells.iter().filter(|key| pairs.contains(&key.from) || pairs.contains(&key.to)) {
                if let Some(cell) = key.cell(width) {
                    let none = on_one_cpu(Count::default(), self.cpus).doing("write map", names::CELLS)?;
                    set.cells.set(cell, none, 0).doing("write map", names::CELLS)?;
                }
                bpf::delete_element(set.matrix.map().fd().as_fd(), key).doing("write map", names::MATRIX)?;
            }
        }
        Ok(())
    }

    /// What the fast path forwarded across trunks, by crossing (see [`Path::crossings`]).
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn crossings(&self) -> Result<BTreeMap<u16, Count>> {
        let mut crossings = BTreeMap::<u16, Count>::new();
        for set in &self.sets {
            for path in set.paths.iter() {
                let (number, path) = path.doing("read map", names::PATHS)?;
                let count = sum(&set.crossings.get(&number, 0).doing("read map", names::CROSSINGS)?);
                for crossing in path.crossings.into_iter().take_while(|&crossing| crossing != Path::END) {
                    let total = crossings.entry(crossing).or_default();
                    *total = total.plus(count);
                }
            }
        }
        Ok(crossings)
    }
}

/// Adds the counts of a pair in `matrix` to its counters.
fn with_matrix(mut counters: PairCounters, pair: u32, matrix: &Matrix) -> PairCounters {
    counters.fast_tx = counters.fast_tx.plus(matrix.sent.get(&pair).copied().unwrap_or_default());
    counters.fast_rx = counters.fast_rx.plus(matrix.received(pair));
    counters
}

impl FromIterator<(MatrixKey, Count)> for Matrix {
    fn from_iter<I: IntoIterator<Item = (MatrixKey, Count)>>(cells: I) -> Self {
        let mut matrix = Self { cells: cells.into_iter().collect(), ..Self::default() };
        for (key, count) in &matrix.cells {
            let (sent, received) =
                (matrix.sent.entry(key.from).or_default(), matrix.received.entry(key.to).or_default());
            (*sent, *received) = (sent.plus(*count), received.plus(*count));
        }
        matrix
    }
}

impl Matrix {
    /// Its cells, by sender and receiver. Cells without counts may be missing.
    pub fn cells(&self) -> impl Iterator<Item = (MatrixKey, Count)> {
        self.cells.iter().map(|(key, count)| (*key, *count))
    }

    /// Whether programs may soon find no room for another cell.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        self.is_nearly_full
    }

    /// What the fast path forwarded to a pair.
    #[must_use]
    pub fn received(&self, pair: u32) -> Count {
        self.received.get(&pair).copied().unwrap_or_default()
    }
}

/// The value on the first CPU, and nothing on the others.
pub(super) fn on_one_cpu<T: Pod + Default>(value: T, cpus: usize) -> io::Result<PerCpuValues<T>> {
    let mut values = vec![T::default(); cpus];
    if let Some(first) = values.first_mut() {
        *first = value;
    }
    PerCpuValues::try_from(values)
}

fn sum(cpus: &[Count]) -> Count {
    cpus.iter().fold(Count::default(), |sum, one| sum.plus(*one))
}
