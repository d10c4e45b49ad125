//! The lag of the agent: the time from the return of a command that changes something to the last frame that still went
//! the old way, on an accelerated bridge. An ordinary bridge obeys before the command returns.
//!
//! A host sends numbered datagrams to another one while a command of `ip`, `bridge`, `nft` or `tc` runs. The kernel
//! records when each arrives, and nobody reads them meanwhile, so the receiver causes no wake-ups. Every command is
//! undone, and the next trial begins when all frames are fast again, plus a random time of up to a second: the agent
//! also does something once a second.
//!
//! Each change is measured on each datapath, idle and with a thread on every CPU that spins. `--datapath bridge`
//! measures an ordinary bridge in the same way, to check the method.
//!
//! As root: `cargo bench --bench lag [-- --trials N] [--only CHANGE] [--datapath tc|xdp|bridge] [--busy|--idle]`. It
//! needs `ip`, `bridge`, `tc` and `nft`. The lab is in private namespaces, which end with the benchmark. It prints
//! Markdown rows; progress and trials that were put aside are reported on standard error.

mod lab;
#[expect(clippy::unwrap_used, reason = "a benchmark that cannot run has nothing to say")]
#[path = "../frames/private.rs"]
mod private;
mod trial;

use std::{
    env, fs, hint,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use lab::{Change, Lab};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use trial::{Stop, Trial, joined};

/// The error says what was tried, and why it failed.
type Result<T> = std::result::Result<T, String>;

/// The values of `--datapath`. Without it, the first two are measured.
const DATAPATHS: [&str; 3] = ["tc", "xdp", "bridge"];

/// Trials of each case, without `--trials`.
const TRIALS: usize = 50;

/// A case ends after this many trials that failed.
const MOST_ASIDE: usize = 5;

/// Progress is reported once in this many trials.
const REPORT: usize = 10;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if !private::is_inside() {
        return private::start();
    }
    match measure(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("too few trials of some cases");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is measured.
struct Arguments {
    trials: usize,
    changes: Vec<Change>,
    datapaths: Vec<&'static str>,
    loads: Vec<Load>,
}

impl Arguments {
    /// Reads the command line.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            trials: TRIALS,
            changes: Change::ALL.to_vec(),
            datapaths: DATAPATHS[..2].to_vec(),
            loads: vec![Load::Idle, Load::Busy],
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                // Cargo passes it to every benchmark.
                "--bench" => {}
                "--busy" => arguments.loads = vec![Load::Busy],
                "--idle" => arguments.loads = vec![Load::Idle],
                "--trials" => {
                    let text = value()?;
                    let number = text.parse::<usize>().ok().filter(|&number| number > 0);
                    arguments.trials =
                        number.ok_or_else(|| format!("--trials {text}: no positive number"))?;
                }
                "--only" => {
                    let text = value()?;
                    let change = Change::ALL.into_iter().find(|change| change.name() == text);
                    let names = Change::ALL.map(Change::name).join(", ");
                    arguments.changes = vec![change.ok_or_else(|| format!("--only {text}: not of {names}"))?];
                }
                "--datapath" => {
                    let text = value()?;
                    let datapath = DATAPATHS.into_iter().find(|datapath| *datapath == text);
                    let names = DATAPATHS.join(", ");
                    arguments.datapaths =
                        vec![datapath.ok_or_else(|| format!("--datapath {text}: not of {names}"))?];
                }
                _ => return Err(format!("unknown argument: {word}")),
            }
        }
        Ok(arguments)
    }
}

/// What else the CPUs do during the trials.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// Nothing.
    Idle,
    /// On each CPU a thread of normal priority spins.
    Busy,
}

impl Load {
    /// The name in the table.
    const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Busy => "busy",
        }
    }

    /// Runs `work` under this load.
    fn during<T>(self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let cpus = if self == Self::Busy { cpus()? } else { Vec::new() };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let stop = &stop;
            let spinners: Vec<_> = cpus.into_iter().map(|cpu| scope.spawn(move || spin(cpu, stop))).collect();
            let stopper = Stop(stop);
            let done = work();
            drop(stopper);
            for spinner in spinners {
                joined(spinner)?;
            }
            done
        })
    }
}

/// The CPUs on which this process may run.
fn cpus() -> Result<Vec<usize>> {
    let mine = sched_getaffinity(Pid::from_raw(0)).map_err(|errno| format!("reading the CPUs: {errno}"))?;
    Ok((0..CpuSet::count()).filter(|&cpu| mine.is_set(cpu).unwrap_or(false)).collect())
}

/// Keeps a CPU busy until the flag is set.
fn spin(cpu: usize, stop: &AtomicBool) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| format!("pinning a thread to CPU {cpu}: {errno}"))?;
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        count = hint::black_box(count.wrapping_add(1));
    }
    Ok(())
}

/// Measures and prints all cases. Returns whether all have enough trials.
fn measure(arguments: &Arguments) -> Result<bool> {
    // Bridges do not call netfilter. The file does not exist without br_netfilter.
    let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    let has_vlans = lab::has_vlan_filtering();
    let mut is_complete = true;
    println!(
        "| change | datapath | load | n | p50, ms | p90, ms | p99, ms | max, ms | frames, max | not ended |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for &datapath in &arguments.datapaths {
        let lab = Lab::up(datapath)?;
        for &load in &arguments.loads {
            for &change in &arguments.changes {
                let cells = format!("{} | {datapath} | {}", change.name(), load.name());
                if change == Change::VlanFiltering && !has_vlans {
                    println!("| {cells} | not supported by this kernel | | | | | | |");
                    continue;
                }
                let case = format!("{}, {datapath}, {}", change.name(), load.name());
                let trials = load.during(|| trials(&lab, change, &case, arguments.trials))?;
                is_complete &= trials.len() == arguments.trials;
                print(&cells, &case, &trials);
            }
        }
    }
    Ok(is_complete)
}

/// Makes a change `count` times. Trials that failed are reported and repeated.
fn trials(lab: &Lab, change: Change, case: &str, count: usize) -> Result<Vec<Trial>> {
    lab.prepared(change, || {
        let (mut good, mut aside) = (Vec::new(), 0);
        while good.len() < count && aside < MOST_ASIDE {
            if good.len().is_multiple_of(REPORT) {
                eprintln!("{case}: {} of {count} trials", good.len());
            }
            match lab.trial(change)? {
                Ok(trial) => good.push(trial),
                Err(error) => {
                    aside += 1;
                    eprintln!("put aside: a trial of {case}: {error}");
                }
            }
        }
        Ok(good)
    })
}

/// Prints the row of a case.
fn print(cells: &str, case: &str, trials: &[Trial]) {
    let mut lags: Vec<_> = trials.iter().map(|trial| trial.lag).collect();
    lags.sort_unstable();
    let lag = |percent| quantile(&lags, percent).map_or_else(|| "-".to_owned(), milliseconds);
    let frames = trials.iter().map(|trial| trial.frames).max().unwrap_or_default();
    let not_ended = trials.iter().filter(|trial| !trial.has_ended).count();
    println!(
        "| {cells} | {} | {} | {} | {} | {} | {frames} | {not_ended} |",
        trials.len(),
        lag(50),
        lag(90),
        lag(99),
        lag(100),
    );
    // The resolution: no frame shows what happens in a pause.
    let pause = trials.iter().map(|trial| trial.pause).max().unwrap_or_default();
    eprintln!("{case}: the sender's longest pause was {} ms", milliseconds(pause));
}

/// The smallest value that is not exceeded by this many percent of all. Of 50, 99 % is the maximum.
fn quantile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}
