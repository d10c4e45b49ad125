//! What a topology file may contain: its keys with their values, and its limits. Each is declared here once. Readers,
//! hints, the JSON Schema and the check of docs/topology.md follow these tables.

use std::ops::RangeInclusive;

use super::{Datapath, Runtime};

/// The longest file, in bytes.
pub const LONGEST_FILE: usize = 1 << 20;
/// Namespaces in a lab. The host counts if it is declared.
pub(super) const MOST_NAMESPACES: usize = 4096;
/// Bridges in a lab: the most that one segment may have.
pub(super) const MOST_BRIDGES: usize = vethpath_common::MOST_BRIDGES;
/// Ports of a bridge. BR_MAX_PORTS is 1024, and port number 0 is never assigned (`find_portno` in
/// `net/bridge/br_if.c`).
pub(super) const MOST_PORTS: usize = 1023;
/// Interfaces in a namespace.
pub(super) const MOST_INTERFACES: usize = 1024;
/// Interfaces in the whole file, once groups and meshes are expanded.
pub(super) const MOST_EXPANDED: usize = 16_384;
/// Members of a mesh. Each member has a cable to every other one.
pub(super) const MOST_MEMBERS: u32 = 64;
/// Addresses of an interface or bridge.
pub(super) const MOST_ADDRESSES: usize = 64;
/// Routes of a namespace.
pub(super) const MOST_ROUTES: usize = 1024;
/// Next hops of a route.
pub(super) const MOST_NEXTHOPS: usize = 64;
/// Routing rules of a namespace.
pub(super) const MOST_RULES: usize = 1024;
/// Permanent neighbours of an interface.
pub(super) const MOST_NEIGHBOURS: usize = 1024;
/// Settings of a namespace or interface.
pub(super) const MOST_SYSCTLS: usize = 256;
/// Expectations of a file.
pub(super) const MOST_EXPECTATIONS: usize = 4096;
/// Name servers of a namespace, and domains: `MAXNS` and `MAXDNSRCH` of resolv.h.
const MOST_NAMESERVERS: usize = 3;
const MOST_DOMAINS: usize = 6;
/// The IPv6 minimum MTU, in bytes (RFC 8200).
pub const MTU_V6: u32 = 1280;

/// The keys of one kind of table.
pub(super) struct Table {
    /// What it describes, for messages: "a bridge".
    pub(super) what: &'static str,
    /// For editors.
    pub(super) description: &'static str,
    /// In the order in which messages list them.
    pub(super) keys: &'static [Key],
    /// Keys of which exactly one is required.
    pub(super) one_of: &'static [&'static str],
    /// Keys of which at least one is required.
    pub(super) any_of: &'static [&'static str],
}

impl Table {
    /// The key of this name, if there is one.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A key of a table.
pub(super) struct Key {
    pub(super) name: &'static str,
    /// The values that it takes.
    pub(super) kind: Kind,
    /// For hints.
    pub(super) example: &'static str,
    /// For editors.
    pub(super) description: &'static str,
    pub(super) required: bool,
}

/// The name of a table that has keys of its own, and these.
pub(super) type Special = Option<(&'static str, &'static Table)>;

/// The values that a key takes. Patterns are regular expressions, which only editors check.
pub(super) enum Kind {
    /// Any string.
    Text,
    /// A string of a pattern.
    Pattern(&'static str),
    /// true or false, and the default if it is the same everywhere.
    Boolean(Option<bool>),
    /// An integer. Its unit in messages is empty or starts with a space.
    Integer { range: RangeInclusive<u32>, unit: &'static str },
    /// An array of names of a pattern.
    Names { each: &'static str, most: usize },
    /// An array of addresses with prefix lengths.
    Addresses,
    /// A string of a pattern, or an array of two. The second example, if there is one, is an array.
    OneOrTwo { each: &'static str, example: Option<&'static str> },
    /// A container engine, and the default.
    Runtime(Runtime),
    /// A datapath, and the default if it is the same everywhere.
    Datapath(Option<Datapath>),
    /// A table of settings.
    Sysctls,
    /// A table with keys of its own.
    Table(&'static Table),
    /// An array of tables.
    Array { each: &'static Table, most: usize },
    /// Tables with names of a pattern. One may have a name that is special, and keys of its own.
    Tables { names: &'static str, most: usize, each: &'static Table, special: Special },
}

impl Kind {
    /// The most entries of an array, or of tables with names.
    pub(super) const fn most(&self) -> usize {
        match self {
            Self::Names { most, .. } | Self::Array { most, .. } | Self::Tables { most, .. } => *most,
            Self::Addresses => MOST_ADDRESSES,
            Self::OneOrTwo { .. } => 2,
            _ => usize::MAX,
        }
    }
}

const LAB_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}$";
const NAMESPACE_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}$";
const CONTAINER_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$";
const INTERFACE_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$";
const MAC_ADDRESS: &str = "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$";
/// An address or a subnet with its prefix length.
pub(super) const WITH_LENGTH: &str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";
const ADDRESS: &str = "^[0-9A-Fa-f.:]+$";
const LOOPBACK: &str = r"^(127(\.[0-9]{1,3}){3}|\[[0:]*:1\]):[0-9]{1,5}$";
const DESTINATION: &str = "^(default|[0-9A-Fa-f.:]+/[0-9]{1,3})$";

const DOMAIN: &str = r"^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$";
const TIME: &str = r"^[0-9]+(\.[0-9]+)?(ms|s|m)$";

// Where rustfmt is skipped, a key takes two lines.

/// The file itself.
#[rustfmt::skip]
pub(super) static FILE: Table = Table {
    what: "the file",
    description: "A network lab of vethpath.",
    one_of: &[],
    any_of: &[],
    keys: &[
        key("name", Kind::Pattern(LAB_NAME), r#"name = "three-hosts""#,
            "The lab's name. Default: the file's name without .toml."),
        key("dad", Kind::Boolean(Some(false)), "dad = true",
            "Check IPv6 addresses for duplicates (RFC 4862) before they are used."),
        key("fabric", Kind::Boolean(Some(false)), "fabric = true",
            "Put bridges without a namespace into one of the lab's own, with an uplink to the machine."),
        key("metrics", Kind::Pattern(LOOPBACK), AN_ENDPOINT,
            "Serve the counts of the lab to Prometheus at this loopback address and port."),
        key("bridge", Kind::Tables { names: INTERFACE_NAME, most: MOST_BRIDGES, each: &BRIDGE, special: None },
            "[bridge.br0]", "Linux bridges, by name."),
        key("namespace",
            Kind::Tables {
                names: NAMESPACE_NAME, most: MOST_NAMESPACES, each: &NAMESPACE, special: Some(("host", &HOST)),
            },
            "[namespace.ns0]", "Network namespaces, by name."),
        key("group", Kind::Tables { names: NAMESPACE_NAME, most: MOST_NAMESPACES, each: &GROUP, special: None },
            "[group.h]", "Many namespaces alike, each with an interface on a bridge."),
        key("mesh", Kind::Tables { names: INTERFACE_NAME, most: MOST_NAMESPACES, each: &MESH, special: None },
            "[mesh.m]", "A cable between each two of several namespaces."),
        key("chain", Kind::Tables { names: INTERFACE_NAME, most: MOST_BRIDGES, each: &CHAIN, special: None },
            "[chain.c]", "Bridges in a row, joined by trunks."),
        key("expect", Kind::Array { each: &EXPECT, most: MOST_EXPECTATIONS }, "[[expect]]",
            "What must hold while the lab is up, for `vethpath test`."),
    ],
};

/// `[bridge.NAME]`.
#[rustfmt::skip]
pub(super) static BRIDGE: Table = Table {
    what: "a bridge",
    description: "A Linux bridge.",
    one_of: &[],
    any_of: &[],
    keys: &[
        OWN_ADDRESSES,
        NAT,
        PLACE,
        OWN_HOST,
        key("trunks", Kind::Names { each: INTERFACE_NAME, most: MOST_BRIDGES }, r#"trunks = ["br1"]"#,
            "Bridges to which a veth pair joins this one."),
        OWN_MTU,
        mac("The bridge's MAC address. Default: derived from the names."),
        GSO_MAX_SIZE,
        GSO_IPV4_MAX_SIZE,
        GRO_MAX_SIZE,
        STP,
        AGEING_TIME,
        VLAN_FILTERING,
        ACCEPT_RA,
        OWN_DATAPATH,
        GUESTS,
        key("adopt", Kind::Boolean(Some(false)), "adopt = true",
            "Another program's bridge: its veth ports are accelerated, and nothing of it is ever changed."),
    ],
};

/// The keys of a bridge that another program made.
pub(super) const OF_ADOPTED: [&str; 4] = ["adopt", "namespace", "datapath", "guests"];

/// `[chain.NAME]`.
#[rustfmt::skip]
pub(super) static CHAIN: Table = Table {
    what: "a chain",
    description: "Bridges in a row, each joined to the next by a trunk.",
    one_of: &[],
    any_of: &[],
    keys: &[
        required(key("bridges", Kind::Integer { range: 1..=64, unit: "" }, "bridges = 8",
            "How many bridges there are: NAME0, NAME1 and so on. Addresses, nat and host are the first one's.")),
        PLACE,
        OWN_ADDRESSES,
        NAT,
        OWN_HOST,
        OWN_MTU,
        STP,
        AGEING_TIME,
        VLAN_FILTERING,
        ACCEPT_RA,
        OWN_DATAPATH,
        GUESTS,
    ],
};

// Keys that a bridge and a chain have in common.
const OWN_ADDRESSES: Key =
    addresses("The bridge's own addresses, with prefix lengths: the gateway of its hosts.");
#[rustfmt::skip]
const NAT: Key = key("nat", Kind::Boolean(Some(false)), "nat = true",
    "Masquerade what the bridge's subnets send out of its namespace.");
#[rustfmt::skip]
const PLACE: Key = key("namespace", Kind::Text, r#"namespace = "fabric""#,
    "The namespace in which the bridge lives. Default: \"host\", or that of fabric.");
#[rustfmt::skip]
const OWN_HOST: Key = key("host", Kind::Boolean(Some(true)), "host = false",
    "With fabric: whether the machine has routes to the bridge's subnets.");
const OWN_MTU: Key = mtu("MTU in bytes, also of the interfaces on it that say none. Default: the kernel's.");
const STP: Key =
    key("stp", Kind::Boolean(Some(false)), "stp = true", "Take part in the spanning tree protocol.");
#[rustfmt::skip]
const AGEING_TIME: Key = key("ageing_time", Kind::Integer { range: 0..=1_000_000, unit: " seconds" },
    "ageing_time = 300",
    "Seconds without a frame after which a station is forgotten. Default: the kernel's 300.");
#[rustfmt::skip]
const VLAN_FILTERING: Key = key("vlan_filtering", Kind::Boolean(Some(false)), "vlan_filtering = true",
    "Filter by VLAN; the ports then stay on the slow path.");
#[rustfmt::skip]
const GUESTS: Key = key("guests", Kind::Boolean(Some(false)), "guests = true",
    "Also accelerate veth ports that other programs plug into the bridge.");
const OWN_DATAPATH: Key = datapath(
    Some(Datapath::Tc),
    "tc: the fast path, eBPF programs at the ports. xdp: another before them, in the driver. \
     bridge: a plain bridge.",
);

/// `[namespace.NAME]`.
pub(super) static NAMESPACE: Table = Table {
    what: "a namespace",
    description: "A network namespace.",
    one_of: &[],
    any_of: &[],
    keys: &[
        gateway("Default routes: a gateway, or one for IPv4 and one for IPv6."),
        ROUTES,
        key(
            "rule",
            Kind::Array { each: &RULE, most: MOST_RULES },
            "[[namespace.ns0.rule]]",
            "Routing rules: which packets are looked up in which table.",
        ),
        sysctls("Settings under net., applied before the interfaces come up."),
        NAMESERVERS,
        SEARCH,
        key("adopt", Kind::Table(&ADOPT), "adopt = { pid = 4242 }", ADOPTION),
        INTERFACES,
    ],
};

/// `[namespace.host]`.
pub(super) static HOST: Table = Table {
    what: "the host",
    description: "The namespace in which vethpath was started: only ends of cables are declared in it.",
    one_of: &[],
    any_of: &[],
    keys: &[INTERFACES],
};

#[rustfmt::skip]
const INTERFACES: Key = key("interface",
    Kind::Tables {
        names: INTERFACE_NAME, most: MOST_INTERFACES, each: &INTERFACE, special: Some(("lo", &LO)),
    },
    "[namespace.ns0.interface.eth0]", "Interfaces, by name.");

/// `[namespace.NAME.interface.NAME]`.
#[rustfmt::skip]
pub(super) static INTERFACE: Table = Table {
    what: "an interface",
    description: "An end of a veth pair.",
    one_of: &[],
    any_of: &[],
    keys: &[
        required(key("link", Kind::Text, r#"link = "br0""#,
            "Where the other end is: \"br0\", a bridge; \"ns1:eth0\" or \"host:v0\", a cable.")),
        addresses("Its addresses, with prefix lengths."),
        mac("Its MAC address. Default: derived from the names."),
        mtu("MTU in bytes. Default: the bridge's, the other end's, or the kernel's 1500."),
        GSO_MAX_SIZE,
        GSO_IPV4_MAX_SIZE,
        GRO_MAX_SIZE,
        sysctls("Settings under net., written beside the interface they are about."),
        key("up", Kind::Boolean(Some(true)), "up = false", "Whether it is brought up."),
        key("dad", Kind::Boolean(None), "dad = true",
            "Check its IPv6 addresses for duplicates (RFC 4862). Default: the lab's."),
        ACCEPT_RA,
        key("autoconf", Kind::Boolean(None), "autoconf = false",
            "Make addresses of the prefixes of router advertisements (RFC 4862). Default: the kernel's, true."),
        key("neighbours", Kind::Array { each: &NEIGHBOUR, most: MOST_NEIGHBOURS },
            r#"neighbours = [{ address = "10.0.0.9", mac = "02:00:00:00:00:09" }]"#,
            "Neighbours whose MAC addresses are not asked for."),
        datapath(None, "Of its port alone. Default: the bridge's."),
        key("port", Kind::Pattern(INTERFACE_NAME), r#"port = "r1-eth0""#,
            "The name of its port, the end on the bridge. Default: NAMESPACE-INTERFACE."),
    ],
};

/// One of `neighbours`.
#[rustfmt::skip]
pub(super) static NEIGHBOUR: Table = Table {
    what: "a neighbour",
    description: "A permanent entry of the neighbour table.",
    one_of: &[],
    any_of: &[],
    keys: &[
        required(key("address", Kind::Pattern(ADDRESS), r#"address = "10.0.0.9""#, "Its IPv4 or IPv6 address.")),
        required(mac("Its MAC address.")),
    ],
};

/// `[namespace.NAME.interface.lo]`.
pub(super) static LO: Table = Table {
    what: "the loopback",
    description: "The interface that every namespace has.",
    one_of: &[],
    any_of: &[],
    keys: &[addresses("Addresses that the namespace has whichever of its interfaces are up.")],
};

/// One of `routes`.
#[rustfmt::skip]
pub(super) static ROUTE: Table = Table {
    what: "a route",
    description: "A route: one of via, dev, nexthops, blackhole and unreachable says where it leads.",
    one_of: &[],
    any_of: &["via", "dev", "nexthops", "blackhole", "unreachable"],
    keys: &[
        required(key("to", Kind::Pattern(DESTINATION), r#"to = "10.1.0.0/16""#,
            "The destination: a subnet, or \"default\".")),
        VIA,
        DEV,
        ONLINK,
        key("metric", Kind::Integer { range: 1..=u32::MAX, unit: "" }, "metric = 100",
            "Of two routes to a destination, the one with the lower metric is used. Default: the kernel's."),
        key("src", Kind::Pattern(ADDRESS), r#"src = "10.0.0.2""#,
            "The source address of what the namespace itself sends: one of its own."),
        TABLE,
        key("mtu", Kind::Integer { range: 68..=65520, unit: " bytes" }, "mtu = 1400",
            "The largest packet in bytes. Default: the interface's MTU."),
        key("nexthops", Kind::Array { each: &NEXTHOP, most: MOST_NEXTHOPS },
            r#"nexthops = [{ via = "10.0.0.8" }, { via = "10.0.0.9", weight = 2 }]"#,
            "Several ways, over which flows are shared out."),
        key("blackhole", Kind::Boolean(Some(false)), "blackhole = true", "Drop packets to the destination."),
        key("unreachable", Kind::Boolean(Some(false)), "unreachable = true",
            "Drop packets to the destination, and tell their senders."),
    ],
};

/// An example of a rule.
pub(super) const RULE_EXAMPLE: &str = "priority = 100 and table = 7";

/// One of `rule`.
#[rustfmt::skip]
pub(super) static RULE: Table = Table {
    what: "a rule",
    description: "A routing rule: packets that meet all its conditions are looked up in its table.",
    one_of: &[],
    any_of: &[],
    keys: &[
        // Those of the kernel are 0, 32766 and 32767.
        required(key("priority", Kind::Integer { range: 1..=32765, unit: "" }, "priority = 100",
            "Rules are tried in ascending order of it.")),
        required(key("table", Kind::Integer { range: 1..=u32::MAX, unit: "" }, "table = 7",
            "The number of the routing table in which packets are looked up.")),
        key("from", Kind::Pattern(WITH_LENGTH), r#"from = "10.0.0.0/24""#, "The subnet of their source address."),
        key("to", Kind::Pattern(WITH_LENGTH), r#"to = "10.1.0.0/16""#, "The subnet of their destination address."),
        key("iif", Kind::Pattern(INTERFACE_NAME), r#"iif = "eth0""#,
            "The interface that they came in by; lo for what the namespace itself sends."),
        key("oif", Kind::Pattern(INTERFACE_NAME), r#"oif = "eth0""#,
            "The interface that the socket which sends them is bound to."),
        key("fwmark", Kind::Integer { range: 1..=u32::MAX, unit: "" }, "fwmark = 0x10", "Their mark."),
        key("fwmask", Kind::Integer { range: 1..=u32::MAX, unit: "" }, "fwmask = 0xff",
            "The bits of the mark that are compared. Default: all."),
    ],
};

/// One of the `nexthops` of a route.
#[rustfmt::skip]
pub(super) static NEXTHOP: Table = Table {
    what: "a next hop",
    description: "One of the ways of a route.",
    one_of: &[],
    any_of: &[],
    keys: &[
        VIA,
        DEV,
        ONLINK,
        key("weight", Kind::Integer { range: 1..=256, unit: "" }, "weight = 2",
            "Its share of the flows, in relation to the other weights. Default: 1."),
    ],
};

// Keys that a route and a next hop have in common.
#[rustfmt::skip]
const VIA: Key = key("via", Kind::Pattern(ADDRESS), r#"via = "10.0.0.9""#,
    "The gateway: an address on a subnet of the namespace. A link-local one needs dev.");
#[rustfmt::skip]
const DEV: Key = key("dev", Kind::Pattern(INTERFACE_NAME), r#"dev = "eth0""#,
    "The interface or bridge of the namespace that packets leave by.");
#[rustfmt::skip]
const ONLINK: Key = key("onlink", Kind::Boolean(Some(false)), "onlink = true",
    "The gateway is on dev's link, whatever addresses dev has.");
#[rustfmt::skip]
const TABLE: Key = key("table", Kind::Integer { range: 1..=u32::MAX, unit: "" }, "table = 100",
    "The number of the routing table. Default: 254, the main one.");

const ADOPTION: &str = "Use an existing namespace: exactly one of pid, path and container.";

/// `adopt`.
#[rustfmt::skip]
pub(super) static ADOPT: Table = Table {
    what: "`adopt`",
    description: ADOPTION,
    one_of: &["pid", "path", "container"],
    any_of: &[],
    keys: &[
        // PID_MAX_LIMIT.
        key("pid", Kind::Integer { range: 1..=4_194_304, unit: "" }, "pid = 4242",
            "A process that is in the namespace."),
        key("path", Kind::Pattern("^/"), r#"path = "/proc/4242/ns/net""#,
            "The namespace's file, such as /proc/4242/ns/net."),
        key("container", Kind::Pattern(CONTAINER_NAME), r#"container = "web""#,
            "The name or identifier of a container that is in the namespace."),
        key("runtime", Kind::Runtime(Runtime::Docker), r#"runtime = "podman""#,
            "The engine that runs the container: docker or podman."),
    ],
};

/// `[group.NAME]`.
#[rustfmt::skip]
pub(super) static GROUP: Table = Table {
    what: "a group",
    description: "Namespaces NAME0, NAME1 and so on, each with an interface on a bridge.",
    one_of: &["bridge", "bridges", "chain"],
    any_of: &[],
    keys: &[
        required(key("count", Kind::Integer { range: 1..=4096, unit: "" }, "count = 100",
            "How many namespaces there are.")),
        key("bridge", Kind::Text, r#"bridge = "br0""#, "The bridge that they are on."),
        key("bridges", Kind::Names { each: INTERFACE_NAME, most: MOST_BRIDGES },
            r#"bridges = ["br0", "br1"]"#, "Bridges over which they are shared out in turns."),
        key("chain", Kind::Text, r#"chain = "c""#,
            "A chain over whose bridges they are shared out in turns."),
        subnet("The subnet that addresses are taken from in order, or one of each family."),
        key("first", Kind::OneOrTwo { each: ADDRESS, example: None }, r#"first = "10.0.1.1""#,
            "The first address. Default: the first of the subnet."),
        gateway("Their gateway; [] for none. Default: the bridge's address in the subnet."),
        ROUTES,
        key("interface", Kind::Pattern(INTERFACE_NAME), r#"interface = "eth0""#,
            "The name of their interface. Default: eth0."),
        mtu("MTU of their interfaces in bytes. Default: the bridge's."),
        sysctls("Settings of each of the namespaces."),
        NAMESERVERS,
        SEARCH,
    ],
};

/// `[mesh.NAME]`.
#[rustfmt::skip]
pub(super) static MESH: Table = Table {
    what: "a mesh",
    description: "A cable between each two of its members.",
    one_of: &["members", "count"],
    any_of: &[],
    keys: &[
        key("members", Kind::Names { each: NAMESPACE_NAME, most: MOST_MEMBERS as usize },
            r#"members = ["a", "b", "c", "d"]"#, "The namespaces that are joined; each is declared."),
        key("count", Kind::Integer { range: 2..=MOST_MEMBERS, unit: "" }, "count = 100",
            "How many namespaces are made and joined: NAME0, NAME1 and so on."),
        subnet("The subnet that is cut into a /31 (IPv6: /127) for each cable."),
        mtu("MTU of all the cables in bytes. Default: the kernel's 1500."),
    ],
};

/// `[[expect]]`.
#[rustfmt::skip]
pub(super) static EXPECT: Table = Table {
    what: "an expectation",
    description: "What must hold while the lab is up.",
    one_of: &[],
    any_of: &[],
    keys: &[
        required(key("from", Kind::Pattern(NAMESPACE_NAME), r#"from = "ns0""#, "The namespace that asks.")),
        required(key("to", Kind::Text, r#"to = "ns1""#,
            "Who is to answer: a namespace, by IPv4 and IPv6 as far as both have addresses, or an address.")),
        key("reaches", Kind::Boolean(Some(true)), "reaches = false", "Whether it is to answer."),
        key("port", Kind::Integer { range: 1..=65535, unit: "" }, "port = 80",
            "A TCP port that is to accept a connection. Default: an ICMP echo is to be answered."),
        key("within", Kind::Pattern(TIME), r#"within = "10s""#,
            "The time within which this must hold, from 10ms to 10m. Default: 5s."),
        key("path", Kind::Pattern("^fast$"), r#"path = "fast""#,
            "fast: packets in both directions must take the fast path."),
    ],
};

/// An example of an expectation.
pub(super) const AN_EXPECTATION: &str = r#"[[expect]] with from = "ns0" and to = "ns1""#;

// Keys that several tables have.
const GSO_MAX_SIZE: Key =
    size("gso_max_size", "gso_max_size = 196608", "The largest GSO frame in bytes, for IPv4 up to 65536.");
const GSO_IPV4_MAX_SIZE: Key =
    size("gso_ipv4_max_size", "gso_ipv4_max_size = 196608", "The largest GSO frame of IPv4 in bytes.");
const GRO_MAX_SIZE: Key = size(
    "gro_max_size",
    "gro_max_size = 196608",
    "The largest frame in bytes that GRO makes of received ones.",
);
#[rustfmt::skip]
const NAMESERVERS: Key = key("nameservers", Kind::Names { each: ADDRESS, most: MOST_NAMESERVERS },
    r#"nameservers = ["10.0.0.53"]"#, "Name servers in the resolv.conf of programs that vethpath starts there.");
#[rustfmt::skip]
const SEARCH: Key = key("search", Kind::Names { each: DOMAIN, most: MOST_DOMAINS },
    r#"search = ["lab.test"]"#, "Domains that are appended to names, in the same file.");
#[rustfmt::skip]
const ACCEPT_RA: Key = key("accept_ra", Kind::Boolean(None), "accept_ra = true",
    "Take router advertisements, and solicit them. Default: false on the host, else the kernel's.");
#[rustfmt::skip]
const ROUTES: Key = key("routes", Kind::Array { each: &ROUTE, most: MOST_ROUTES },
    r#"routes = [{ to = "10.1.0.0/16", via = "10.0.0.9" }]"#, "Further routes.");

const fn addresses(description: &'static str) -> Key {
    key("addresses", Kind::Addresses, AN_ADDRESS, description)
}

/// An example of addresses with prefix lengths.
pub(super) const AN_ADDRESS: &str = r#"addresses = ["10.0.0.1/24"]"#;

/// An example of an address of the lab's metrics.
pub(super) const AN_ENDPOINT: &str = r#"metrics = "127.0.0.1:9466""#;

const fn datapath(default: Option<Datapath>, description: &'static str) -> Key {
    key("datapath", Kind::Datapath(default), r#"datapath = "tc""#, description)
}

const fn gateway(description: &'static str) -> Key {
    let example = Some(r#"gateway = ["10.0.0.1", "fd00::1"]"#);
    key("gateway", Kind::OneOrTwo { each: ADDRESS, example }, r#"gateway = "10.0.0.1""#, description)
}

const fn mac(description: &'static str) -> Key {
    key("mac", Kind::Pattern(MAC_ADDRESS), r#"mac = "02:00:00:00:00:01""#, description)
}

/// From the IPv4 minimum (RFC 791) to the veth maximum.
const fn mtu(description: &'static str) -> Key {
    key("mtu", Kind::Integer { range: 68..=65535, unit: " bytes" }, "mtu = 1500", description)
}

/// Up to `GSO_MAX_SIZE` of linux/netdevice.h. The least is one that holds the headers and some payload.
const fn size(name: &'static str, example: &'static str, description: &'static str) -> Key {
    key(name, Kind::Integer { range: 1024..=524_280, unit: " bytes" }, example, description)
}

const fn subnet(description: &'static str) -> Key {
    let kind = Kind::OneOrTwo { each: WITH_LENGTH, example: None };
    key("subnet", kind, r#"subnet = "10.0.0.0/16""#, description)
}

const fn sysctls(description: &'static str) -> Key {
    key("sysctls", Kind::Sysctls, r#"sysctls = { "net.ipv4.ip_forward" = 1 }"#, description)
}

const fn key(name: &'static str, kind: Kind, example: &'static str, description: &'static str) -> Key {
    Key { name, kind, example, description, required: false }
}

const fn required(key: Key) -> Key {
    Key { required: true, ..key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_an_example_and_a_description() {
        for table in [
            &FILE, &BRIDGE, &NAMESPACE, &HOST, &INTERFACE, &LO, &NEIGHBOUR, &ROUTE, &NEXTHOP, &RULE, &ADOPT,
            &GROUP, &MESH, &CHAIN, &EXPECT,
        ] {
            for key in table.keys {
                assert!(key.example.contains(key.name), "{}: {}", table.what, key.name);
                assert!(key.description.len() > 8, "{}: {}", table.what, key.name);
            }
            let mut named = table.one_of.iter().chain(table.any_of);
            assert!(named.all(|name| table.key(name).is_some()), "{}", table.what);
        }
    }
}
