//! `vethpath stats`.

use std::{
    io::{self, IsTerminal, Write},
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{Exit, Failure, failure::runtime, labs};
use crate::{
    output,
    stats::{self, AgentView, Stats, collect, rates},
    topology::LabName,
};

/// To the top left corner, and nothing below.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Shows the traffic matrix of a lab.
pub fn matrix(lab: Option<&str>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let flows = stats::matrix(&labs::record(lab)?.topology)?;
    let printed = if json { output::json(&flows, out) } else { output::matrix(&flows, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// Shows the account of a lab, once, or (`watch`) every so many seconds until interrupted.
pub fn run(lab: Option<&str>, json: bool, watch: Option<u64>, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (lab, _) = labs::named(lab)?;
    labs::go_to(&lab, false)?;
    if let Some(seconds) = watch {
        return runtime()?.block_on(follow(&lab, Duration::from_secs(seconds), out));
    }
    let account = account(&lab)?;
    let printed = if json { output::json(&account, out) } else { output::stats(&account, None, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// The account of a lab, which must be up. Its agent is asked while its record is read: in a large lab both
/// take their time.
fn account(lab: &LabName) -> Result<Stats, Failure> {
    thread::scope(|scope| {
        let view = scope.spawn(|| AgentView::of(lab));
        let record = labs::record_of(lab);
        let view = view.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(collect(&record?.topology, view)?)
    })
}

/// Ends well when it is interrupted, and with the word that the lab is not up when it went down.
async fn follow(lab: &LabName, period: Duration, out: &mut dyn Write) -> Result<Exit, Failure> {
    let refused = |error| Failure::system(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clear = io::stdout().is_terminal();
    let mut last: Option<(Instant, Stats)> = None;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(Exit::Done),
            _ = tick.tick() => {}
        }
        let account = account(lab)?;
        let now = Instant::now();
        let growth = match &last {
            Some((then, before)) => rates(before, &account, now.duration_since(*then)),
            None => output::Growth::new(),
        };
        print(&account, &growth, clear, last.is_none(), out).map_err(Failure::output)?;
        last = Some((now, account));
    }
}

/// In one write, so that a terminal shows no half of it.
fn print(
    account: &Stats,
    growth: &output::Growth,
    clear: bool,
    first: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut text = Vec::new();
    if clear {
        text.extend(CLEAR);
    } else if !first {
        text.push(b'\n');
    }
    output::stats(account, Some(growth), &mut text)?;
    out.write_all(&text)?;
    out.flush()
}

impl From<stats::Error> for Failure {
    fn from(error: stats::Error) -> Self {
        match error {
            stats::Error::Kernel(error) => error.into(),
            stats::Error::Datapath(error) => error.into(),
        }
    }
}
