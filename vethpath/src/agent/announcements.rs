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

/// Entries that were announced under one number.
#[derive(Debug, PartialEq, Eq)]
pub struct Announced {
    /// The number. Earlier ones are smaller.
    pub number: u32,
    /// Entries as receivers.
    pub stations: Vec<StationKey>,
    /// Entries as senders.
    pub sources: Vec<SourceKey>,
}

impl Announced {
    /// No entries yet.
    fn under(number: u32) -> Self {
        Self { number, stations: Vec::new(), sources: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.stations.is_empty() && self.sources.is_empty()
    }
}

/// Announced entries by stage. None is lost between two stages.
#[derive(Debug)]
pub struct Announcements {
    /// Since the last grace period began.
    latest: Announced,
    /// Before the grace period that is running.
    in_grace_period: Option<Announced>,
    /// Before the last grace period. Its events may not be applied yet.
    after_grace_period: Option<Announced>,
    /// Wrong ones were removed. Programs may use these until the next grace period is over.
    checked: Option<Announced>,
}

impl Default for Announcements {
    fn default() -> Self {
        Self { latest: Announced::under(1), in_grace_period: None, after_grace_period: None, checked: None }
    }
}

impl Announcements {
    /// The announcement that new entries belong to.
    pub fn latest(&mut self) -> &mut Announced {
        &mut self.latest
    }

    /// The number of that announcement.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.latest.number
    }

    /// Whether entries wait for a grace period to begin.
    #[must_use]
    pub fn need_grace_period(&self) -> bool {
        !self.latest.is_empty() || self.checked.is_some()
    }

    /// A grace period begins, and none is running. `None` if there have been four billion announcements.
    #[must_use]
    pub fn begin_grace_period(&mut self) -> Option<()> {
        if !self.latest.is_empty() {
            let next = Announced::under(self.latest.number.checked_add(1)?);
            self.in_grace_period = Some(std::mem::replace(&mut self.latest, next));
        }
        Some(())
    }

    /// The grace period is over. Returns entries to confirm.
    #[must_use]
    pub fn end_grace_period(&mut self) -> Option<Announced> {
        self.after_grace_period = self.in_grace_period.take();
        self.checked.take()
    }

    /// The events of the last grace period have been applied. `has_removed`: whether any entry was removed since it
    /// ended. Returns entries to confirm.
    #[must_use]
    pub fn check(&mut self, has_removed: bool) -> Option<Announced> {
        let entries = self.after_grace_period.take()?;
        if has_removed {
            self.checked = Some(entries);
            return None;
        }
        Some(entries)
    }

    /// The number up to which all entries have been returned to be confirmed.
    #[must_use]
    pub fn confirmed(&self) -> u32 {
        let stages = [&self.checked, &self.after_grace_period, &self.in_grace_period];
        let first = stages.into_iter().flatten().next().or(Some(&self.latest).filter(|one| !one.is_empty()));
        first.map_or(self.latest.number, |entries| entries.number - 1)
    }
}

#[cfg(test)]
mod tests {
    use vethpath_common::MacWords;

    use super::*;

    fn announce(announcements: &mut Announcements, number: u8) -> StationKey {
        let key = StationKey::new(1, MacWords::from([2, 0, 0, 0, 0, number]));
        announcements.latest().stations.push(key);
        key
    }

    fn keys(entries: Option<Announced>) -> Vec<StationKey> {
        entries.map(|entries| entries.stations).unwrap_or_default()
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
        assert_eq!(keys(stages.check(false)), [key]);
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
        assert_eq!(keys(stages.end_grace_period()), [key]);
        assert_eq!(stages.confirmed(), 1);
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.end_grace_period(), None);
        assert_eq!(keys(stages.check(false)), [later]);
    }

    #[test]
    fn entries_announced_during_a_grace_period_wait_for_the_next() {
        let mut stages = Announcements::default();
        let first = announce(&mut stages, 1);
        stages.begin_grace_period().unwrap();
        let second = announce(&mut stages, 2);
        assert_eq!(stages.end_grace_period(), None);
        assert_eq!(keys(stages.check(false)), [first]);
        assert!(stages.need_grace_period());
        stages.begin_grace_period().unwrap();
        assert_eq!(stages.end_grace_period(), None);
        assert_eq!(keys(stages.check(false)), [second]);
    }

    #[test]
    fn numbers_end() {
        let mut stages = Announcements { latest: Announced::under(u32::MAX), ..Announcements::default() };
        assert_eq!(stages.begin_grace_period(), Some(()), "nothing is announced");
        let _ = announce(&mut stages, 1);
        assert_eq!(stages.begin_grace_period(), None);
    }
}
