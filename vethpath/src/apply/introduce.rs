//! Telling bridges where the hosts are.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use netlink_packet_route::link::BridgePortState;

use super::Places;
use crate::{
    kernel::{Direct, PortAttribute, Result, watch::Watch},
    plan::{Plan, Step},
    topology::{Pair, Place, Topology},
};

/// How long ports may take until the bridge forwards to them. It is moments, but where the machine is under great load:
/// the kernel has a work queue for it.
const FORWARDING: Duration = Duration::from_secs(30);

/// Waits until bridges forward to the ports that the plan has brought up, and tells them the MACs that we
/// assigned, as if each host had sent a frame. Spanning tree takes its own time and is not waited for.
/// Others are left alone: they may have moved since.
pub(super) async fn introduce(topology: &Topology, plan: &Plan, places: &mut Places) -> Result<()> {
    let news = News::of(plan);
    let deadline = Instant::now() + FORWARDING;
    for (_, place) in topology.domains() {
        let quick = |pair: &&Pair| {
            pair.place == place
                && pair.inner.up
                && topology.bridge(&place, &pair.bridge).is_some_and(|bridge| !bridge.stp)
                && news.are_about(pair)
        };
        let pairs: Vec<_> = topology.pairs.iter().filter(quick).collect();
        if pairs.is_empty() {
            continue;
        }
        let rtnl = places.get(&place)?;
        let mut waiting: BTreeSet<&str> = pairs.iter().map(|pair| pair.port.as_str()).collect();
        let mut watch = Watch::bridges(rtnl.netns())?;
        let links = loop {
            let links = rtnl.links().await?;
            for link in &links {
                let attributes = link.port.iter().flatten();
                if attributes.into_iter().any(|a| *a == PortAttribute::State(BridgePortState::Forwarding)) {
                    waiting.remove(link.name.as_str());
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if waiting.is_empty() || left.is_zero() {
                break links;
            }
            // Whatever happens, or the deadline: look again.
            let _ = tokio::time::timeout(left, watch.next()).await;
        };
        let ports: HashMap<&str, u32> = links.iter().map(|link| (link.name.as_str(), link.ifindex)).collect();
        let station = |pair: &Pair| Some((*ports.get(pair.port.as_str())?, pair.inner.mac));
        let stations: Vec<_> = pairs.into_iter().filter_map(station).collect();
        Direct::open(rtnl.netns())?.learn(&stations)?.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}

/// What in a plan makes a bridge forget a host, or not know it yet.
struct News(BTreeSet<(Place, String)>);

impl News {
    fn of(plan: &Plan) -> Self {
        let of_step = |step: &Step| match step {
            Step::Enslave { place, device, .. }
            | Step::Up { place, device, .. }
            | Step::Mac { place, device, .. } => Some((place.clone(), device.clone())),
            _ => None,
        };
        Self(plan.steps().filter_map(of_step).collect())
    }

    fn are_about(&self, pair: &Pair) -> bool {
        let inner = (Place::Namespace(pair.namespace.clone()), pair.inner.name.to_string());
        let bridge = (pair.place.clone(), pair.bridge.to_string());
        [(pair.place.clone(), pair.port.to_string()), inner, bridge].iter().any(|one| self.0.contains(one))
    }
}
