//! The view of `stats --watch`: connects the terminal, signals, events and accounts with [`App`].

use std::{
    io,
    pin::pin,
    sync::{Arc, mpsc as requests},
    thread,
    time::{Duration, Instant},
};

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use super::{
    Exit, Failure,
    failure::runtime,
    source::{Source, add_round_trips},
};
use crate::{
    apply,
    kernel::process::interrupted,
    state::{Directory, events::Follower, test_hooks},
    stats::{self, SortKey},
    topology::{LabName, Topology},
    watch::{App, Facts, Flow, Look, Options, Sample, Screen, facts},
};

/// Shows the view until the user quits, a signal arrives, or the lab goes down, which is an error as in every command
/// that needs it.
pub(super) fn run(
    source: Source,
    period: Duration,
    sort: SortKey,
    pair: &str,
    rtt: bool,
) -> Result<Exit, Failure> {
    let look = Look::of_environment();
    let options = Options { sort, filter: pair.to_owned(), interval: period, look, rtt };
    let runtime = runtime()?;
    let done = runtime.block_on(show(source, options));
    // A thread may be waiting for a key.
    runtime.shutdown_background();
    done
}

async fn show(source: Source, options: Options) -> Result<Exit, Failure> {
    let refused = |error| Failure::system(format!("cannot listen for signals: {error}"));
    // A signal is not lost from here on.
    let mut interrupt = pin!(interrupted());
    let mut stops = signal(SignalKind::from_raw(nix::libc::SIGTSTP)).map_err(refused)?;
    let mut continues = signal(SignalKind::from_raw(nix::libc::SIGCONT)).map_err(refused)?;
    let mut quits = signal(SignalKind::quit()).map_err(refused)?;
    let lab = source.lab().clone();
    let mut tick = interval(options.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reader = Reader::start(source)?;
    let Some(first) = reader.first(interrupt.as_mut()).await? else { return Ok(Exit::Done) };
    let mut events = Follower::of(&Directory::of(&lab)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => gone(&lab),
        _ => Failure::system(format!("cannot read the lab's events: {error}")),
    })?;
    let mut app = App::new(options, first);
    let mut screen = Screen::open().map_err(broken)?;
    let mut keys = EventStream::new();
    let mut is_changed = true;
    loop {
        if std::mem::replace(&mut is_changed, true) {
            screen.draw(&mut app).map_err(broken)?;
        }
        tokio::select! {
            // What ends this comes first.
            biased;
            () = interrupt.as_mut() => return Ok(Exit::Done),
            _ = quits.recv() => return Ok(Exit::Done),
            _ = stops.recv() => screen.suspend().map_err(broken)?,
            _ = continues.recv() => screen.reopen().map_err(broken)?,
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if app.on_key(key) == Flow::Quit => return Ok(Exit::Done),
                // A new size is drawn as well.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(broken(error)),
                None => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
            },
            sample = reader.reply() => {
                app.on_sample(sample?);
                test_hooks::panic_point("view");
            }
            there = events.next() => match there {
                Ok(Some(events)) => app.on_events(&events),
                Ok(None) => return Err(gone(&lab)),
                Err(error) => return Err(Failure::system(format!("cannot read the lab's events: {error}"))),
            },
            _ = tick.tick() => {
                let request = Request { matrix: app.wants_matrix(), round_trips: app.wanted_round_trips() };
                is_changed = app.on_silence(reader.ask(request));
            }
        }
    }
}

fn gone(lab: &LabName) -> Failure {
    apply::Error::NoLab(lab.clone()).into()
}

fn broken(error: io::Error) -> Failure {
    Failure::system(format!("cannot use the terminal: {error}"))
}

/// What a sample has besides the account.
#[derive(Default)]
struct Request {
    matrix: bool,
    /// The names of the pairs with round-trip times.
    round_trips: Vec<String>,
}

/// Reads samples on a thread of its own, one at a time.
struct Reader {
    requests: requests::Sender<Request>,
    replies: mpsc::UnboundedReceiver<Result<Sample, Failure>>,
    /// When the request was made that has no reply yet.
    since: Option<Instant>,
}

impl Reader {
    fn start(source: Source) -> Result<Self, Failure> {
        let (requests, inbox) = requests::channel();
        let (outbox, replies) = mpsc::unbounded_channel();
        let read = move || {
            let mut sampler = Sampler { source, facts: None };
            for request in inbox {
                if outbox.send(sampler.sample(&request)).is_err() {
                    break;
                }
                // The second one is read while the view is shown.
                test_hooks::panic_point("reader");
            }
        };
        // It inherits the namespaces of the lab from this one.
        let thread = thread::Builder::new().name("counters".to_owned()).spawn(read);
        let _ = thread.map_err(|error| Failure::system(format!("cannot create a thread: {error}")))?;
        Ok(Self { requests, replies, since: None })
    }

    /// The first sample. `None` if an interrupt comes before it.
    async fn first(
        &mut self,
        interrupt: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Sample>, Failure> {
        let _ = self.ask(Request::default());
        tokio::select! {
            () = interrupt => Ok(None),
            sample = self.reply() => sample.map(Some),
        }
    }

    /// Asks for a sample, unless one is being read. Returns for how long it is.
    fn ask(&mut self, request: Request) -> Duration {
        if let Some(since) = self.since {
            return since.elapsed();
        }
        // If the thread has ended, there is no reply, which is the error.
        let _ = self.requests.send(request);
        self.since = Some(Instant::now());
        Duration::ZERO
    }

    /// The reply to a request. Cancel safe.
    async fn reply(&mut self) -> Result<Sample, Failure> {
        let reply = self.replies.recv().await;
        self.since = None;
        reply.unwrap_or_else(|| Err(Failure::system("the thread that reads counters has ended")))
    }
}

struct Sampler {
    source: Source,
    facts: Option<(Arc<Topology>, Arc<Facts>)>,
}

impl Sampler {
    fn sample(&mut self, request: &Request) -> Result<Sample, Failure> {
        let (mut stats, topology) = self.source.account()?;
        let at = self.source.read_at();
        if !request.round_trips.is_empty() {
            let is_wanted = |name: &str| request.round_trips.iter().any(|wanted| wanted == name);
            add_round_trips(&mut stats, &topology, is_wanted)?;
        }
        let flows = if request.matrix { Some(stats::matrix(&topology)?) } else { None };
        let facts = match &self.facts {
            Some((of, facts)) if Arc::ptr_eq(of, &topology) => Arc::clone(facts),
            _ => {
                let facts = Arc::new(facts(&topology));
                self.facts = Some((topology, Arc::clone(&facts)));
                facts
            }
        };
        Ok(Sample { at, stats, flows, facts })
    }
}
