//! Tests with kernel messages, byte by byte, through the agent's own parser: for flags that not every kernel can set,
//! and for unknown attributes.
//!
//! `recorded/` has the replies of Linux 6.18 to RTM_GETLINK for a port of a bridge and for the bridge.

use std::collections::BTreeSet;

use netlink_packet_core::{DefaultNla, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::*;

const PORT: &[u8] = include_bytes!("recorded/port.bin");
const BRIDGE: &[u8] = include_bytes!("recorded/bridge.bin");

/// `IFLA_LINKINFO`, then `IFLA_INFO_SLAVE_DATA` or `IFLA_INFO_DATA` (linux/if_link.h).
const PORT_FLAGS: [u16; 2] = [18, 5];
const BRIDGE_OPTIONS: [u16; 2] = [18, 2];
/// `struct nlmsghdr` and `struct ifinfomsg`.
const HEADERS: usize = 32;

/// The message with the attribute at `path` set to `value`, whether it was present or not.
fn with(message: &[u8], path: &[u16], value: &[u8]) -> Vec<u8> {
    let mut changed = message[..HEADERS].to_vec();
    changed.extend(edit(&message[HEADERS..], path, value));
    let length = u32::try_from(changed.len()).expect("it is short");
    changed[..4].copy_from_slice(&length.to_ne_bytes());
    changed
}

fn edit(mut attributes: &[u8], path: &[u16], value: &[u8]) -> Vec<u8> {
    let (&first, rest) = path.split_first().expect("a path leads somewhere");
    let inner = |payload: &[u8]| if rest.is_empty() { value.to_vec() } else { edit(payload, rest, value) };
    let (mut out, mut found) = (Vec::new(), false);
    while attributes.len() >= 4 {
        let half = |at: usize| u16::from_ne_bytes([attributes[at], attributes[at + 1]]);
        let (length, kind) = (usize::from(half(0)), half(2));
        let payload = &attributes[4..length];
        // Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
        let is_it = kind & 0x3fff == first;
        found |= is_it;
        push(&mut out, kind, &if is_it { inner(payload) } else { payload.to_vec() });
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if !found {
        push(&mut out, first, &inner(&[]));
    }
    out
}

fn push(out: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(payload.len() + 4).expect("it is short");
    out.extend(length.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()).chain(payload.iter().copied()));
    out.resize(out.len().next_multiple_of(4), 0);
}

fn parsed(message: &[u8]) -> LinkFacts {
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).expect("the kernel's own");
    match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => LinkFacts::parse(link),
        other => panic!("{other:?} is no link"),
    }
}

/// The result for the recorded port on the recorded bridge: `Ok(isolated)`, or why not.
fn verdict(port: &[u8], bridge: &[u8]) -> Result<bool, String> {
    let (port, bridge) = (parsed(port), parsed(bridge));
    let lab_port = LabPort {
        counter: 1,
        port: port.name.parse().expect("a name"),
        bridge: bridge.name.parse().expect("a name"),
        barred: None,
        guest: None,
        xdp: None,
    };
    let facts = NetnsState {
        // As if the kernel had set these on a new port and a new bridge.
        harmless: UnknownDefaults {
            bridge: vec![DefaultNla::new(300, vec![7])],
            port: vec![DefaultNla::new(301, vec![8])],
        },
        inner: [(port.ifindex, LinkFacts { up: true, ..LinkFacts::default() })].into(),
        attached: BTreeSet::from([port.ifindex]),
        links: [(port.ifindex, port), (bridge.ifindex, bridge)].into(),
        reduced_offloads: Some(BTreeSet::new()),
        multiqueue: Some(BTreeSet::new()),
        ..NetnsState::default()
    };
    eligible(&lab_port, &facts).map(|port| port.isolated).map_err(|reason| reason.to_string())
}

fn with_flag(number: u16, value: &[u8]) -> Result<bool, String> {
    verdict(&with(PORT, &[PORT_FLAGS[0], PORT_FLAGS[1], number], value), BRIDGE)
}

fn with_option(number: u16, value: &[u8]) -> Result<bool, String> {
    verdict(PORT, &with(BRIDGE, &[BRIDGE_OPTIONS[0], BRIDGE_OPTIONS[1], number], value))
}

#[test]
fn a_port_as_a_kernel_tells_of_it_is_eligible() {
    assert_eq!(verdict(PORT, BRIDGE), Ok(false));
    // Setting the recorded values again changes nothing.
    assert_eq!(with_flag(1, &[3]), Ok(false), "forwarding");
    assert_eq!(with_flag(4, &[1]), Ok(false), "hairpin");
    assert_eq!(with_option(7, &[0]), Ok(false), "no VLAN filtering");
}

/// Numbers are `IFLA_BRPORT_*` of linux/if_link.h.
#[test]
fn a_port_whose_flag_is_not_honoured_is_refused_with_the_reason() {
    for (number, value, reason) in [
        (1, &[0][..], "the port is disabled"),
        (1, &[1], "the port is listening"),
        (1, &[2], "the port is learning"),
        (1, &[4], "the port is blocking"),
        (8, &[0], "port flag learning off"),
        (10, &[1], "port flag proxy_arp"),
        (12, &[1], "port flag proxy_arp"),
        (28, &[1], "port flag mcast_to_unicast"),
        (29, &[1], "port flag vlan_tunnel"),
        (32, &[1], "port flag neigh_suppress"),
        (34, &9_u32.to_ne_bytes(), "port flag backup_port"),
        (35, &[1], "port flag mrp"),
        (36, &[1], "port flag mrp"),
        (39, &[1], "port flag locked"),
        (40, &[1], "port flag mab"),
        (43, &[1], "port flag neigh_suppress"),
        (44, &9_u32.to_ne_bytes(), "port flag backup_nhid"),
    ] {
        assert_eq!(with_flag(number, value), Err(reason.to_owned()), "{number}: {value:?}");
    }
}

#[test]
fn a_port_with_a_flag_that_is_honoured_or_concerns_slow_frames_only_is_eligible() {
    assert_eq!(with_flag(33, &[1]), Ok(true), "isolated");
    // BPDU guard, root block, fast leave; flooding of unicast, multicast, broadcast.
    for (number, value) in [(5, 1), (6, 1), (7, 1), (9, 0), (27, 0), (30, 0)] {
        assert_eq!(with_flag(number, &[value]), Ok(false), "{number}");
    }
}

#[test]
fn an_attribute_that_nobody_has_heard_of_is_a_reason() {
    for number in [60, 200, 8000] {
        let unknown = |of: &str| Err(format!("unknown {of} attribute {number}"));
        for value in [&[][..], &[0], &[0, 0, 0, 0]] {
            assert_eq!(with_flag(number, value), unknown("port"), "{value:?}");
            assert_eq!(with_option(number, value), unknown("bridge"), "{value:?}");
        }
    }
}

#[test]
fn an_unknown_attribute_with_the_value_that_it_has_on_a_new_bridge_is_harmless() {
    assert_eq!((with_option(300, &[7]), with_flag(301, &[8])), (Ok(false), Ok(false)));
    assert_eq!(with_option(300, &[8]), Err("unknown bridge attribute 300".to_owned()));
    assert_eq!(with_flag(301, &[7]), Err("unknown port attribute 301".to_owned()));
    assert_eq!(with_flag(300, &[7]), Err("unknown port attribute 300".to_owned()), "it is the bridge's");
}

/// Numbers are `IFLA_BR_*` of linux/if_link.h.
#[test]
fn a_bridge_with_an_option_that_is_not_honoured_is_a_reason() {
    assert_eq!(with_option(7, &[1]), Err("bridge option vlan_filtering".to_owned()));
    assert_eq!(with_option(4, &599_u32.to_ne_bytes()), Err("bridge option ageing_time below 6 s".to_owned()));
    assert_eq!(with_option(4, &600_u32.to_ne_bytes()), Ok(false));
    assert_eq!(with_option(49, &1_u32.to_ne_bytes()), Err("bridge option fdb_max_learned".to_owned()));
    assert_eq!(with_option(49, &0_u32.to_ne_bytes()), Ok(false));
    assert_eq!(with_option(5, &7_u32.to_ne_bytes()), Err("bridge option stp_state".to_owned()));
    // IFLA_BR_MULTI_BOOLOPT: values, then a mask. The third is BR_BOOLOPT_MST_ENABLE.
    let options = |bits: u32| with_option(46, &[bits.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat());
    assert_eq!((options(0), options(0b1011)), (Ok(false), Ok(false)));
    for bit in [2, 4, 31] {
        assert_eq!(options(1 << bit), Err("bridge option that is not known".to_owned()));
    }
    // IFLA_PROMISCUITY
    let promiscuous = with(BRIDGE, &[30], &1_u32.to_ne_bytes());
    assert_eq!(verdict(PORT, &promiscuous), Err("the bridge is promiscuous".to_owned()));
}

/// A port of a device that is no bridge, or of a kernel that reports no port attributes.
#[test]
fn a_port_of_which_nothing_is_told_is_refused() {
    let mut bare = PORT[..HEADERS].to_vec();
    for (kind, payload) in [(3, &b"vp0\0"[..]), (10, &parsed(BRIDGE).ifindex.to_ne_bytes())] {
        push(&mut bare, kind, payload);
    }
    let length = u32::try_from(bare.len()).expect("it is short");
    bare[..4].copy_from_slice(&length.to_ne_bytes());
    assert_eq!(verdict(&bare, BRIDGE), Err("port flag that could not be read".to_owned()));
}
