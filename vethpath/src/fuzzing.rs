//! The decoders of what comes from outside, as the fuzzers in `vethpath/fuzz` call them.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    agent::status::Status,
    kernel::{LinkFacts, channels, features, generic, netfilter, packet_sockets, watch, xdp},
    state::Record,
};

/// A datagram of route netlink, as events and as what is made of links.
pub fn events(datagram: &[u8]) {
    let mut events = Vec::new();
    watch::parse(datagram, &mut events);
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else { return };
    if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload {
        let _ = LinkFacts::parse(link);
    }
}

/// The payload of an answer, as each of our own decoders takes it. None of what they make may steer
/// a terminal.
///
/// # Panics
/// Text has control characters in it.
pub fn answers(payload: &[u8]) {
    let _ = packet_sockets::parse(payload);
    let _ = features::parse(payload);
    let _ = channels::parse(payload);
    let _ = generic::number_of(payload);
    let _ = xdp::taker(payload);
    let _ = netfilter::is_change(payload);
    for text in netfilter::decode(payload) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// A line of a journal, and an agent's answer. What can be read can be written and read again.
///
/// # Panics
/// It cannot.
pub fn records(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        let again = serde_json::to_vec(&record).ok().and_then(|line| Record::parse(&line).ok());
        assert_eq!(again.map(|again| again.topology), Some(record.topology));
    }
    if let Ok(status) = serde_json::from_slice::<Status>(bytes) {
        assert!(serde_json::to_string(&status).is_ok());
    }
}
