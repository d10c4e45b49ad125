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
    time::{MissedTickBehavior, interval_at},
};

use vethpath_common::PortKey;

use super::{
    bridge_netns::{BridgeNetns, Which, until},
    desired::{Address, Desired, Ports},
    diff::Snapshot,
    drops::MachineDrops,
    error::Error,
    event_log::EventLog,
    guests::GuestNumbers,
    layout::{LabPort, counted_pairs},
    loss_detector::{LossDetector, Sample},
    map_sync::{LEASE, MapSync},
    netns_state::Dirty,
    occupants::FollowedOccupants,
    privileges, reattach,
    socket::Listener,
    status::{Status, View},
};
use crate::{
    datapath::{self, Counters, Hook, Maps, Pins, Receivers, XdpLinks},
    kernel::{
        Context, UnknownDefaults,
        clock::Clock,
        netns, process,
        rcu::{self, GracePeriods},
        watch::Watch,
    },
    state::{
        AgentLock, Befores, Counts, Directory, Measuring, Record,
        events::{Kind, Time},
    },
    topology::{IfName, Place, Topology},
};

/// Period of the lease renewal, and of polling what the kernel sends no events for.
const TICK: Duration = Duration::from_secs(1);

/// How often the same failure is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Work on events that takes longer is followed by a rest of the same length. Shorter than what a rest is rounded to.
const BURST: Duration = Duration::from_millis(2);

/// A dump of a port's FDB is followed by a rest of so many times its length while a port floods the FDB.
const DUMP_REST: u32 = 20;

/// How long the kernel may take to release the link of a port before the next attempt to attach the program there.
const ATTACH_REST: Duration = Duration::from_millis(20);

/// Pairs that are read before events are processed again: a millisecond.
const POLL_BATCH: usize = 64;

/// Pairs whose traffic does not take the fast path are read in turns, one a second, so many at least in each. The kernel
/// sends no event when GSO limits change, which matter to fast frames alone.
const LEAST_OF_TURN: usize = 32;

/// All links of a namespace are read in one of so many seconds.
const WHOLE: u64 = 32;

/// How often everything is read at the start while events are lost. Then the loop goes on with that.
const MOST_READS: usize = 4;

/// FDB entries that are refreshed before events are processed again: a millisecond.
const REFRESH_BATCH: usize = 16;

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
    loss_detector: LossDetector,
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
            domains.push(BridgeNetns::open(number, &place, &topology, &pins, hook, receivers, &harmless)?);
        }
        let maps = Maps::open(&pins)?;
        let found = maps.config();
        // A `down` may have removed the folder, and an `up` made it again. Maps and socket are then another agent's.
        let is_current = || if lock.is_current(directory) { Ok(()) } else { Err(Error::Replaced) };
        is_current()?;
        let (counters, sync) = (Counters::open(&pins)?, MapSync::take_over(maps)?);
        is_current()?;
        let mut guests = GuestNumbers::take_over(topology.guests, &sync.ports().records);
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
            machine_drops: machine_drops(&topology),
            namespaces: domains,
            harmless,
            clock: Clock::open()?,
            counters,
            maps: sync,
            loss_detector: LossDetector::default(),
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
            fdb_budget: Budget::new(),
            budget: Budget::new(),
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
                budget.spend(process::cpu_time().saturating_sub(cpu_time));
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
        self.guests.set_range(topology.guests);
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
                None if !netns::place_exists(&place) => continue,
                None => {
                    datapath::forward_log(&self.pins, number.into())?;
                    let (pins, harmless) = (&self.pins, &self.harmless);
                    let mut domain =
                        BridgeNetns::open(number, &place, &topology, pins, hook, receivers, harmless)?;
                    domain.read_dirty(&mut self.guests)?;
                    domain
                }
            };
            self.namespaces.push(domain);
        }
        // Bridges of theirs are no longer the lab's.
        known.iter_mut().for_each(|domain| domain.leave_guests(&mut self.guests));
        self.machine_drops = machine_drops(&topology);
        self.topology = topology;
        self.is_unwritten = true;
        // The bits in `seen` may stand for other bridges now.
        self.maps.next_epoch();
        info!("the lab has changed: {} pairs now", self.topology.pairs.len());
        Ok(())
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
        let mut desired = Desired { ports: is_whole.then(Ports::default), ..Desired::default() };
        for domain in &mut self.namespaces {
            domain.add_desired(&mut desired, &mut self.maps.paths);
        }
        if is_whole || !desired.stations.is_empty() {
            if !self.lock.is_current(&self.directory) {
                return Err(Error::Replaced);
            }
            self.maps.apply(desired)?;
            self.has_worked = true;
        }
        if is_whole {
            let receivers = &self.maps.ports().receivers;
            self.namespaces.iter_mut().try_for_each(|domain| domain.set_receivers(receivers))?;
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
        let records = &self.maps.ports().records;
        let is_settled = !self.is_any(Dirty::is_stale)
            && !self.namespaces.iter().any(|domain| domain.is_adding_guests(records));
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

    /// Whether a guest port lacks the program.
    fn has_unattached_guests(&self) -> bool {
        let records = &self.maps.ports().records;
        let is_any = |which: Which<'_>| {
            self.namespaces.iter().any(|domain| domain.has_unattached_guests(records, which))
        };
        is_any(Which::All) && (!Measuring::is_on(&self.directory) || is_any(Which::New(&self.befores)))
    }

    fn attach_guests(&mut self) {
        let Self { maps, befores, directory, guests, namespaces, .. } = self;
        befores.0.retain(|key, before| guests.number_of(*key) == Some(before.number));
        let records = &maps.ports().records;
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
    fn move_counts(&mut self) -> Result<(), Error> {
        let (Some(range), true) = (self.guests.range(), !self.guests.left().is_empty()) else {
            return Ok(());
        };
        let is_used = |number: &u32| self.maps.ports().records.values().any(|record| record.pair == *number);
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
            // Ports may wait for them.
            for domain in self.namespaces.iter_mut().filter(|domain| domain.has_unnumbered_guests()) {
                domain.dirty_mut().links = true;
            }
        }
        Ok(())
    }

    /// The packets of the lab that rules certainly drop, each with a sentence that says so.
    fn drops(&self) -> impl Iterator<Item = (&String, &String)> {
        let on_machine = self.machine_drops.iter().flat_map(MachineDrops::found);
        self.namespaces.iter().flat_map(BridgeNetns::drops).chain(on_machine)
    }

    fn log_snapshot(&mut self) {
        let own = self.topology.bridges.iter().map(|bridge| (&bridge.place, &bridge.name));
        let adopted = self.topology.adopted.iter().map(|bridge| (&bridge.place, &bridge.name));
        let is_gone =
            |(place, name): &(&Place, &IfName)| !self.namespaces.iter().any(|domain| domain.has(place, name));
        let gone = own.chain(adopted).filter(is_gone);
        let missing = gone.map(|(place, name)| (place.to_string(), name.to_string())).collect();
        let drops = self.drops().map(|(packets, sentence)| (packets.clone(), sentence.clone())).collect();
        let ports = self.maps.ports();
        let guests = self.namespaces.iter().flat_map(|domain| domain.guest_states(ports)).collect();
        let snapshot = Snapshot::new(&self.topology, ports, guests, missing, drops, self.maps.fits());
        self.event_log.record_snapshot(&self.topology, snapshot);
    }

    fn status(&self) -> Status {
        let view = View {
            topology: &self.topology,
            namespaces: &self.namespaces,
            drops: self.drops().map(|(_, sentence)| sentence.clone()).collect(),
            maps: &self.maps,
            failure: self.failure.as_deref(),
            since: self.since,
        };
        view.status(self.settled, self.polls)
    }

    /// Runs once a second, and at SIGHUP. Then all links are read, and also when XDP programs were attached by BPF links.
    async fn tick(&mut self, is_asked: bool) -> Result<(), Error> {
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
        let all_quiet = self.loss_detector.are_none() && senders.is_empty();
        let redirected = if all_quiet { BTreeMap::new() } else { self.redirected()? };
        let busy: BTreeSet<u32> = redirected
            .iter()
            .filter_map(|(&pair, &frames)| self.loss_detector.is_busy(pair, frames).then_some(pair))
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
            let due = self.namespaces[number].due(&self.maps);
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
}

/// What the machine's rules drop. If that cannot be known, the lab works all the same.
fn machine_drops(topology: &Topology) -> Option<MachineDrops> {
    let unknown = |error: &_| warn!("whether rules of the machine drop packets is unknown: {error}");
    MachineDrops::of(topology).inspect_err(unknown).ok().flatten()
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

/// The work on events, which takes half of a CPU at most. Meanwhile they wait in their sockets.
struct Budget {
    /// Work that no idle time has paid for.
    debt: Duration,
    spent_at: Instant,
    /// No events are received before that.
    rest_until: Instant,
}

impl Budget {
    fn new() -> Self {
        let now = Instant::now();
        Self { debt: Duration::ZERO, spent_at: now, rest_until: now }
    }

    /// Counts work that has just been done.
    fn spend(&mut self, work: Duration) {
        let now = Instant::now();
        let idle = now.duration_since(self.spent_at).saturating_sub(work);
        self.spent_at = now;
        self.debt = (self.debt + work).saturating_sub(idle);
        if self.debt > BURST {
            self.rest_until = now + self.debt;
        }
    }
}
