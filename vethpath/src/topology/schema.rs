//! The JSON Schema of the topology file, for completion and checks in editors.
//!
//! It is draft 7, which TOML language servers (taplo, Even Better TOML) support best. It describes keys and their
//! types. Relations between parts of a file are checked by `vethpath validate`.

use serde_json::{Map, Value, json};

use super::{Datapath, limits};

/// The JSON Schema of a topology file.
#[must_use]
pub fn schema() -> Value {
    let mut file = object(
        "A network lab of vethpath.",
        [
            ("name", name("The lab's name. Default: the file's name without .toml.", LAB)),
            ("dad", boolean("Check IPv6 addresses for duplicates (RFC 4862) before they are used.", false)),
            ("bridge", named("Linux bridges, by name.", INTERFACE, bridge())),
            ("namespace", namespaces()),
            (
                "group",
                named("Many namespaces alike, each with an interface on a bridge.", NAMESPACE, group()),
            ),
            ("mesh", named("A cable between each two of several namespaces.", INTERFACE, mesh())),
            ("chain", named("Bridges in a row, joined by trunks.", INTERFACE, chain())),
        ],
    );
    file["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    file["title"] = json!("vethpath topology");
    file
}

const LAB: &str = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}$";
const NAMESPACE: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,47}$";
const INTERFACE: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$";
const MAC: &str = "^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$";
const LENGTH: &str = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$";
const ADDRESS: &str = "^[0-9A-Fa-f.:]+$";
const DESTINATION: &str = "^(default|[0-9A-Fa-f.:]+/[0-9]{1,3})$";

/// Keys that a bridge and a chain have in common.
fn of_bridges() -> Vec<(&'static str, Value)> {
    vec![
        (
            "addresses",
            addresses("The bridge's own addresses, with prefix lengths: the gateway of its hosts."),
        ),
        ("nat", boolean("Masquerade what the bridge's subnets send out of its namespace.", false)),
        ("namespace", string("The namespace in which the bridge lives. Default: \"host\".")),
        ("mtu", mtu("MTU in bytes, also of the interfaces on it that say none. Default: the kernel's.")),
        ("stp", boolean("Take part in the spanning tree protocol.", false)),
        (
            "ageing_time",
            range(
                "Seconds without a frame after which a station is forgotten. Default: the kernel's 300.",
                *limits::AGEING_TIME.start(),
                *limits::AGEING_TIME.end(),
            ),
        ),
        ("vlan_filtering", boolean("Tell VLANs apart; the ports then stay on the slow path.", false)),
        (
            "accept_ra",
            either(
                "Take router advertisements, and solicit them. Default: false on the host, else the kernel's.",
            ),
        ),
        ("datapath", datapath(json!({ "default": Datapath::Tc }))),
    ]
}

fn bridge() -> Value {
    let own = [
        ("trunks", strings("Bridges to which a veth pair joins this one.", INTERFACE)),
        ("mac", pattern("The bridge's MAC address. Default: derived from the names.", MAC)),
    ];
    object("A Linux bridge.", of_bridges().into_iter().chain(own))
}

fn chain() -> Value {
    let count = "How many bridges there are: NAME0, NAME1 and so on. Addresses and nat are the first one's.";
    let own = ("bridges", range(count, *limits::LINKED.start(), *limits::LINKED.end()));
    required(
        object(
            "Bridges in a row, each joined to the next by a trunk.",
            of_bridges().into_iter().chain([own]),
        ),
        &["bridges"],
    )
}

fn namespaces() -> Value {
    let host = object(
        "The namespace in which vethpath was started: only ends of cables are declared in it.",
        [("interface", interfaces())],
    );
    let namespace = object(
        "A network namespace.",
        [
            ("gateway", one_or_two("Default routes: a gateway, or one for IPv4 and one for IPv6.", ADDRESS)),
            ("routes", routes()),
            ("sysctls", sysctls("Settings under net., applied before the interfaces come up.")),
            ("adopt", adopt()),
            ("interface", interfaces()),
        ],
    );
    json!({
        "description": "Network namespaces, by name.",
        "type": "object",
        "propertyNames": { "pattern": NAMESPACE },
        "properties": { "host": host },
        "additionalProperties": namespace,
    })
}

fn interfaces() -> Value {
    let interface = object(
        "An end of a veth pair.",
        [
            (
                "link",
                string("Where the other end is: \"br0\", a bridge; \"ns1:eth0\" or \"host:v0\", a cable."),
            ),
            ("addresses", addresses("Its addresses, with prefix lengths.")),
            ("mac", pattern("Its MAC address. Default: derived from the names.", MAC)),
            ("mtu", mtu("MTU in bytes. Default: the bridge's, the other end's, or the kernel's 1500.")),
            ("sysctls", sysctls("Settings under net., written beside the interface they are about.")),
            ("up", boolean("Whether it is brought up.", true)),
            ("dad", either("Check its IPv6 addresses for duplicates (RFC 4862). Default: the lab's.")),
            (
                "accept_ra",
                either(
                    "Take router advertisements, and solicit them. Default: false on the host, else the kernel's.",
                ),
            ),
            ("datapath", datapath(json!({ "description": "Of its port alone. Default: the bridge's." }))),
        ],
    );
    named("Interfaces, by name.", INTERFACE, required(interface, &["link"]))
}

/// The schema of `datapath`, with further attributes.
fn datapath(more: Value) -> Value {
    let mut datapath = json!({
        "description": "tc: the fast path, eBPF programs at the ports. xdp: another before them, in the driver. \
                        bridge: a plain bridge.",
        "enum": [Datapath::Tc, Datapath::Xdp, Datapath::Bridge],
    });
    if let (Some(all), Value::Object(more)) = (datapath.as_object_mut(), more) {
        all.extend(more);
    }
    datapath
}

fn group() -> Value {
    let group = object(
        "Namespaces NAME0, NAME1 and so on, each with an interface on a bridge.",
        [
            ("count", range("How many namespaces there are.", *limits::COUNT.start(), *limits::COUNT.end())),
            ("bridge", string("The bridge that they are on.")),
            ("bridges", strings("Bridges over which they are shared out in turns.", INTERFACE)),
            ("chain", string("A chain over whose bridges they are shared out in turns.")),
            (
                "subnet",
                one_or_two(
                    "The subnet that addresses are taken from in order, or one of each family.",
                    LENGTH,
                ),
            ),
            ("first", one_or_two("The first address. Default: the first of the subnet.", ADDRESS)),
            (
                "gateway",
                one_or_two(
                    "Their gateway; [] for none. Default: the bridge's address in the subnet.",
                    ADDRESS,
                ),
            ),
            ("routes", routes()),
            ("interface", name("The name of their interface. Default: eth0.", INTERFACE)),
            ("mtu", mtu("MTU of their interfaces in bytes. Default: the bridge's.")),
            ("sysctls", sysctls("Settings of each of the namespaces.")),
        ],
    );
    let mut group = required(group, &["count"]);
    group["oneOf"] =
        json!([{ "required": ["bridge"] }, { "required": ["bridges"] }, { "required": ["chain"] }]);
    group
}

fn mesh() -> Value {
    let most = u32::try_from(limits::MEMBERS).unwrap_or(u32::MAX);
    let mut mesh = object(
        "A cable between each two of its members.",
        [
            ("members", strings("The namespaces that are joined; each is declared.", NAMESPACE)),
            ("count", range("How many namespaces are made and joined: NAME0, NAME1 and so on.", 2, most)),
            ("subnet", one_or_two("The subnet that is cut into a /31 (IPv6: /127) for each cable.", LENGTH)),
            ("mtu", mtu("MTU of all the cables in bytes. Default: the kernel's 1500.")),
        ],
    );
    mesh["oneOf"] = json!([{ "required": ["members"] }, { "required": ["count"] }]);
    mesh
}

fn routes() -> Value {
    let route = object(
        "A route by way of a gateway.",
        [
            ("to", pattern("The destination: a subnet, or \"default\".", DESTINATION)),
            ("via", pattern("The gateway: an address on a subnet of the namespace.", ADDRESS)),
        ],
    );
    json!({
        "description": "Further routes.",
        "type": "array",
        "maxItems": limits::ROUTES,
        "items": required(route, &["to", "via"]),
    })
}

fn adopt() -> Value {
    let mut adopt = object(
        "Join a namespace that somebody else made: one of pid and path.",
        [
            ("pid", range("A process that is in the namespace.", *limits::PID.start(), *limits::PID.end())),
            ("path", pattern("The namespace's file, such as /proc/4242/ns/net.", "^/")),
        ],
    );
    adopt["minProperties"] = json!(1);
    adopt["maxProperties"] = json!(1);
    adopt
}

/// A table with these keys and no others.
fn object(description: &str, keys: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let properties: Map<String, Value> =
        keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn required(mut object: Value, keys: &[&str]) -> Value {
    object["required"] = json!(keys);
    object
}

/// A table of named tables.
fn named(description: &str, names: &str, each: Value) -> Value {
    json!({
        "description": description,
        "type": "object",
        "propertyNames": { "pattern": names },
        "additionalProperties": each,
    })
}

fn string(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn pattern(description: &str, pattern: &str) -> Value {
    json!({ "description": description, "type": "string", "pattern": pattern })
}

fn name(description: &str, names: &str) -> Value {
    pattern(description, names)
}

fn boolean(description: &str, default: bool) -> Value {
    json!({ "description": description, "type": "boolean", "default": default })
}

fn either(description: &str) -> Value {
    json!({ "description": description, "type": "boolean" })
}

fn range(description: &str, least: u32, most: u32) -> Value {
    json!({ "description": description, "type": "integer", "minimum": least, "maximum": most })
}

fn mtu(description: &str) -> Value {
    range(description, *limits::MTU.start(), *limits::MTU.end())
}

fn strings(description: &str, each: &str) -> Value {
    json!({ "description": description, "type": "array", "items": { "type": "string", "pattern": each } })
}

fn addresses(description: &str) -> Value {
    let mut addresses = strings(description, LENGTH);
    addresses["maxItems"] = json!(limits::ADDRESSES);
    addresses
}

fn one_or_two(description: &str, each: &str) -> Value {
    let one = json!({ "type": "string", "pattern": each });
    json!({ "description": description, "anyOf": [one, { "type": "array", "maxItems": 2, "items": one }] })
}

fn sysctls(description: &str) -> Value {
    json!({
        "description": description,
        "type": "object",
        "maxProperties": limits::SYSCTLS,
        "propertyNames": { "pattern": "^net[./]" },
        "additionalProperties": { "type": ["string", "integer", "boolean"] },
    })
}
