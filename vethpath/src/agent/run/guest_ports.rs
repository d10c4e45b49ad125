//! Guest ports of all bridge namespaces: when they get the program, and what becomes of their counts.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::Agent;
use crate::{
    agent::{Error, bridge_netns::Which},
    kernel::rcu,
    state::{Counts, Measuring},
};

/// How long the kernel may take to release the link of a port before the next attempt to attach the program there.
const ATTACH_REST: Duration = Duration::from_millis(20);

impl Agent {
    /// Whether a guest port lacks the program.
    pub(super) fn has_unattached_guests(&self) -> bool {
        let records = self.maps.ports();
        let is_any = |which: Which<'_>| {
            self.namespaces.iter().any(|domain| domain.has_unattached_guests(records, which))
        };
        is_any(Which::All) && (!Measuring::is_on(&self.directory) || is_any(Which::New(&self.befores)))
    }

    /// Attaches the program to guest ports that lack it.
    pub(super) fn attach_guests(&mut self) {
        let Self { maps, befores, directory, guests, namespaces, .. } = self;
        befores.0.retain(|key, before| guests.number_of(*key) == Some(before.number));
        let records = maps.ports();
        // While `bench` measures, others may have been detached by it, and it attaches them again.
        let only_new = Measuring::is_on(directory);
        for domain in namespaces {
            if domain.attach_guests(records, befores, directory, only_new) {
                self.attach_rest_until = Instant::now() + ATTACH_REST;
            }
        }
    }

    /// Moves the counts of guest ports that have left, if no program counts for them any more and nobody reads counters.
    /// Otherwise the next tick does.
    pub(super) fn move_counts(&mut self) -> Result<(), Error> {
        let (Some(range), true) = (self.guests.range(), !self.guests.left().is_empty()) else {
            return Ok(());
        };
        let is_used = |number: &u32| self.maps.ports().values().any(|record| record.pair == *number);
        if self.maps.needs_grace_period() || self.grace_periods.is_running() {
            return Ok(());
        }
        let numbers: BTreeSet<u32> =
            self.guests.left().iter().filter(|number| !is_used(number)).copied().collect();
        if let Some(mut counts) = Counts::for_moving(&self.directory)? {
            if self.counters.matrix()?.is_nearly_full() {
                // Programs would take the room of deleted elements for other cells. The next write resumes.
                self.maps.suspend();
                rcu::grace_period();
            }
            counts.complete(&mut self.counters)?;
            if let Some(fold) = self.counters.fold(&numbers, range.former)? {
                counts.apply(&fold, &mut self.counters)?;
            }
            self.guests.give_back(&numbers);
            // A port that comes back counts from then on, also under the same number.
            let befores = self.befores.0.len();
            self.befores.0.retain(|_, before| !numbers.contains(&before.number));
            if self.befores.0.len() < befores {
                self.befores.write(&self.directory)?;
            }
            // Ports may wait for them.
            for domain in self.namespaces.iter_mut().filter(|domain| domain.has_unnumbered_guests()) {
                domain.dirty_mut().links = true;
            }
        }
        Ok(())
    }
}
