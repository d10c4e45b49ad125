//! Entries of the maps that programs do not use yet, by the stage that they are in. Plain data: no I/O.
//!
//! A station may move while its entry is written, and no program can then mark it as away. So:
//!
//! 1. A new entry is *announced*: written as [unconfirmed](vethpath_common::UNCONFIRMED).
//! 2. After a grace period, the bridge has learned from every frame that a program saw before, and sent its events.
//! 3. These are applied: entries that they show to be wrong are removed.
//! 4. If any entry was removed, after another grace period no program uses it.
//! 5. The others are *confirmed*.

use vethpath_common::{SourceKey, StationKey};

/// Announced entries that are not confirmed, and the stages of the numbers under which they were announced.
#[derive(Debug)]
pub struct Announcements {
    /// Entries as receivers, each with its number, in the order of these.
    pub stations: Vec<(u32, StationKey)>,
    /// Entries as senders, likewise.
    pub sources: Vec<(u32, SourceKey)>,
    /// The number of entries that are announced now. Earlier ones are smaller.
    number: u32,
    /// The number that was announced before the grace period that is running.
    in_grace_period: Option<u32>,
    /// Before the last grace period. Its events may not be applied yet.
    after_grace_period: Option<u32>,
    /// Wrong entries were removed. Programs may use these until the next grace period is over.
    checked: Option<u32>,
}

impl Default for Announcements {
    fn default() -> Self {
        let (stations, sources) = (Vec::new(), Vec::new());
        Self { stations, sources, number: 1, in_grace_period: None, after_grace_period: None, checked: None }
    }
}

impl Announcements {
    /// The number of entries that are announced now.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether entries were announced since the last grace period began.
    fn has_new(&self) -> bool {
        let last = [self.stations.last().map(|one| one.0), self.sources.last().map(|one| one.0)];
        last.contains(&Some(self.number))
    }

    /// Whether entries wait for a grace period to begin.
    #[must_use]
    pub fn need_grace_period(&self) -> bool {
        self.has_new() || self.checked.is_some()
    }

    /// A grace period begins, and none is running. `None` if there have been four billion announcements.
    #[must_use]
    pub fn begin_grace_period(&mut self) -> Option<()> {
        if self.has_new() {
            let next = self.number.checked_add(1)?;
            self.in_grace_period = Some(std::mem::replace(&mut self.number, next));
        }
        Some(())
    }

    /// The grace period is over. Returns the number up to which entries are to be confirmed.
    #[must_use]
    pub fn end_grace_period(&mut self) -> Option<u32> {
        self.after_grace_period = self.in_grace_period.take();
        self.checked.take()
    }

    /// The events of the last grace period have been applied. `has_removed`: whether any entry was removed since it
    /// ended. Returns the number up to which entries are to be confirmed.
    #[must_use]
    pub fn check(&mut self, has_removed: bool) -> Option<u32> {
        let number = self.after_grace_period.take()?;
        if has_removed {
            self.checked = Some(number);
            return None;
        }
        Some(number)
    }

    /// Takes the entries up to this number, which are confirmed then.
    pub fn take_up_to(&mut self, number: u32) -> (Vec<StationKey>, Vec<SourceKey>) {
        (take_up_to(&mut self.stations, number), take_up_to(&mut self.sources, number))
    }

    /// The number up to which all entries are confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u32 {
        let first = [self.stations.first().map(|one| one.0), self.sources.first().map(|one| one.0)];
        first.into_iter().flatten().min().map_or(self.number, |first| first - 1)
    }
}

fn take_up_to<K>(entries: &mut Vec<(u32, K)>, number: u32) -> Vec<K> {
    let end = entries.partition_point(|(known, _)| *known <= number);
    entries.drain(..end).map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use vethpath_common::MacWords;

    use super::*;

    fn announce(announcements: &mut Announcements, number: u8) -> StationKey {
        let key = StationKey::new(1, MacWords::from([2, 0, 0, 0, 0, number]));
        announcements.stations.push((announcements.number(), key));
        key
    }

    fn confirm(announcements: &mut Announcements, number: Option<u32>) -> Vec<StationKey> {
        number.map(|number| announcements.take_up_to(number).0).unwrap_or_default()
    }

    #[test]
    fn entries_are_confirmed_after_a_grace_period_and_its_events() {
        let mut stages = Announcements::default();
        assert!(!stages.need_grace_period() && stages.confirmed() == 1);
        let key = announce(&mut stages, 1);
        assert!(stages.need_grace_period() && stages.confirmed() == 0);
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.check(false), None, "it is still running");
        assert_eq!(stages.end_grace_period(), None, "its events are not applied");
        let number = stages.check(false);
        assert_eq!(confirm(&mut stages, number), [key]);
        assert!(!stages.need_grace_period() && stages.confirmed() == stages.number());
    }

    #[test]
    fn a_removal_costs_another_grace_period_and_a_second_one_loses_nothing() {
        let mut stages = Announcements::default();
        let key = announce(&mut stages, 1);
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.end_grace_period(), None);
        assert_eq!(stages.check(true), None);
        assert!(stages.need_grace_period());
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.check(true), None, "something else is removed meanwhile");
        let later = announce(&mut stages, 2);
        assert_eq!(stages.confirmed(), 0);
        let number = stages.end_grace_period();
        assert_eq!(confirm(&mut stages, number), [key]);
        assert_eq!(stages.confirmed(), 1);
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.end_grace_period(), None);
        let number = stages.check(false);
        assert_eq!(confirm(&mut stages, number), [later]);
    }

    #[test]
    fn entries_announced_during_a_grace_period_wait_for_the_next() {
        let mut stages = Announcements::default();
        let first = announce(&mut stages, 1);
        stages.begin_grace_period().unwrap();
        let second = announce(&mut stages, 2);
        assert_eq!(stages.end_grace_period(), None);
        let number = stages.check(false);
        assert_eq!(confirm(&mut stages, number), [first]);
        assert!(stages.need_grace_period());
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.end_grace_period(), None);
        let number = stages.check(false);
        assert_eq!(confirm(&mut stages, number), [second]);
    }

    #[test]
    fn numbers_end() {
        let mut stages = Announcements { number: u32::MAX, ..Announcements::default() };
        assert_eq!(stages.begin_grace_period(), Some(()), "nothing is announced");
        let _ = announce(&mut stages, 1);
        assert_eq!(stages.begin_grace_period(), None);
    }
}
