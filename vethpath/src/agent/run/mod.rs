//! The agent's main loop, from events to the maps. What it does once a second is in `tick`.

mod guest_ports;
mod reload;
mod report;
mod tick;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::{Duration, Instant},
};

use futures_util::future::select_all;
use log::{info, warn};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval_at},
};

use vethpath_common::PortKey;

use super::{
    bridge_netns::BridgeNetns,
    budget::{BURST, Budget, until},
    desired::{Address, Desired},
    drops::MachineDrops,
    error::Error,
    event_log::EventLog,
    guests::GuestNumbers,
    loss_detector::LossHistory,
    map_sync::MapSync,
    netns_state::Dirty,
    occupants::FollowedOccupants,
    privileges,
    socket::Listener,
};
use crate::{
    datapath::{self, Counters, Hook, Maps, Pins, Receivers, XdpLinks},
    kernel::{Context, UnknownDefaults, clock::Clock, process, rcu::GracePeriods, watch::Watch},
    state::{
        AgentLock, Befores, Directory, Record,
        events::{Kind, Time},
    },
    topology::Topology,
};

/// Period of the lease renewal, and of polling what the kernel sends no events for.
const TICK: Duration = Duration::from_secs(1);

/// How often the same failure is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A dump of a port's FDB is followed by a rest of so many times its length while a port floods the FDB.
const DUMP_REST: u32 = 20;

/// How often everything is read at the start while events are lost. Then the loop goes on with that.
const MOST_READS: usize = 4;

/// Runs the agent of a lab until SIGTERM, SIGINT or a fatal error.
///
/// # Errors
/// See [`enum@Error`].
pub async fn run(directory: &Directory) -> Result<(), Error> {
    let harmless = UnknownDefaults::read().await.unwrap_or_else(|error| {
        warn!("{error}: a port with an unknown attribute is not armed");
        UnknownDefaults::default()
    });
    let (mut listener, mut agent) = Agent::open(directory, harmless)?;
    // Otherwise new guest ports would wait for their numbers.
    agent.move_counts().unwrap_or_else(|error| warn!("{error}"));
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
    /// What the machine's rules drop, where no bridge namespace follows them.
    machine_drops: Option<MachineDrops>,
    /// For namespaces that are opened later.
    harmless: UnknownDefaults,
    clock: Clock,
    maps: MapSync,
    counters: Counters,
    /// By the number of the pair.
    losses: BTreeMap<u32, LossHistory>,
    guests: GuestNumbers,
    /// What the inner ends of guest ports had counted before.
    befores: Befores,
    event_log: EventLog,
    /// Events of kernel modules being loaded; `None` if they cannot be watched.
    modules: Option<Watch>,
    since: Time,
    settled: bool,
    /// Number of completed ticks.
    polls: u64,
    /// The processes of adopted namespaces.
    occupants: FollowedOccupants,
    /// XDP programs that others attach.
    xdp_links: XdpLinks,
    /// Whether everything is to be written, whatever is dirty.
    is_unwritten: bool,
    grace_periods: GracePeriods,
    /// No namespace is read again before that: reading takes half of a CPU at most.
    rest_until: Instant,
    /// No port's FDB is dumped before that.
    dump_rest_until: Instant,
    /// The program is attached to no guest port before that.
    attach_rest_until: Instant,
    /// Events of FDBs take half of a CPU at most, too.
    fdb_budget: Budget,
    /// And so do others.
    budget: Budget,
    /// Whether the lab's snapshot may have changed since it was logged.
    is_unlogged: bool,
    /// Whether much was allocated since the heap was last trimmed.
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
    fn open(directory: &Directory, harmless: UnknownDefaults) -> Result<(Listener, Self), Error> {
        if Record::read(directory)?.is_none() {
            return Err(Error::NoLab);
        }
        let lock = AgentLock::acquire(directory)?.ok_or(Error::Another)?;
        // Read under the lock: a command writes a changed record first, then checks for an agent that has the lock.
        let journal = reload::version(directory);
        let Record { topology, hook, home, .. } = Record::read(directory)?.ok_or(Error::NoLab)?;
        if home.is_some() && Record::route(home.as_ref(), directory)?.is_some_and(|route| !route.is_here()) {
            return Err(Error::Elsewhere);
        }
        let pins = Pins::of(&topology.lab);
        let mut domains = Vec::new();
        for (number, place) in topology.domains() {
            datapath::forward_log(&pins, number.into())?;
            let receivers = Receivers::open(&pins, number.into())?;
            domains.push(BridgeNetns::open(number, &place, &topology, &pins, hook, receivers, &harmless)?);
        }
        let maps = Maps::open(&pins)?;
        let found = maps.config();
        // A `down` may have removed the folder, and an `up` made it again. Maps and socket are then another agent's.
        let is_current = || if lock.is_current(directory) { Ok(()) } else { Err(Error::Replaced) };
        is_current()?;
        let (counters, sync) = (Counters::open(&pins)?, MapSync::take_over(maps)?);
        is_current()?;
        let mut guests = GuestNumbers::take_over(topology.guests, sync.ports());
        let is_here = |domain: u32| topology.domains().iter().any(|(known, _)| u32::from(*known) == domain);
        guests.ports().into_iter().filter(|key| !is_here(key.domain)).for_each(|key| guests.leave(key));
        // Links of ports that an earlier agent was letting go of, or was to. A port has its number before its link.
        for (domain, ifindex) in pins.guest_links() {
            let key = PortKey { ifindex, domain: domain.into() };
            if guests.number_of(key).is_none() {
                let _ = fs::remove_file(pins.guest_link(domain, ifindex));
            }
        }
        let socket = directory.socket();
        let listener = Listener::open(&socket).doing("listen at", socket.display())?;
        let agent = Self {
            machine_drops: reload::machine_drops(&topology),
            namespaces: domains,
            harmless,
            clock: Clock::open()?,
            counters,
            maps: sync,
            losses: BTreeMap::new(),
            guests,
            befores: Befores::read(directory),
            event_log: EventLog::start(directory, found),
            modules: Watch::modules().inspect_err(|error| warn!("{error}")).ok(),
            lock,
            directory: directory.clone(),
            pins,
            topology,
            journal,
            hook,
            since: Time::now(),
            settled: false,
            polls: 0,
            occupants: FollowedOccupants::default(),
            xdp_links: XdpLinks::default(),
            is_unwritten: true,
            grace_periods: GracePeriods::start().doing("create", "a thread")?,
            rest_until: Instant::now(),
            dump_rest_until: Instant::now(),
            attach_rest_until: Instant::now(),
            fdb_budget: Budget::new(Instant::now()),
            budget: Budget::new(Instant::now()),
            is_unlogged: true,
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
        self.resync()?;
        // Everything has just been read.
        let mut tick = interval_at((Instant::now() + TICK).into(), TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // After a failure, only a tick updates the maps.
            let is_sound = self.failure.is_none();
            let is_stale = self.is_any(Dirty::is_stale);
            let is_undumped = self.is_any(|dirty| !dirty.undumped.is_empty());
            let is_unattached = self.has_unattached_guests();
            let (mut is_fdb_event, cpu_time) = (None, process::cpu_time());
            let rests = (self.fdb_budget.rest_until, self.budget.rest_until);
            let done = tokio::select! {
                biased;
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                () = self.grace_periods.ended() => self.end_grace_period(),
                _ = tick.tick() => self.tick(false).await,
                // A change without an event, or of the lab itself (see `status::trigger_resync`).
                _ = hangup.recv() => match self.reload().await {
                    Ok(()) => self.tick(true).await,
                    Err(error) => Err(error),
                },
                events = next_events(&mut self.namespaces, rests), if is_sound => {
                    is_fdb_event = events.as_ref().ok().copied();
                    // A namespace with many events must not keep others waiting.
                    events.map_err(Error::from).and_then(|_| self.drain_events())
                }
                () = until(self.rest_until), if is_sound && is_stale => self.read_dirty(),
                () = until(self.dump_rest_until), if is_sound && is_undumped => self.dump_ports(),
                () = until(self.attach_rest_until), if is_sound && is_unattached && !is_stale => {
                    self.attach_guests();
                    Ok(())
                }
                () = module_loaded(&mut self.modules), if is_sound => {
                    self.namespaces.iter_mut().for_each(|domain| domain.dirty_mut().rules = true);
                    Ok(())
                }
                // Last: clients, however many, must not delay events.
                client = listener.client() => {
                    let status = serde_json::to_vec(&self.status()).map_err(io::Error::from);
                    let status = status.doing("write", "the status")?;
                    drop(tokio::spawn(client.reply(status)));
                    Ok(())
                }
            };
            match done.and_then(|()| self.write()) {
                Ok(()) => {}
                Err(Error::Replaced) => return Err(Error::Replaced),
                Err(error) => self.fail(&error),
            }
            if let Some(is_fdb_event) = is_fdb_event {
                let budget = if is_fdb_event { &mut self.fdb_budget } else { &mut self.budget };
                budget.spend(process::cpu_time().saturating_sub(cpu_time), Instant::now());
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
        self.is_unwritten = true;
        if self.is_reloading {
            self.reload().await?;
        }
        let _ = self.redirected()?;
        for domain in &mut self.namespaces {
            *domain.dirty_mut() = Dirty::all();
            domain.poll(true, &mut self.guests)?;
        }
        self.renew_lease()
    }

    /// Reads everything from scratch. No frame is fast meanwhile.
    fn resync(&mut self) -> Result<(), Error> {
        self.maps.suspend();
        self.namespaces.iter_mut().for_each(|domain| *domain.dirty_mut() = Dirty::all());
        for _ in 0..MOST_READS {
            self.read_dirty()?;
            if !self.is_any(|dirty| dirty.overrun) {
                break;
            }
        }
        self.write()?;
        self.renew_lease()?;
        self.settled = true;
        Ok(())
    }

    /// Reads what is stale in each namespace, and writes what follows from it.
    fn read_dirty(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        for number in 0..self.namespaces.len() {
            if self.namespaces[number].dirty().is_stale() {
                self.namespaces[number].read_dirty(&mut self.guests)?;
                self.write()?;
            }
        }
        self.rest_until = Instant::now() + began.elapsed();
        Ok(())
    }

    /// Dumps the FDBs of some ports of a namespace; of one, while a port floods the FDB.
    fn dump_ports(&mut self) -> Result<(), Error> {
        let began = Instant::now();
        // In turns.
        self.namespaces.rotate_left(1);
        let is_undumped = |domain: &&mut BridgeNetns| !domain.dirty().undumped.is_empty();
        if let Some(domain) = self.namespaces.iter_mut().find(is_undumped) {
            domain.dump_port()?;
            // A rest is rounded up to a millisecond, which is much longer than a dump.
            while !domain.is_flooded() && !domain.dirty().undumped.is_empty() && began.elapsed() < BURST {
                domain.dump_port()?;
            }
            let rest = if domain.is_flooded() { DUMP_REST } else { 1 };
            self.dump_rest_until = Instant::now() + began.elapsed() * rest;
        }
        Ok(())
    }

    /// Applies pending events, in the middle of longer work.
    fn follow_events(&mut self) -> Result<(), Error> {
        self.drain_events()?;
        self.write()
    }

    /// Writes the known state to the maps. Does not block.
    fn write(&mut self) -> Result<(), Error> {
        if self.failure.is_some() {
            return Ok(());
        }
        let is_suspect = self.is_any(Dirty::is_suspect);
        if is_suspect {
            self.maps.suspend();
        }
        for domain in &mut self.namespaces {
            if domain.take_has_overrun() {
                self.event_log.overrun(domain.name(), self.maps.generation());
            }
        }
        let is_whole =
            self.namespaces.iter_mut().fold(self.is_unwritten, |any, domain| domain.evaluate() | any);
        let mut desired = Desired { is_whole, ..Desired::default() };
        for domain in &mut self.namespaces {
            let (layout, segments, facts) = domain.evaluated();
            desired.add(layout, segments, facts, &mut self.maps.paths);
        }
        let have_ports_changed = is_whole || !desired.ports.is_empty();
        if have_ports_changed || !desired.stations.is_empty() {
            if !self.lock.is_current(&self.directory) {
                return Err(Error::Replaced);
            }
            self.maps.apply(desired)?;
            self.has_worked = true;
        }
        if have_ports_changed {
            self.namespaces.iter_mut().try_for_each(BridgeNetns::set_receivers)?;
            (self.is_unwritten, self.is_unlogged) = (false, true);
        }
        if !is_suspect {
            self.maps.resume();
        }
        self.event_log.record(self.namespaces.iter_mut().flat_map(BridgeNetns::take_events));
        // What was stale at the end of the grace period may show that an announced entry is wrong.
        if self.is_any(|dirty| dirty.unread_events) {
            return Ok(());
        }
        self.maps.confirm();
        if !self.grace_periods.is_running() && self.maps.needs_grace_period() {
            self.maps.begin_grace_period()?;
            self.grace_periods.begin();
        }
        // A read that is due may revert what the events suggest, so nothing is logged before it.
        let ports = self.maps.ports();
        let is_settled = !self.is_any(Dirty::is_stale)
            && !self.namespaces.iter().any(|domain| domain.is_adding_guests(ports));
        if is_settled && std::mem::take(&mut self.is_unlogged) {
            self.log_snapshot();
        }
        Ok(())
    }

    /// A grace period is over. Applies the events of that time, before [`Self::write`] confirms what was announced.
    fn end_grace_period(&mut self) -> Result<(), Error> {
        self.maps.end_grace_period();
        self.retry(MapSync::waiting);
        self.drain_events()?;
        for domain in &mut self.namespaces {
            domain.dirty_mut().unread_events = domain.dirty().is_stale();
        }
        Ok(())
    }

    /// Whether this holds of any namespace.
    fn is_any(&self, of: impl Fn(&Dirty) -> bool) -> bool {
        self.namespaces.iter().any(|domain| of(domain.dirty()))
    }

    fn drain_events(&mut self) -> Result<(), Error> {
        Ok(self.namespaces.iter_mut().try_for_each(BridgeNetns::drain_events)?)
    }

    /// Writes entries once more that could not be written.
    fn retry(&mut self, which: fn(&MapSync) -> &BTreeSet<Address>) {
        self.is_unwritten |= self.maps.ports_wait();
        let domains = &mut self.namespaces;
        for &(number, mac) in which(&self.maps) {
            if let Some(domain) = domains.iter_mut().find(|domain| domain.known().0.domain == number) {
                domain.dirty_mut().stations.insert(mac);
            }
        }
    }
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

/// Waits for events in any bridge namespace, and applies them to its known state: see [`BridgeNetns::wait`].
async fn next_events(
    domains: &mut [BridgeNetns],
    (fdb_not_before, not_before): (Instant, Instant),
) -> crate::kernel::Result<bool> {
    if domains.is_empty() {
        return std::future::pending().await;
    }
    select_all(domains.iter_mut().map(|domain| Box::pin(domain.wait(fdb_not_before, not_before)))).await.0
}
