//! What the agent does once a second: the lease, what the kernel sends no events for, and the refresh of FDB entries.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use log::{info, warn};

use super::Agent;
use crate::{
    agent::{
        Error,
        bridge_netns::BridgeNetns,
        counted_pairs,
        layout::LabPort,
        loss_detector::{LossHistory, Sample},
        map_sync::{LEASE, MapSync},
        reattach,
    },
    kernel::process,
    state::events::Kind,
};

/// Pairs that are read before events are processed again: a millisecond.
const POLL_BATCH: usize = 64;

/// Pairs whose traffic does not take the fast path are read in turns, one a second, so many at least in each. The kernel
/// sends no event when GSO limits change, which matter to fast frames alone.
const LEAST_OF_TURN: usize = 32;

/// All links of a namespace are read in one of so many seconds.
const WHOLE: u64 = 32;

/// FDB entries that are refreshed before events are processed again: a millisecond.
const REFRESH_BATCH: usize = 16;

impl Agent {
    /// Runs once a second, and at SIGHUP. Then all links are read, and also when XDP programs were attached by BPF links.
    pub(super) async fn tick(&mut self, is_asked: bool) -> Result<(), Error> {
        if !self.lock.is_current(&self.directory) || !self.maps.maps().are_current(&self.pins)? {
            return Err(Error::Replaced);
        }
        self.maps.next_epoch();
        if self.failure.is_some() {
            self.recover().await?;
            self.failure = None;
            info!("the agent goes on");
        }
        self.hold_lease()?;
        let mut gone: Vec<_> = self.namespaces.extract_if(.., |domain| domain.is_gone()).collect();
        gone.iter_mut().for_each(|domain| domain.leave_guests(&mut self.guests));
        self.event_log.record(gone.iter().map(|domain| Kind::NamespaceGone { namespace: domain.name() }));
        self.is_unwritten |= !gone.is_empty();
        self.event_log.record(reattach::after_killed_bench(&self.directory, &self.topology, self.hook));
        self.follow_occupants();
        // Read before and after the counters of the inner ends, so that frames in flight are no loss. This is the
        // slowest step. It is skipped if no station has sent fast frames and no pair is suspected.
        let senders = self.maps.senders();
        let all_quiet = !self.losses.values().any(LossHistory::is_suspected) && senders.is_empty();
        let redirected = if all_quiet { BTreeMap::new() } else { self.redirected()? };
        if !all_quiet {
            // Of ports that have left.
            self.losses.retain(|pair, _| redirected.contains_key(pair));
        }
        let busy: BTreeSet<u32> = redirected
            .iter()
            .filter_map(|(&pair, &frames)| {
                self.losses.get(&pair).is_none_or(|losses| losses.is_busy(frames)).then_some(pair)
            })
            .collect();
        let (polls, is_whole) = (self.polls, self.xdp_links.have_grown() || is_asked);
        let is_due = |turns: u64, (at, port): (usize, &LabPort)| {
            let is_active = senders.contains(&port.counter) || busy.contains(&port.counter);
            (is_whole || is_active || at as u64 % turns == polls % turns).then_some(at)
        };
        for number in 0..self.namespaces.len() {
            let ports = &self.namespaces[number].known().0.ports;
            let turns = (ports.len() / LEAST_OF_TURN).max(1) as u64;
            let due = ports.iter().enumerate().filter_map(|port| is_due(turns, port));
            let ports: Vec<usize> = due.collect();
            for some in ports.chunks(POLL_BATCH) {
                self.namespaces[number].poll_ports(some, !is_whole, |pair| busy.contains(&pair))?;
                self.follow_events()?;
            }
            self.namespaces[number].poll(is_whole || polls % WHOLE == 0, &mut self.guests)?;
            self.follow_events()?;
            self.namespaces[number].follow_drops(&self.topology, &self.directory);
            self.hold_lease()?;
        }
        if let Some(machine_drops) = &mut self.machine_drops {
            let events = machine_drops.follow(&self.topology, &self.directory);
            self.event_log.record(events);
        }
        self.event_log.record(reattach::filters(&self.directory, &self.topology, &mut self.namespaces));
        if !busy.is_empty() {
            let after = self.redirected()?;
            self.check_losses(&busy, &redirected, &after);
        }
        self.retry(MapSync::left_out);
        self.is_unlogged = true;
        self.write()?;
        for number in 0..self.namespaces.len() {
            let due = self.namespaces[number].due(&self.maps, !senders.is_empty());
            for some in due.chunks(REFRESH_BATCH) {
                self.namespaces[number].refresh(some, &self.counters).await?;
                self.follow_events()?;
                self.hold_lease()?;
            }
        }
        self.namespaces.iter_mut().for_each(BridgeNetns::retry_guests);
        if let Err(error) = self.move_counts() {
            warn!("{error}");
        }
        self.event_log.tick();
        if std::mem::take(&mut self.has_worked) {
            process::trim_heap();
        }
        self.polls = self.polls.wrapping_add(1);
        Ok(())
    }

    fn follow_occupants(&mut self) {
        self.event_log.record(self.occupants.follow(&self.directory));
        let deserted =
            counted_pairs(&self.topology).filter(|(_, pair)| self.occupants.are_gone(&pair.namespace));
        let deserted: BTreeSet<u32> = deserted.map(|(counter, _)| counter).collect();
        self.namespaces.iter_mut().for_each(|domain| domain.set_deserted(&deserted));
    }

    /// Renews the lease. If it has expired, the agent was stopped or starved, and the maps are as old as that.
    fn hold_lease(&mut self) -> Result<(), Error> {
        if self.maps.lease_has_run_out(self.now_ns()?) {
            return self.resync();
        }
        self.renew_lease()
    }

    pub(super) fn renew_lease(&mut self) -> Result<(), Error> {
        let now = self.now_ns()?;
        let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
        let held_until = self.maps.lease_until();
        self.maps.lease(now.saturating_add(lease));
        if self.settled {
            self.event_log.lease_renewed(held_until, Duration::from_nanos(now));
        }
        Ok(())
    }

    /// The time of the clock by which programs check the lease, in nanoseconds.
    fn now_ns(&self) -> Result<u64, Error> {
        Ok(u64::try_from(self.clock.now()?.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Frames that the fast path has redirected to each pair.
    pub(super) fn redirected(&self) -> Result<BTreeMap<u32, u64>, Error> {
        let pairs =
            || self.namespaces.iter().flat_map(|domain| &domain.known().0.ports).map(|port| port.counter);
        let frames = self.counters.frames_to(pairs(), &self.counters.matrix()?)?;
        Ok(pairs().zip(frames).collect())
    }

    fn check_losses(
        &mut self,
        busy: &BTreeSet<u32>,
        before: &BTreeMap<u32, u64>,
        after: &BTreeMap<u32, u64>,
    ) {
        let now = Instant::now();
        for domain in &mut self.namespaces {
            for (pair, inner, received) in domain.inner_ends() {
                let (Some(&before), Some(&after)) = (before.get(&pair), after.get(&pair)) else { continue };
                if busy.contains(&pair) {
                    let sample = Sample { inner, before, received, after };
                    let is_losing = self.losses.entry(pair).or_default().update(sample, now);
                    domain.set_losing(pair, is_losing);
                }
            }
        }
    }
}
