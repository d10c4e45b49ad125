//! Numbers for the ways across trunks. A number, once given, means the same trunks for as long as the
//! lab is up: what was counted under it stays true when spanning tree chooses other ways.

use std::collections::BTreeMap;

use vethpath_common::{MOST_BRIDGES, Path};

/// The ways that have numbers.
#[derive(Clone, Debug)]
pub struct Paths {
    numbers: BTreeMap<Vec<u16>, u32>,
    /// One more than the greatest number that there is room for.
    end: u32,
}

impl Paths {
    /// Those that an earlier agent gave, in a map of `room` entries.
    #[must_use]
    pub fn known(paths: impl IntoIterator<Item = (u32, Path)>, room: u32) -> Self {
        let crossings = |path: Path| path.crossings.into_iter().take_while(|&one| one != Path::END).collect();
        Self {
            numbers: paths.into_iter().map(|(number, path)| (crossings(path), number)).collect(),
            end: room,
        }
    }

    /// The number of a way, which is 0 if it crosses nothing. `None` if there is no room for another.
    pub fn number(&mut self, crossings: &[u16]) -> Option<u32> {
        if crossings.is_empty() {
            return Some(0);
        }
        if let Some(&number) = self.numbers.get(crossings) {
            return Some(number);
        }
        let next = u32::try_from(self.numbers.len()).ok()?.checked_add(1)?;
        if next >= self.end || crossings.len() > MOST_BRIDGES {
            return None;
        }
        self.numbers.insert(crossings.to_vec(), next);
        Some(next)
    }

    /// Those numbered above `written`, as the map has them.
    pub fn beyond(&self, written: u32) -> impl Iterator<Item = (u32, Path)> {
        self.numbers.iter().filter(move |(_, number)| **number > written).map(|(crossings, &number)| {
            let mut path = Path { crossings: [Path::END; MOST_BRIDGES] };
            path.crossings[..crossings.len()].copy_from_slice(crossings);
            (number, path)
        })
    }

    /// How many there are, which is the greatest number.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.numbers.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_keeps_its_number_over_a_restart() {
        let mut paths = Paths::known([], 10);
        assert_eq!(paths.number(&[]), Some(0));
        assert_eq!(paths.number(&[4, 7]), Some(1));
        assert_eq!(paths.number(&[4]), Some(2));
        assert_eq!(paths.number(&[4, 7]), Some(1));
        let written: Vec<_> = paths.beyond(0).collect();
        assert_eq!(paths.beyond(1).map(|(number, _)| number).collect::<Vec<_>>(), [2]);
        let mut again = Paths::known(written, 10);
        assert_eq!(again.number(&[9]), Some(3));
        assert_eq!(again.number(&[4]), Some(2));
    }

    #[test]
    fn a_full_map_numbers_no_more() {
        let mut paths = Paths::known([], 2);
        assert_eq!(paths.number(&[1]), Some(1));
        assert_eq!(paths.number(&[2]), None);
        assert_eq!(paths.number(&[1]), Some(1));
        assert_eq!(Paths::known([], 1).number(&[1]), None);
    }
}
