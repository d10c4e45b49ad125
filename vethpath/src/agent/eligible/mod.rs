//! Whether a port is eligible for the fast path. Fails closed: anything unknown is a reason against it.

use netlink_packet_route::link::{BridgePortState, BridgeStpState, InfoBridge};

use super::{
    NotArmed,
    layout::{LabPort, Layout},
    netns_state::NetnsState,
};
use crate::{
    kernel::{LinkFacts, PortAttribute, UnknownDefaults, XdpMode},
    topology::{IfName, Trunk, TrunkEnd},
};

/// The shortest ageing time within which entries of fast hosts are surely refreshed: twice the lease, in hundredths
/// of a second as `IFLA_BR_AGEING_TIME` has it.
const LEAST_AGEING: u32 = 600;

/// Boolean options of a bridge (`enum br_boolopt_id` in linux/if_bridge.h) that do not affect known unicast: no
/// learning from link-local frames, multicast snooping by VLAN, notification of failed MDB offloads. Multiple
/// spanning trees are not among them.
const HARMLESS_OPTIONS: u32 = 1 << 0 | 1 << 1 | 1 << 3;

/// An eligible port, with what the maps need of it: that of a pair, or the end of a trunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eligible {
    /// The port, by ifindex.
    pub port: u32,
    /// The lesser MTU of both ends, in bytes.
    pub mtu: u32,
    /// Its bridge, by ifindex.
    pub bridge: u32,
    /// Isolated from other isolated ports.
    pub isolated: bool,
    /// For which packets its bridge calls netfilter, as flags.
    pub validated: u32,
    /// Of a pair: its number.
    pub counter: u32,
    /// Of a pair: the MAC of the inner end.
    pub mac: Option<[u8; 6]>,
    /// Of a pair: all frames must leave by the port rather than be redirected into the namespace. See
    /// [`leaves_by_port`].
    pub via_port: bool,
    /// Of a pair: frames may be sent and received by XDP.
    pub xdp: bool,
    /// Of a trunk: the number of the crossing from here, as in `Path::crossings`, and the other end, by ifindex.
    pub across: Option<(u16, u32)>,
}

/// The port as the fast path may use it, or why it may not.
pub fn eligible(lab_port: &LabPort, facts: &NetnsState) -> Result<Eligible, NotArmed> {
    if let Some(reason) = &lab_port.barred {
        return Err(reason.clone());
    }
    let port = facts.link_of(lab_port).ok_or(NotArmed::NoPort)?;
    if port.name != lab_port.port.as_str() {
        // It was renamed, and rules for its new name were not read.
        return Err(NotArmed::Unread);
    }
    let inner = facts.inner.get(&port.ifindex).ok_or(NotArmed::NoInnerEnd)?;
    if facts.deserted.contains(&lab_port.counter) {
        return Err(NotArmed::NoProcess);
    }
    if !facts.attached.contains(&port.ifindex) {
        return Err(NotArmed::NotAttached);
    }
    if !inner.up {
        return Err(NotArmed::Down("the inner end"));
    }
    let xdp = lab_port.xdp.is_some();
    if xdp {
        xdp_allows(port, inner, facts)?;
    }
    let on_bridge = on_bridge(port, &lab_port.bridge, facts)?;
    if facts.fdb.is_flooding(port.ifindex) {
        return Err(NotArmed::Flooding);
    }
    if facts.losing.contains(&lab_port.counter) {
        return Err(NotArmed::Losing);
    }
    Ok(Eligible {
        mtu: port.mtu.min(inner.mtu),
        counter: lab_port.counter,
        mac: inner.mac,
        via_port: leaves_by_port(port, inner, facts),
        xdp,
        ..on_bridge
    })
}

/// Whether every frame must leave by the port. The port may have to make checksums or segments, or choose a queue.
/// `bpf_redirect_peer` bypasses a native XDP program, and drops within one namespace (`skb_do_redirect` in
/// net/core/filter.c).
fn leaves_by_port(port: &LinkFacts, inner: &LinkFacts, facts: &NetnsState) -> bool {
    facts.has_reduced_offloads(port)
        || facts.is_multiqueue(port)
        || facts.cuts_frames(port)
        || inner.xdp == XdpMode::Native
        || NetnsState::shares_namespace(port)
}

/// Whether XDP works at a port and its inner end, in both directions. Without that, the port is not armed at all.
fn xdp_allows(port: &LinkFacts, inner: &LinkFacts, facts: &NetnsState) -> Result<(), NotArmed> {
    if !facts.xdp_attached.contains(&port.ifindex) {
        return Err(NotArmed::XdpNotAttached);
    }
    let ready = facts.ready.get(&port.ifindex).copied().unwrap_or_default();
    // The driver's feature flag may be stale: see kernel/xdp.rs.
    let (takes, says_so) =
        (ready.gro || inner.xdp == XdpMode::Native, facts.xdp_takers.contains(&port.ifindex));
    match (takes, says_so) {
        (false, _) => Err(NotArmed::XdpTakesNone),
        (true, false) => Err(NotArmed::XdpMissed),
        (true, true) if ready.complete => Ok(()),
        (true, true) => Err(NotArmed::TxOffloads),
    }
}

/// The ends of a trunk past which frames may be redirected, or why they may not.
pub fn eligible_trunk(trunk: &Trunk, layout: &Layout, facts: &NetnsState) -> Result<[Eligible; 2], NotArmed> {
    let Trunk { number, a, b } = trunk;
    if a.place != b.place {
        return Err(NotArmed::TwoNamespaces);
    }
    if ![a, b].iter().all(|end| layout.wants_programs(&end.bridge)) {
        return Err(NotArmed::NotWanted);
    }
    let find = |end: &TrunkEnd| facts.link(&end.port).ok_or(NotArmed::NoPort);
    let (a_port, b_port) = (find(a)?, find(b)?);
    if a_port.peer != Some(b_port.ifindex) || !NetnsState::shares_namespace(a_port) {
        return Err(NotArmed::NoPort);
    }
    let end = |port: &LinkFacts, bridge, direction, other: &LinkFacts| {
        if facts.has_reduced_offloads(port) {
            return Err(NotArmed::Offloads);
        }
        if facts.is_multiqueue(port) {
            return Err(NotArmed::Multiqueue);
        }
        if facts.cuts_frames(port) {
            return Err(NotArmed::GsoLimits);
        }
        if port.xdp != XdpMode::None {
            return Err(NotArmed::Xdp);
        }
        if !facts.attached.contains(&port.ifindex) {
            return Err(NotArmed::NotAttached);
        }
        let mtu = port.mtu.min(other.mtu);
        let across = Some((number * 2 + direction, other.ifindex));
        Ok(Eligible { mtu, across, ..on_bridge(port, bridge, facts)? })
    };
    Ok([end(a_port, &a.bridge, 0, b_port)?, end(b_port, &b.bridge, 1, a_port)?])
}

/// A port that does nothing with a known unicast frame but forward it, without what is behind it.
fn on_bridge(port: &LinkFacts, bridge: &IfName, facts: &NetnsState) -> Result<Eligible, NotArmed> {
    let bridge = facts.link(bridge).filter(|bridge| port.controller == Some(bridge.ifindex));
    let bridge = bridge.ok_or(NotArmed::OffBridge)?;
    for (link, what) in [(port, "the port"), (bridge, "the bridge")] {
        if !link.up {
            return Err(NotArmed::Down(what));
        }
    }
    bridge_allows(bridge, &facts.harmless)?;
    let isolated = port_allows(port, &facts.harmless)?;
    interference_allows(port, facts)?;
    let validated = facts.validated.get(&port.name).copied().unwrap_or_default();
    let (port, bridge) = (port.ifindex, bridge.ifindex);
    Ok(Eligible { port, bridge, isolated, validated, ..Eligible::default() })
}

/// Mirrors what `br_handle_frame_finish` and `br_forward` check of a bridge for known unicast.
fn bridge_allows(bridge: &LinkFacts, harmless: &UnknownDefaults) -> Result<(), NotArmed> {
    let attributes = bridge.bridge.as_ref().ok_or(NotArmed::BridgeOption("that could not be read"))?;
    if bridge.promiscuity != 0 {
        return Err(NotArmed::Promiscuous);
    }
    for attribute in attributes {
        match attribute {
            InfoBridge::VlanFiltering(true) => return Err(NotArmed::BridgeOption("vlan_filtering")),
            // Refreshes are due once a second at most, and none happens while an agent is dead and its lease holds.
            InfoBridge::AgeingTime(..LEAST_AGEING) => {
                return Err(NotArmed::BridgeOption("ageing_time below 6 s"));
            }
            // A refreshed entry becomes "added by user", which the kernel no longer counts (`br_fdb_update` in
            // net/bridge/br_fdb.c): others could be learned beyond the limit.
            InfoBridge::FdbMaxLearned(1..) => return Err(NotArmed::BridgeOption("fdb_max_learned")),
            InfoBridge::StpState(BridgeStpState::Other(_)) => {
                return Err(NotArmed::BridgeOption("stp_state"));
            }
            InfoBridge::MultiBoolOpt(options) if options.value.bits() & !HARMLESS_OPTIONS != 0 => {
                return Err(NotArmed::BridgeOption("that is not known"));
            }
            InfoBridge::Other(nla) if !harmless.bridge.contains(nla) => {
                return Err(NotArmed::Unknown { of: "bridge", number: netlink_packet_core::Nla::kind(nla) });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Mirrors `br_handle_frame`, `should_deliver` and the port flags of `linux/if_bridge.h`. Returns whether the port is
/// isolated. Hairpin mode matters to frames that leave by the port at which they came alone, and those are the bridge's.
fn port_allows(port: &LinkFacts, harmless: &UnknownDefaults) -> Result<bool, NotArmed> {
    use PortAttribute as P;
    let attributes = port.port.as_ref().ok_or(NotArmed::PortFlag("that could not be read"))?;
    let mut forwarding = false;
    let mut isolated = false;
    for attribute in attributes {
        match attribute {
            P::State(BridgePortState::Forwarding) => forwarding = true,
            P::State(state) => return Err(NotArmed::NotForwarding(format!("{state:?}").to_lowercase())),
            P::Isolated(on) => isolated = *on,
            P::Learning(false) => return Err(NotArmed::PortFlag("learning off")),
            P::Locked(true) => return Err(NotArmed::PortFlag("locked")),
            P::Mab(true) => return Err(NotArmed::PortFlag("mab")),
            P::ProxyARP(true) | P::ProxyARPWifi(true) => return Err(NotArmed::PortFlag("proxy_arp")),
            P::NeighSupress(true) | P::NeighVlanSuppress(true) => {
                return Err(NotArmed::PortFlag("neigh_suppress"));
            }
            P::NeighForwardGrat(true) => return Err(NotArmed::PortFlag("neigh_forward_grat")),
            P::VlanTunnel(true) => return Err(NotArmed::PortFlag("vlan_tunnel")),
            P::MulticastToUnicast(true) => return Err(NotArmed::PortFlag("mcast_to_unicast")),
            P::BackupPort(1..) => return Err(NotArmed::PortFlag("backup_port")),
            P::BackupNextHopId(1..) => return Err(NotArmed::PortFlag("backup_nhid")),
            P::MrpRingOpen(true) | P::MrpInOpen(true) => return Err(NotArmed::PortFlag("mrp")),
            P::Other(nla) if !harmless.port.contains(nla) => {
                return Err(NotArmed::Unknown { of: "port", number: netlink_packet_core::Nla::kind(nla) });
            }
            _ => {}
        }
    }
    if forwarding { Ok(isolated) } else { Err(NotArmed::NotForwarding("in an unknown state".to_owned())) }
}

/// Interference on the port. What could not be read may forbid anything.
fn interference_allows(port: &LinkFacts, facts: &NetnsState) -> Result<(), NotArmed> {
    if let Some(error) = facts.unreadable.values().next() {
        return Err(NotArmed::Unreadable(error.clone()));
    }
    if facts.unread.contains(&port.ifindex) {
        return Err(NotArmed::Unread);
    }
    if let Some(kind) = facts.qdiscs.get(&port.ifindex) {
        return Err(NotArmed::Qdisc(kind.clone()));
    }
    if facts.foreign.contains(&port.ifindex) {
        return Err(NotArmed::ForeignProgram);
    }
    if facts.packet_sockets.contains(&port.ifindex) || facts.packet_sockets.contains(&0) {
        return Err(NotArmed::PacketSocket);
    }
    match facts.rules.get(&port.name) {
        Some(rule) => Err(NotArmed::Rule(rule.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
