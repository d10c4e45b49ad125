//! `vethpath stats`.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    io::{self, IsTerminal, Write},
    pin::pin,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    Exit, Failure,
    failure::runtime,
    labs,
    source::{Source, add_round_trips},
    stream::{Stream, Written},
    watch,
};
use crate::{
    cli::StatsArgs,
    kernel::home::Intent,
    output::{self, Table},
    state::events::Time,
    stats::{self, Growth, SortKey, Stats, matches, order, rates},
    topology::Topology,
    watch::Screen,
};

/// Moves the cursor to the top left corner and erases the screen below it.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

/// The time between the two accounts of a table that is printed once, from which its rates follow.
const MOMENT: Duration = Duration::from_millis(500);

/// The time between accounts of `--watch` without a number.
const SECOND: Duration = Duration::from_secs(1);

/// Which pairs are printed, and how.
struct Choice<'a> {
    sort: SortKey,
    pair: &'a str,
    /// Whether the round-trip times of these pairs are read.
    rtt: bool,
    json: bool,
}

/// An account with its time, as `--json` prints it.
#[derive(Serialize)]
struct Timed<'a> {
    time: Time,
    #[serde(flatten)]
    stats: &'a Stats,
}

/// Prints the account of a lab, once or at an interval, or its traffic matrix.
pub fn run(arguments: &StatsArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let StatsArgs { lab, json, watch, interval, matrix, sort, pair, rtt } = arguments;
    let (json, pair) = (json.json, pair.as_deref().unwrap_or_default());
    if *matrix {
        return print_matrix(lab.lab.as_deref(), json, out);
    }
    let (lab, _) = labs::named(lab.lab.as_deref())?;
    labs::enter(&lab, Intent::Read)?;
    let mut source = Source::of(&lab);
    let choice = Choice { sort: sort.unwrap_or(SortKey::File), pair, rtt: *rtt, json };
    let period = interval.or(watch.map(|time| time.unwrap_or(SECOND)));
    if let Some(period) = period {
        if interval.is_none() && Screen::is_possible() {
            return watch::run(source, period, sort.unwrap_or(SortKey::Traffic), pair, *rtt);
        }
        return runtime()?.block_on(follow(source, period, &choice));
    }
    let (mut before, topology) = source.account()?;
    let then = source.read_at();
    if !pair.is_empty() && !before.pairs.iter().any(|one| matches(one, pair)) {
        return Err(Failure::request(format!("no pair of lab `{lab}` matches `{pair}`"))
            .hint("it is looked for in names of pairs, ports and bridges, and in states"));
    }
    let printed = if json {
        choice.add_round_trips(&mut before, &topology)?;
        choice.print(before, &Growth::new(), out)
    } else {
        thread::sleep(MOMENT);
        let account = choice.account(&mut source)?;
        let growth = rates(&before, &account, source.read_at().duration_since(then));
        choice.print(account, &growth, out)
    };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

/// Prints the traffic matrix of a lab.
fn print_matrix(lab: Option<&str>, json: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    let flows = stats::matrix(&labs::record(lab)?.topology)?;
    let printed = if json { output::json(&flows, out) } else { output::matrix(&flows, out) };
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

impl Choice<'_> {
    /// The account of the lab with what is printed of it.
    fn account(&self, source: &mut Source) -> Result<Stats, Failure> {
        let (mut account, topology) = source.account()?;
        self.add_round_trips(&mut account, &topology)?;
        Ok(account)
    }

    /// Reads the round-trip times of the pairs that are printed, if they are wanted.
    fn add_round_trips(&self, account: &mut Stats, topology: &Topology) -> Result<(), Failure> {
        if self.rtt {
            let printed = account.pairs.iter().filter(|pair| matches(pair, self.pair));
            let names: BTreeSet<String> = printed.map(|pair| pair.name.clone()).collect();
            add_round_trips(account, topology, |name| names.contains(name))?;
        }
        Ok(())
    }

    /// Prints an account as text or JSON.
    fn print(&self, account: Stats, growth: &Growth, out: &mut dyn Write) -> io::Result<()> {
        if self.json {
            return output::json(&Timed { time: Time::now(), stats: &self.chosen(account) }, out);
        }
        let mut text = Vec::new();
        let order = self.order(&account, growth);
        let growth = (!growth.is_empty()).then_some(growth);
        output::stats(Table { stats: &account, growth, order: &order }, &mut text)?;
        out.write_all(&text)
    }

    /// An account as a line of JSON.
    fn line(&self, account: Stats) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        output::json_line(&Timed { time: Time::now(), stats: &self.chosen(account) }, &mut text)?;
        Ok(text)
    }

    /// The pairs that are printed, in order, as indices into the account.
    fn order(&self, account: &Stats, growth: &Growth) -> Vec<usize> {
        order(&account.pairs, growth, self.sort, |pair| matches(pair, self.pair))
    }

    /// The account with these pairs alone, for JSON, which has no rates.
    fn chosen(&self, mut account: Stats) -> Stats {
        if self.sort == SortKey::File && self.pair.is_empty() {
            return account;
        }
        let order = self.order(&account, &Growth::new());
        let mut pairs: Vec<_> = account.pairs.into_iter().map(Some).collect();
        account.pairs = order.into_iter().filter_map(|index| pairs[index].take()).collect();
        account
    }
}

/// Repeats the account. An interrupt ends it with success. If the lab goes down, the error is that it is not up.
async fn follow(mut source: Source, period: Duration, choice: &Choice<'_>) -> Result<Exit, Failure> {
    let refused = |error| Failure::system(format!("cannot listen for signals: {error}"));
    let mut signals = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut interrupt = pin!(poll_fn(|context| signals.poll_recv(context).map(|_| ())));
    let mut stream = Stream::to_stdout()?;
    let mut tick = interval(period);
    // A slow reader gets fewer accounts.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clear = io::stdout().is_terminal();
    let mut last: Option<(Instant, Stats)> = None;
    loop {
        tokio::select! {
            biased;
            () = interrupt.as_mut() => return Ok(Exit::Done),
            _ = tick.tick() => {}
        }
        let account = choice.account(&mut source)?;
        let text = if choice.json {
            choice.line(account)
        } else {
            let now = source.read_at();
            let growth =
                last.as_ref().map(|(then, before)| rates(before, &account, now.duration_since(*then)));
            let start: &[u8] = match last {
                _ if clear => CLEAR,
                Some(_) => b"\n",
                None => b"",
            };
            last = Some((now, account.clone()));
            let mut text = start.to_vec();
            choice.print(account, &growth.unwrap_or_default(), &mut text).map(|()| text)
        };
        let text = text.map_err(Failure::output)?;
        if stream.write(text, interrupt.as_mut()).await? == Written::Interrupted {
            return Ok(Exit::Done);
        }
    }
}
