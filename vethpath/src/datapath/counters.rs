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
    matrix: MapData,
    cells: MapData,
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
            matrix: data(&pins.map(names::MATRIX))?,
            cells: data(&pins.map(names::CELLS))?,
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
        let others = batch::per_cpu::<MatrixKey, Count>(self.matrix.fd().as_fd(), self.cpus)
            .doing("read map", names::MATRIX)?;
        let cells = batch::per_cpu::<u32, Count>(self.cells.fd().as_fd(), self.cpus)
            .doing("read map", names::CELLS)?;
        let width = self.cells.info().doing("look up map", names::CELLS)?.max_entries().isqrt();
        let cells = cells.into_iter().map(|(index, cpus)| (MatrixKey::of_cell(index, width), cpus));
        let counts = cells.chain(others).map(|(key, cpus)| (key, sum(&cpus)));
        Ok(counts.filter(|(_, count)| *count != Count::default()).collect())
    }

    /// The counters of a pair, summed over CPUs; what it has in `matrix` is added to them.
    ///
    /// # Errors
    /// No such pair, or the kernel refuses the read.
    pub fn of(&self, pair: u32, matrix: &Matrix) -> Result<PairCounters> {
        let per_cpu = self.pairs.get(&pair, 0).doing("read map", names::COUNTERS)?;
        let mut counters = per_cpu.iter().fold(PairCounters::default(), |sum, one| sum.plus(one));
        counters.fast_tx = counters.fast_tx.plus(matrix.sent.get(&pair).copied().unwrap_or_default());
        counters.fast_rx = counters.fast_rx.plus(matrix.received(pair));
        Ok(counters)
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
