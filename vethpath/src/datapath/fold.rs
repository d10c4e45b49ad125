//! Moves the counts of ports that have left, or of pairs that are gone, to one number, so that their own numbers can be
//! given to others.
//!
//! Counts are in several maps, and a process may be killed between two writes. So the values that the maps hold
//! afterwards are computed first, and recorded. Completing a move twice is the same as once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use serde::{Deserialize, Serialize};
use vethpath_common::{Count, MatrixKey, PairCounters, names};

use super::{
    Counters, Matrix,
    counters::{Set, on_one_cpu},
};
use crate::{
    kernel::{Context, Error, Result},
    state::test_hooks,
};

/// A move of counts from some numbers to another: what the maps hold when it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fold {
    /// The set of maps that the counts move to, by the id of its counter map.
    set: u32,
    /// The numbers that the counts are taken from. No program may count under them.
    from: BTreeSet<u32>,
    /// The number that they move to. No port may be shown by it: ports without a number have `NO_PAIR`, whose own slow
    /// frames are never shown.
    into: u32,
    /// All counts of that number in that set: the words of a [`PairCounters`].
    counters: Vec<u64>,
    /// Its cells of the traffic matrix of that set, by sender and receiver: the words of a [`Count`].
    cells: Vec<(u32, u32, [u64; 3])>,
}

impl Counters {
    /// The move of the counts of the numbers `from` to the number `into`; `None` if they have none. Nothing is written.
    /// Minimum kernel: Linux 5.13 (`BPF_MAP_LOOKUP_BATCH` of a per-CPU array).
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn fold(&self, from: &BTreeSet<u32>, into: u32) -> Result<Option<Fold>> {
        let matrix = self.matrix()?;
        let counts = self.of_all(from.iter().copied(), &Matrix::default())?;
        let in_matrix: BTreeSet<u32> = matrix.cells().flat_map(|(key, _)| [key.from, key.to]).collect();
        let has_any = |(number, counters): &(&u32, &PairCounters)| {
            **counters != PairCounters::default() || in_matrix.contains(number)
        };
        let used: Vec<_> = from.iter().zip(&counts).filter(has_any).collect();
        if used.is_empty() {
            return Ok(None);
        }
        let counters = used.iter().fold(self.sets[0].counters_of(into)?, |sum, (_, one)| sum.plus(one));
        let from: BTreeSet<u32> = used.iter().map(|(number, _)| **number).collect();
        let current = &self.sets[..1];
        let is_moved = |key: &MatrixKey| from.contains(&key.from) || from.contains(&key.to);
        let stays = |key: &MatrixKey| (key.from == into || key.to == into) && !is_moved(key);
        let mut cells: BTreeMap<MatrixKey, Count> =
            self.matrix_of(current)?.cells().filter(|(key, _)| stays(key)).collect();
        for (key, count) in matrix.cells().filter(|(key, _)| is_moved(key)) {
            let of = |number| if from.contains(&number) { into } else { number };
            let cell = cells.entry(MatrixKey { from: of(key.from), to: of(key.to) }).or_default();
            *cell = cell.plus(count);
        }
        let words = |count: Count| [count.frames, count.packets, count.bytes];
        Ok(Some(Fold {
            set: self.sets[0].id()?,
            from,
            into,
            counters: bytemuck::cast_slice(&[counters]).to_vec(),
            cells: cells.into_iter().map(|(key, count)| (key.from, key.to, words(count))).collect(),
        }))
    }

    /// Completes a move, whatever was written of it before. One to maps that are gone is complete.
    /// Minimum kernel: Linux 5.13 (`BPF_MAP_LOOKUP_BATCH` of a per-CPU array).
    ///
    /// # Errors
    /// The kernel refuses a read or a write, or the traffic matrix is full. It can be repeated.
    pub fn complete(&mut self, fold: &Fold) -> Result<()> {
        let Fold { set, from, into, counters, cells } = fold;
        let counters: Option<PairCounters> =
            bytemuck::try_cast_slice(counters).ok().and_then(|all| all.first().copied());
        let counters = counters.ok_or_else(|| {
            Error::new("read", "counts of ports that have left", io::ErrorKind::InvalidData.into())
        })?;
        let ids = self.sets.iter().map(Set::id).collect::<Result<Vec<_>>>()?;
        let Some(at) = ids.iter().position(|id| id == set) else { return Ok(()) };
        // First: elements of the matrix that are deleted make room for the others.
        self.forget(from)?;
        test_hooks::kill_point();
        let (cpus, set) = (self.cpus, &mut self.sets[at]);
        set.set_pair(*into, counters, cpus)?;
        test_hooks::kill_point();
        let width = set.cells.len().isqrt();
        for &(from, to, [frames, packets, bytes]) in cells {
            let (key, count) = (MatrixKey { from, to }, Count { frames, packets, bytes });
            let values = on_one_cpu(count, cpus).doing("write map", names::MATRIX)?;
            match key.cell(width) {
                Some(cell) => set.cells.set(cell, values, 0).doing("write map", names::CELLS)?,
                None => set.matrix.insert(key, values, 0).doing("write map", names::MATRIX)?,
            }
            test_hooks::kill_point();
        }
        Ok(())
    }
}
