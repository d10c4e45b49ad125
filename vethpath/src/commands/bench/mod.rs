//! `vethpath bench`.

mod files;

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};

use self::files::Page;
use super::{Exit, Failure, accelerate, failure::runtime, labs, up};
use crate::{
    apply::{self, Foreign},
    bench::{
        self, AtBridge, Beside, Comparison, Cores, Progress, Report, Request, Shape, Subject, TemporaryLab,
        Wish,
    },
    cli::{BenchArgs, CoresArg},
    kernel::{Adoptions, Netns, home::Intent},
    output::{
        bench::{self as output, Document},
        json,
    },
    state::Record,
    topology::{IfName, LabName, NameError, NsName, Place, Topology},
};

/// Measures, prints the results, and writes the page if requested.
pub fn run(arguments: &BenchArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    up::privileged()?;
    // Reports files that cannot be read or written before the measurement, which takes minutes.
    let former = arguments.compare.as_deref().map(files::former).transpose()?;
    let page = arguments.html.as_deref().map(Page::at).transpose()?;
    let report = runtime()?.block_on(measure(arguments))?;
    let comparison = former.map(|former| Comparison::of(&former, &report));
    let document = Document { report: &report, compare: comparison.as_ref() };
    // Files are written first, so that a closed stdout does not affect them.
    let written = page.map_or(Ok(()), |page| page.write(document));
    let printed = if arguments.json.json { json(&document, out) } else { text(document, out) };
    printed.map_err(Failure::output)?;
    let _ = out.flush();
    let _ = output::warnings(&report, &mut io::stderr().lock());
    written.map(|()| Exit::Done)
}

fn text(document: Document<'_>, out: &mut dyn Write) -> io::Result<()> {
    output::text(document.report, out)?;
    document.compare.map_or(Ok(()), |comparison| output::compare(comparison, out))
}

async fn measure(arguments: &BenchArgs) -> Result<Report, Failure> {
    let is_at_bridge = arguments.bridge.is_some();
    let request = Request {
        between: if is_at_bridge { None } else { between(arguments)? },
        bridge: None,
        wish: wish(arguments),
        time: Duration::from_secs(arguments.seconds),
        seed: arguments.seed,
    };
    if let Some(bridge) = &arguments.bridge {
        return at_bridge(arguments, bridge, request).await;
    }
    match shape(arguments) {
        None => {
            let (lab, _) = labs::named(arguments.lab.lab.as_deref())?;
            let _ = labs::record_of(&lab)?;
            labs::enter(&lab, Intent::Change)?;
            on_lab(&lab, &request, arguments.xdp).await
        }
        Some(shape) => {
            let TemporaryLab { topology, between } = TemporaryLab::of(shape).map_err(bench::Error::from)?;
            let request = Request { between: Some(between), ..request };
            with_lab(&topology, async |record| on_lab(&record.topology.lab, &request, arguments.xdp).await)
                .await
        }
    }
}

/// Measures a bridge: in the lab that accelerates it, or in one that is made for that.
async fn at_bridge(arguments: &BenchArgs, bridge: &str, request: Request) -> Result<Report, Failure> {
    let topology = accelerate::topology(bridge, arguments.namespace.as_deref())?;
    let bridge = bridge.parse::<IfName>().map_err(|error| wrong(&error))?;
    let place = topology.adopted.first().map_or(Place::Host, |adopted| adopted.place.clone());
    // A lab may have adopted the namespace by another name.
    let inode = |place: &Place| Netns::of(place).and_then(|netns| netns.inode()).ok();
    let there = inode(&place);
    let is_there = |place: &Place| there.is_some() && inode(place) == there;
    let of_lab = |(lab, record): labs::Found| {
        let record = record.ok()?;
        let mut bridges = record.topology.bridges_with_guests();
        let (place, _) = bridges.find(|(place, name)| **name == bridge && is_there(place))?;
        Some((lab, place.clone()))
    };
    let lab = labs::all()?.into_iter().find_map(of_lab);
    let place = lab.as_ref().map_or(place, |(_, place)| place.clone());
    let between = arguments.from.clone().zip(arguments.to.clone());
    let request = Request { bridge: Some(AtBridge { place, bridge: bridge.clone(), between }), ..request };
    match lab {
        Some((lab, _)) => {
            labs::enter(&lab, Intent::Change)?;
            on_lab(&lab, &request, arguments.xdp).await
        }
        None => {
            with_lab(&topology, async |record| on_lab(&record.topology.lab, &request, arguments.xdp).await)
                .await
        }
    }
}

/// Measures a lab that is up. With `xdp`, a second lab is measured next to it.
async fn on_lab(lab: &LabName, request: &Request, xdp: bool) -> Result<Report, Failure> {
    let subject = Subject::of(lab, request, up::report_busy).await?;
    let run = async |beside: Option<Beside<'_>>| {
        with_progress(async |progress| bench::run(&subject, beside, request, progress).await).await
    };
    if !xdp {
        return run(None).await;
    }
    let TemporaryLab { topology, between } = subject.on_xdp()?;
    with_lab(&topology, async |record| run(Some(Beside { record, between: &between })).await).await
}

/// Brings a lab up, runs `work` and takes the lab down, also if `work` fails.
async fn with_lab<T>(
    topology: &Topology,
    work: impl AsyncFnOnce(&Record) -> Result<T, Failure>,
) -> Result<T, Failure> {
    // Handle SIGHUP from now on, so that a closed terminal does not end the process halfway.
    let _hangup = signal(SignalKind::hangup()).map_err(|error| Failure::system(error.to_string()))?;
    let _ = apply::up(topology, Adoptions::default(), apply::Options::default()).await?;
    let done = match labs::record_of(&topology.lab) {
        Ok(record) => work(&record).await,
        Err(failure) => Err(failure),
    };
    // The lab is temporary: foreign devices do not keep it, unless the bridge is another program's.
    let foreign = if topology.adopted.is_empty() { Foreign::CutOff } else { Foreign::Kept };
    match apply::down(&topology.lab, Some(topology), foreign, up::report_busy).await {
        Ok(_) => done,
        Err(left) => {
            let left: Vec<_> = left.iter().map(ToString::to_string).collect();
            let hint = format!("`vethpath down {}` tries again", topology.lab);
            Err(Failure::system(left.join("\n")).hint(hint))
        }
    }
}

/// The interval of progress lines without a terminal, as in the log of a CI.
const NOW_AND_THEN: Duration = Duration::from_secs(5);

/// Shows the progress on a terminal. Without one, prints a line at once and then every `NOW_AND_THEN`.
async fn with_progress(
    run: impl AsyncFnOnce(&mut dyn FnMut(Progress)) -> Result<Report, bench::Error>,
) -> Result<Report, Failure> {
    let terminal = io::stderr().is_terminal();
    let mut printed_at: Option<Instant> = None;
    let mut progress = |progress: Progress| {
        // A closed stderr does not affect the figures.
        if terminal {
            let _ = output::progress(progress, &mut io::stderr().lock());
        } else if printed_at.is_none_or(|at| at.elapsed() >= NOW_AND_THEN) {
            printed_at = Some(Instant::now());
            let _ = output::progress_line(progress, &mut io::stderr().lock());
        }
    };
    let done = run(&mut progress).await;
    if terminal {
        let _ = output::no_progress(&mut io::stderr().lock());
    }
    Ok(done?)
}

fn shape(arguments: &BenchArgs) -> Option<Shape> {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let chain = arguments.chain.map(|bridges| Shape::Chain(number(bridges)));
    chain.or_else(|| arguments.hosts.map(|hosts| Shape::Hosts(number(hosts))))
}

fn wish(arguments: &BenchArgs) -> Wish {
    let BenchArgs { work, all, size, wait, cores, .. } = arguments;
    let cores = match cores {
        None => vec![],
        Some(CoresArg::Same) => vec![Cores::Same],
        Some(CoresArg::Cross) => vec![Cores::Cross],
        Some(CoresArg::Both) => vec![Cores::Same, Cores::Cross],
    };
    let sizes = size.iter().map(|&size| usize::try_from(size).unwrap_or(usize::MAX)).collect();
    Wish { work: work.clone(), all: *all, sizes, waits: wait.clone(), cores }
}

fn between(arguments: &BenchArgs) -> Result<Option<(NsName, NsName)>, Failure> {
    let name = |text: &String| text.parse().map_err(|error| wrong(&error));
    match (&arguments.from, &arguments.to) {
        (Some(from), Some(to)) => Ok(Some((name(from)?, name(to)?))),
        _ => Ok(None),
    }
}

fn wrong(error: &NameError) -> Failure {
    Failure::request(error.to_string()).hint("`vethpath show` lists the lab's namespaces")
}

impl From<bench::Error> for Failure {
    fn from(error: bench::Error) -> Self {
        if matches!(error, bench::Error::Interrupted) {
            return Self::interrupted();
        }
        let message = error.to_string();
        let failure = if error.is_request() { Self::request(message) } else { Self::system(message) };
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
