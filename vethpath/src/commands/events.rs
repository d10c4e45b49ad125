//! `vethpath events`.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    io::{self, Write},
    pin::pin,
};

use jiff::Timestamp;
use log::warn;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Exit, Failure,
    failure::runtime,
    labs,
    stream::{Stream, Written},
};
use crate::{
    apply,
    cli::EventsArgs,
    output,
    state::{
        Directory,
        events::{Event, Follower, Kind, Reader, Time},
    },
    stats,
    topology::{Pair, Topology},
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
        return runtime()?.block_on(follow(&topology, &choice));
    }
    let events = Reader::of(&Directory::of(&topology.lab)).read().map_err(unreadable)?;
    let printed =
        choice.text(&events, &topology).and_then(|text| out.write_all(&text)).and_then(|()| out.flush());
    printed.map_err(Failure::output)?;
    Ok(Exit::Done)
}

async fn follow(topology: &Topology, choice: &Choice) -> Result<Exit, Failure> {
    let lab = &topology.lab;
    let refused = |error| Failure::system(format!("cannot listen for signals: {error}"));
    let mut signals = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut interrupt = pin!(poll_fn(|context| signals.poll_recv(context).map(|_| ())));
    let mut stream = Stream::to_stdout()?;
    let mut follower = Follower::of(&Directory::of(lab)).map_err(|error| match error.kind() {
        // The lab went down in the meantime.
        io::ErrorKind::NotFound => apply::Error::NoLab(lab.clone()).into(),
        _ => unreadable(error),
    })?;
    loop {
        let events = tokio::select! {
            biased;
            () = interrupt.as_mut() => return Ok(Exit::Done),
            events = follower.next() => events.map_err(unreadable)?,
        };
        let Some(events) = events else {
            // A closed stderr is ignored: the exit code reports the result.
            let _ = writeln!(io::stderr(), "lab {lab} is down");
            return Ok(Exit::Done);
        };
        let text = choice.text(&events, topology).map_err(Failure::output)?;
        if stream.write(text, interrupt.as_mut()).await? == Written::Interrupted {
            return Ok(Exit::Done);
        }
    }
}

/// An event as `--json` prints it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// What is behind the guest port that it is about, if the port is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<&'a str>,
}

impl Choice {
    fn wants(&self, event: &Event) -> bool {
        let recent = self.since.is_none_or(|since| event.time >= since);
        recent && self.pair.as_ref().is_none_or(|pair| event.kind.pairs().contains(&pair.as_str()))
    }

    /// The lines of the events that are shown. They are written at once, so that a reader gets all of them.
    fn text(&self, events: &[Event], topology: &Topology) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        let current = current(events);
        let is_shown = |(at, event): &(usize, &Event)| self.wants(event) && current.contains(at);
        let behind = match events.iter().enumerate().any(|event| is_shown(&event)) {
            // Names are of use, and events are complete without them.
            true => stats::behind_guests(topology).inspect_err(|error| warn!("{error}")).unwrap_or_default(),
            false => BTreeMap::new(),
        };
        for (at, event) in events.iter().enumerate().filter(|(_, event)| self.wants(event)) {
            let guest = event.kind.pairs().first().and_then(|pair| behind.get(*pair));
            let behind = guest.filter(|_| current.contains(&at)).map(String::as_str);
            match self.json {
                true => output::json_line(&Shown { event, behind }, &mut text),
                false => output::event(event, behind, &mut text),
            }?;
        }
        Ok(text)
    }
}

/// The positions of events about guest ports that may still be there. A port with the name of one that has left begins
/// with an event that has no state before it, and so does each port with another agent.
fn current(events: &[Event]) -> BTreeSet<usize> {
    let (mut current, mut complete) = (BTreeSet::new(), BTreeSet::new());
    for (at, event) in events.iter().enumerate().rev() {
        let (pair, is_first) = match &event.kind {
            Kind::PairArmed { pair, before, .. } | Kind::PairNotArmed { pair, before, .. } => {
                (pair, before.is_none())
            }
            Kind::GuestLeft { pair, .. } => {
                complete.insert(pair);
                continue;
            }
            _ => continue,
        };
        // Pairs of a lab's own have no slash in their names.
        if pair.contains('/') && !complete.contains(pair) {
            current.insert(at);
        }
        if is_first {
            complete.insert(pair);
        }
    }
    current
}

fn unreadable(error: io::Error) -> Failure {
    Failure::system(format!("cannot read the lab's events: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::LabName;

    #[test]
    fn only_events_of_ports_that_may_be_there_get_a_name() {
        let lab: LabName = "lab".parse().unwrap();
        let armed = |pair: &str, before: Option<&str>| {
            let (pair, before) = (pair.to_owned(), before.map(str::to_owned));
            Event::now(&lab, Kind::PairArmed { port: pair.clone(), pair, before })
        };
        let left =
            |pair: &str| Event::now(&lab, Kind::GuestLeft { pair: pair.to_owned(), port: pair.to_owned() });
        let events = [
            armed("br0/a", None),
            left("br0/a"),
            armed("br0/a", None),
            armed("br0/b", None),
            armed("br0/a", Some("the port is down")),
            armed("ns0:eth0", None),
            armed("br0/b", None),
            armed("br0/c", None),
            left("br0/c"),
        ];
        assert_eq!(current(&events), BTreeSet::from([2, 4, 6]));
    }
}
