//! What `nat = true` on a bridge comes to.

use ipnet::IpNet;

use super::{Bridge, IfName, LabName, Place, Topology};

/// One subnet whose packets are masqueraded, unless they stay on its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeRule {
    /// Source addresses; host bits are ignored.
    pub subnet: IpNet,
    /// The bridge with that subnet.
    pub bridge: IfName,
}

/// The table of a lab in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// Where.
    pub place: Place,
    /// The table's name.
    pub table: String,
    /// A rule for each subnet of each bridge with `nat`.
    pub rules: Vec<MasqueradeRule>,
    /// Whether the place is not the lab's own: the host, or an adopted namespace.
    pub is_shared: bool,
}

impl Masquerade {
    /// The tables that a topology wants, at most one in each place.
    #[must_use]
    pub fn of(topology: &Topology) -> Vec<Self> {
        let mut tables: Vec<Self> = Vec::new();
        let is_made = |place: &Place| {
            let mut made = topology.namespaces.iter().filter(|namespace| namespace.adopt.is_none());
            made.any(|namespace| matches!(place, Place::Namespace(name) if *name == namespace.name))
        };
        for bridge in topology.bridges.iter().filter(|bridge| bridge.nat) {
            let rules = rules(bridge);
            match tables.iter_mut().find(|table| table.place == bridge.place) {
                Some(table) => table.rules.extend(rules),
                None => tables.push(Self {
                    place: bridge.place.clone(),
                    table: Self::table_of(&topology.lab),
                    rules: rules.collect(),
                    is_shared: !is_made(&bridge.place),
                }),
            }
        }
        tables
    }

    /// The table that a lab whose file is not known may have in a place that is not its own.
    #[must_use]
    pub fn unknown(lab: &LabName, place: Place) -> Self {
        Self { place, table: Self::table_of(lab), rules: Vec::new(), is_shared: true }
    }

    /// The name of a lab's tables.
    fn table_of(lab: &LabName) -> String {
        format!("vethpath-{lab}")
    }

    /// Whether any rule is about IPv4, and any about IPv6.
    #[must_use]
    pub fn families(&self) -> (bool, bool) {
        let any = |wanted: fn(&IpNet) -> bool| self.rules.iter().any(|rule| wanted(&rule.subnet));
        (any(|net| net.addr().is_ipv4()), any(|net| net.addr().is_ipv6()))
    }
}

fn rules(bridge: &Bridge) -> impl Iterator<Item = MasqueradeRule> {
    let rule = |address: &IpNet| MasqueradeRule { subnet: address.trunc(), bridge: bridge.name.clone() };
    // A link-local subnet never leaves its link.
    let routable =
        |address: &&IpNet| !matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
    bridge.addresses.iter().filter(routable).map(rule)
}
