//! Routes of a namespace.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::IfName;

/// `RT_TABLE_MAIN` of linux/rtnetlink.h.
pub const MAIN_TABLE: u32 = 254;

/// Metric of an IPv6 route that has none (`IP6_RT_PRIO_USER` of linux/ipv6_route.h). That of IPv4 is 0.
pub const IPV6_METRIC: u32 = 1024;

/// A route of the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// The destination; a prefix of length 0 is the default route.
    pub to: IpNet,
    /// What happens to packets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fate: Fate,
    /// The gateway, if the route has one way. It may be of the other family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The interface, if it is written and the route has one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<IfName>,
    /// Whether the gateway is on the interface's link although no subnet of the interface contains it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub onlink: bool,
    /// The ways of a route that has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nexthops: Vec<NextHop>,
    /// Its metric; `None` is the kernel's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The source address of packets that hosts send by it without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub src: Option<IpAddr>,
    /// The routing table; `None` is the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Its MTU in bytes; `None` is the interface's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What happens to packets of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// They are sent.
    #[default]
    Unicast,
    /// They are dropped.
    Blackhole,
    /// They are dropped, and the sender gets an ICMP message.
    Unreachable,
}

impl Fate {
    /// The word of ip-route(8), which is a key of the file too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
        }
    }
}

/// One of the ways of a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NextHop {
    /// The gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The interface, if it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<IfName>,
    /// As [`Route::onlink`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub onlink: bool,
    /// Its share of the flows, from 1 to 256.
    pub weight: u32,
}

/// What is unique among the routes of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// The destination.
    pub to: IpNet,
    /// The routing table.
    pub table: u32,
    /// The metric.
    pub metric: u32,
}

impl RouteKey {
    /// The key of a route in the main table with the default metric.
    #[must_use]
    pub fn usual(to: IpNet) -> Self {
        Self { to, table: MAIN_TABLE, metric: usual_metric(&to) }
    }
}

/// The metric of routes to a destination that have none.
#[must_use]
pub fn usual_metric(to: &IpNet) -> u32 {
    if to.addr().is_ipv4() { 0 } else { IPV6_METRIC }
}

/// One word: `10.0.0.0/8`, or with table and metric where they are not the usual ones, `10.0.0.0/8,254,100`.
impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::usual(self.to) {
            return self.to.fmt(f);
        }
        write!(f, "{},{},{}", self.to, self.table, self.metric)
    }
}

impl FromStr for RouteKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = "it is not the key of a route";
        let (to, rest) = text.split_once(',').map_or((text, None), |(to, rest)| (to, Some(rest)));
        let to: IpNet = to.parse().map_err(|_| malformed)?;
        let Some((table, metric)) = rest.map(|rest| rest.split_once(',').unwrap_or_default()) else {
            return Ok(Self::usual(to));
        };
        let number = |text: &str| text.parse().map_err(|_| malformed);
        Ok(Self { to, table: number(table)?, metric: number(metric)? })
    }
}

impl Route {
    /// A route by one gateway.
    #[must_use]
    pub fn by(to: IpNet, via: IpAddr) -> Self {
        Self { via: Some(via), ..Self::to(to) }
    }

    /// A route without a way.
    #[must_use]
    pub fn to(to: IpNet) -> Self {
        Self {
            to,
            fate: Fate::Unicast,
            via: None,
            dev: None,
            onlink: false,
            nexthops: Vec::new(),
            metric: None,
            src: None,
            table: None,
            mtu: None,
        }
    }

    /// What is unique among the routes of a namespace.
    #[must_use]
    pub fn key(&self) -> RouteKey {
        let metric = self.metric.unwrap_or_else(|| usual_metric(&self.to));
        RouteKey { to: self.to, table: self.table.unwrap_or(MAIN_TABLE), metric }
    }

    /// Its ways. A blackhole has none.
    #[must_use]
    pub fn hops(&self) -> Vec<NextHop> {
        if self.fate != Fate::Unicast || !self.nexthops.is_empty() {
            return self.nexthops.clone();
        }
        vec![NextHop { via: self.via, dev: self.dev.clone(), onlink: self.onlink, weight: 1 }]
    }

    /// Its gateways.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.via.into_iter().chain(self.nexthops.iter().filter_map(|hop| hop.via))
    }

    /// Whether its interface's address, or another route, must be there before it.
    #[must_use]
    pub fn has_gateway(&self) -> bool {
        self.gateways().next().is_some()
    }

    /// All but the destination: `via 10.0.0.9 metric 100`.
    #[must_use]
    pub fn way(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        if self.fate != Fate::Unicast {
            words.push(self.fate.name().to_owned());
        }
        if let [hop] = &self.hops()[..] {
            words.extend(hop.words());
        }
        let values = [("table", self.table), ("metric", self.metric)];
        words.extend(values.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value)?))));
        words.extend(self.src.map(|src| format!("src {src}")));
        words.extend(self.mtu.map(|mtu| format!("mtu {mtu}")));
        if self.hops().len() > 1 {
            for hop in &self.nexthops {
                words.push("nexthop".to_owned());
                words.extend(hop.words());
                words.push(format!("weight {}", hop.weight));
            }
        }
        words.join(" ")
    }
}

impl NextHop {
    fn words(&self) -> impl Iterator<Item = String> {
        let via = self.via.map(|via| format!("via {via}"));
        let dev = self.dev.as_ref().map(|dev| format!("dev {dev}"));
        via.into_iter().chain(dev).chain(self.onlink.then(|| "onlink".to_owned()))
    }
}

/// `10.1.0.0/16 via 10.0.0.9 metric 100`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.to, self.way())
    }
}

/// Whether an address is an IPv6 link-local one, which is the same on every link.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word_and_is_read_again() {
        let to: IpNet = "10.1.0.0/16".parse().unwrap();
        assert_eq!(RouteKey::usual(to).to_string(), "10.1.0.0/16");
        let six = RouteKey { to: "fd00::/64".parse().unwrap(), table: 100, metric: 5 };
        assert_eq!(six.to_string(), "fd00::/64,100,5");
        for key in [RouteKey::usual(to), six, RouteKey { table: 7, ..RouteKey::usual(to) }] {
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for other in ["", "10.1.0.0", "10.1.0.0/16,1", "10.1.0.0/16,1,x"] {
            assert!(other.parse::<RouteKey>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_record_of_a_route_by_a_gateway_is_as_before() {
        let route = Route::by("10.1.0.0/16".parse().unwrap(), "10.0.0.9".parse().unwrap());
        let json = serde_json::to_string(&route).unwrap();
        assert_eq!(json, r#"{"to":"10.1.0.0/16","via":"10.0.0.9"}"#);
        assert_eq!(serde_json::from_str::<Route>(&json).unwrap(), route);
    }

    #[test]
    fn a_route_reads_as_ip_route_prints_it() {
        let to = "10.1.0.0/16".parse().unwrap();
        let hop = |via: &str, weight| NextHop { via: via.parse().ok(), dev: None, onlink: false, weight };
        let several = Route { nexthops: vec![hop("10.0.0.9", 1), hop("10.0.0.8", 2)], ..Route::to(to) };
        assert_eq!(
            several.to_string(),
            "10.1.0.0/16 nexthop via 10.0.0.9 weight 1 nexthop via 10.0.0.8 weight 2"
        );
        let dropped = Route { fate: Fate::Blackhole, table: Some(7), ..Route::to(to) };
        assert_eq!(dropped.to_string(), "10.1.0.0/16 blackhole table 7");
        let one =
            Route { dev: "eth0".parse().ok(), onlink: true, ..Route::by(to, "192.0.2.1".parse().unwrap()) };
        assert_eq!(one.to_string(), "10.1.0.0/16 via 192.0.2.1 dev eth0 onlink");
    }
}
