//! The masquerading rules of `nat = true` on a bridge, and rules that accept what is masqueraded.

use std::fmt;

use ipnet::IpNet;

use super::{Bridge, IfName, LabName, Place, Topology};

/// A subnet whose packets are masqueraded when they leave by another device than they have come by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeRule {
    /// Source addresses; host bits are ignored.
    pub subnet: IpNet,
    /// The device behind which the subnet is: a bridge, or the uplink of the fabric.
    pub device: IfName,
}

/// A rule that accepts routed packets between a bridge and another device. Its text is the arguments of `iptables`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AcceptRule {
    /// The bridge.
    pub bridge: String,
    /// The device by which packets leave the bridge's namespace.
    pub uplink: String,
    /// Whether it accepts packets of known connections that come by that device (`RELATED,ESTABLISHED`). Otherwise it
    /// accepts all that come by the bridge and leave by that device.
    pub are_replies: bool,
}

impl AcceptRule {
    /// The two rules for a bridge and a device by which its packets leave.
    #[must_use]
    pub fn both(bridge: &IfName, uplink: &str) -> [Self; 2] {
        [false, true].map(|are_replies| Self {
            bridge: bridge.to_string(),
            uplink: uplink.to_owned(),
            are_replies,
        })
    }
}

impl fmt::Display for AcceptRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bridge, uplink, are_replies } = self;
        match are_replies {
            false => write!(f, "-i {bridge} -o {uplink} -j ACCEPT"),
            true => write!(f, "-i {uplink} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        }
    }
}

/// A lab's nftables table in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Its network namespace.
    pub place: Place,
    /// The table's name.
    pub table: String,
    /// A rule for each subnet of each bridge with `nat`.
    pub rules: Vec<MasqueradeRule>,
    /// Whether the lab did not create the namespace: the host, or an adopted namespace.
    pub is_shared: bool,
}

impl Topology {
    /// Where the packets of a bridge are masqueraded, and the device by which they come there. The fabric forwards its
    /// packets as they are, and the machine masquerades what comes by the uplink. `None` without `nat`.
    #[must_use]
    pub fn masquerading<'t>(&'t self, bridge: &'t Bridge) -> Option<(&'t Place, &'t IfName)> {
        match self.uplink() {
            _ if !bridge.nat => None,
            Some(uplink) if self.is_fabric(&bridge.place) => Some((&Place::Host, uplink)),
            _ => Some((&bridge.place, &bridge.name)),
        }
    }

    /// The device by which packets of a bridge come that are masqueraded in this place.
    #[must_use]
    pub fn masquerading_device<'t>(&'t self, bridge: &'t Bridge, place: &Place) -> Option<&'t IfName> {
        self.masquerading(bridge).filter(|(at, _)| *at == place).map(|(_, device)| device)
    }
}

impl Masquerade {
    /// The tables that a topology needs, at most one in each namespace.
    #[must_use]
    pub fn of(topology: &Topology) -> Vec<Self> {
        let mut tables: Vec<Self> = Vec::new();
        let is_made = |place: &Place| {
            let mut made = topology.namespaces.iter().filter(|namespace| namespace.adopt.is_none());
            made.any(|namespace| matches!(place, Place::Namespace(name) if *name == namespace.name))
        };
        for bridge in &topology.bridges {
            let Some((place, device)) = topology.masquerading(bridge) else { continue };
            let rules = rules(bridge, device);
            match tables.iter_mut().find(|table| &table.place == place) {
                Some(table) => table.rules.extend(rules),
                None => tables.push(Self {
                    place: place.clone(),
                    table: Self::table_of(&topology.lab),
                    rules: rules.collect(),
                    is_shared: !is_made(place),
                }),
            }
        }
        tables
    }

    /// The table that a lab may have in a shared namespace, for a lab whose topology is not known.
    #[must_use]
    pub fn unknown(lab: &LabName, place: Place) -> Self {
        Self { place, table: Self::table_of(lab), rules: Vec::new(), is_shared: true }
    }

    /// The name of a lab's tables.
    fn table_of(lab: &LabName) -> String {
        format!("vethpath-{lab}")
    }

    /// Whether there are IPv4 rules, and whether there are IPv6 rules.
    #[must_use]
    pub fn families(&self) -> (bool, bool) {
        let any = |wanted: fn(&IpNet) -> bool| self.rules.iter().any(|rule| wanted(&rule.subnet));
        (any(|net| net.addr().is_ipv4()), any(|net| net.addr().is_ipv6()))
    }
}

fn rules<'t>(bridge: &'t Bridge, device: &'t IfName) -> impl Iterator<Item = MasqueradeRule> + 't {
    let rule = move |address: &IpNet| MasqueradeRule { subnet: address.trunc(), device: device.clone() };
    // Packets of a link-local subnet never leave its link.
    let routable =
        |address: &&IpNet| !matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
    bridge.addresses.iter().filter(routable).map(rule)
}
