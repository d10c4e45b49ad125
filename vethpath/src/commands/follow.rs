//! `vethpath up --follow`: brings a lab up, and converges it again when a container of its file starts, or when a path of
//! `adopt` leads to another namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{
    Exit, Failure,
    failure::runtime,
    labs,
    up::{self, Report, Request},
};
use crate::{
    apply::{self, Outcome},
    kernel::{
        engine::{self, Engine, Found, Started},
        process::interrupted,
    },
    output::{self, count, printable},
    state::{self, Directory, events},
    topology::{Adopt, Container, LabName, Runtime, Topology},
};

/// The pause between two attempts to reach an engine.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two attempts, to reach one that listens and ends at once.
const MOST_PAUSE: Duration = Duration::from_secs(10);

/// The pause before another attempt to converge that no event announces.
const RETRY: Duration = Duration::from_secs(2);

/// So much longer is that after a fault of the file, or a failure.
const SLOWER: u32 = 5;

/// How often paths of adopted namespaces are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// The events of engines that are queued. More wait in the engines' sockets.
const QUEUED: usize = 64;

/// What an engine says.
enum Signal {
    /// Its starts are received from now on.
    Listens(Runtime),
    /// They are not any more, or not yet.
    Lost(Runtime, engine::Error),
    /// A container has started.
    Started(Runtime, Started),
}

/// Why the lab is not converged.
enum Failed {
    /// It was taken down.
    Down,
    /// The user has interrupted it, and the lab is as before.
    Interrupted,
    /// There is a fault. If it is `silent`, no event tells when it is gone.
    Fault { failure: Failure, silent: bool },
}

/// Follows a lab. Ends when it is taken down, or with Ctrl-C, which leaves it up.
pub fn run(file: &Path, request: &Request, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    runtime()?.block_on(follow(file, request, json, out))
}

async fn follow(file: &Path, request: &Request, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    // A signal is not lost from here on.
    let mut interrupt = pin!(interrupted());
    let topology = labs::topology_with_warnings(file, request.overrides)?;
    let is_moved = up::enter(&topology)?;
    let (sender, mut signals) = mpsc::channel(QUEUED);
    let mut follower = Follower::of(file, request, topology.lab.clone(), sender);
    let found = find(&topology, interrupt.as_mut()).await.ok_or_else(Failure::interrupted)?;
    if let Some(fault) = found.missing.iter().find(|error| !error.is_waited_for()) {
        return Err(std::slice::from_ref(fault).into());
    }
    up::check(&topology, &found.adoptions, request.allow_drops)?;
    if interrupt.as_mut().now_or_never().is_some() {
        return Err(Failure::interrupted());
    }
    follower.observe(&topology, &found.missing);
    let done = apply::up(&topology, found.adoptions, up::options(request, is_moved)).await;
    up::clear_progress();
    let outcome = done.map_err(|error| up::failure(file, error))?;
    let lab = topology.lab.clone();
    if json {
        follower.print_json(&outcome, out)?;
    }
    up::report(topology, &outcome, false, out)?;
    follower.say(&format!("following lab {lab}{}; Ctrl-C leaves it up", follower.what()));
    let mut events = match events::Follower::of(&Directory::of(&lab)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(follower.is_down()),
        events => events.map_err(|error| Failure::system(format!("cannot follow lab `{lab}`: {error}")))?,
    };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let retry = follower.retry;
        let cause = tokio::select! {
            // What ends this comes first.
            biased;
            () = &mut interrupt => return Ok(follower.leaves()),
            there = events.next() => match there {
                Ok(Some(_)) => None,
                Ok(None) => return Ok(follower.is_down()),
                Err(error) => return Err(Failure::system(format!("cannot follow lab `{lab}`: {error}"))),
            },
            Some(signal) = signals.recv() => follower.cause(signal),
            () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => Some("tried again".to_owned()),
            _ = ticks.tick(), if !follower.paths.is_empty() => follower.moved(),
        };
        let Some(cause) = cause else { continue };
        // One convergence is enough for all that is known by now.
        while let Ok(signal) = signals.try_recv() {
            let _ = follower.cause(signal);
        }
        match follower.converge(interrupt.as_mut()).await {
            Ok(outcome) if outcome.changes.is_empty() => {}
            Ok(outcome) => {
                if json {
                    follower.print_json(&outcome, out)?;
                }
                follower.print(&cause, &outcome);
            }
            Err(Failed::Down) => return Ok(follower.is_down()),
            Err(Failed::Interrupted) => {
                follower.say("interrupted: this convergence is undone");
                return Ok(follower.leaves());
            }
            Err(Failed::Fault { failure, silent }) => {
                if failure.is_interruption() {
                    return Err(failure);
                }
                follower.fault(&failure, silent);
            }
        }
    }
}

/// Asks the engines for the containers of a lab. `None` if the user interrupts that.
async fn find(topology: &Topology, interrupt: Pin<&mut impl Future<Output = ()>>) -> Option<Found> {
    tokio::select! {
        biased;
        () = interrupt => None,
        found = engine::find(topology.containers()) => Some(found),
    }
}

/// The state of a lab that is followed.
struct Follower<'a> {
    file: &'a Path,
    request: &'a Request,
    lab: LabName,
    /// The containers of the file as it was read last.
    containers: BTreeSet<Container>,
    /// Its paths, with device and inode of the namespace that each led to then.
    paths: Vec<(String, Option<(u64, u64)>)>,
    /// The tasks that receive the starts of an engine.
    engines: JoinSet<()>,
    /// The engines that have one.
    known: BTreeSet<Runtime>,
    /// Those that do not answer, with the reason.
    lost: BTreeMap<Runtime, String>,
    signals: mpsc::Sender<Signal>,
    /// The containers that are waited for, as they were printed.
    waited: BTreeSet<String>,
    /// The fault that was printed last.
    fault: Vec<u8>,
    /// When to converge without an event.
    retry: Option<Instant>,
}

impl<'a> Follower<'a> {
    fn of(file: &'a Path, request: &'a Request, lab: LabName, signals: mpsc::Sender<Signal>) -> Self {
        Self {
            file,
            request,
            lab,
            containers: BTreeSet::new(),
            paths: Vec::new(),
            engines: JoinSet::new(),
            known: BTreeSet::new(),
            lost: BTreeMap::new(),
            signals,
            waited: BTreeSet::new(),
            fault: Vec::new(),
            retry: None,
        }
    }

    /// Follows what the file adopts by now, and prints which containers are missing.
    fn observe(&mut self, topology: &Topology, missing: &[engine::Error]) {
        self.containers = topology.containers().cloned().collect();
        let adopted = topology.namespaces.iter().filter_map(|namespace| namespace.adopt.as_ref());
        let paths = adopted.filter_map(|adopt| match adopt {
            Adopt::Path(path) => Some((path.clone(), namespace_at(path))),
            Adopt::Container(_) => None,
        });
        self.paths = paths.collect();
        let runtimes: BTreeSet<_> = self.containers.iter().map(|container| container.runtime).collect();
        for runtime in runtimes {
            // One that the environment does not name right is among the missing.
            if let Ok(engine) = Engine::of(runtime)
                && self.known.insert(runtime)
            {
                let _ = self.engines.spawn(receive(runtime, engine, self.signals.clone()));
            }
        }
        self.retry = missing.iter().any(engine::Error::is_silent).then(|| Instant::now() + RETRY);
        let now: BTreeSet<String> = missing.iter().map(ToString::to_string).collect();
        for error in missing.iter().filter(|error| !self.waited.contains(&error.to_string())) {
            let what = if error.is_waited_for() { "waiting" } else { "error" };
            self.say(&format!("{what}: {error}"));
            if let Some(hint) = error.hint().filter(|_| !matches!(error, engine::Error::NotRunning { .. })) {
                self.say(&format!("hint: {hint}"));
            }
        }
        self.waited = now;
    }

    /// What is followed, for a sentence.
    fn what(&self) -> String {
        let containers = self.containers.iter().map(ToString::to_string);
        let paths = self.paths.iter().map(|(path, _)| path.clone());
        match containers.chain(paths).collect::<Vec<_>>() {
            all if all.is_empty() => ", which adopts no namespace".to_owned(),
            all => format!(": {}", all.join(", ")),
        }
    }

    /// Why the lab is to be converged, if it is.
    fn cause(&mut self, signal: Signal) -> Option<String> {
        match signal {
            Signal::Listens(runtime) => {
                let _ = self.lost.remove(&runtime);
                Some(format!("{runtime} listens"))
            }
            Signal::Lost(runtime, error) => {
                let text = error.to_string();
                let is_known = self.lost.insert(runtime, text.clone()).as_ref() == Some(&text);
                if !is_known && !self.waited.contains(&text) {
                    self.say(&format!("waiting: {text}"));
                }
                None
            }
            Signal::Started(runtime, started) => {
                let is_it =
                    |container: &&Container| container.runtime == runtime && started.is(&container.name);
                self.containers.iter().find(is_it).map(|container| format!("{container} has started"))
            }
        }
    }

    /// The path that leads to another namespace by now.
    fn moved(&self) -> Option<String> {
        let is_moved = |(path, was): &&(String, Option<(u64, u64)>)| {
            namespace_at(path).is_some_and(|now| Some(now) != *was)
        };
        self.paths.iter().find(is_moved).map(|(path, _)| format!("{path} leads to another namespace"))
    }

    /// Reads the file again, and converges the lab to it.
    async fn converge(&mut self, interrupt: Pin<&mut impl Future<Output = ()>>) -> Result<Outcome, Failed> {
        self.retry = None;
        let fault = |failure| Failed::Fault { failure, silent: false };
        let topology = labs::topology(self.file, self.request.overrides).map_err(fault)?;
        if topology.lab != self.lab {
            let message = format!("{} is about lab `{}` by now", self.file.display(), topology.lab);
            let hint = format!("bring that one up by an `up` of its own, or write `name = \"{}\"`", self.lab);
            return Err(fault(Failure::request(message).hint(hint)));
        }
        let _ = up::enter(&topology).map_err(fault)?;
        let found = find(&topology, interrupt).await.ok_or(Failed::Interrupted)?;
        self.observe(&topology, &found.missing);
        let done = apply::up(&topology, found.adoptions, up::options(self.request, true)).await;
        up::clear_progress();
        match done {
            Ok(outcome) => {
                self.fault.clear();
                Ok(outcome)
            }
            Err(apply::Error::WentDown(_)) => Err(Failed::Down),
            Err(apply::Error::Interrupted) => Err(Failed::Interrupted),
            Err(error) => {
                let silent = matches!(error, apply::Error::State(state::Error::Busy { .. }));
                Err(Failed::Fault { failure: up::failure(self.file, error), silent })
            }
        }
    }

    /// Prints a fault, once while it lasts.
    fn fault(&mut self, failure: &Failure, silent: bool) {
        let mut text = Vec::new();
        let _ = failure.report(&mut text);
        if text != self.fault {
            // A closed stderr does not affect the lab.
            let _ = io::stderr().lock().write_all(&text);
            self.say(&format!("note: lab {} stays as it is, and is followed further", self.lab));
            self.fault = text;
        }
        // Nothing says when the file is right again, or why a failure passes.
        self.retry = Some(Instant::now() + if silent { RETRY } else { RETRY * SLOWER });
    }

    fn print(&self, cause: &str, outcome: &Outcome) {
        let Outcome { changes, warnings, status, .. } = outcome;
        let armed = status.ports.values().filter(|state| state.is_none()).count();
        let (changes, pairs) = (count(changes.len(), "change"), count(status.ports.len(), "pair"));
        self.say(&format!("lab {}: {cause}: {changes}, {armed} of {pairs} armed", self.lab));
        warnings.iter().for_each(|warning| self.say(&format!("warning: {warning}")));
    }

    fn print_json(&self, outcome: &Outcome, out: &mut dyn Write) -> Result<(), Failure> {
        let report = Report { lab: self.lab.as_str(), changes: &outcome.changes };
        output::json_line(&report, out).and_then(|()| out.flush()).map_err(Failure::output)
    }

    fn is_down(&self) -> Exit {
        self.say(&format!("lab {} is down", self.lab));
        Exit::Done
    }

    fn leaves(&self) -> Exit {
        self.say(&format!("lab {} stays up, and is not followed any more", self.lab));
        Exit::Done
    }

    /// Prints a line to standard error. A closed one does not affect the lab.
    fn say(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", printable(line));
    }
}

/// Sends what an engine says. Connects again whenever it ends. One that listens and ends at once, again and again, is
/// asked less and less often.
async fn receive(runtime: Runtime, engine: Engine, signals: mpsc::Sender<Signal>) {
    let mut pause = PAUSE;
    loop {
        let began = Instant::now();
        let mut has_listened = false;
        let error = match engine.starts().await {
            Err(error) => error,
            Ok(mut starts) => {
                has_listened = true;
                let mut signal = Signal::Listens(runtime);
                loop {
                    if signals.send(signal).await.is_err() {
                        return;
                    }
                    signal = match starts.next().await {
                        Ok(started) => Signal::Started(runtime, started),
                        Err(error) => break error,
                    };
                }
            }
        };
        if signals.send(Signal::Lost(runtime, error)).await.is_err() {
            return;
        }
        pause = match has_listened && began.elapsed() < MOST_PAUSE {
            true => (pause * 2).min(MOST_PAUSE),
            false => PAUSE,
        };
        sleep(pause).await;
    }
}

/// Device and inode of a namespace's file; `None` if there is none.
fn namespace_at(path: &str) -> Option<(u64, u64)> {
    fs::metadata(path).map(|there| (there.dev(), there.ino())).ok()
}
