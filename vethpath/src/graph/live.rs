//! What the links of a lab do: their states, and their rates between two readings.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use super::model::{Health, Live};
use crate::{
    kernel::{LinkFacts, Netns, Result, RouteSocket, netns},
    stats::{AgentView, Count, State, Stats, collect},
    topology::{IfName, Place, Topology},
};

/// One reading: packets and bytes by the name of a link, both directions together.
type Counts = BTreeMap<String, (u64, u64)>;

/// Links by place and name.
type Links = BTreeMap<(Place, String), LinkFacts>;

/// Reads a lab twice, this long apart. The result has a link's name in messages, and what it does.
///
/// # Errors
/// The kernel refuses a request that root may make.
pub fn live(topology: &Topology, apart: Duration) -> Result<BTreeMap<String, Live>> {
    let (before, _, _) = reading(topology)?;
    let started = Instant::now();
    thread::sleep(apart);
    let (after, account, links) = reading(topology)?;
    let seconds = started.elapsed().as_secs_f64();
    let states = states(topology, &account, &links);
    let live = states.into_iter().map(|(name, (state, reason))| {
        let [then, now] = [&before, &after].map(|counts| counts.get(&name).copied().unwrap_or_default());
        // A device that was made again counts from zero.
        let rate = |then: u64, now: u64| f64_of(now.saturating_sub(then)) / seconds;
        let live = Live { state, reason, packets: rate(then.0, now.0), bits: 8.0 * rate(then.1, now.1) };
        (name, live)
    });
    Ok(live.collect())
}

#[expect(clippy::cast_precision_loss, reason = "a rate is read to three digits")]
fn f64_of(count: u64) -> f64 {
    count as f64
}

fn reading(topology: &Topology) -> Result<(Counts, Stats, Links)> {
    let account = collect(topology, AgentView::of(&topology.lab), None)?;
    let sum = |tx: Count, rx: Count| (tx.packets + rx.packets, tx.bytes + rx.bytes);
    let pairs = account.pairs.iter().map(|pair| (pair.name.clone(), sum(pair.traffic.tx, pair.traffic.rx)));
    let trunks = account.trunks.iter().map(|trunk| (trunk.name.clone(), sum(trunk.total.tx, trunk.total.rx)));
    let mut counts: Counts = pairs.chain(trunks).collect();
    let links = links(topology)?;
    for cable in &topology.cables {
        let end = (cable.a.place.clone(), cable.a.interface.name.to_string());
        if let Some(LinkFacts { sent, received, .. }) = links.get(&end) {
            counts.insert(cable.name(), (sent.0 + received.0, sent.1 + received.1));
        }
    }
    Ok((counts, account, links))
}

/// The links of all places of a lab that exist, with their counters.
fn links(topology: &Topology) -> Result<Links> {
    let named = topology.namespaces.iter().map(|namespace| Place::Namespace(namespace.name.clone()));
    let places: BTreeSet<Place> = named.chain([Place::Host]).filter(netns::place_exists).collect();
    let mut links = Links::new();
    for place in places {
        let socket = RouteSocket::open(&Netns::of(&place)?)?;
        let counted: BTreeMap<u32, LinkFacts> =
            socket.counters(true)?.into_iter().map(|link| (link.ifindex, link)).collect();
        for link in socket.links()? {
            let counts = counted.get(&link.ifindex);
            let (sent, received) = counts.map_or_else(Default::default, |link| (link.sent, link.received));
            links.insert((place.clone(), link.name.clone()), LinkFacts { sent, received, ..link });
        }
    }
    Ok(links)
}

fn states(topology: &Topology, account: &Stats, links: &Links) -> BTreeMap<String, (Health, Option<String>)> {
    let of_ends = |ends: [(&Place, &IfName); 2]| {
        let state = |(place, name): (&Place, &IfName)| match links.get(&(place.clone(), name.to_string())) {
            None => (Health::Missing, Some(format!("{place}:{name} does not exist"))),
            Some(link) if !link.up => (Health::Down, Some(format!("{place}:{name} is down"))),
            Some(_) => (Health::Up, None),
        };
        let [one, other] = ends.map(state);
        if other.0 > one.0 { other } else { one }
    };
    let with_path = |ends: (Health, Option<String>), path: Option<&State>| match (ends, path) {
        ((Health::Up, _), Some(State::NotArmed(reason))) => (Health::Slow, Some(reason.clone())),
        (ends, _) => ends,
    };
    let mut states = BTreeMap::new();
    for pair in &topology.pairs {
        let inside = Place::Namespace(pair.namespace.clone());
        let counted = account.pairs.iter().find(|counted| counted.name == pair.name());
        let ends = of_ends([(&inside, &pair.inner.name), (&pair.place, &pair.port)]);
        states.insert(pair.name(), with_path(ends, counted.map(|pair| &pair.state)));
    }
    for trunk in &topology.trunks {
        let counted = account.trunks.iter().find(|counted| counted.name == trunk.name());
        let ends = of_ends([&trunk.a, &trunk.b].map(|end| (&end.place, &end.port)));
        states.insert(trunk.name(), with_path(ends, counted.map(|trunk| &trunk.state)));
    }
    for cable in &topology.cables {
        states
            .insert(cable.name(), of_ends([&cable.a, &cable.b].map(|end| (&end.place, &end.interface.name))));
    }
    states
}
