//! The agent's main loop: full resync, events, lease and poll each second, exit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use futures_util::future::select_all;
use log::{info, warn};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    bridge_netns::BridgeNetns,
    desired::Desired,
    diff::Snapshot,
    error::Error,
    event_log::EventLog,
    loss_detector::{LossDetector, Sample},
    map_sync::{LEASE, MapSync},
    privileges, reattach,
    socket::Listener,
    status::{Status, View},
};
use crate::{
    datapath::{self, Counters, Hook, Maps, Pins, Receivers},
    kernel::{Context, clock::Clock, netns, process, rcu, watch::Watch},
    state::{AgentLock, Directory, Record, events::Kind},
    topology::{Bridge, Place, Topology},
};

/// Period of the lease renewal, and of polling what the kernel sends no events for.
const TICK: Duration = Duration::from_secs(1);

/// How often the same failure is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Upper bound of rounds in which entries are confirmed while events keep changing them.
const CONFIRM_ROUNDS: usize = 4;

/// FDB entries that are refreshed before events are processed again: some milliseconds.
const REFRESH_BATCH: usize = 64;

/// Whether entries are confirmed for programs at once, which takes a grace period, or by a later call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirm {
    Now,
    Later,
}

/// Runs the agent of a lab until SIGTERM, SIGINT or a fatal error.
///
/// # Errors
/// See [`enum@Error`].
pub async fn run(directory: &Directory) -> Result<(), Error> {
    let (mut listener, mut agent) = Agent::open(directory)?;
    info!("agent of lab {} is up, with {} alone", agent.topology.lab, privileges::in_effect().join(", "));
    let ended = agent.live(&mut listener).await;
    // If it was replaced, maps and event log are another agent's. The lease is ended first, as the log may be locked.
    if !matches!(ended, Err(Error::Replaced)) {
        agent.maps.lease(0);
    }
    if agent.lock.is_current(directory) {
        agent.event_log.agent_ended(&ended);
    }
    ended
}

struct Agent {
    lock: AgentLock,
    directory: Directory,
    pins: Pins,
    topology: Topology,
    /// The version of the journal that `topology` was read from.
    journal: Option<(u64, u64)>,
    hook: Hook,
    namespaces: Vec<BridgeNetns>,
    clock: Clock,
    maps: MapSync,
    counters: Counters,
    loss_detector: LossDetector,
    event_log: EventLog,
    /// Events of kernel modules being loaded; `None` if they cannot be watched.
    modules: Option<Watch>,
    settled: bool,
    /// Number of completed ticks.
    polls: u64,
    /// Number of bridge namespaces, and generation, at the last reconcile.
    reconciled: Option<(usize, u32)>,
    /// Whether maps were reconciled since the heap was last trimmed.
    has_worked: bool,
    /// The last error, until a tick has succeeded.
    failure: Option<String>,
    /// The failure that was reported last, and when.
    reported: Option<(String, Instant)>,
    /// Whether a reload has failed, so that only a part of the record is applied.
    is_reloading: bool,
}

impl Agent {
    /// Opens the listener for clients, and the agent, which has not read the kernel's state yet.
    fn open(directory: &Directory) -> Result<(Listener, Self), Error> {
        if Record::read(directory)?.is_none() {
            return Err(Error::NoLab);
        }
        let lock = AgentLock::acquire(directory)?.ok_or(Error::Another)?;
        // Read under the lock: a command writes a changed record first, then checks for an agent that has the lock.
        let journal = version(directory);
        let Record { topology, hook, home, .. } = Record::read(directory)?.ok_or(Error::NoLab)?;
        if home.is_some() && Record::route(home.as_ref(), directory)?.is_some_and(|route| !route.is_here()) {
            return Err(Error::Elsewhere);
        }
        let pins = Pins::of(&topology.lab);
        let mut domains = Vec::new();
        for (number, place) in topology.domains() {
            datapath::forward_log(&pins, number.into())?;
            let receivers = Receivers::open(&pins, number.into())?;
            domains.push(BridgeNetns::open(number, &place, &topology, &pins, hook, receivers)?);
        }
        let maps = Maps::open(&pins)?;
        let found = maps.config();
        // A `down` may have removed the folder, and an `up` made it again. Maps and socket are then another agent's.
        let is_current = || if lock.is_current(directory) { Ok(()) } else { Err(Error::Replaced) };
        is_current()?;
        let (counters, sync) = (Counters::open(&pins)?, MapSync::take_over(maps)?);
        is_current()?;
        let socket = directory.socket();
        let listener = Listener::open(&socket).doing("listen at", socket.display())?;
        let agent = Self {
            namespaces: domains,
            clock: Clock::open()?,
            counters,
            maps: sync,
            loss_detector: LossDetector::default(),
            event_log: EventLog::start(directory, found),
            modules: Watch::modules().inspect_err(|error| warn!("{error}")).ok(),
            lock,
            directory: directory.clone(),
            pins,
            topology,
            journal,
            hook,
            settled: false,
            polls: 0,
            reconciled: None,
            has_worked: true,
            failure: None,
            reported: None,
            is_reloading: false,
        };
        Ok((listener, agent))
    }

    async fn live(&mut self, listener: &mut Listener) -> Result<(), Error> {
        let receive = |kind| signal(kind).doing("listen for", "signals");
        let mut terminate = receive(SignalKind::terminate())?;
        let mut interrupt = receive(SignalKind::interrupt())?;
        let mut hangup = receive(SignalKind::hangup())?;
        let mut tick = interval(TICK);
        let mut rest_until = Instant::now();
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.full_resync().await?;
        loop {
            // After a failure, only a tick updates the maps.
            let is_sound = self.failure.is_none();
            let done = tokio::select! {
                biased;
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = tick.tick() => self.tick().await,
                // A change without an event, or of the lab itself (see `status::trigger_resync`).
                _ = hangup.recv() => match self.reload().await {
                    Ok(()) => self.tick().await,
                    Err(error) => Err(error),
                },
                domain = next_event(&mut self.namespaces, rest_until), if is_sound => {
                    let began = Instant::now();
                    let done = match domain {
                        Ok(domain) => self.process_events(domain).await,
                        Err(error) => Err(error.into()),
                    };
                    // A burst of events takes half of a CPU at most. Events that arrive meanwhile wait in the
                    // kernel's buffer, and are then processed at once.
                    rest_until = Instant::now() + began.elapsed();
                    done
                }
                () = module_loaded(&mut self.modules), if is_sound => {
                    self.namespaces.iter_mut().for_each(BridgeNetns::rescan_interference);
                    self.reconcile(Confirm::Now).await
                }
                // Last: clients, however many, must not delay events.
                client = listener.client() => {
                    let status = serde_json::to_vec(&self.status()).map_err(io::Error::from);
                    let status = status.doing("write", "the status")?;
                    drop(tokio::spawn(client.reply(status)));
                    Ok(())
                }
            };
            match done {
                Ok(()) => {}
                Err(Error::Replaced) => return Err(Error::Replaced),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Voids every entry until a tick succeeds again: a lack of descriptors or memory is temporary.
    fn fail(&mut self, error: &Error) {
        self.maps.void();
        let error = error.to_string();
        let is_known = |(known, at): &(String, Instant)| *known == error && at.elapsed() < REPORT_INTERVAL;
        if !self.reported.as_ref().is_some_and(is_known) {
            warn!("{error}; retrying each second");
            self.event_log.record([Kind::AgentRetries { error: error.clone() }]);
            self.reported = Some((error.clone(), Instant::now()));
        }
        self.failure = Some(error);
    }

    /// Starts over with empty maps after a failure. What a tick reads besides is read before any entry is valid again.
    async fn recover(&mut self) -> Result<(), Error> {
        self.maps.start_over()?;
        self.reconciled = None;
        if self.is_reloading {
            self.reload().await?;
        }
        let _ = self.redirected()?;
        for domain in &mut self.namespaces {
            domain.poll(|_| false).await?;
        }
        self.full_resync().await
    }

    /// Applies a changed record. What stays of the lab keeps its entries, its numbers and its lease.
    async fn reload(&mut self) -> Result<(), Error> {
        let journal = version(&self.directory);
        if self.journal == journal {
            return Ok(());
        }
        let is_retry = std::mem::replace(&mut self.is_reloading, true);
        if let Some(record) = Record::read(&self.directory)? {
            self.apply_record(record, is_retry).await?;
        }
        // Only now: a reload that fails is repeated.
        (self.journal, self.is_reloading) = (journal, false);
        Ok(())
    }

    /// Applies a record. `is_retry`: an earlier attempt may have applied a part of it.
    async fn apply_record(&mut self, record: Record, is_retry: bool) -> Result<(), Error> {
        let Record { topology, hook, .. } = record;
        let is_followed = |(number, place): &(u16, Place)| {
            self.namespaces.iter().any(|domain| domain.is(*number, place) && !domain.is_gone())
        };
        // `up` may have made a deleted bridge namespace again.
        if !is_retry && topology == self.topology && topology.domains().iter().all(is_followed) {
            return Ok(());
        }
        let mut known = std::mem::take(&mut self.namespaces);
        for (number, place) in topology.domains() {
            let at = known.iter().position(|domain| domain.is(number, &place) && !domain.is_gone());
            let receivers = Receivers::open(&self.pins, number.into())?;
            let domain = match at.map(|at| known.swap_remove(at)) {
                Some(mut domain) => {
                    domain.reload(&topology, receivers);
                    domain
                }
                // A missing namespace has no port. It is opened when `up` has made it.
                None if is_missing(&place) => continue,
                None => {
                    datapath::forward_log(&self.pins, number.into())?;
                    let mut domain =
                        BridgeNetns::open(number, &place, &topology, &self.pins, hook, receivers)?;
                    let _ = domain.full_resync().await?;
                    domain
                }
            };
            self.namespaces.push(domain);
        }
        self.topology = topology;
        self.reconciled = None;
        // The bits in `seen` may stand for other bridges now.
        self.maps.next_epoch();
        info!("the lab has changed: {} pairs now", self.topology.pairs.len());
        Ok(())
    }

    /// Reads everything from scratch. Entries are void meanwhile.
    async fn full_resync(&mut self) -> Result<(), Error> {
        self.maps.void();
        let mut lost = Vec::new();
        for domain in &mut self.namespaces {
            if domain.full_resync().await? {
                lost.push(domain.name());
            }
        }
        self.reconcile(Confirm::Now).await?;
        self.renew_lease()?;
        self.settled = true;
        lost.into_iter().for_each(|namespace| self.event_log.overrun(namespace, self.maps.generation()));
        Ok(())
    }

    /// Processes the events of one bridge namespace.
    async fn process_events(&mut self, number: usize) -> Result<(), Error> {
        if !self.lock.is_current(&self.directory) {
            return Err(Error::Replaced);
        }
        let Some(domain) = self.namespaces.get_mut(number) else { return Ok(()) };
        if domain.has_overrun() {
            return self.full_resync().await;
        }
        // Entries known to be gone or moved leave the maps before the links are read. New entries wait for their
        // grace period until the links are known.
        if domain.needs_resync() {
            self.reconcile(Confirm::Later).await?;
        }
        if let Some(domain) = self.namespaces.get_mut(number) {
            domain.resync_links().await?;
        }
        self.reconcile(Confirm::Now).await
    }

    fn status(&self) -> Status {
        let view = View {
            topology: &self.topology,
            namespaces: &self.namespaces,
            maps: &self.maps,
            failure: self.failure.as_deref(),
        };
        view.status(self.settled, self.polls)
    }

    /// Runs once a second, and at SIGHUP.
    async fn tick(&mut self) -> Result<(), Error> {
        if !self.lock.is_current(&self.directory) || !self.maps.maps().are_current(&self.pins)? {
            return Err(Error::Replaced);
        }
        self.maps.next_epoch();
        if self.failure.is_some() {
            self.recover().await?;
        }
        self.hold_lease().await?;
        let gone: Vec<_> = self.namespaces.extract_if(.., |domain| domain.is_gone()).collect();
        self.event_log.record(gone.iter().map(|domain| Kind::NamespaceGone { namespace: domain.name() }));
        self.event_log.record(reattach::after_killed_bench(&self.directory, &self.topology, self.hook));
        // Read before and after the counters of the inner ends, so that frames in flight are no loss. This is the
        // slowest step. It is skipped if no station has sent fast frames and no pair is suspected.
        let all_quiet = self.loss_detector.are_none() && !self.maps.has_seen_frames();
        let redirected = if all_quiet { BTreeMap::new() } else { self.redirected()? };
        let busy: BTreeSet<u32> = redirected
            .iter()
            .filter_map(|(&pair, &frames)| self.loss_detector.is_busy(pair, frames).then_some(pair))
            .collect();
        for domain in &mut self.namespaces {
            domain.poll(|pair| busy.contains(&pair)).await?;
        }
        self.event_log.record(reattach::filters(&self.directory, &self.topology, &mut self.namespaces));
        if !busy.is_empty() {
            let after = self.redirected()?;
            self.check_losses(&busy, &redirected, &after);
        }
        if self.namespaces.iter().any(BridgeNetns::has_overrun) {
            self.full_resync().await?;
        }
        self.reconcile(Confirm::Now).await?;
        for number in 0..self.namespaces.len() {
            let due = self.namespaces[number].due(&self.maps);
            for some in due.chunks(REFRESH_BATCH) {
                if self.namespaces[number].refresh(some, &self.counters).await? {
                    self.process_events(number).await?;
                    self.hold_lease().await?;
                }
            }
        }
        self.event_log.tick();
        if std::mem::take(&mut self.has_worked) {
            process::trim_heap();
        }
        self.polls = self.polls.wrapping_add(1);
        if self.failure.take().is_some() {
            info!("the agent goes on");
        }
        Ok(())
    }

    /// Renews the lease. If it has expired, the agent was stopped or starved, and the maps are as old as that.
    async fn hold_lease(&mut self) -> Result<(), Error> {
        if self.maps.lease_has_run_out(self.now_ns()?) {
            return self.full_resync().await;
        }
        self.renew_lease()
    }

    fn renew_lease(&mut self) -> Result<(), Error> {
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
    fn redirected(&self) -> Result<BTreeMap<u32, u64>, Error> {
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
                    domain.set_losing(pair, self.loss_detector.update(pair, sample, now));
                }
            }
        }
    }

    async fn reconcile(&mut self, confirm: Confirm) -> Result<(), Error> {
        let changed =
            self.namespaces.iter_mut().fold(false, |changed, domain| domain.take_changed() | changed);
        let known = (self.namespaces.len(), self.maps.generation());
        let is_done = !self.maps.has_announced() || confirm == Confirm::Later;
        if !changed && self.reconciled == Some(known) && self.maps.fits() && is_done {
            self.event_log.record(self.namespaces.iter_mut().flat_map(BridgeNetns::take_events));
            return Ok(());
        }
        (self.reconciled, self.has_worked) = (Some(known), true);
        let desired = self.maps.desired(self.namespaces.iter().map(BridgeNetns::known));
        self.apply(desired)?;
        if confirm == Confirm::Now {
            self.confirm().await?;
        }
        let gone = |bridge: &&Bridge| !self.namespaces.iter().any(|domain| domain.has(bridge));
        let gone = self.topology.bridges.iter().filter(gone);
        let missing = gone.map(|bridge| (bridge.place.to_string(), bridge.name.to_string())).collect();
        let snapshot = Snapshot::new(&self.topology, self.maps.current(), missing, self.maps.fits());
        self.event_log.record_snapshot(&self.topology, snapshot);
        self.event_log.record(self.namespaces.iter_mut().flat_map(BridgeNetns::take_events));
        Ok(())
    }

    /// Confirms what was announced, except entries that events have made wrong meanwhile. In a burst of events, the
    /// last entries wait for the next call.
    async fn confirm(&mut self) -> Result<(), Error> {
        for _ in 0..CONFIRM_ROUNDS {
            if !self.maps.has_announced() {
                break;
            }
            rcu::grace_period();
            self.namespaces.iter_mut().try_for_each(BridgeNetns::drain_events)?;
            if self.namespaces.iter().any(BridgeNetns::has_overrun) {
                break;
            }
            // A port may have stopped forwarding meanwhile, for example: only reading the links shows it.
            for domain in &mut self.namespaces {
                domain.resync_links().await?;
            }
            let desired = self.maps.desired(self.namespaces.iter().map(BridgeNetns::known));
            let announced = self.maps.take_announced()?;
            self.apply(desired)?;
            self.maps.confirm(&announced);
        }
        Ok(())
    }

    fn apply(&mut self, desired: Desired) -> Result<(), Error> {
        let receivers = desired.receivers.clone();
        self.maps.apply(desired)?;
        Ok(self.namespaces.iter_mut().try_for_each(|domain| domain.set_receivers(&receivers))?)
    }
}

/// Whether the namespace of a place does not exist, or is a left-over file.
fn is_missing(place: &Place) -> bool {
    matches!(place, Place::Namespace(name) if !netns::exists(name) || netns::is_left_over(name))
}

/// Inode and length of the journal. It changes when the journal is appended to or replaced.
fn version(directory: &Directory) -> Option<(u64, u64)> {
    fs::metadata(directory.journal()).ok().map(|journal| (journal.ino(), journal.len()))
}

/// Waits until a kernel module is loaded; forever, if that cannot be watched.
async fn module_loaded(modules: &mut Option<Watch>) {
    while let Some(watch) = modules {
        match watch.next().await {
            Ok(events) if events.is_empty() => {}
            Ok(_) => return,
            Err(error) => {
                warn!("{error}");
                *modules = None;
            }
        }
    }
    std::future::pending().await
}

/// Waits for events in any bridge namespace, applies them, and returns the index of that namespace.
async fn next_event(domains: &mut [BridgeNetns], not_before: Instant) -> crate::kernel::Result<usize> {
    tokio::time::sleep_until(not_before.into()).await;
    if domains.is_empty() {
        return std::future::pending().await;
    }
    let (result, number, _) = select_all(domains.iter_mut().map(|domain| Box::pin(domain.wait()))).await;
    result.map(|()| number)
}
