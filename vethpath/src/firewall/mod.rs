//! The effect of the machine's netfilter rules on the packets of a lab. On many machines a firewall or a container engine
//! drops forwarded packets, and br_netfilter applies its rules to bridged frames too. Where Docker drops packets from
//! bridges with `nat` to other networks, rules of the lab in `DOCKER-USER` accept them.

mod bridge;
mod drop;
mod hint;
mod machine;

use ipnet::IpNet;

pub use self::drop::Drop;
use self::{bridge::OnBridge, machine::Machine};
use crate::{
    kernel::{
        Netns, Result,
        netfilter::{Dropper, FILTER, Family, Verdict},
    },
    plan::Accepted,
    topology::{self, AcceptRule, Bridge, Cable, Place, Topology, lab_mark},
};

/// The families in which Docker has chains.
pub const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// The chain of forwarded packets, whose policy Docker sets.
const FORWARD: &str = "FORWARD";

/// The maximum number of a lab's rules in a chain: their transaction fits the default send buffer (208 KiB).
const MOST_ACCEPTED: usize = 128;

/// The maximum number of dumps of rules that change meanwhile, for a command.
pub const MOST_READS: usize = 8;

/// The maximum number of ports of a bridge that are checked, each with the next one.
const MOST_PORTS: usize = 64;

/// The rules of a namespace, as they apply to a lab.
pub struct Firewall<'a> {
    topology: &'a Topology,
    place: &'a Place,
    machine: Machine,
}

impl<'a> Firewall<'a> {
    /// Reads the rules of the namespace of `place`, its links and routes. Rules that change meanwhile are read up to `most`
    /// times.
    ///
    /// # Errors
    /// The kernel refuses to show the rules, links or routes, or the rules change each time.
    pub fn read(topology: &'a Topology, place: &'a Place, netns: &Netns, most: usize) -> Result<Self> {
        Ok(Self { topology, place, machine: Machine::read(topology, place, netns, most)? })
    }

    /// Whether there are rules for whose changes there are no events.
    #[must_use]
    pub const fn has_legacy(&self) -> bool {
        !self.machine.legacy.is_empty()
    }

    /// The packets of the lab that are or may be dropped.
    #[must_use]
    pub fn drops(&self) -> Vec<Drop> {
        let mut all = Vec::new();
        for bridge in &self.topology.bridges {
            for family in FAMILIES {
                let on_bridge = self.on(bridge, family);
                if bridge.place == *self.place {
                    all.extend(on_bridge.between_hosts());
                }
                all.extend(on_bridge.routed());
            }
        }
        for family in FAMILIES {
            let here: Vec<_> = self.routed_bridges().take(MOST_PORTS).collect();
            for (bridge, other) in here.iter().zip(here.iter().cycle().skip(1)) {
                all.extend(self.on(bridge, family).and(other));
            }
        }
        all
    }

    /// The bridges whose packets are masqueraded here, but that no other device leads out for, in any family that they have
    /// addresses of: each with a sentence. What the lab itself makes here may lead out, so that nothing is known then.
    #[must_use]
    pub fn closed(&self) -> Vec<String> {
        let (topology, place) = (self.topology, self.place);
        let is_made = match place {
            Place::Host => false,
            Place::Namespace(name) => topology.adoption(name).is_none(),
        };
        let ends_here = |cable: &Cable| [&cable.a, &cable.b].iter().any(|end| end.place == *place);
        if is_made || topology.cables.iter().any(|cable| ends_here(cable) && !topology.is_uplink(cable)) {
            return Vec::new();
        }
        let is_closed = |bridge: &&Bridge| {
            let Some(device) = topology.masquerading_device(bridge, place) else { return false };
            let of = |net: &IpNet| if net.addr().is_ipv4() { Family::Ip } else { Family::Ip6 };
            let leads_out = |family| {
                let ways = self.machine.ways.iter().filter(|(of, _)| *of == family);
                ways.into_iter().any(|(_, way)| way != device.as_str())
            };
            !bridge.addresses.is_empty() && !bridge.addresses.iter().map(of).any(leads_out)
        };
        let sentence = |bridge: &Bridge| {
            let Bridge { name, place: at, .. } = bridge;
            format!("bridge {name} in {at} has `nat`, but no route of {place} leads out for its hosts")
        };
        topology.bridges.iter().filter(is_closed).map(sentence).collect()
    }

    /// The bridges here that have hosts and an address. Packets are routed between them if some are masqueraded, and another
    /// place is not the fabric, which has no rules.
    fn routed_bridges(&self) -> impl Iterator<Item = &'a Bridge> {
        let (topology, place) = (self.topology, self.place);
        let is_masqueraded =
            |bridge: &Bridge| bridge.place == *place && topology.masquerading_device(bridge, place).is_some();
        let is_any = topology.bridges.iter().any(is_masqueraded);
        let has_hosts = |bridge: &&Bridge| {
            topology.pairs.iter().any(|pair| pair.place == bridge.place && pair.bridge == bridge.name)
        };
        let here = topology.bridges.iter().filter(move |bridge| is_any && bridge.place == *place);
        here.filter(move |bridge| !bridge.addresses.is_empty() && has_hosts(bridge))
    }

    /// The rules that the lab has in `DOCKER-USER`, and those that it needs there, for each family with that chain. Afterwards this copy of the rules
    /// has the latter.
    ///
    /// A bridge with `nat` needs rules if the policy of `FORWARD` drops its packets to other networks, or the replies, and
    /// if rules in `DOCKER-USER` change that. If other programs filter forwarded packets too, only existing rules are
    /// kept.
    pub fn accept(&mut self) -> Vec<Accepted> {
        let mark = lab_mark(&self.topology.lab);
        let mut all = Vec::new();
        for family in FAMILIES {
            let Some(present) = self.machine.rules.accepted(family, &mark) else { continue };
            self.machine.rules.accept(family, &mark, &[]);
            let mut wanted = Vec::new();
            if !present.is_empty() || self.machine.is_dockers(family) {
                for bridge in self.with_nat() {
                    wanted = self.accept_on(bridge, family, &mark, wanted);
                }
            }
            let family = if family == Family::Ip { topology::Family::Ipv4 } else { topology::Family::Ipv6 };
            all.push(Accepted { place: self.place.clone(), family, present, wanted });
        }
        all
    }

    /// The rules for one more bridge, behind those for others, if it needs any.
    fn accept_on(
        &mut self,
        bridge: &Bridge,
        family: Family,
        mark: &str,
        others: Vec<AcceptRule>,
    ) -> Vec<AcceptRule> {
        /// Whether `DOCKER-USER` is passed before what drops these packets.
        fn is_dockers(family: Family, verdict: &Verdict) -> bool {
            let is_it = |by: &Dropper| {
                by.by_policy
                    && !by.is_legacy
                    && (by.family, by.table.as_str(), by.chain.as_str()) == (family, FILTER, FORWARD)
            };
            matches!(verdict, Verdict::Drop(by) | Verdict::MayDrop(by) if is_it(by))
        }
        let badness = |verdict: &Verdict| match verdict {
            Verdict::Accept => 0,
            Verdict::MayDrop(_) => 1,
            Verdict::Drop(_) => 2,
        };
        let before = self.on(bridge, family).routed_verdicts();
        // Bridges of a fabric share its uplink.
        let mut more = self.on(bridge, family).accept_rules();
        more.retain(|rule| !others.contains(rule));
        let is_met = |verdict: &Verdict| is_dockers(family, verdict);
        // A rule that drops all packets of a kind is intended.
        let is_others = |verdict: &Verdict| matches!(verdict, Verdict::Drop(_)) && !is_met(verdict);
        let has_room = others.len() + more.len() <= MOST_ACCEPTED;
        if !before.iter().any(is_met) || before.iter().any(is_others) || more.is_empty() || !has_room {
            return others;
        }
        let all = [&others[..], &more].concat();
        self.machine.rules.accept(family, mark, &all);
        let after = self.on(bridge, family).routed_verdicts();
        // What is still dropped is dropped by rules that are not Docker's: no rule of ours would help.
        let is_better = |(before, after): (&Verdict, &Verdict)| {
            badness(after) < 2 && (!is_met(before) || badness(after) < badness(before))
        };
        if before.iter().zip(&after).all(is_better) {
            return all;
        }
        self.machine.rules.accept(family, mark, &others);
        others
    }

    /// The bridges whose packets are masqueraded here, and arrive by a device by which no other packets arrive.
    fn with_nat(&self) -> impl Iterator<Item = &'a Bridge> + use<'a> {
        let (topology, place) = (self.topology, self.place);
        let is_mixed = |bridge: &Bridge| {
            let mut fabric = topology.bridges.iter().filter(|other| topology.is_fabric(&other.place));
            topology.is_fabric(&bridge.place) && fabric.any(|other| !other.nat && !other.addresses.is_empty())
        };
        let all = topology.bridges.iter().filter(move |bridge| !is_mixed(bridge));
        all.filter(move |bridge| topology.masquerading_device(bridge, place).is_some())
    }

    fn on<'f>(&'f self, bridge: &'f Bridge, family: Family) -> OnBridge<'f> {
        let device = self.topology.masquerading_device(bridge, self.place);
        OnBridge { topology: self.topology, machine: &self.machine, bridge, device, family }
    }
}

/// Whether a place masquerades packets of the lab.
#[must_use]
pub fn masquerades(topology: &Topology, place: &Place) -> bool {
    topology.bridges.iter().any(|bridge| topology.masquerading_device(bridge, place).is_some())
}

/// The places whose rules apply to packets of the lab: those with bridges, and the machine if it masquerades for the fabric.
#[must_use]
pub fn places(topology: &Topology) -> Vec<Place> {
    let mut places: Vec<Place> = topology.domains().into_iter().map(|(_, place)| place).collect();
    if !places.contains(&Place::Host) && masquerades(topology, &Place::Host) {
        places.push(Place::Host);
    }
    places
}
