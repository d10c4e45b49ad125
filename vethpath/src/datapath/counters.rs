//! What the programs count: by pair, from pair to pair, and by trunk.

use std::{collections::BTreeMap, os::fd::AsFd};

use aya::{
    maps::{HashMap, Map, MapData, PerCpuArray},
    util::nr_cpus,
};
use vethpath_common::{Count, MatrixKey, PairCounters, Path, names};

use super::{
    Pins, Result, batch,
    error::{Context, Error, OPEN_MAP},
    maps::{data, hash},
};

/// The counters of a lab.
pub struct Counters {
    pairs: PerCpuArray<MapData, PairCounters>,
    /// The same map, to be read at once.
    all_pairs: MapData,
    matrix: MapData,
    paths: HashMap<MapData, u32, Path>,
    crossings: PerCpuArray<MapData, Count>,
    cpus: usize,
}

/// What the fast path took from each pair to each other, and the sums of that.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    cells: BTreeMap<MatrixKey, Count>,
    sent: BTreeMap<u32, Count>,
    received: BTreeMap<u32, Count>,
}

impl Counters {
    /// Opens the pinned maps.
    ///
    /// # Errors
    /// One is missing or of another shape.
    pub fn open(pins: &Pins) -> Result<Self> {
        let array = |name| Ok::<_, Error>(Map::PerCpuArray(data(&pins.map(name))?));
        let unknown = |(what, error): (&str, std::io::Error)| Error::Refused {
            operation: "count",
            object: "the CPUs".to_owned(),
            cause: format!("{what}: {error}"),
        };
        Ok(Self {
            pairs: PerCpuArray::try_from(array(names::COUNTERS)?).doing(OPEN_MAP, names::COUNTERS)?,
            all_pairs: data(&pins.map(names::COUNTERS))?,
            matrix: data(&pins.map(names::MATRIX))?,
            paths: hash(pins, names::PATHS)?,
            crossings: PerCpuArray::try_from(array(names::CROSSINGS)?).doing(OPEN_MAP, names::CROSSINGS)?,
            cpus: nr_cpus().map_err(unknown)?,
        })
    }

    /// The traffic matrix, summed over CPUs.
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn matrix(&self) -> Result<Matrix> {
        let cells = batch::per_cpu::<MatrixKey, Count>(self.matrix.fd().as_fd(), self.cpus)
            .doing("read map", names::MATRIX)?;
        Ok(cells.into_iter().map(|(key, cpus)| (key, sum(&cpus))).collect())
    }

    /// The counters of a pair, summed over CPUs; what it has in `matrix` is added to them.
    ///
    /// # Errors
    /// No such pair, or the kernel refuses the read.
    pub fn of(&self, pair: u32, matrix: &Matrix) -> Result<PairCounters> {
        let per_cpu = self.pairs.get(&pair, 0).doing("read map", names::COUNTERS)?;
        Ok(with_matrix(per_cpu.iter(), pair, matrix))
    }

    /// The same of many pairs, in their order.
    ///
    /// # Errors
    /// As [`Counters::of`].
    pub fn of_all(&self, pairs: impl Iterator<Item = u32>, matrix: &Matrix) -> Result<Vec<PairCounters>> {
        let read = batch::per_cpu::<u32, PairCounters>(self.all_pairs.fd().as_fd(), self.cpus);
        let Ok(all) = read else {
            // A kernel older than 5.13 reads such a map one by one.
            return pairs.map(|pair| self.of(pair, matrix)).collect();
        };
        let all: BTreeMap<u32, Vec<PairCounters>> = all.into_iter().collect();
        pairs
            .map(|pair| match all.get(&pair) {
                Some(per_cpu) => Ok(with_matrix(per_cpu.iter(), pair, matrix)),
                None => self.of(pair, matrix),
            })
            .collect()
    }

    /// What the fast path took across trunks, by crossing (see [`Path::crossings`]).
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn crossings(&self) -> Result<BTreeMap<u16, Count>> {
        let mut crossings = BTreeMap::<u16, Count>::new();
        for path in self.paths.iter() {
            let (number, path) = path.doing("read map", names::PATHS)?;
            let count = sum(&self.crossings.get(&number, 0).doing("read map", names::CROSSINGS)?);
            for crossing in path.crossings.into_iter().take_while(|&crossing| crossing != Path::END) {
                let total = crossings.entry(crossing).or_default();
                *total = total.plus(count);
            }
        }
        Ok(crossings)
    }
}

/// The sum over CPUs, with what the pair has in `matrix`.
fn with_matrix<'c>(
    per_cpu: impl Iterator<Item = &'c PairCounters>,
    pair: u32,
    matrix: &Matrix,
) -> PairCounters {
    let mut counters = per_cpu.fold(PairCounters::default(), |sum, one| sum.plus(one));
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
    /// Its cells, by sender and receiver. One that nothing was counted in may be missing.
    pub fn cells(&self) -> impl Iterator<Item = (MatrixKey, Count)> {
        self.cells.iter().map(|(key, count)| (*key, *count))
    }

    /// What a pair was sent.
    #[must_use]
    pub fn received(&self, pair: u32) -> Count {
        self.received.get(&pair).copied().unwrap_or_default()
    }
}

fn sum(cpus: &[Count]) -> Count {
    cpus.iter().fold(Count::default(), |sum, one| sum.plus(*one))
}
