//! Routing rules of a namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Parseable as _;
use netlink_packet_route::{
    AddressFamily,
    route::RouteProtocol,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
};

use super::{Context, Result, RouteSocket, netlink::NetlinkError};
use crate::topology::{Family, Rule};

/// Message type of linux/rtnetlink.h.
const RTM_GETRULE: u16 = 34;

impl RouteSocket {
    /// The rules of one family that look up a table, by conditions that a file can have.
    ///
    /// # Errors
    /// The kernel refuses the dump.
    pub fn rules(&self, family: Family) -> Result<Vec<Rule>> {
        // `struct fib_rule_hdr`
        let mut wanted = [0; 12];
        wanted[0] = u8::from(address_family(family));
        let mut rules = Vec::new();
        let dumped = self.dump_each(RTM_GETRULE, &wanted, |payload| {
            let message = RuleMessage::parse(payload);
            let message = message.map_err(|_| NetlinkError::Malformed("a rule cannot be parsed"))?;
            // A kernel without rules of the family answers with those of others.
            if message.header.family == address_family(family) {
                rules.extend(parse(&message));
            }
            Ok(())
        });
        dumped.doing("list rules of", self.netns())?;
        Ok(rules)
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

/// Name of a rule in errors.
pub(super) fn name(rule: &Rule) -> String {
    rule.to_string()
}

/// The message that adds or removes a rule.
pub(super) fn message(rule: &Rule, family: Family) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = address_family(family);
    message.header.action = RuleAction::ToTable;
    // The header has one byte for it.
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Table(rule.table));
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.extend(rule.from.map(|net| RuleAttribute::Source(net.addr())));
    attributes.extend(rule.to.map(|net| RuleAttribute::Destination(net.addr())));
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    attributes.extend(rule.fwmark.map(RuleAttribute::FwMark));
    attributes.extend(rule.fwmask.map(RuleAttribute::FwMask));
    message.header.src_len = rule.from.map_or(0, |net| net.prefix_len());
    message.header.dst_len = rule.to.map_or(0, |net| net.prefix_len());
    message
}

/// The same for a new rule, which carries who has added it, as routes do.
pub(super) fn new_message(rule: &Rule, family: Family) -> RuleMessage {
    let mut message = message(rule, family);
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Static));
    message
}

/// `None` for a rule that does something else, or has a condition that a file cannot have.
fn parse(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable || header.flags.contains(RuleFlags::Invert) || header.tos != 0 {
        return None;
    }
    let (mut table, mut priority) = (u32::from(header.table), 0);
    let (mut from, mut to, mut iif, mut oif) = (None, None, None, None);
    let (mut fwmark, mut fwmask) = (None, None);
    let net = |ip: &IpAddr, length| IpNet::new(*ip, length).ok();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::Priority(number) => priority = *number,
            RuleAttribute::Source(ip) => from = net(ip, header.src_len),
            RuleAttribute::Destination(ip) => to = net(ip, header.dst_len),
            RuleAttribute::Iifname(name) => iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => oif = Some(name.clone()),
            RuleAttribute::FwMark(mark) => fwmark = Some(*mark),
            RuleAttribute::FwMask(mask) => fwmask = Some(*mask).filter(|mask| *mask != u32::MAX),
            RuleAttribute::Protocol(_)
            | RuleAttribute::SuppressPrefixLen(u32::MAX)
            | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => return None,
        }
    }
    Some(Rule { priority, from, to, iif, oif, fwmark, fwmask, table })
}
