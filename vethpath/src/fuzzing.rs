//! Decoders of external input, as the fuzzers in `vethpath/fuzz` call them.

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    agent::status::Status,
    kernel::{LinkFacts, ethtool, generic, netfilter, packet_sockets, tcp, watch, xdp},
    state::Record,
};

/// Parses a route netlink datagram, as events and as link facts.
pub fn events(datagram: &[u8]) {
    let mut events = Vec::new();
    watch::parse(datagram, &mut events);
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else { return };
    if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message.payload {
        let _ = LinkFacts::parse(link);
    }
}

/// Parses the payload of a reply with each of vethpath's own decoders. Their text must contain no control characters,
/// which could steer a terminal.
///
/// # Panics
/// Text contains control characters.
pub fn answers(payload: &[u8]) {
    let _ = packet_sockets::parse(payload);
    let _ = tcp::parse(payload);
    let _ = ethtool::parse_features(payload);
    let _ = ethtool::parse_feature_words(payload);
    let _ = ethtool::transmit_features(payload);
    let _ = ethtool::parse_channels(payload);
    let _ = generic::number_of(payload);
    let _ = xdp::taker(payload);
    let _ = netfilter::is_change(payload);
    for text in netfilter::decode(payload) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// Parses a journal line, and an agent's reply. What parses must serialize. A record must parse again as the same.
///
/// # Panics
/// Serializing or parsing again fails.
pub fn records(bytes: &[u8]) {
    if let Ok(record) = Record::parse(bytes) {
        let again = serde_json::to_vec(&record).ok().and_then(|line| Record::parse(&line).ok());
        assert_eq!(again.map(|again| again.topology), Some(record.topology));
    }
    if let Ok(status) = serde_json::from_slice::<Status>(bytes) {
        assert!(serde_json::to_string(&status).is_ok());
    }
}
