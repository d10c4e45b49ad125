//! Numbers for paths across trunks, by which programs count. Plain data: no I/O.

use std::collections::BTreeMap;

use vethpath_common::{MOST_BRIDGES, Path};

/// The numbers. Each stands for the same trunks as long as the lab is up: counts under it stay
/// true when spanning tree chooses other paths.
#[derive(Clone, Debug)]
pub struct Paths {
    numbers: BTreeMap<Vec<u16>, u32>,
    /// The greatest number; 0 if there is none.
    greatest: u32,
    /// One more than the greatest number that there is room for.
    end: u32,
}

impl Paths {
    /// Paths that an earlier agent numbered, in a map of `room` entries. That agent may have been killed before it
    /// had written all of them.
    #[must_use]
    pub fn known(paths: impl IntoIterator<Item = (u32, Path)>, room: u32) -> Self {
        let crossings = |path: Path| path.crossings.into_iter().take_while(|&one| one != Path::END).collect();
        let numbers: BTreeMap<Vec<u16>, u32> =
            paths.into_iter().map(|(number, path)| (crossings(path), number)).collect();
        Self { greatest: numbers.values().copied().max().unwrap_or_default(), numbers, end: room }
    }

    /// The number of a path; 0 if it crosses no trunk. `None` if there is no room for another.
    pub fn number_of(&mut self, crossings: &[u16]) -> Option<u32> {
        if crossings.is_empty() {
            return Some(0);
        }
        if let Some(&number) = self.numbers.get(crossings) {
            return Some(number);
        }
        let next = self.greatest + 1;
        if next >= self.end || crossings.len() > MOST_BRIDGES {
            return None;
        }
        self.numbers.insert(crossings.to_vec(), next);
        self.greatest = next;
        Some(next)
    }

    /// Paths with numbers above `written`, in the format of the map.
    pub fn beyond(&self, written: u32) -> impl Iterator<Item = (u32, Path)> {
        self.numbers.iter().filter(move |(_, number)| **number > written).map(|(crossings, &number)| {
            let mut path = Path { crossings: [Path::END; MOST_BRIDGES] };
            path.crossings[..crossings.len()].copy_from_slice(crossings);
            (number, path)
        })
    }

    /// The greatest number that was assigned.
    #[must_use]
    pub fn greatest(&self) -> u32 {
        self.greatest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_number_over_a_restart() {
        let mut paths = Paths::known([], 10);
        assert_eq!(paths.number_of(&[]), Some(0));
        assert_eq!(paths.number_of(&[4, 7]), Some(1));
        assert_eq!(paths.number_of(&[4]), Some(2));
        assert_eq!(paths.number_of(&[4, 7]), Some(1));
        let written: Vec<_> = paths.beyond(0).collect();
        assert_eq!(paths.beyond(1).map(|(number, _)| number).collect::<Vec<_>>(), [2]);
        let mut again = Paths::known(written, 10);
        assert_eq!(again.number_of(&[9]), Some(3));
        assert_eq!(again.number_of(&[4]), Some(2));
    }

    #[test]
    fn an_agent_killed_while_it_wrote_leaves_no_number_to_be_given_twice() {
        let mut paths = Paths::known([], 10);
        let (_, second) = (paths.number_of(&[4, 7]), paths.number_of(&[4]));
        let written = paths.beyond(0).filter(|(number, _)| Some(*number) == second);
        let mut again = Paths::known(written.collect::<Vec<_>>(), 10);
        assert_eq!((again.number_of(&[4]), again.number_of(&[4, 7])), (Some(2), Some(3)));
    }

    #[test]
    fn a_full_map_numbers_no_more() {
        let mut paths = Paths::known([], 2);
        assert_eq!(paths.number_of(&[1]), Some(1));
        assert_eq!(paths.number_of(&[2]), None);
        assert_eq!(paths.number_of(&[1]), Some(1));
        assert_eq!(Paths::known([], 1).number_of(&[1]), None);
    }
}
