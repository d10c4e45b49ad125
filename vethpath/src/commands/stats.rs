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
    kernel::home::Intent,
    output,
    stats::{self, AgentView, Stats, collect, rates, round_trips},
    topology::LabName,
};

/// Moves the cursor to the top left corner and erases the screen below it.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// Prints the traffic matrix of a lab.
pub fn matrix(lab: Option<&str>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let flows = stats::matrix(&labs::record(lab)?.topology)?;
    let printed = if json { output::json(&flows, out) } else { output::matrix(&flows, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// Prints the account of a lab once. With `watch`, repeats at that interval in seconds until interrupted.
/// With `rtt`, the round-trip times of TCP connections are read too.
pub fn run(
    lab: Option<&str>,
    json: bool,
    watch: Option<u64>,
    rtt: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let (lab, _) = labs::named(lab)?;
    labs::enter(&lab, Intent::Read)?;
    if let Some(seconds) = watch {
        return runtime()?.block_on(follow(&lab, Duration::from_secs(seconds), rtt, out));
    }
    let account = account(&lab, rtt)?;
    let printed = if json { output::json(&account, out) } else { output::stats(&account, None, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// The account of a lab, which must be up. The agent is queried while the record is read, since both take long in a
/// large lab.
fn account(lab: &LabName, rtt: bool) -> Result<Stats, Failure> {
    thread::scope(|scope| {
        let view = scope.spawn(|| AgentView::of(lab));
        let record = labs::record_of(lab);
        let view = view.join().unwrap_or_else(|panic| resume_unwind(panic));
        let topology = record?.topology;
        let mut account = collect(&topology, view)?;
        if rtt {
            account.add_round_trips(round_trips(&topology, &topology.pairs.iter().collect::<Vec<_>>())?);
        }
        Ok(account)
    })
}

/// Repeats the account. An interrupt ends it with success. If the lab goes down, the error is that it is not up.
async fn follow(lab: &LabName, period: Duration, rtt: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
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
        let account = account(lab, rtt)?;
        let now = Instant::now();
        let growth = match &last {
            Some((then, before)) => rates(before, &account, now.duration_since(*then)),
            None => output::Growth::new(),
        };
        print(&account, &growth, clear, last.is_none(), out).map_err(Failure::output)?;
        last = Some((now, account));
    }
}

/// Prints with one write, so that a terminal does not show a partial table.
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
