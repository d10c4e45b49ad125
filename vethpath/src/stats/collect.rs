//! Reading what an account is made of.

use thiserror::Error;
use vethpath_common::{PairCounters, names};

use super::{AgentView, Pair, State, Stats, TrunkPort, account, seen};
use crate::{
    agent::counted_pairs,
    apply::Places,
    datapath::{self, CounterMap, Pins},
    kernel::{self, LinkFacts, membarrier},
    topology::{Place, Topology, TrunkEnd},
};

/// How often the programs' counters are read again while frames under way keep arriving in them.
const MOST_LOOKS: usize = 5;

/// Why there is no account.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A map was refused.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
}

/// Makes the account of a lab. Works with what is left of it: without an agent, without maps, and
/// where ports or whole namespaces are gone. Must be called in a tokio runtime.
///
/// # Errors
/// The kernel refuses what root may ask, or the pinned maps are of another version.
pub async fn collect(topology: &Topology) -> Result<Stats, Error> {
    let view = AgentView::of(&topology.lab);
    // Before the programs' counters: see `account`.
    let inner = inner_ends(topology).await?;
    let counters = counters(topology, &inner)?;
    let parts = topology.pairs.iter().zip(inner.iter().zip(&counters));
    let pairs = parts.map(|(pair, (inner, counters))| Pair {
        name: pair.name(),
        port: pair.port.clone(),
        bridge: pair.bridge.clone(),
        traffic: account(inner.as_ref(), counters),
        state: view.state(pair),
    });
    Ok(Stats {
        lab: topology.lab.clone(),
        pairs: pairs.collect(),
        trunk_ports: trunk_ports(topology),
        agent: view.agent,
    })
}

fn trunk_ports(topology: &Topology) -> Vec<TrunkPort> {
    let ends = topology.trunks.iter().flat_map(|trunk| [(&trunk.a, &trunk.b), (&trunk.b, &trunk.a)]);
    let port = |(here, there): (&TrunkEnd, &TrunkEnd)| TrunkPort {
        port: here.port.clone(),
        bridge: here.bridge.clone(),
        to: there.bridge.clone(),
        state: State::of_trunk(),
    };
    ends.map(port).collect()
}

/// The inner ends of the lab's pairs, in their order; `None` where one is gone. They are read from
/// outside, so that no namespace but those of bridges is entered.
async fn inner_ends(topology: &Topology) -> kernel::Result<Vec<Option<LinkFacts>>> {
    let mut places = Places::open()?;
    let mut ends = vec![None; topology.pairs.len()];
    for place in topology.domains() {
        if !place_exists(&place) {
            continue;
        }
        let rtnl = places.get(&place)?;
        let links = rtnl.links().await?;
        for (pair, end) in topology.pairs.iter().zip(&mut ends) {
            let port = links.iter().find(|link| pair.place == place && link.name == pair.port.as_str());
            if let Some(port) = port {
                *end = rtnl.peer_of(port).await?;
            }
        }
    }
    Ok(ends)
}

/// Whether a place is there to be looked at.
pub(crate) fn place_exists(place: &Place) -> bool {
    match place {
        Place::Host => true,
        Place::Namespace(name) => kernel::netns::exists(name) && !kernel::netns::is_left_over(name),
    }
}

/// The programs' counters of the lab's pairs, in their order; zeroes where there are no maps.
///
/// The kernel counts a frame when it is sent, and the program some microseconds later: a frame in
/// between looks as if no program saw it. An RCU grace period gives each CPU the time to bring what
/// it has under way to the programs, so wait for one, and more as long as that helps.
fn counters(topology: &Topology, inner: &[Option<LinkFacts>]) -> datapath::Result<Vec<PairCounters>> {
    let pins = Pins::of(&topology.lab);
    if !pins.map(names::COUNTERS).exists() {
        return Ok(vec![PairCounters::default(); topology.pairs.len()]);
    }
    let map = CounterMap::open(&pins)?;
    let look = || counted_pairs(topology).map(|(counter, _)| map.of(counter)).collect::<Result<Vec<_>, _>>();
    let mut counters = look()?;
    let mut missing = unseen(inner, &counters);
    for _ in 1..MOST_LOOKS {
        if missing == 0 {
            break;
        }
        membarrier::grace_period();
        counters = look()?;
        let before = std::mem::replace(&mut missing, unseen(inner, &counters));
        if missing >= before {
            break;
        }
    }
    Ok(counters)
}

/// How many frames the kernel counted and no program saw.
fn unseen(inner: &[Option<LinkFacts>], counters: &[PairCounters]) -> u64 {
    let of = |(inner, counters): (&Option<LinkFacts>, &PairCounters)| {
        inner.as_ref().map_or(0, |link| link.sent.0.saturating_sub(seen(counters).frames))
    };
    inner.iter().zip(counters).map(of).sum()
}
