//! The keys of the file, an example of each, and suggestions for misspelt ones.

/// Keys of the file itself.
pub(super) const FILE: &[&str] = &["name", "dad", "bridge", "namespace", "group", "mesh", "chain"];
/// Keys of `[bridge.NAME]`.
pub(super) const BRIDGE: &[&str] = &[
    "addresses",
    "nat",
    "namespace",
    "trunks",
    "mtu",
    "mac",
    "stp",
    "ageing_time",
    "vlan_filtering",
    "accept_ra",
    "datapath",
];
/// Keys of `[namespace.NAME]`.
pub(super) const NAMESPACE: &[&str] = &["gateway", "routes", "sysctls", "adopt", "interface"];
/// Keys of `[namespace.host]`.
pub(super) const HOST: &[&str] = &["interface"];
/// Keys of `[namespace.NAME.interface.NAME]`.
pub(super) const INTERFACE: &[&str] =
    &["link", "addresses", "mac", "mtu", "sysctls", "up", "dad", "accept_ra", "datapath"];
/// Keys of a route.
pub(super) const ROUTE: &[&str] = &["to", "via"];
/// Keys of `adopt`.
pub(super) const ADOPT: &[&str] = &["pid", "path"];
/// Keys of `[group.NAME]`.
pub(super) const GROUP: &[&str] = &[
    "count",
    "bridge",
    "bridges",
    "chain",
    "subnet",
    "first",
    "gateway",
    "routes",
    "interface",
    "mtu",
    "sysctls",
];
/// Keys of `[mesh.NAME]`.
pub(super) const MESH: &[&str] = &["members", "count", "subnet", "mtu"];
/// Keys of `[chain.NAME]`.
pub(super) const CHAIN: &[&str] = &[
    "bridges",
    "namespace",
    "addresses",
    "nat",
    "mtu",
    "stp",
    "ageing_time",
    "vlan_filtering",
    "accept_ra",
    "datapath",
];

/// An example of a key in its context. Some keys occur in several tables.
pub(super) fn example_in(what: &str, key: &str) -> &'static str {
    match (what, key) {
        (_, "namespace") if what != "the file" => r#"namespace = "fabric""#,
        ("a group", "bridge") => r#"bridge = "br0""#,
        ("a group", "chain") => r#"chain = "c""#,
        ("a group", "interface") => r#"interface = "eth0""#,
        ("a chain", "bridges") => "bridges = 8",
        _ => example(key),
    }
}

/// An example of a key that has one meaning, or of a table header.
pub(super) fn example(key: &str) -> &'static str {
    match key {
        "group" => "[group.h]",
        "mesh" => "[mesh.m]",
        "chain" => "[chain.c]",
        "count" => "count = 100",
        "bridges" => r#"bridges = ["br0", "br1"]"#,
        "subnet" => r#"subnet = "10.0.0.0/16""#,
        "first" => r#"first = "10.0.1.1""#,
        "members" => r#"members = ["a", "b", "c", "d"]"#,
        "name" => r#"name = "three-hosts""#,
        "bridge" => "[bridge.br0]",
        "namespace" => "[namespace.ns0]",
        "interface" => "[namespace.ns0.interface.eth0]",
        "addresses" => r#"addresses = ["10.0.0.1/24"]"#,
        "nat" => "nat = true",
        "trunks" => r#"trunks = ["br1"]"#,
        "mtu" => "mtu = 1500",
        "mac" => r#"mac = "02:00:00:00:00:01""#,
        "stp" => "stp = true",
        "ageing_time" => "ageing_time = 300",
        "vlan_filtering" => "vlan_filtering = true",
        "datapath" => r#"datapath = "tc""#,
        "gateway" => r#"gateway = "10.0.0.1""#,
        "routes" => r#"routes = [{ to = "10.1.0.0/16", via = "10.0.0.9" }]"#,
        "to" => r#"to = "10.1.0.0/16""#,
        "via" => r#"via = "10.0.0.9""#,
        "sysctls" => r#"sysctls = { "net.ipv4.ip_forward" = 1 }"#,
        "adopt" => "adopt = { pid = 4242 }",
        "pid" => "pid = 4242",
        "path" => r#"path = "/proc/4242/ns/net""#,
        "link" => r#"link = "br0""#,
        "up" => "up = false",
        "dad" => "dad = true",
        "accept_ra" => "accept_ra = true",
        _ => "a key that docs/topology.md has",
    }
}

/// The candidate that `word` is most likely a misspelling of.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let near = |candidate: &str| (word.len().max(candidate.len()) / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|&(distance, candidate)| {
            distance <= near(candidate) || (word.len() >= 4 && candidate.starts_with(word.as_str()))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The words as "`a`, `b` and `c`".
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::from("none"),
        Some((only, [])) => only.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        assert_eq!(closest("adress", INTERFACE.iter().copied()), Some("addresses"));
        assert_eq!(closest("vlan", BRIDGE.iter().copied()), Some("vlan_filtering"));
        assert_eq!(closest("NAT", BRIDGE.iter().copied()), Some("nat"));
        assert_eq!(closest("quux", BRIDGE.iter().copied()), None);
        assert_eq!(closest(&"x".repeat(100_000), BRIDGE.iter().copied()), None);
    }

    #[test]
    fn every_key_has_an_example() {
        for key in [FILE, BRIDGE, NAMESPACE, HOST, INTERFACE, ROUTE, ADOPT, GROUP, MESH, CHAIN].concat() {
            assert!(example(key).contains(key), "{key}");
        }
    }
}
