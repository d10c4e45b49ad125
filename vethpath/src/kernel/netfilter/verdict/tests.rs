use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use super::*;
use crate::kernel::{
    Netns, RouteSocket,
    sandbox::{in_new_namespace, nft, run},
};

const FORWARD: HookPoint = HookPoint::Forward;
const IPV4: [Family; 2] = [Family::Ip, Family::Inet];

fn subnets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// What the rules of the calling thread's namespace do to IPv4 packets between two hosts of `br0`.
fn bridged() -> Verdict {
    let lab = subnets(&["10.8.0.0/24"]);
    let links = RouteSocket::open(&Netns::current().unwrap()).unwrap().links().unwrap();
    let ruleset = Ruleset::read(&Socket::new(NETLINK_NETFILTER).unwrap(), &links, 8).unwrap();
    let packets = Packets {
        family: Family::Ip,
        in_devices: &["br0"],
        out_devices: &["br0"],
        are_bridged: true,
        state: NEW,
        sources: &lab,
        destinations: &lab,
    };
    ruleset.verdict(FORWARD, &IPV4, packets)
}

fn dropper(chain: &str, by_policy: bool) -> Dropper {
    Dropper {
        family: Family::Ip,
        table: "filter".into(),
        chain: chain.into(),
        by_policy,
        is_legacy: false,
        unread: None,
    }
}

fn filter() {
    nft("add table ip filter");
    nft("add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
}

#[test]
fn a_policy_drops_all_unless_a_rule_accepts_before() {
    in_new_namespace(|| {
        assert_eq!(bridged(), Verdict::Accept);
        filter();
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)));
        nft("add rule ip filter FORWARD ct state established,related accept");
        nft("add rule ip filter FORWARD iifname \"docker0\" accept");
        nft("add rule ip filter FORWARD oifname \"br-*\" accept");
        nft("add rule ip filter FORWARD ip saddr 10.9.0.0/16 accept");
        nft("add rule ip filter FORWARD ip daddr != 10.8.0.0/16 accept");
        nft("add rule ip filter FORWARD iifname != \"br0\" counter accept");
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)), "none of these is about the lab");
        nft("add rule ip filter FORWARD tcp dport 22 accept");
        assert_eq!(bridged(), Verdict::MayDrop(dropper("FORWARD", true)));
        nft("add rule ip filter FORWARD iifname \"br0\" oifname \"br*\" ip saddr 10.8.0.0/16 counter accept");
        assert_eq!(bridged(), Verdict::Accept);
    });
}

#[test]
fn jumps_are_followed() {
    in_new_namespace(|| {
        filter();
        nft("add chain ip filter user");
        nft("add chain ip filter late");
        nft("add rule ip filter FORWARD jump user");
        nft("add rule ip filter FORWARD goto late");
        nft("add rule ip filter user return");
        nft("add rule ip filter user accept");
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)), "it returns before");
        nft("insert rule ip filter user iifname \"br0\" accept");
        assert_eq!(bridged(), Verdict::Accept);
        nft("flush chain ip filter user");
        nft("add rule ip filter late meta mark 7 drop");
        nft("add rule ip filter late ct state new reject");
        nft("chain ip filter FORWARD { policy accept; }");
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", false)));
    });
}

#[test]
fn each_base_chain_of_the_hook_decides() {
    in_new_namespace(|| {
        nft("add table inet other");
        nft("add chain inet other f { type filter hook forward priority 10; policy drop; }");
        nft("add rule inet other f meta nfproto ipv6 accept");
        let Verdict::Drop(found) = bridged() else { panic!("{:?}", bridged()) };
        assert_eq!(found.to_string(), "nft table inet other, chain f (policy drop)");
        nft("add rule inet other f meta nfproto ipv4 limit rate 5/second accept");
        assert!(matches!(bridged(), Verdict::MayDrop(_)));
        nft("flush chain inet other f");
        nft("add rule inet other f ct state vmap { new : accept, invalid : drop }");
        assert_eq!(bridged(), Verdict::Accept);
    });
}

#[test]
fn what_may_stop_a_rule_makes_it_uncertain() {
    in_new_namespace(|| {
        filter();
        nft("chain ip filter FORWARD { policy accept; }");
        nft("add set ip filter flood { type ipv4_addr; flags dynamic; }");
        nft("add rule ip filter FORWARD update @flood { ip saddr limit rate over 9/second } drop");
        assert_eq!(bridged(), Verdict::MayDrop(dropper("FORWARD", false)));
        nft("flush chain ip filter FORWARD");
        nft("add rule ip filter FORWARD iif lo drop");
        assert_eq!(bridged(), Verdict::Accept, "of another device");
        nft("add chain ip filter raw { type filter hook prerouting priority -300; }");
        nft("chain ip filter FORWARD { policy drop; }");
        nft("add rule ip filter FORWARD ct state untracked accept");
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)));
        nft("add rule ip filter raw iifname br0 notrack");
        assert_eq!(bridged(), Verdict::MayDrop(dropper("FORWARD", true)));
        nft("add table ip filter { flags dormant; }");
        assert_eq!(bridged(), Verdict::Accept, "its chains are not called");
    });
}

#[test]
fn rules_of_iptables_are_read() {
    in_new_namespace(|| {
        let iptables = |rule: &str| run("iptables-nft", &rule.split(' ').collect::<Vec<_>>());
        let _ = iptables("-P FORWARD DROP");
        let _ = iptables("-N DOCKER-USER");
        let _ = iptables("-A FORWARD -j DOCKER-USER");
        let _ = iptables("-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        let _ = iptables("-A FORWARD -i docker0 ! -o docker0 -j ACCEPT");
        let _ = iptables("-A DOCKER-USER -j RETURN");
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", true)));
        let _ = iptables("-I DOCKER-USER -s 10.8.0.0/16 -m comment --comment lab -j ACCEPT");
        assert_eq!(bridged(), Verdict::Accept);
        let _ = iptables("-F DOCKER-USER");
        let _ = iptables("-I DOCKER-USER -m physdev --physdev-is-bridged -j ACCEPT");
        assert_eq!(bridged(), Verdict::Accept);
        let _ = iptables("-F DOCKER-USER");
        let _ = iptables("-I DOCKER-USER -m conntrack --ctstate NEW -j REJECT");
        assert_eq!(bridged(), Verdict::Drop(dropper("FORWARD", false)));
    });
}

#[test]
fn subnets_are_compared() {
    let net: IpNet = "10.8.0.0/16".parse().unwrap();
    let within = |texts: &[&str]| are_within(&subnets(texts), &net);
    assert_eq!(within(&["10.8.1.0/24", "10.8.0.0/16"]), Some(true));
    assert_eq!(within(&["10.9.0.0/24", "192.0.2.0/24"]), Some(false));
    assert_eq!(within(&["10.8.1.0/24", "10.9.0.0/24"]), None, "some are");
    assert_eq!(within(&["10.0.0.0/8"]), None, "some may be");
    assert_eq!(within(&["fd00::/64"]), None);
    assert_eq!(within(&[]), None);
}

/// What a chain of an inet table at the hook of forwarding does, whose policy is drop and which has these rules.
fn with_rules(rules: &[&str]) -> Verdict {
    nft("flush ruleset");
    nft("add table inet t");
    nft("add chain inet t f { type filter hook forward priority 0; policy drop; }");
    nft("add chain inet t other");
    for rule in rules {
        nft(&match rule.split_once(' ') {
            Some(("set" | "map" | "element", _)) => format!("add {}", rule.replacen(' ', " inet t ", 1)),
            Some(("other", rest)) => format!("add rule inet t other {rest}"),
            _ => format!("add rule inet t f {rule}"),
        });
    }
    bridged()
}

#[test]
fn sets_are_looked_into() {
    const ACCEPTED: [&[&str]; 15] = [
        &["iifname { \"docker0\", \"br0\" } accept"],
        &["iifname { \"docker*\", \"br*\" } oifname { \"br0\" } accept"],
        &["ip saddr { 10.8.0.0/16, 192.0.2.0/24 } accept"],
        &["ip saddr { 10.8.0.0-10.8.0.255 } accept"],
        &["ip saddr 10.7.0.0-10.9.255.255 accept"],
        &["ip saddr != { 10.9.0.0/16 } accept"],
        &["ct state { new, established } accept"],
        &["meta nfproto { ipv4, ipv6 } accept"],
        &["meta protocol { ip, ip6 } accept"],
        &["iifname . oifname { \"lo\" . \"lo\", \"br0\" . \"br0\" } accept"],
        &["iifname . ip saddr { \"br0\" . 10.8.0.0/16 } accept"],
        &[
            "set lab { type ipv4_addr; flags interval; }",
            "element lab { 10.8.0.0/24 }",
            "ip daddr @lab accept",
        ],
        // Those behind it do not matter.
        &["ct state vmap { invalid : drop, new : accept }", "drop"],
        &["iifname vmap { \"eth0\" : drop, \"br0\" : jump other }", "other accept"],
        &[
            "map zones { type ifname : verdict; }",
            "element zones { \"br0\" : goto other }",
            "iifname vmap @zones",
            "other accept",
        ],
    ];
    const DROPPED: [&[&str]; 15] = [
        &["iifname { \"docker0\", \"br1\" } accept"],
        &["iifname != { \"docker0\", \"br0\" } accept"],
        &["iifname { \"docker*\", \"eth*\" } accept"],
        &["iif { lo } accept"],
        &["ip saddr { 10.9.0.0/16, 192.0.2.0/24 } accept"],
        &["ip saddr 10.9.0.0-10.10.0.0 accept"],
        &["ct state { established, related } accept"],
        &["ct status dnat accept"],
        &["meta nfproto ipv6 accept"],
        &["iifname . oifname { \"br0\" . \"eth0\", \"eth0\" . \"br0\" } accept"],
        &["set lab { type ipv4_addr; flags interval; }", "ip daddr @lab accept"],
        &["ct state vmap { established : accept, related : accept }"],
        &["ct state vmap { established : accept, * : drop }", "accept"],
        &["iifname vmap { \"br0\" : jump other }", "other return"],
        &["iifname vmap { \"br0\" : goto other }", "other return", "accept"],
    ];
    const UNCERTAIN: [&[&str]; 9] = [
        &["ip saddr { 10.8.0.1, 10.8.0.2 } accept"],
        &["ip saddr { 10.8.0.0/25 } accept"],
        &["tcp dport { 22, 80 } accept"],
        &["ip saddr . tcp dport { 10.8.0.0/16 . 22 } accept"],
        &["meta mark { 1, 2 } accept"],
        &["meta mark 7 accept"],
        &["tcp dport vmap { 22 : accept, 80 : drop }"],
        &[
            "set lab { type ipv4_addr; flags interval, timeout; }",
            "element lab { 10.8.0.0/24 timeout 1h }",
            "ip daddr @lab accept",
        ],
        &["set seen { type ipv4_addr; flags dynamic; }", "ip saddr @seen accept"],
    ];
    in_new_namespace(|| {
        for rules in ACCEPTED {
            assert_eq!(with_rules(rules), Verdict::Accept, "{rules:?}");
        }
        for rules in DROPPED {
            assert!(matches!(with_rules(rules), Verdict::Drop(_)), "{rules:?}: {:?}", bridged());
        }
        for rules in UNCERTAIN {
            assert!(matches!(with_rules(rules), Verdict::MayDrop(_)), "{rules:?}: {:?}", bridged());
        }
    });
}

/// Such as a list of blocked addresses.
#[test]
fn a_large_set_is_not_read() {
    in_new_namespace(|| {
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0; }");
        nft("add set ip filter blocked { type ipv4_addr; }");
        nft("add rule ip filter FORWARD ip saddr @blocked drop");
        assert_eq!(bridged(), Verdict::Accept);
        for third in 0..70 {
            let addresses: Vec<_> = (0..250).map(|last| format!("192.0.{third}.{last}")).collect();
            nft(&format!("add element ip filter blocked {{ {} }}", addresses.join(", ")));
        }
        let Verdict::MayDrop(by) = bridged() else { panic!("{:?}", bridged()) };
        assert_eq!(by.to_string(), "nft table ip filter, chain FORWARD (set blocked is not read)");
    });
}

/// Chains of the bridge family see frames: without ARP, IPv4 does not work.
#[test]
fn ether_types_are_compared() {
    in_new_namespace(|| {
        nft("add table bridge t");
        nft("add chain bridge t f { type filter hook forward priority 0; policy drop; }");
        nft("add rule bridge t f ether type { ip, ip6 } accept");
        let links = RouteSocket::open(&Netns::current().unwrap()).unwrap().links().unwrap();
        let verdict = |family| {
            let ruleset = Ruleset::read(&Socket::new(NETLINK_NETFILTER).unwrap(), &links, 8).unwrap();
            let packets = Packets {
                family,
                in_devices: &["a"],
                out_devices: &["b"],
                are_bridged: true,
                state: NEW,
                sources: &[],
                destinations: &[],
            };
            ruleset.verdict(FORWARD, &[Family::Bridge], packets)
        };
        assert_eq!([verdict(Family::Ip), verdict(Family::Ip6)], [Verdict::Accept, Verdict::Accept]);
        assert!(matches!(verdict(Family::Arp), Verdict::Drop(_)));
        nft("add rule bridge t f ether type arp accept");
        assert_eq!(verdict(Family::Arp), Verdict::Accept);
    });
}

/// As firewalld 1.3 writes them for an interface that no zone has, and for one in the zone `trusted`.
#[test]
fn rules_of_firewalld_are_read() {
    in_new_namespace(|| {
        let rules = [
            "ct state { established, related } accept",
            "ct status dnat accept",
            "iifname \"lo\" accept",
            "ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002:0000::/24 } reject with icmpv6 type addr-unreachable",
            "jump other",
            "ct state { invalid } drop",
            "reject with icmpx type admin-prohibited",
        ];
        assert!(matches!(with_rules(&rules), Verdict::Drop(Dropper { by_policy: false, .. })));
        nft("add rule inet t other iifname \"br0\" accept");
        assert_eq!(bridged(), Verdict::Accept);
    });
}

/// As Docker 29 with its nftables backend and netavark 1.10 write them: both are about bridges of their own.
#[test]
fn rules_of_engines_are_read() {
    in_new_namespace(|| {
        for command in [
            "add table ip docker-bridges",
            "add chain ip docker-bridges filter-FORWARD { type filter hook forward priority filter; }",
            "add chain ip docker-bridges in",
            "add chain ip docker-bridges out",
            "add map ip docker-bridges in-jumps { type ifname : verdict; }",
            "add map ip docker-bridges out-jumps { type ifname : verdict; }",
            "add element ip docker-bridges in-jumps { \"docker0\" : jump in }",
            "add element ip docker-bridges out-jumps { \"docker0\" : jump out }",
            "add rule ip docker-bridges filter-FORWARD oifname vmap @in-jumps",
            "add rule ip docker-bridges filter-FORWARD iifname vmap @out-jumps",
            "add rule ip docker-bridges in ct state established,related counter accept",
            "add rule ip docker-bridges in counter drop",
            "add table inet netavark",
            "add chain inet netavark FORWARD { type filter hook forward priority filter; }",
            "add chain inet netavark isolated",
            "add rule inet netavark FORWARD ct state invalid drop",
            "add rule inet netavark FORWARD iifname \"podman1\" oifname != \"podman1\" jump isolated",
            "add rule inet netavark FORWARD ip daddr 10.88.0.0/16 ct state established,related accept",
            "add rule inet netavark FORWARD ip saddr 10.88.0.0/16 accept",
            "add rule inet netavark isolated oifname \"podman0\" drop",
        ] {
            nft(command);
        }
        assert_eq!(bridged(), Verdict::Accept);
        nft("add element ip docker-bridges in-jumps { \"br0\" : jump in }");
        assert!(matches!(bridged(), Verdict::Drop(_)));
    });
}
