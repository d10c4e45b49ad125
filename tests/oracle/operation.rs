//! Manual changes of a lab, as command lines.

use std::fmt;

use super::names::{Address, Names};
use crate::harness::format_mac;

/// A change that is made to both labs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `bridge fdb <verb> <mac> dev <port> master <kind>`.
    Entry { verb: &'static str, mac: Address, port: usize, kind: &'static str },
    /// Flushes learned entries, of the bridge or of one port.
    Flush(Option<usize>),
    /// `bridge link set dev <port> <flag> on|off`.
    Flag { port: usize, flag: &'static str, on: bool },
    /// `bridge link set dev <port> state <number>`.
    State { port: usize, state: u8 },
    /// `ip link set <link> up|down`.
    Up { link: Link, on: bool },
    /// `ip link set <port> master <bridge>|nomaster`.
    OnBridge { port: usize, on: bool },
    /// `ip link set <link> mtu <bytes>`.
    Mtu { link: Link, mtu: u32 },
    /// `ip link set <link> address <mac>`.
    Mac { link: Link, mac: Address },
    /// `ip link set <link> promisc on|off`.
    Promiscuous { link: Link, on: bool },
    /// `ip link set <bridge> type bridge <option> <value>`.
    Option { option: &'static str, value: u32 },
    /// A qdisc on a port, with a queue that is long enough.
    Queue { port: usize, on: bool },
    /// A tc filter that drops frames for a MAC address.
    Filter { port: usize, ingress: bool, mac: Address },
    /// An nftables rule that drops frames for a MAC address, on the bridge or on one port.
    Rule { port: Option<usize>, mac: Address },
}

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Port(usize),
    Inner(usize),
    Bridge,
}

/// A command line, and where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// The host to run it in; `None` is the bridges' namespace.
    pub(crate) inside: Option<usize>,
    pub(crate) words: String,
}

impl Command {
    fn here(words: String) -> Self {
        Self { inside: None, words }
    }
}

/// Bridge options and their initial values.
const OPTIONS: [(&str, u32); 6] = [
    ("ageing_time", 30_000),
    ("group_fwd_mask", 0),
    ("no_linklocal_learn", 0),
    ("mcast_snooping", 1),
    ("mcast_querier", 0),
    ("vlan_filtering", 0),
];

impl Operation {
    /// The commands of the operation.
    pub(crate) fn commands(&self, names: &Names) -> Vec<Command> {
        let here = |words| vec![Command::here(words)];
        let mac = |mac| format_mac(names.mac(mac));
        match *self {
            Self::Entry { verb, mac: address, port, kind } => {
                here(format!("bridge fdb {verb} {} dev {} master {kind}", mac(address), names.port(port)))
            }
            Self::Flush(None) => here(format!("ip link set {} type bridge fdb_flush", names.bridge())),
            Self::Flush(Some(port)) => {
                here(format!("ip link set {} type bridge_slave fdb_flush", names.port(port)))
            }
            Self::Flag { port, flag, on } => {
                here(format!("bridge link set dev {} {flag} {}", names.port(port), on_off(on)))
            }
            Self::State { port, state } => {
                here(format!("bridge link set dev {} state {state}", names.port(port)))
            }
            Self::Up { link, on } => set(names, link, if on { "up" } else { "down" }),
            Self::OnBridge { port, on: true } => {
                here(format!("ip link set {} master {}", names.port(port), names.ports[port].bridge))
            }
            Self::OnBridge { port, on: false } => here(format!("ip link set {} nomaster", names.port(port))),
            Self::Mtu { link, mtu } => set(names, link, &format!("mtu {mtu}")),
            Self::Mac { link, mac: address } => set(names, link, &format!("address {}", mac(address))),
            Self::Promiscuous { link, on } => set(names, link, &format!("promisc {}", on_off(on))),
            Self::Option { option, value } => {
                here(format!("ip link set {} type bridge {option} {value}", names.bridge()))
            }
            Self::Queue { port, on: true } => {
                here(format!("tc qdisc replace dev {} root pfifo limit 1000", names.port(port)))
            }
            Self::Queue { port, on: false } => here(format!("tc qdisc del dev {} root", names.port(port))),
            Self::Filter { port, ingress, mac: address } => {
                filter(names.port(port), ingress, names.mac(address))
            }
            Self::Rule { port, mac: address } => rule(port.map(|port| names.port(port)), &mac(address)),
        }
    }

    /// The commands that restore the initial state, whatever else has changed the same object.
    pub(crate) fn undone(&self, names: &Names) -> Vec<Command> {
        let operation = match *self {
            Self::Entry { mac, port, .. } => Self::Entry { verb: "del", mac, port, kind: "" },
            Self::Flush(_) => return Vec::new(),
            Self::Flag { port, flag, .. } => Self::Flag { port, flag, on: at_first(flag) },
            Self::State { port, .. } => Self::State { port, state: 3 },
            Self::Up { link, .. } => Self::Up { link, on: true },
            Self::OnBridge { port, .. } => Self::OnBridge { port, on: true },
            Self::Mtu { link, .. } => Self::Mtu { link, mtu: names.mtu(link) },
            Self::Mac { link, .. } => Self::Mac { link, mac: link.address() },
            Self::Promiscuous { link, .. } => Self::Promiscuous { link, on: false },
            Self::Option { option, .. } => {
                let (_, value) = OPTIONS.into_iter().find(|(name, _)| *name == option).expect("a known one");
                Self::Option { option, value }
            }
            Self::Queue { port, .. } => Self::Queue { port, on: false },
            Self::Filter { port, .. } => {
                return vec![Command::here(format!("tc qdisc del dev {} clsact", names.port(port)))];
            }
            Self::Rule { port, .. } => {
                let family = if port.is_some() { "netdev" } else { "bridge" };
                return vec![Command::here(format!("nft delete table {family} oracle"))];
            }
        };
        operation.commands(names)
    }

    /// The order of undoing. Links come first: a port that is off its bridge has no flags to set.
    pub(crate) fn order(&self) -> u8 {
        match self {
            Self::OnBridge { .. } => 0,
            Self::Up { .. } => 1,
            _ => 2,
        }
    }

    /// Whether it changes link state, which the kernel updates asynchronously (`linkwatch_event` in
    /// net/core/link_watch.c).
    pub(crate) fn moves_links(&self) -> bool {
        matches!(self, Self::OnBridge { .. } | Self::Up { .. })
    }
}

impl Link {
    fn address(self) -> Address {
        match self {
            Self::Port(end) => Address::Port(end),
            Self::Inner(end) => Address::Host(end),
            Self::Bridge => Address::Bridge,
        }
    }
}

impl Names {
    fn mtu(&self, link: Link) -> u32 {
        match link {
            Link::Port(end) | Link::Inner(end) => self.ports[end].mtu,
            Link::Bridge => 1500,
        }
    }
}

fn set(names: &Names, link: Link, what: &str) -> Vec<Command> {
    let (inside, name) = match link {
        Link::Port(end) => (None, names.port(end)),
        Link::Inner(end) => (Some(end), names.ends[end].interface.as_str()),
        Link::Bridge => (None, names.bridge()),
    };
    vec![Command { inside, words: format!("ip link set {name} {what}") }]
}

/// Whether a port has this flag initially.
pub(crate) fn at_first(flag: &str) -> bool {
    matches!(flag, "learning" | "flood" | "mcast_flood" | "bcast_flood")
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn filter(port: &str, ingress: bool, mac: [u8; 6]) -> Vec<Command> {
    let hook = if ingress { "ingress" } else { "egress" };
    let [_, _, c, d, e, f] = mac;
    // Relative to the network header: the last four bytes of the destination.
    let matching = format!("u32 match u32 0x{c:02x}{d:02x}{e:02x}{f:02x} 0xffffffff at -12");
    ["qdisc replace dev PORT clsact".to_owned(), format!("filter add dev PORT {hook} {matching} action drop")]
        .map(|words| Command::here(format!("tc {}", words.replace("PORT", port))))
        .into()
}

fn rule(port: Option<&str>, mac: &str) -> Vec<Command> {
    let (family, hook) = match port {
        Some(port) => ("netdev", format!("ingress device {port}")),
        None => ("bridge", "forward".to_owned()),
    };
    let table = format!("{family} oracle");
    [
        format!("add table {table}"),
        format!("add chain {table} drops {{ type filter hook {hook} priority 0 ; }}"),
        format!("add rule {table} drops ether daddr {mac} drop"),
    ]
    .map(|words| Command::here(format!("nft {words}")))
    .into()
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(end) => write!(f, "port{end}"),
            Self::Inner(end) => write!(f, "h{end}"),
            Self::Bridge => write!(f, "bridge"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { verb, mac, port, kind } => write!(f, "fdb {verb} {mac} port{port} {kind}"),
            Self::Flush(None) => write!(f, "fdb flush"),
            Self::Flush(Some(port)) => write!(f, "fdb flush port{port}"),
            Self::Flag { port, flag, on } => write!(f, "port{port} {flag} {}", on_off(*on)),
            Self::State { port, state } => write!(f, "port{port} state {state}"),
            Self::Up { link, on } => write!(f, "{link} {}", if *on { "up" } else { "down" }),
            Self::OnBridge { port, on: true } => write!(f, "port{port} on its bridge"),
            Self::OnBridge { port, on: false } => write!(f, "port{port} off its bridge"),
            Self::Mtu { link, mtu } => write!(f, "{link} mtu {mtu}"),
            Self::Mac { link, mac } => write!(f, "{link} has the address of {mac}"),
            Self::Promiscuous { link, on } => write!(f, "{link} promisc {}", on_off(*on)),
            Self::Option { option, value } => write!(f, "bridge {option} {value}"),
            Self::Queue { port, on } => write!(f, "port{port} queue {}", on_off(*on)),
            Self::Filter { port, ingress, mac } => {
                write!(
                    f,
                    "tc at port{port} drops what is for {mac} at {}",
                    if *ingress { "ingress" } else { "egress" }
                )
            }
            Self::Rule { port: Some(port), mac } => write!(f, "nft at port{port} drops what is for {mac}"),
            Self::Rule { port: None, mac } => write!(f, "nft at the bridge drops what is for {mac}"),
        }
    }
}
