//! Tests of the rules with `nft` and with real packets.

use std::process::{Child, Command};

use netlink_sys::protocols::NETLINK_NETFILTER;
use serde_json::{Value, json};

use super::*;
use crate::kernel::{
    netfilter::remove_table,
    sandbox::{in_new_namespace, nft, run, succeeds},
};

fn rules(list: &[(&str, &str)]) -> Vec<MasqueradeRule> {
    let rule = |&(subnet, bridge): &(&str, &str)| MasqueradeRule {
        subnet: subnet.parse().unwrap(),
        device: bridge.parse().unwrap(),
    };
    list.iter().map(rule).collect()
}

fn ruleset() -> Vec<Value> {
    let listing: Value = serde_json::from_str(&nft("list ruleset")).unwrap();
    listing["nftables"].as_array().unwrap().iter().skip(1).cloned().collect()
}

fn socket() -> Socket {
    Socket::new(NETLINK_NETFILTER).unwrap()
}

#[test]
fn nft_reads_what_we_wrote() {
    in_new_namespace(|| {
        let list = [
            ("172.17.0.1/16", "docker0"),
            ("fd00::1/64", "fifteen-letters"),
            ("10.1.2.3/32", "b"),
            ("10.9.0.0/21", "b"),
            ("fd00:1::/61", "b"),
        ];
        add_masquerade(&socket(), "vethpath-lab", &rules(&list)).unwrap();
        let found = ruleset();
        // The JSON output of nft 1.0.6 lacks the table's comment.
        let listing = run("nft", &["list", "table", "inet", "vethpath-lab"]);
        assert!(listing.contains("comment \"made by vethpath\"") && !listing.contains("flags"), "{listing}");
        let chain = &found[1]["chain"];
        assert_eq!(chain["type"], "nat");
        assert_eq!(chain["hook"], "postrouting");
        assert_eq!(chain["prio"], 100);
        assert_eq!(chain["policy"], "accept");
        let expected = |protocol: &str, right: Value, bridge: &str| {
            json!([
                {"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "saddr"}}, "right": right}},
                {"match": {"op": "!=", "left": {"meta": {"key": "oifname"}}, "right": bridge}},
                {"masquerade": null},
            ])
        };
        let prefix = |address: &str, length: u8| json!({"prefix": {"addr": address, "len": length}});
        assert_eq!(found[2]["rule"]["expr"], expected("ip", prefix("172.17.0.0", 16), "docker0"));
        assert_eq!(found[3]["rule"]["expr"], expected("ip6", prefix("fd00::", 64), "fifteen-letters"));
        assert_eq!(found[4]["rule"]["expr"], expected("ip", json!("10.1.2.3"), "b"));
        assert_eq!(found[5]["rule"]["expr"], expected("ip", prefix("10.9.0.0", 21), "b"));
        assert_eq!(found[6]["rule"]["expr"], expected("ip6", prefix("fd00:1::", 61), "b"));
        assert_eq!(found.len(), 7);
    });
}

#[test]
fn adding_again_replaces_and_removing_twice_is_fine() {
    in_new_namespace(|| {
        let socket = socket();
        add_masquerade(&socket, "vethpath-lab", &rules(&[("10.0.0.0/8", "a"), ("10.0.0.0/9", "b")])).unwrap();
        add_masquerade(&socket, "vethpath-lab", &rules(&[("10.0.0.0/8", "c")])).unwrap();
        assert_eq!(ruleset().len(), 3);
        add_masquerade(&socket, "vethpath-other", &[]).unwrap();
        remove_table(&socket, Family::Inet, "vethpath-lab").unwrap();
        remove_table(&socket, Family::Inet, "vethpath-lab").unwrap();
        assert_eq!(ruleset()[0]["table"]["name"], "vethpath-other");
        remove_table(&socket, Family::Inet, "vethpath-other").unwrap();
        assert!(ruleset().is_empty());
    });
}

#[test]
fn a_table_of_somebody_else_stays() {
    in_new_namespace(|| {
        nft("add table inet vethpath-lab { comment \"mine\"; }");
        let socket = socket();
        let error = add_masquerade(&socket, "vethpath-lab", &[]).unwrap_err().to_string();
        assert_eq!(error, "nft table inet vethpath-lab already exists and was not created by vethpath");
        assert!(remove_table(&socket, Family::Inet, "vethpath-lab").is_err());
        assert_eq!(ruleset().len(), 1);
    });
}

#[test]
fn the_largest_batch_fits_and_a_larger_one_is_refused() {
    in_new_namespace(|| {
        let many = rules(&vec![("fd00::/61", "fifteen-letters"); MOST_RULES + 1]);
        assert!(add_masquerade(&socket(), "t", &many).is_err());
        add_masquerade(&socket(), "t", &many[1..]).unwrap();
        assert_eq!(ruleset().len(), 2 + MOST_RULES);
    });
}

#[test]
fn two_at_once_do_not_lose_each_other() {
    in_new_namespace(|| {
        let sockets: Vec<_> = (0..4).map(|_| socket()).collect();
        std::thread::scope(|scope| {
            for (index, socket) in sockets.iter().enumerate() {
                scope.spawn(move || {
                    add_masquerade(socket, &format!("t{index}"), &rules(&[("10.0.0.0/8", "a")])).unwrap();
                });
            }
        });
        assert_eq!(ruleset().len(), 12);
    });
}

#[test]
fn errors_name_operation_object_and_errno() {
    let long = "x".repeat(256);
    in_new_namespace(|| {
        assert!(
            add_masquerade(&socket(), &long, &[])
                .unwrap_err()
                .to_string()
                .starts_with("cannot add nft table inet xxx")
        );
        assert!(add_masquerade(&socket(), "", &[]).is_err());
        let wrong = Socket::new(netlink_sys::protocols::NETLINK_USERSOCK).unwrap();
        let error = add_masquerade(&wrong, "t", &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot add nft table inet t: ") && error.contains("os error"), "{error}");
    });
}

#[test]
fn without_the_right_the_errno_says_so() {
    in_new_namespace(|| {
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
        let error = add_masquerade(&socket(), "t", &[]).unwrap_err().to_string();
        assert_eq!(error, "cannot add nft table inet t: Operation not permitted (os error 1)");
    });
}

/// A host behind a veth pair: a namespace that a child process keeps alive.
struct Host(Child);

impl Host {
    /// The inner end is `e`, the other end `port`.
    fn new(port: &str, address: &str) -> Self {
        let host = Self(Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap());
        // The child is in our namespace until its `unshare` returns.
        let namespace = |task: &str| std::fs::read_link(format!("/proc/{task}/ns/net")).unwrap();
        while namespace(&host.pid()) == namespace("thread-self") {
            std::thread::yield_now();
        }
        run("ip", &["link", "add", port, "type", "veth", "peer", "name", "e", "netns", &host.pid()]);
        run("ip", &["link", "set", port, "up"]);
        host.run(&["ip", "addr", "add", address, "dev", "e"]);
        host.run(&["ip", "link", "set", "e", "up"]);
        host
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn run(&self, command: &[&str]) -> String {
        run("nsenter", &[&["-t", &self.pid(), "-n"], command].concat())
    }

    fn pings(&self, address: &str) -> bool {
        succeeds("nsenter", &["-t", &self.pid(), "-n", "ping", "-q", "-c", "1", "-W", "1", address])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn packets_that_leave_are_masqueraded_and_bridged_ones_are_not() {
    in_new_namespace(|| {
        run("ip", &["link", "add", "br0", "type", "bridge"]);
        run("ip", &["link", "set", "br0", "up"]);
        run("ip", &["addr", "add", "10.0.0.1/24", "dev", "br0"]);
        let (inside, neighbour) = (Host::new("p1", "10.0.0.2/24"), Host::new("p2", "10.0.0.3/24"));
        for port in ["p1", "p2"] {
            run("ip", &["link", "set", port, "master", "br0"]);
        }
        inside.run(&["ip", "route", "add", "default", "via", "10.0.0.1"]);
        // It has no route back to 10.0.0.0/24.
        let _outside = Host::new("p3", "192.0.2.2/24");
        run("ip", &["addr", "add", "192.0.2.1/24", "dev", "p3"]);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();

        assert!(!inside.pings("192.0.2.2"));
        let rules = rules(&[("10.0.0.0/24", "br0")]);
        add_masquerade(&socket(), "t", &rules).unwrap();
        assert!(inside.pings("192.0.2.2"));

        // With br_netfilter, bridged packets pass the chain too. Their `oifname` is the bridge, so that our table does
        // not change them. `inspect` may therefore leave it out.
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");
        neighbour.run(&["nft", "add table ip t"]);
        neighbour.run(&["nft", "add chain ip t c { type filter hook input priority 0; policy drop; }"]);
        neighbour.run(&["nft", "add rule ip t c ip saddr 10.0.0.2 accept"]);
        assert!(inside.pings("10.0.0.3"));
        // With another bridge's name in the rule they are masqueraded, so the check is effective.
        let wrong = [MasqueradeRule { device: "br1".parse().unwrap(), ..rules[0].clone() }];
        add_masquerade(&socket(), "t", &wrong).unwrap();
        let called = std::fs::exists("/proc/sys/net/bridge").unwrap();
        assert_eq!(inside.pings("10.0.0.3"), !called);
    });
}

fn rule(subnet: &str) -> MasqueradeRule {
    MasqueradeRule { subnet: subnet.parse().unwrap(), device: "br0".parse().unwrap() }
}

#[test]
fn rules_are_the_same_only_if_subnet_and_bridge_are() {
    let of = |rule: &MasqueradeRule| canonical(expressions(rule).as_bytes()).unwrap();
    assert_eq!(of(&rule("10.0.0.0/24")), of(&rule("10.0.0.9/24")));
    assert_ne!(of(&rule("10.0.0.0/24")), of(&rule("10.0.0.0/25")));
    assert_ne!(of(&rule("10.0.0.0/24")), of(&rule("fd00::/64")));
    let other = MasqueradeRule { device: "br1".parse().unwrap(), ..rule("10.0.0.0/24") };
    assert_ne!(of(&rule("10.0.0.0/24")), of(&other));
    assert_eq!(of(&rule("10.0.0.1/32")).len() + 1, of(&rule("10.0.0.0/31")).len());
}

#[test]
fn broken_expressions_are_nobodys() {
    let bytes = expressions(&rule("10.0.0.0/24")).as_bytes().to_vec();
    let complete = canonical(&bytes).unwrap();
    for cut in 1..bytes.len() {
        assert_ne!(canonical(&bytes[..cut]).as_ref(), Some(&complete), "cut at {cut}");
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = bytes.clone();
            broken[at] = value;
            let _ = canonical(&broken);
        }
    }
    assert_eq!(canonical(&bytes.repeat(3)), None);
}
