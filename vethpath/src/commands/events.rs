//! `vethpath events`.

use std::io::{self, Write};

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Failure, failure::runtime, labs};
use crate::{
    apply,
    cli::EventsArgs,
    output,
    state::{
        Directory,
        events::{Event, Follower, Reader, Time},
    },
    topology::{LabName, Pair},
};

/// Which events are shown, and how.
struct Choice {
    pair: Option<String>,
    since: Option<Time>,
    json: bool,
}

/// Prints past events. With `follow`, also prints new ones until interrupted or until the lab is down.
pub fn run(arguments: &EventsArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let topology = labs::record(arguments.lab.lab.as_deref())?.topology;
    if let Some(pair) = &arguments.pair
        && !topology.pairs.iter().map(Pair::name).any(|name| name == *pair)
        // A guest port may have left.
        && (topology.guests.is_none() || !pair.contains('/'))
    {
        return Err(Failure::request(format!("lab `{}` has no pair `{pair}`", topology.lab))
            .hint("`vethpath stats` lists the lab's pairs"));
    }
    let choice = Choice {
        pair: arguments.pair.clone(),
        // A time before the earliest timestamp excludes nothing.
        since: arguments.since.and_then(|ago| Timestamp::now().checked_sub(ago).ok()).map(Time::from),
        json: arguments.json,
    };
    if arguments.follow {
        return runtime()?.block_on(follow(&topology.lab, &choice, out));
    }
    let events = Reader::of(&Directory::of(&topology.lab)).read().map_err(unreadable)?;
    choice.print(&events, out).map_err(Failure::output)?;
    Ok(Exit::Done)
}

async fn follow(lab: &LabName, choice: &Choice, out: &mut dyn Write) -> Result<Exit, Failure> {
    let refused = |error| Failure::system(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut follower = Follower::of(&Directory::of(lab)).map_err(|error| match error.kind() {
        // The lab went down in the meantime.
        io::ErrorKind::NotFound => apply::Error::NoLab(lab.clone()).into(),
        _ => unreadable(error),
    })?;
    loop {
        let events = tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(Exit::Done),
            events = follower.next() => events.map_err(unreadable)?,
        };
        let Some(events) = events else {
            // A closed stderr is ignored: the exit code reports the result.
            let _ = writeln!(io::stderr(), "lab {lab} is down");
            return Ok(Exit::Done);
        };
        choice.print(&events, out).map_err(Failure::output)?;
    }
}

impl Choice {
    fn wants(&self, event: &Event) -> bool {
        let recent = self.since.is_none_or(|since| event.time >= since);
        recent && self.pair.as_ref().is_none_or(|pair| event.kind.pairs().contains(&pair.as_str()))
    }

    /// Prints with one write, so that a reader gets all events at once.
    fn print(&self, events: &[Event], out: &mut dyn Write) -> io::Result<()> {
        let mut text = Vec::new();
        for event in events.iter().filter(|event| self.wants(event)) {
            if self.json { output::json_line(event, &mut text) } else { output::event(event, &mut text) }?;
        }
        out.write_all(&text)?;
        out.flush()
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::system(format!("cannot read the lab's events: {error}"))
}
