//! Reads the counters that an account and the traffic matrix are made of.

use std::collections::BTreeMap;

use vethpath_common::{PairCounters, Reason};

use super::{
    AgentView, Count, Directions, Dropped, Flow, Flows, Lost, Pair, State, Stats, Trunk, account, apart,
    ends::{AtPort, Counted, counted},
    seen,
};
use crate::{
    agent::{counted_pairs, numbered_trunks},
    datapath::{Counters, Matrix, Pins},
    kernel::{Error, LinkFacts, Result, rcu},
    topology::{Datapath, Topology},
};

/// The maximum number of reads of the programs' counters, while frames in transit are still being counted.
const MOST_READS: usize = 5;

/// Reads the account of a lab, whose agent has just been queried. Works for a partial lab: without an agent,
/// without maps, and without some ports or namespaces.
///
/// # Errors
/// The kernel refuses a request that root may make, or the pinned maps are of another version.
pub fn collect(topology: &Topology, view: AgentView) -> Result<Stats> {
    // Must be read before the programs' counters: see `account`.
    let Counted { inner, ports, trunks } = counted(topology, &view)?;
    let pins = Pins::of(&topology.lab);
    let maps = if pins.exist() { Some(Counters::open(&pins)?) } else { None };
    let counters = match &maps {
        Some(maps) => counters(topology, maps, &inner)?,
        None => vec![PairCounters::default(); topology.pairs.len()],
    };
    let parts = topology.pairs.iter().zip(inner.iter().zip(&ports).zip(&counters));
    let pairs = parts.map(|(pair, ((inner, port), counters))| {
        let (traffic, state) = (account(inner.as_ref(), counters, lost(port)), view.state(pair));
        let mostly_slow = traffic.mostly_slow().filter(|_| state == State::Armed);
        Pair {
            name: pair.name(),
            port: pair.port.clone(),
            bridge: pair.bridge.clone(),
            datapath: pair.datapath,
            traffic,
            dropped: (pair.datapath == Datapath::Xdp).then(|| dropped(inner.as_ref(), port)),
            state,
            mostly_slow: mostly_slow.map(Reason::name),
        }
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
    let (pairs, trunks) = (pairs.collect(), trunks.collect());
    Ok(Stats { lab: topology.lab.clone(), pairs, trunks, agent: view.agent })
}

/// Frames that XDP lost. A frame from the namespace is counted at the inner end if the port's ring was full, and at
/// the port if it could not be redirected or received (`veth_xdp_rcv` in drivers/net/veth.c). Frames to the
/// namespace are counted at the port: see [`lost`].
fn dropped(inner: Option<&LinkFacts>, port: &AtPort) -> Dropped {
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

/// The programs' counters of the lab's pairs, in their order.
///
/// The kernel counts a frame when it is sent, and the program some microseconds later. A frame in between is
/// counted as unseen. During an RCU grace period each CPU passes its frames in transit to the programs. So wait for
/// one, and repeat as long as the number of unseen frames decreases.
fn counters(topology: &Topology, maps: &Counters, inner: &[Option<LinkFacts>]) -> Result<Vec<PairCounters>> {
    let read = || {
        let matrix = maps.matrix()?;
        let mut counters = maps.of_all(counted_pairs(topology).map(|(counter, _)| counter), &matrix)?;
        for ((pair, inner), counters) in topology.pairs.iter().zip(inner).zip(&mut counters) {
            if let Some(inner) = inner.as_ref().filter(|_| pair.datapath == Datapath::Xdp) {
                *counters = apart(*counters, inner.sent.0);
            }
        }
        Ok::<_, Error>(counters)
    };
    let mut counters = read()?;
    let mut missing = unseen(inner, &counters);
    for _ in 1..MOST_READS {
        if missing == 0 {
            break;
        }
        rcu::grace_period();
        counters = read()?;
        let before = std::mem::replace(&mut missing, unseen(inner, &counters));
        if missing >= before {
            break;
        }
    }
    Ok(counters)
}

/// The number of frames that the kernel counted and no program did.
fn unseen(inner: &[Option<LinkFacts>], counters: &[PairCounters]) -> u64 {
    let of = |(inner, counters): (&Option<LinkFacts>, &PairCounters)| {
        inner.as_ref().map_or(0, |link| link.sent.0.saturating_sub(seen(counters).frames))
    };
    inner.iter().zip(counters).map(of).sum()
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
    let counters = Counters::open(&pins)?;
    let names: BTreeMap<_, _> =
        counted_pairs(topology).map(|(counter, pair)| (counter, pair.name())).collect();
    for (key, count) in counters.matrix()?.cells() {
        if let (Some(from), Some(to)) = (names.get(&key.from), names.get(&key.to)) {
            flows.matrix.push(Flow { from: from.clone(), to: to.clone(), count: count.into() });
        }
    }
    // With an empty matrix, only traffic that was counted outside of the matrix remains.
    for (counter, _) in counted_pairs(topology) {
        flows.left_out = flows.left_out.plus(counters.of(counter, &Matrix::default())?.fast_tx.into());
    }
    Ok(flows)
}
