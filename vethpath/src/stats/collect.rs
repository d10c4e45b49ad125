//! Reads the counters that an account and the traffic matrix are made of.

use std::collections::{BTreeMap, BTreeSet};

use vethpath_common::{NO_PAIR, PairCounters, Reason};

use super::{
    AgentView, Count, Directions, Dropped, Flow, Flows, Lost, Pair, State, Stats, Traffic, Trunk, account,
    apart,
    ends::{AtPort, Counted, counted},
    guests::{Containers, containers, guests},
    unseen,
};
use crate::{
    agent::{counted_pairs, numbered_trunks},
    datapath::{Counters, Matrix, Pins},
    kernel::{LinkCounters, Result, backlog, rcu},
    state::{Counts, Directory, Unseen},
    topology::{self, Datapath, IfName, Topology},
};

/// The name of all guest ports that have left, and that of all pairs that are gone.
const FORMER: &str = "former guests";
const FORMER_PAIRS: &str = "former pairs";

/// Reads the account of a lab, whose agent has just been queried. Works for a partial lab: without an agent,
/// without maps, and without some ports or namespaces. `containers` has their names, for what is behind guest ports;
/// without it, that is not looked for.
///
/// # Errors
/// The kernel refuses a request that root may make, or the pinned maps are of another version.
pub fn collect(topology: &Topology, mut view: AgentView, containers: Option<&Containers>) -> Result<Stats> {
    let pins = Pins::of(&topology.lab);
    let mut maps = if pins.exist() { Some(Counters::open(&pins)?) } else { None };
    let locked = lock(topology, maps.as_mut())?;
    // Must be read before the programs' counters: see `account`.
    let names: Vec<String> = topology.pairs.iter().map(topology::Pair::name).collect();
    let read_before = view.take_inner();
    let were_read_before = read_before.is_some();
    let Counted { inner, ports, trunks } = counted(topology, &names, &view, read_before)?;
    let guests = guests(topology, &pins, containers)?;
    let directory = Directory::of(&topology.lab);
    let known = Unseen::read(&directory);
    let pairs = topology.pairs.iter().zip(&inner).map(|(pair, inner)| Counting {
        number: pair.number,
        inner: inner.as_ref(),
        is_xdp: pair.datapath == Datapath::Xdp,
        known: known.of(pair.number),
    });
    let others = guests.iter().map(|guest| Counting {
        number: guest.number,
        inner: guest.inner.as_ref(),
        is_xdp: false,
        known: (0, 0),
    });
    // The counts of a port that has just left are not moved yet.
    let listed: BTreeSet<u32> = guests.iter().map(|guest| guest.number).collect();
    let left = topology.guests.into_iter().flat_map(|range| range.former..=range.last());
    let left = left.filter(|number| !listed.contains(number));
    let left = left.map(|number| Counting { number, inner: None, is_xdp: false, known: (0, 0) });
    let counting: Vec<Counting<'_>> = pairs.chain(others).chain(left).collect();
    let mut counters = match &maps {
        Some(maps) => programs(&counting, maps)?,
        None => vec![PairCounters::default(); counting.len()],
    };
    if let Some(maps) = &maps
        && has_more_unseen(&counting, &counters)
    {
        // The inner ends of guest ports are always read here.
        let of_pairs = topology.pairs.len();
        if were_read_before && has_more_unseen(&counting[..of_pairs], &counters[..of_pairs]) {
            // Those ends may have been read before a pair was made again. They are read again with the lock held.
            drop(locked);
            return collect(topology, view, containers);
        }
        let are_taken = backlog::wait_until_taken();
        rcu::grace_period();
        counters = programs(&counting, maps)?;
        if are_taken {
            keep_unseen(&directory, &counting[..topology.pairs.len()], &counters);
        }
    }
    let (of_pairs, others) = counters.split_at(topology.pairs.len());
    let (of_guests, of_former) = others.split_at(guests.len());
    let pair = |name: String, port: &IfName, bridge: &IfName, state: State, traffic: Traffic| Pair {
        name,
        port: port.clone(),
        bridge: bridge.clone(),
        datapath: Datapath::Tc,
        guest: false,
        behind: None,
        mostly_slow: traffic.mostly_slow().filter(|_| state == State::Armed).map(Reason::name),
        traffic,
        dropped: None,
        rtt: None,
        state,
    };
    let parts = topology.pairs.iter().zip(names).zip(inner.iter().zip(&ports).zip(of_pairs));
    let pairs = parts.map(|((declared, name), ((inner, port), counters))| {
        let traffic = account(inner.as_ref(), counters, lost(port), known.of(declared.number));
        let topology::Pair { bridge, datapath, .. } = declared;
        let state = view.state_of(declared, &name);
        Pair {
            datapath: *datapath,
            dropped: (*datapath == Datapath::Xdp).then(|| dropped(inner.as_ref(), port)),
            ..pair(name, &declared.port, bridge, state, traffic)
        }
    });
    let others = guests.iter().zip(of_guests).map(|(guest, counters)| {
        let traffic = account(guest.inner.as_ref(), counters, Lost::default(), (0, 0));
        let state = view.guest_state(&guest.name);
        let behind = guest.behind.clone();
        Pair { guest: true, behind, ..pair(guest.name.clone(), &guest.port, &guest.bridge, state, traffic) }
    });
    let pairs: Vec<Pair> = pairs.chain(others).collect();
    let former = topology.guests.filter(|_| maps.is_some()).map(|_| {
        let all = of_former.iter().fold(PairCounters::default(), |sum, one| sum.plus(one));
        account(None, &all, Lost::default(), (0, 0))
    });
    let crossings = maps.map_or_else(|| Ok(BTreeMap::new()), |maps| maps.crossings())?;
    let crossed = |crossing| crossings.get(&crossing).copied().map(Count::from).unwrap_or_default();
    let trunks = numbered_trunks(topology).zip(trunks).map(|((number, trunk), link)| {
        let fast = Directions { tx: crossed(number * 2), rx: crossed(number * 2 + 1) };
        let (sent, received) = link.map_or(((0, 0), (0, 0)), |link| (link.sent, link.received));
        let slow = |(frames, bytes)| Count { frames, packets: frames, bytes };
        Trunk {
            name: trunk.name(),
            port: trunk.a.port.clone(),
            bridge: trunk.a.bridge.clone(),
            far_port: trunk.b.port.clone(),
            far_bridge: trunk.b.bridge.clone(),
            total: Directions { tx: slow(sent).plus(fast.tx), rx: slow(received).plus(fast.rx) },
            fast,
            state: view.trunk_state(trunk),
        }
    });
    Ok(Stats { lab: topology.lab.clone(), pairs, former, trunks: trunks.collect(), agent: view.agent })
}

/// Locks the counts of a lab that has maps, so that none is moved while they are read.
fn lock(topology: &Topology, maps: Option<&mut Counters>) -> Result<Option<Counts>> {
    maps.map_or(Ok(None), |maps| Counts::for_reading(&Directory::of(&topology.lab), maps))
}

/// A pair or a guest port whose counters are read.
struct Counting<'a> {
    number: u32,
    inner: Option<&'a LinkCounters>,
    is_xdp: bool,
    /// Frames and bytes that are known to be unseen.
    known: (u64, u64),
}

impl Counting<'_> {
    /// Its unseen frames and bytes, if they are more than what is known.
    fn more_unseen(&self, counters: &PairCounters) -> Option<(u64, u64)> {
        Some(unseen(self.inner, counters, self.known)).filter(|unseen| *unseen != self.known)
    }
}

/// Frames that XDP lost. A frame from the namespace is counted at the inner end if the port's ring was full, and at
/// the port if it could not be redirected or received (`veth_xdp_rcv` in drivers/net/veth.c). Frames to the
/// namespace are counted at the port: see [`lost`].
fn dropped(inner: Option<&LinkCounters>, port: &AtPort) -> Dropped {
    let Lost { redirected, refused } = lost(port);
    Dropped {
        tx: port.sum("_drops") + inner.map_or(0, |link| link.refused),
        rx: redirected.saturating_add(refused),
    }
}

/// Frames lost on the way to an inner end. Those redirected while its ring was full are counted by the driver
/// (`veth_xdp_xmit`). Those redirected while there was no ring (`veth_ndo_xdp_xmit`), or from the bridge
/// (`veth_xmit`), are counted as drops of the device, together with the former (`veth_get_stats64`).
fn lost(port: &AtPort) -> Lost {
    let redirected = port.sum("_xdp_xmit_errors");
    Lost { redirected, refused: port.refused.saturating_sub(redirected) }
}

/// The programs' counters, in this order.
fn programs(counting: &[Counting<'_>], maps: &Counters) -> Result<Vec<PairCounters>> {
    let matrix = maps.matrix()?;
    let mut counters = maps.of_all(counting.iter().map(|one| one.number), &matrix)?;
    for (one, counters) in counting.iter().zip(&mut counters) {
        if let Some(inner) = one.inner.filter(|_| one.is_xdp) {
            *counters = apart(*counters, inner.sent.0, one.known.0);
        }
    }
    Ok(counters)
}

/// Whether more frames are unseen than is known. The kernel counts a frame when it is sent, and the program some
/// microseconds later: a frame in between looks like an unseen one. So the programs' counters are read again when those in
/// between have been through the programs.
fn has_more_unseen(counting: &[Counting<'_>], counters: &[PairCounters]) -> bool {
    counting.iter().zip(counters).any(|(one, counters)| one.more_unseen(counters).is_some())
}

/// Keeps the unseen frames of pairs for later readings. Without that, they would only be less exact under traffic.
fn keep_unseen(directory: &Directory, pairs: &[Counting<'_>], counters: &[PairCounters]) {
    let more = pairs.iter().zip(counters);
    let more = more.filter_map(|(pair, counters)| Some((pair.number, pair.more_unseen(counters)?)));
    let more: Vec<_> = more.collect();
    if !more.is_empty()
        && let Err(error) = Unseen::raise(directory, &more)
    {
        log::debug!("{error}");
    }
}

/// Reads the traffic matrix of a lab. It is empty if there are no maps.
///
/// # Errors
/// The pinned maps are of another version, or the kernel refuses the read.
pub fn matrix(topology: &Topology) -> Result<Flows> {
    let pins = Pins::of(&topology.lab);
    let mut flows = Flows { lab: topology.lab.to_string(), ..Flows::default() };
    if !pins.exist() {
        return Ok(flows);
    }
    let mut counters = Counters::open(&pins)?;
    let containers = containers(topology)?;
    let _locked = lock(topology, Some(&mut counters))?;
    let mut names: BTreeMap<u32, (String, Option<String>)> =
        counted_pairs(topology).map(|(counter, pair)| (counter, (pair.name(), None))).collect();
    let guests = guests(topology, &pins, Some(&containers))?;
    names.extend(guests.into_iter().map(|guest| (guest.number, (guest.name, guest.behind))));
    names.extend(topology.guests.map(|range| (range.former, (FORMER.to_owned(), None))));
    names.insert(NO_PAIR, (FORMER_PAIRS.to_owned(), None));
    for (key, count) in counters.matrix()?.cells() {
        if let (Some(from), Some(to)) = (names.get(&key.from).cloned(), names.get(&key.to).cloned()) {
            flows.matrix.push(Flow {
                from: from.0,
                from_behind: from.1,
                to: to.0,
                to_behind: to.1,
                count: count.into(),
            });
        }
    }
    // With an empty matrix, only traffic that was counted outside of the matrix remains.
    for &counter in names.keys() {
        flows.left_out = flows.left_out.plus(counters.of(counter, &Matrix::default())?.fast_tx.into());
    }
    Ok(flows)
}
