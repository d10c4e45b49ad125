//! What the hosts of a lab sent that no program counted, by the number of the pair in the maps.
//!
//! That is the difference of two counters, which cannot be read at one moment: of a busy pair a reader finds too little,
//! and the next one less. Nothing that was found once can be undone. So each reader begins with what those before it
//! found, and adds what it finds beyond that.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use super::Directory;
use crate::kernel::{Context, Result, files};

/// Frames and bytes that no program counted, by the number of their pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unseen(BTreeMap<u32, (u64, u64)>);

impl Unseen {
    /// Reads what was found so far. A missing file has nothing, and lines that cannot be parsed are skipped.
    #[must_use]
    pub fn read(directory: &Directory) -> Self {
        let text = files::read_bounded(&directory.unseen(), files::LIST).unwrap_or_default();
        Self(text.lines().filter_map(parse).collect())
    }

    /// The frames and bytes of a pair.
    #[must_use]
    pub fn of(&self, pair: u32) -> (u64, u64) {
        self.0.get(&pair).copied().unwrap_or_default()
    }

    /// Keeps what was found of these pairs, where it is more than what is known.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn raise(directory: &Directory, found: &[(u32, (u64, u64))]) -> Result<()> {
        let mut known = Self::read(directory);
        for (pair, (frames, bytes)) in found {
            let kept = known.0.entry(*pair).or_default();
            *kept = (kept.0.max(*frames), kept.1.max(*bytes));
        }
        known.write(directory)
    }

    /// Removes pairs whose counters are cleared.
    ///
    /// # Errors
    /// A file operation fails.
    pub fn forget(directory: &Directory, pairs: &BTreeSet<u32>) -> Result<()> {
        let mut known = Self::read(directory);
        let before = known.0.len();
        known.0.retain(|pair, _| !pairs.contains(pair));
        if known.0.len() == before { Ok(()) } else { known.write(directory) }
    }

    /// Replaces the file. Readers hold the lock on the counts shared: of two that write at the same time, the later one
    /// wins, and what the other found is found again.
    fn write(&self, directory: &Directory) -> Result<()> {
        let line = |(pair, (frames, bytes)): (&u32, &(u64, u64))| format!("{pair} {frames} {bytes}\n");
        let text: String = self.0.iter().map(line).collect();
        let path = directory.unseen();
        let new = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
        files::write_private(&new, text.as_bytes()).doing("write", new.display())?;
        fs::rename(&new, &path).doing("replace", path.display())
    }
}

fn parse(line: &str) -> Option<(u32, (u64, u64))> {
    let mut words = line.split(' ');
    let mut next = || words.next()?.parse::<u64>().ok();
    let (pair, frames, bytes) = (next()?, next()?, next()?);
    Some((u32::try_from(pair).ok()?, (frames, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_once_stays() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::stand_in(folder.path());
        assert_eq!(Unseen::read(&directory).of(1), (0, 0));
        Unseen::raise(&directory, &[(1, (5, 500)), (2, (1, 60))]).unwrap();
        Unseen::raise(&directory, &[(1, (3, 700)), (3, (1, 1))]).unwrap();
        let known = Unseen::read(&directory);
        assert_eq!([1, 2, 3, 4].map(|pair| known.of(pair)), [(5, 700), (1, 60), (1, 1), (0, 0)]);
        Unseen::forget(&directory, &[1, 4].into()).unwrap();
        let known = Unseen::read(&directory);
        assert_eq!([1, 2, 3].map(|pair| known.of(pair)), [(0, 0), (1, 60), (1, 1)]);
        fs::write(directory.unseen(), "1 2\n\nx\n4 5 6\n7 8 9").unwrap();
        assert_eq!(Unseen::read(&directory), Unseen([(4, (5, 6)), (7, (8, 9))].into()));
    }
}
