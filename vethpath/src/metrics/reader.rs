//! The privileged process: reads the counts of labs each time that the server asks.

use std::{
    collections::BTreeMap,
    io,
    net::TcpListener,
    os::fd::OwnedFd,
    pin::pin,
    process::Stdio,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use caps::Capability;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
    time::{interval, sleep},
};

use super::{
    exposition::{Account, Counted, Format, LabReading, exposition},
    figures::Figures,
};
use crate::{
    agent::NotArmed,
    kernel::{home::Intent, privileges, process},
    state::{self, Directory, JournalStamp, MetricsLock, Record},
    stats::{AgentView, Stats, collect},
    topology::{Datapath, LabName},
};

/// The number of labs that are read at once.
const TOGETHER: usize = 16;

/// How often the reader of a lab checks that the lab is there.
const CHECK: Duration = Duration::from_secs(5);

/// The labs that are read.
#[derive(Clone, Debug)]
pub enum Scope {
    /// One, which has started the process.
    Lab(LabName),
    /// All that are up, wherever they live.
    Machine,
}

/// What reading the counts of a lab takes: entering namespaces and opening maps, and reading links of another namespace
/// by its id.
const OF_A_LAB: &[Capability] = &[Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN];

/// What labs that live elsewhere take too: finding their namespaces by the processes in them, and entering their mount
/// namespaces.
const OF_THE_MACHINE: &[Capability] = &[
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_CHROOT,
];

/// Serves the metrics of labs at a listening socket, until SIGINT, SIGTERM or SIGHUP, or until the lab is gone. `ready`
/// is called once the server runs. Must be called in a tokio runtime.
///
/// # Errors
/// The server does not start, or ends. The lab has such a process already.
pub async fn run(listener: TcpListener, scope: Scope, ready: impl FnOnce()) -> io::Result<()> {
    let mut interrupt = pin!(process::interrupted());
    let address = listener.local_addr()?;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut server = Command::new("/proc/self/exe")
        .arg0("vethpath")
        .arg("metrics-server")
        .env_clear()
        .current_dir("/")
        // Ctrl-C is for this process, which then ends the server.
        .process_group(0)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::from(OwnedFd::from(theirs)))
        .kill_on_drop(true)
        .spawn()?;
    // The server has to give up its user itself, which takes capabilities. There is one thread yet.
    let kept = if matches!(scope, Scope::Machine) { OF_THE_MACHINE } else { OF_A_LAB };
    privileges::keep_only(kept).map_err(io::Error::other)?;
    let lock = match &scope {
        Scope::Lab(lab) => {
            let directory = Directory::of(lab);
            let pid = server.id().ok_or(io::ErrorKind::NotFound)?;
            let lock = MetricsLock::acquire_for(&directory, pid, address).map_err(io::Error::other)?;
            let another = || io::Error::other("another process serves the metrics of the lab");
            Some((lock.ok_or_else(another)?, directory))
        }
        Scope::Machine => None,
    };
    ready();
    let served = tokio::select! {
        biased;
        () = &mut interrupt => Ok(()),
        () = gone(lock.as_ref()) => Ok(()),
        served = answer(UnixStream::from_std(ours)?, Reader::new(scope)) => served,
    };
    let _ = server.kill().await;
    served
}

/// Waits until the lock's file has gone, with the lab.
async fn gone(lock: Option<&(MetricsLock, Directory)>) {
    let mut tick = interval(CHECK);
    loop {
        let _ = tick.tick().await;
        if lock.is_some_and(|(lock, directory)| !lock.is_current(directory)) {
            return;
        }
    }
}

/// Replies to each request of the server, until the server ends. Takes at most half of a CPU.
async fn answer(mut server: UnixStream, mut reader: Reader) -> io::Result<()> {
    loop {
        let mut request = [0];
        if server.read(&mut request).await? == 0 {
            return Err(io::Error::other("the process that listens has ended"));
        }
        let began = Instant::now();
        let text = exposition(reader.read(), Format::of_byte(request[0])).map_err(io::Error::other)?;
        server.write_all(&(text.len() as u64).to_le_bytes()).await?;
        server.write_all(text.as_bytes()).await?;
        drop(text);
        sleep(began.elapsed()).await;
    }
}

/// Reads labs. Keeps their records, and what was exposed before.
#[derive(Debug)]
pub struct Reader {
    scope: Scope,
    records: BTreeMap<LabName, (JournalStamp, Arc<Record>)>,
    before: BTreeMap<LabName, BTreeMap<String, Figures>>,
}

impl Reader {
    /// A reader that has read nothing.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { scope, records: BTreeMap::new(), before: BTreeMap::new() }
    }

    /// Reads the labs that are up.
    pub(super) fn read(&mut self) -> Vec<LabReading> {
        let is_machine = matches!(self.scope, Scope::Machine);
        let names = match &self.scope {
            Scope::Lab(lab) => vec![lab.clone()],
            // Without the folder there are none.
            Scope::Machine => state::known_labs().unwrap_or_default(),
        };
        let records: Vec<_> =
            names.iter().filter_map(|lab| Some((lab, self.record(lab).transpose()?.ok()))).collect();
        let mut accounts = Vec::with_capacity(records.len());
        for some in records.chunks(TOGETHER) {
            thread::scope(|scope| {
                // Threads of their own: one may enter the namespaces of its lab.
                let threads: Vec<_> = some
                    .iter()
                    .map(|(_, record)| {
                        let record = record.as_deref();
                        scope.spawn(move || record.and_then(|record| account(record, is_machine)))
                    })
                    .collect();
                // A lab whose thread has panicked is one that cannot be read.
                accounts.extend(threads.into_iter().map(|thread| thread.join().ok().flatten()));
            });
        }
        let mut labs = Vec::with_capacity(records.len());
        for ((lab, _), account) in records.iter().zip(accounts) {
            labs.push(LabReading { lab: (*lab).clone(), account: account.map(|read| self.exposed(read)) });
        }
        self.records.retain(|lab, _| names.contains(lab));
        self.before.retain(|lab, _| names.contains(lab));
        labs
    }

    /// The record of a lab, which is parsed only where the journal has changed. `None` if the lab is not up.
    fn record(&mut self, lab: &LabName) -> state::Result<Option<Arc<Record>>> {
        let directory = Directory::of(lab);
        let stamp = Record::stamp(&directory);
        if let (Some((known, record)), Some(stamp)) = (self.records.get(lab), stamp)
            && *known == stamp
        {
            return Ok(Some(Arc::clone(record)));
        }
        let Some(record) = Record::of_lab(&directory)?.map(Arc::new) else { return Ok(None) };
        if let Some(stamp) = stamp {
            let _ = self.records.insert(lab.clone(), (stamp, Arc::clone(&record)));
        }
        Ok(Some(record))
    }

    /// The account of a lab, none of whose counters is below what was exposed before.
    fn exposed(&mut self, (stats, words): Read) -> Account {
        let mut before = self.before.remove(&stats.lab).unwrap_or_default();
        let Stats { lab, agent, pairs, former, trunks } = stats;
        // An agent of an earlier version has no words.
        let otherwise = if agent.alive { "unknown" } else { "no-agent" };
        let guests = pairs.iter().filter(|pair| pair.guest).count();
        let pairs: Vec<Counted> = pairs
            .into_iter()
            .map(|pair| {
                let mut figures = Figures::of_pair(&pair);
                if let Some(before) = before.remove(&pair.name) {
                    figures.not_below(&before);
                }
                let reason = match pair.datapath {
                    // With or without an agent.
                    Datapath::Bridge => Some(NotArmed::NotWanted.word().to_owned()),
                    _ => Counted::reason(&pair.state, words.get(&pair.name), otherwise),
                };
                Counted { bridge: pair.bridge.to_string(), figures, reason, name: pair.name }
            })
            .collect();
        let exposed = pairs.iter().map(|pair| (pair.name.clone(), pair.figures.clone())).collect();
        let _ = self.before.insert(lab, exposed);
        let trunks = trunks.into_iter().map(|trunk| Counted {
            bridge: String::new(),
            figures: Figures::of_directions(&trunk.total, &trunk.fast),
            reason: Counted::reason(&trunk.state, words.get(&trunk.name), otherwise),
            name: trunk.name,
        });
        Account { agent, pairs, guests, former: former.as_ref().map(Figures::of), trunks: trunks.collect() }
    }
}

/// The account of a lab, and the words for why pairs are not armed.
type Read = (Stats, BTreeMap<String, String>);

/// Reads a lab. `None` if it cannot be read, which `stats` explains.
fn account(record: &Record, may_be_elsewhere: bool) -> Option<Read> {
    let topology = &record.topology;
    if may_be_elsewhere {
        let directory = Directory::of(&topology.lab);
        let route = Record::route(record.home.as_ref(), &directory).ok()?;
        match route {
            Some(route) if route.obstacle(Intent::Read).is_some() => return None,
            Some(route) => route.follow().ok()?,
            None => {}
        }
    }
    let view = AgentView::of(&topology.lab);
    let words = view.words();
    Some((collect(topology, view, None).ok()?, words))
}
