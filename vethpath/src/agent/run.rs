//! The agent's life: look, follow, renew the lease each second, answer, end.

mod begin;
mod error;
mod tell;

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
    changes::Standing,
    chronicle::Chronicle,
    desired::Desired,
    domain::Domain,
    losses::{Look, Losses},
    mend, privileges,
    socket::Door,
    sync::Sync,
};
use crate::{
    datapath::{self, Counters, Hook, Pins, Receivers},
    kernel::{self, clock::Clock, membarrier, memory, netns, watch::Watch},
    state::{AgentLock, Directory, Record, events::Kind},
    topology::{Bridge, Place, Topology},
};

pub use error::Error;

/// How long the programs may go on without a word from the agent.
pub const LEASE: Duration = Duration::from_secs(3);

/// How often the lease is renewed, and everything looked at that tells nothing by itself.
const TICK: Duration = Duration::from_secs(1);

/// How often what was just written is looked at once more for news, where there always are some.
const ROUNDS: usize = 4;

/// How many entries are kept young between two looks at what has happened: some milliseconds.
const REFRESHED_AT_ONCE: usize = 64;

/// When programs may use what is written, which takes a grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirm {
    Now,
    Later,
}

/// Runs the agent of a lab until it is told to end (SIGTERM, SIGINT) or fails.
///
/// # Errors
/// See [`enum@Error`].
pub async fn run(directory: &Directory) -> Result<(), Error> {
    let (mut door, mut agent) = Agent::begin(directory)?;
    info!("agent of lab {} is up, with {} alone", agent.topology.lab, privileges::in_effect().join(", "));
    let ended = agent.live(&mut door).await;
    // Whoever has replaced it writes down events and maps now. The lease first: the events may have to wait.
    if !matches!(ended, Err(Error::Replaced)) {
        agent.sync.lease(0);
    }
    if agent.lock.is_current(directory) {
        agent.chronicle.end(&ended);
    }
    ended
}

struct Agent {
    lock: AgentLock,
    directory: Directory,
    pins: Pins,
    topology: Topology,
    /// The version of the journal in which that is.
    journal: Option<(u64, u64)>,
    hook: Hook,
    domains: Vec<Domain>,
    clock: Clock,
    sync: Sync,
    counters: Counters,
    losses: Losses,
    chronicle: Chronicle,
    /// Modules of the kernel being loaded, where that can be watched.
    modules: Option<Watch>,
    settled: bool,
    looks: u64,
    /// With how many domains, and which generation, the maps were last brought to what they should hold.
    brought: Option<(usize, u32)>,
    /// Whether that was since memory was last given back.
    has_worked: bool,
    /// What failed last, until a tick has succeeded.
    failure: Option<String>,
}

impl Agent {
    async fn live(&mut self, door: &mut Door) -> Result<(), Error> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut tick = interval(TICK);
        let mut rest_until = Instant::now();
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look_anew().await?;
        loop {
            // After a failure nothing but a tick brings the maps up to date.
            let is_sound = self.failure.is_none();
            let done = tokio::select! {
                biased;
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = tick.tick() => self.tick().await,
                // Somebody has changed what tells nothing by itself, the lab among it: see status::look.
                _ = hangup.recv() => match self.become_what_the_journal_says().await {
                    Ok(()) => self.tick().await,
                    Err(error) => Err(error),
                },
                domain = something_happens(&mut self.domains, rest_until), if is_sound => {
                    let began = Instant::now();
                    let done = match domain {
                        Ok(domain) => self.follow(domain).await,
                        Err(error) => Err(error.into()),
                    };
                    // A storm of events is taken in with half of a CPU at most; what comes meanwhile
                    // waits in the kernel's buffer and is taken in at once.
                    rest_until = Instant::now() + began.elapsed();
                    done
                }
                () = loaded(&mut self.modules), if is_sound => {
                    self.domains.iter_mut().for_each(Domain::look_at_company);
                    self.bring_maps(Confirm::Now).await
                }
                // Last: clients, however many, must not keep events waiting.
                client = door.client() => {
                    let status = serde_json::to_vec(&self.status()).map_err(io::Error::other)?;
                    drop(tokio::spawn(client.answer(status)));
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

    /// Makes every entry void until a tick succeeds again: a lack of descriptors or memory passes.
    fn fail(&mut self, error: &Error) {
        self.sync.void();
        // It is read again: what was read may have been taken in by half.
        self.journal = None;
        let error = error.to_string();
        if self.failure.as_ref() != Some(&error) {
            warn!("{error}; retrying each second");
            self.chronicle.tell([Kind::AgentRetries { error: error.clone() }]);
        }
        self.failure = Some(error);
    }

    /// Begins again with empty maps after a failure.
    async fn recover(&mut self) -> Result<(), Error> {
        self.sync.start_over()?;
        self.brought = None;
        self.become_what_the_journal_says().await?;
        self.look_anew().await
    }

    /// Takes in what the lab has become. What stays of it keeps its entries, its numbers and its lease.
    async fn become_what_the_journal_says(&mut self) -> Result<(), Error> {
        let journal = version(&self.directory);
        if self.journal == journal {
            return Ok(());
        }
        self.journal = journal;
        let Some(Record { topology, hook, .. }) = Record::read(&self.directory)? else { return Ok(()) };
        let is_followed = |(number, place): &(u16, Place)| {
            self.domains.iter().any(|one| one.is(*number, place) && !one.is_gone())
        };
        // A bridge namespace that somebody had deleted may be there again, made by `up`.
        if topology == self.topology && topology.domains().iter().all(is_followed) {
            return Ok(());
        }
        let mut known = std::mem::take(&mut self.domains);
        for (number, place) in topology.domains() {
            let at = known.iter().position(|domain| domain.is(number, &place) && !domain.is_gone());
            let receivers = Receivers::open(&self.pins, number.into())?;
            let domain = match at.map(|at| known.swap_remove(at)) {
                Some(mut domain) => {
                    domain.become_part_of(&topology, receivers);
                    domain
                }
                // What is not there has no port, and is opened when `up` has made it.
                None if is_missing(&place) => continue,
                None => {
                    datapath::forward_log(&self.pins, number.into())?;
                    let mut domain = Domain::open(number, &place, &topology, &self.pins, hook, receivers)?;
                    let _ = domain.look_anew().await?;
                    domain
                }
            };
            self.domains.push(domain);
        }
        self.topology = topology;
        self.brought = None;
        // The bits of what was seen may stand for other bridges now.
        self.sync.next_epoch();
        info!("the lab has changed: {} pairs now", self.topology.pairs.len());
        Ok(())
    }

    /// Looks at everything, as if nothing were known. Entries are void until it is done.
    async fn look_anew(&mut self) -> Result<(), Error> {
        self.sync.void();
        let mut lost = Vec::new();
        for domain in &mut self.domains {
            if domain.look_anew().await? {
                lost.push(domain.name());
            }
        }
        self.bring_maps(Confirm::Now).await?;
        self.renew_lease()?;
        self.settled = true;
        lost.into_iter().for_each(|namespace| self.chronicle.lost(namespace, self.sync.generation()));
        Ok(())
    }

    /// Takes in what has happened in one bridge namespace.
    async fn follow(&mut self, number: usize) -> Result<(), Error> {
        if !self.lock.is_current(&self.directory) {
            return Err(Error::Replaced);
        }
        let Some(domain) = self.domains.get_mut(number) else { return Ok(()) };
        if domain.has_lost_events() {
            return self.look_anew().await;
        }
        // What is already known to be gone or moved leaves the maps before anything else is asked; what is
        // new waits for its grace period until the links are known.
        if domain.wants_a_look() {
            self.bring_maps(Confirm::Later).await?;
        }
        if let Some(domain) = self.domains.get_mut(number) {
            domain.look_again().await?;
        }
        self.bring_maps(Confirm::Now).await
    }

    /// Once a second, and when asked to look.
    async fn tick(&mut self) -> Result<(), Error> {
        if !self.lock.is_current(&self.directory) || !self.sync.maps().are_current(&self.pins)? {
            return Err(Error::Replaced);
        }
        self.sync.next_epoch();
        if self.failure.is_some() {
            self.recover().await?;
        }
        self.stay().await?;
        let gone: Vec<_> = self.domains.extract_if(.., |domain| domain.is_gone()).collect();
        self.chronicle.tell(gone.iter().map(|domain| Kind::NamespaceGone { namespace: domain.name() }));
        self.chronicle.tell(mend::after_killed_bench(&self.directory, &self.topology, self.hook));
        // Read before and after the inner ends' own counters, so that what is under way is no loss. It takes
        // longer than all else, and where nobody sent anything it says what it said.
        let all_quiet = self.losses.are_none() && !self.sync.has_seen_frames();
        let redirected = if all_quiet { BTreeMap::new() } else { self.redirected()? };
        let busy: BTreeSet<u32> = redirected
            .iter()
            .filter_map(|(&pair, &frames)| self.losses.is_busy(pair, frames).then_some(pair))
            .collect();
        for domain in &mut self.domains {
            domain.poll(|pair| busy.contains(&pair)).await?;
        }
        self.chronicle.tell(mend::removed_filters(&self.directory, &self.topology, &mut self.domains));
        if !busy.is_empty() {
            let after = self.redirected()?;
            self.check_losses(&busy, &redirected, &after);
        }
        if self.domains.iter().any(Domain::has_lost_events) {
            self.look_anew().await?;
        }
        self.bring_maps(Confirm::Now).await?;
        for number in 0..self.domains.len() {
            let due = self.domains[number].due(&self.sync);
            for some in due.chunks(REFRESHED_AT_ONCE) {
                if self.domains[number].refresh(some).await? {
                    self.follow(number).await?;
                    self.stay().await?;
                }
            }
        }
        self.chronicle.tick();
        if std::mem::take(&mut self.has_worked) {
            memory::give_back();
        }
        self.looks = self.looks.wrapping_add(1);
        if self.failure.take().is_some() {
            info!("the agent goes on");
        }
        Ok(())
    }

    /// Has the lease go on. If it has run out we were stopped or starved: what the maps say is as old as that.
    async fn stay(&mut self) -> Result<(), Error> {
        if self.sync.lease_has_run_out(self.now_ns()?) {
            return self.look_anew().await;
        }
        self.renew_lease()
    }

    fn renew_lease(&mut self) -> Result<(), Error> {
        let now = self.now_ns()?;
        let lease = u64::try_from(LEASE.as_nanos()).unwrap_or(u64::MAX);
        let held_until = self.sync.lease_until();
        self.sync.lease(now.saturating_add(lease));
        if self.settled {
            self.chronicle.lease(held_until, Duration::from_nanos(now));
        }
        Ok(())
    }

    /// The time by which programs read the lease, in nanoseconds.
    fn now_ns(&self) -> Result<u64, Error> {
        Ok(u64::try_from(self.clock.now()?.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Frames that the fast path took to each pair.
    fn redirected(&self) -> Result<BTreeMap<u32, u64>, Error> {
        let pairs =
            || self.domains.iter().flat_map(|domain| &domain.known().0.ports).map(|port| port.counter);
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
        for domain in &mut self.domains {
            for (pair, inner, received) in domain.inner_ends() {
                let (Some(&before), Some(&after)) = (before.get(&pair), after.get(&pair)) else { continue };
                if busy.contains(&pair) {
                    let look = Look { inner, before, received, after };
                    domain.set_losing(pair, self.losses.note(pair, look, now));
                }
            }
        }
    }

    async fn bring_maps(&mut self, confirm: Confirm) -> Result<(), Error> {
        let news = self.domains.iter_mut().fold(false, |news, domain| domain.take_news_for_maps() | news);
        let known = (self.domains.len(), self.sync.generation());
        let is_done = !self.sync.has_announced() || confirm == Confirm::Later;
        if !news && self.brought == Some(known) && self.sync.fits() && is_done {
            self.chronicle.tell(self.domains.iter_mut().flat_map(Domain::take_news));
            return Ok(());
        }
        (self.brought, self.has_worked) = (Some(known), true);
        let desired = self.sync.desired(self.domains.iter().map(Domain::known));
        self.write(desired)?;
        if confirm == Confirm::Now {
            self.confirm().await?;
        }
        let gone = |bridge: &&Bridge| !self.domains.iter().any(|domain| domain.has(bridge));
        let gone = self.topology.bridges.iter().filter(gone);
        let missing = gone.map(|bridge| (bridge.place.to_string(), bridge.name.to_string())).collect();
        let standing = Standing::new(&self.topology, self.sync.current(), missing, self.sync.fits());
        self.chronicle.note(&self.topology, standing);
        self.chronicle.tell(self.domains.iter_mut().flat_map(Domain::take_news));
        Ok(())
    }

    /// Has programs use what was written, but for that of which there are news meanwhile. In a storm of
    /// events the last of them wait for the next time.
    async fn confirm(&mut self) -> Result<(), Error> {
        for _ in 0..ROUNDS {
            if !self.sync.has_announced() {
                break;
            }
            membarrier::grace_period();
            self.domains.iter_mut().try_for_each(Domain::take_in)?;
            if self.domains.iter().any(Domain::has_lost_events) {
                break;
            }
            // A port that has stopped forwarding meanwhile, say: only a look tells.
            for domain in &mut self.domains {
                domain.look_again().await?;
            }
            let desired = self.sync.desired(self.domains.iter().map(Domain::known));
            let announced = self.sync.take_announced()?;
            self.write(desired)?;
            self.sync.confirm(&announced);
        }
        Ok(())
    }

    fn write(&mut self, desired: Desired) -> Result<(), Error> {
        let receivers = desired.receivers.clone();
        self.sync.bring_to(desired)?;
        Ok(self.domains.iter_mut().try_for_each(|domain| domain.receive(&receivers))?)
    }
}

/// Whether the namespace of a place is not there.
fn is_missing(place: &Place) -> bool {
    matches!(place, Place::Namespace(name) if !netns::exists(name) || netns::is_left_over(name))
}

/// What tells a journal that has been read from one that says more: it is appended to, or another file.
fn version(directory: &Directory) -> Option<(u64, u64)> {
    fs::metadata(directory.journal()).ok().map(|journal| (journal.ino(), journal.len()))
}

/// Waits until a module of the kernel is loaded, of which there may be news any number of times.
async fn loaded(modules: &mut Option<Watch>) {
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

/// Waits until something has happened in a bridge namespace, takes it in, and tells which.
async fn something_happens(domains: &mut [Domain], not_before: Instant) -> Result<usize, kernel::Error> {
    tokio::time::sleep_until(not_before.into()).await;
    if domains.is_empty() {
        return std::future::pending().await;
    }
    let (result, number, _) = select_all(domains.iter_mut().map(|domain| Box::pin(domain.wait()))).await;
    result.map(|()| number)
}
